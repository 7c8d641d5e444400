"""Read and write firewall chains with the backend of the lab.

`read_chains`, `read_chain_counters` and `write` act on the namespace of the calling thread (`NetnsThread`). Their `ns`
is only the name for chains and errors; `backend` decides which tables are the lab's. Legacy IPv4 uses python-iptables
for small changes and one run of the restore program for larger ones. IPv6, bridges and the nft backend always use the
tools. Reading must not create a table, so a table is opened only if the kernel lists it already. The tables of the
other backend are never the lab's; they always count as extra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from labctl.core.iptables import BUILTIN, LEGACY_FAMILIES, Backend, FirewallRule, accounting_objects, unshown_rule
from labctl.core.iptables_extensions import may_be_stray, stray_word
from labctl.core.iptables_save import (
    ChainCounters,
    RuleTexts,
    TableEdit,
    edits_by_table,
    incompatible_tables,
    parse_chains,
    parse_save,
)
from labctl.core.resources import Chain, NftObject
from labctl.errors import KernelError
from labctl.kernel.firewall import commands, tools
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import nfacct, nft_rules, nft_tables

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.kernel.firewall.nft_program import NftWrite

MAX_IPTC_RULES = 12  # up to so many rules python-iptables (0.1 ms each) is faster than one restore (1.5 ms), measured
MANY_RULES = 1000  # a plan with so many rules for a namespace has large tables
_NAME = re.compile(r"[^\s\"'\x00-\x20-]\S{0,30}")


FirewallObject: TypeAlias = Chain | NftObject


def read_chains(
    ns: str, wanted_objects: Iterable[FirewallObject] = (), backend: Backend = "legacy"
) -> tuple[FirewallObject, ...]:
    """Every chain of this thread's namespace, of all families, with `ns` as the name of the namespace; and what is in
    tables of nft that are not those of iptables-nft or ebtables.

    `wanted_objects` are those that the caller expects. What is found does not depend on them, except that ebtables
    is called also if there is no nft table of the bridge family; but they are the result where exactly these are there.
    A namespace without tables costs two small reads of /proc.
    Raises KernelError, MissingError.
    """
    with ExitStack() as held:
        return start_reading(ns, wanted_objects, backend, held)()


def start_reading(
    ns: str,
    wanted_objects: Iterable[FirewallObject],
    backend: Backend,
    held: ExitStack,
    made: tuple[Table, ...] | None = None,
) -> Callable[[], tuple[FirewallObject, ...]]:
    """Start what `read_chains` does. The returned function waits for the programs, in any thread: so those of several
    namespaces run at the same time. Leaving `held` ends those that still run. `made` are the tables of nft, if the
    caller has read them. Raises KernelError, MissingError, OSError, LimitError; the function raises KernelError."""
    wanted_objects = tuple(wanted_objects)
    wanted_chains = tuple([one for one in wanted_objects if isinstance(one, Chain)])
    wanted_nft = tuple([one for one in wanted_objects if isinstance(one, NftObject)])
    read_now: list[Chain] = []
    reading: list[Callable[[], Iterable[Chain]]] = []
    if tables := tools.legacy_tables("ip_tables_names"):
        # where a large table is expected, it is not asked for its size: that waits for other namespaces' readers
        may_be_small = backend == "legacy" and sum(len(one.rules) for one in wanted_chains) < MANY_RULES
        small = _read_small_tables(ns, tables) if may_be_small else None
        if small is not None:
            read_now += small
        else:
            reading.append(_start_legacy(commands.IPTABLES_LEGACY, ns, wanted_chains, backend, held))
    if tools.legacy_tables("ip6_tables_names"):
        reading.append(_start_legacy(commands.IP6TABLES_LEGACY, ns, wanted_chains, backend, held))
    made = nft_tables.tables() if made is None else made
    bridge = (commands.EBTABLES_NFT,) if any(chain.family == "bridge" for chain in wanted_chains) else ()
    native = {_table_of(one) for one in wanted_nft}  # what is the lab's is known by its name
    others = [table for table in made if table not in native]
    runs = _start_saving_nft(ns, others, backend, held, bridge, wanted=wanted_chains)
    candidates = {table for run in runs for table in run.tables}
    from labctl.kernel.firewall.nft_program import NftRead  # a trace reads only counters, and needs no such program

    listed = held.enter_context(NftRead(ns, [table for table in made if table not in candidates], wanted_nft))
    netns = _open_netns(held) if candidates else -1

    def finish() -> tuple[FirewallObject, ...]:
        found: list[FirewallObject] = [*read_now, *(chain for read in reading for chain in read())]
        own: set[Table] = set()
        for run in runs:
            chains, of_run = run.chains()
            found += chains
            own |= of_run
        found += listed.objects()
        if unread := candidates - own:  # their programs could not read them
            with NetnsThread() as inside:
                found += inside.run(netns, _read_tables, ns, [table for table in made if table in unread])
        return tuple(found)

    return finish


def _table_of(item: NftObject) -> Table:
    family, _, name = item.table.partition(" ")
    return family, name


def _read_tables(ns: str, tables: list[Table]) -> tuple[NftObject, ...]:
    """What is in these tables of nft, in this thread's namespace."""
    from labctl.kernel.firewall.nft_program import NftRead

    with NftRead(ns, tables) as listed:
        return listed.objects()


def _open_netns(held: ExitStack) -> int:
    """A descriptor of this thread's namespace, until `held` is left."""
    netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    held.callback(os.close, netns)
    return netns


def _start_legacy(
    tool: commands.FirewallTool, ns: str, wanted: Iterable[Chain], backend: Backend, held: ExitStack
) -> Callable[[], Iterable[Chain]]:
    """Start reading the legacy tables of a family: those of the lab, or those that no plan wants."""
    is_own = backend == "legacy"
    run = held.enter_context(tools.SaveRun(tool, ns, counters=False, wanted=wanted if is_own else ()))
    return run.chains if is_own else partial(_stray_chains, run)


def _stray_chains(run: tools.SaveRun) -> Iterator[Chain]:
    """The chains of legacy tables in a lab with the nft backend."""
    return (replace(one, family=LEGACY_FAMILIES[one.family]) for one in run.chains())


def read_chain_counters(ns: str, backend: Backend = "legacy") -> tuple[ChainCounters, ...]:
    """Every chain as in `read_chains`, with the packets and bytes that each rule counted. Slower: it always starts
    programs. Raises KernelError, MissingError."""
    with ExitStack() as held:
        return start_reading_counters(ns, backend, held)()


def start_reading_counters(ns: str, backend: Backend, held: ExitStack) -> Callable[[], tuple[ChainCounters, ...]]:
    """Start the programs of `read_chain_counters`. The returned function waits for them, in any thread: so the programs
    of several namespaces run at the same time. Leaving `held` ends those that still run. Raises OSError, MissingError,
    LimitError; the function raises KernelError."""
    made = nft_tables.tables()
    reading: list[Callable[[], Iterable[ChainCounters]]] = [
        run.chain_counters for run in _start_saving_nft(ns, made, backend, held, counters=True)
    ]
    for tool, names in ((commands.IPTABLES_LEGACY, "ip_tables_names"), (commands.IP6TABLES_LEGACY, "ip6_tables_names")):
        if tools.legacy_tables(names):
            run = held.enter_context(tools.SaveRun(tool, ns, counters=True))
            reading.append(run.chain_counters if backend == "legacy" else partial(_stray_counters, run))
    return lambda: tuple(one for read in reading for one in read())


def native_tables(backend: Backend) -> tuple[Table, ...]:
    """The tables of nft in this thread's namespace that are not those of ebtables or, with the nft backend, of
    iptables."""
    families = {"bridge", *(("ip", "ip6") if backend == "nft" else ())}
    return tuple(one for one in nft_tables.tables() if one[0] not in families or one not in BUILTIN)


def _stray_counters(run: tools.SaveRun) -> Iterator[ChainCounters]:
    for one in run.chain_counters():
        yield replace(one, chain=replace(one.chain, family=LEGACY_FAMILIES[one.chain.family]))


def may_exist(made: tuple[Table, ...], wanted_objects: Iterable[FirewallObject]) -> bool:
    """Whether `start_reading` can find anything in this thread's namespace, which has these tables of nft."""
    return bool(
        made
        or tools.legacy_tables("ip_tables_names")
        or tools.legacy_tables("ip6_tables_names")
        or any(isinstance(one, Chain) and one.family == "bridge" for one in wanted_objects)
    )


def has_tables() -> bool:
    """Whether this thread's namespace has any firewall table. It costs two small reads and creates nothing."""
    return bool(
        tools.legacy_tables("ip_tables_names") or tools.legacy_tables("ip6_tables_names") or nft_tables.tables()
    )


def write(ns: str, changes: Iterable[Change], lock: Path | None = None, backend: Backend = "legacy") -> None:
    """Carry out all changes of chains in this thread's namespace; changes of other objects are ignored.

    Each table changes atomically. Chains without a change keep their rules and counters. `lock` is the lock file that
    the writers of this lab share; None if there is only one writer.
    Raises KernelError, which names the refused rule, and MissingError.
    """
    with ChainWriter(lock, backend) as writer:
        writer.start(ns, changes)
        writer.finish(ns)


class ChainWriter:
    """Writes the chains of several namespaces at the same time. A context manager: leaving it ends the programs that
    still run, and gives the lock back."""

    def __init__(self, lock: Path | None = None, backend: Backend = "legacy") -> None:
        self._lock, self._backend = commands.WriteLock(lock), backend
        self._running: dict[str, list[tools.RunningWrite | NftWrite]] = {}
        self._words, self._texts = _AcceptedWords(), RuleTexts()

    def __enter__(self) -> ChainWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        for one in (run for runs in self._running.values() for run in runs):
            one.close()
        self._running.clear()
        self._lock.release()

    def start(self, ns: str, changes: Iterable[Change]) -> None:
        """Start what `write` does, in this thread's namespace. Few rules are written at once, others by a program that
        `finish` waits for. Raises KernelError, MissingError.

        Tables of nft are there before chains of iptables: of two chains at one priority of a hook, the kernel runs the
        one first that was registered later, and so this order is always the same.
        """
        changes = tuple(changes)
        native = [change for change in changes if isinstance(change.subject, NftObject)]
        families: dict[str, list[TableEdit]] = {}
        backend = self._backend
        for edit in edits_by_table(change for change in changes if not isinstance(change.subject, NftObject)):
            if names := self._words.check(ns, edit, commands.TOOLS[backend]):
                nfacct.create(ns, names)
            families.setdefault(edit.family, []).append(edit)
        running = self._running.setdefault(ns, [])
        if native:
            from labctl.kernel.firewall.nft_program import NftWrite

            running.append(NftWrite(ns, native))
            if families:
                running.pop().finish()
        for family, changing in families.items():
            if family == "ip" and backend == "legacy" and sum(edit.rule_count for edit in changing) <= MAX_IPTC_RULES:
                from labctl.kernel.firewall import iptc_legacy

                changing = iptc_legacy.write(changing)
            if changing:
                self._lock.acquire()
                running.append(tools.RunningWrite(commands.TOOLS[backend][family], ns, changing, self._texts))

    def finish(self, ns: str) -> None:
        """Wait until the changes of a namespace are made. This thread must be in it again. Raises KernelError, which
        names the refused rule, and MissingError."""
        for one in self._running.pop(ns, ()):
            one.finish()


Table: TypeAlias = tuple[str, str]  # family, name
_Unshown: TypeAlias = Mapping[str, Mapping[str, frozenset[int]]]  # table -> chain -> numbers of rules


@dataclass(frozen=True, slots=True)
class _NftSave:
    """A run of iptables-nft-save, ip6tables-nft-save or ebtables-nft-save, and the tables of nft that it should print.
    `unshown` are the rules that it shows as other ones."""

    tables: frozenset[Table]
    run: tools.SaveRun
    unshown: _Unshown

    def chains(self) -> tuple[list[Chain], frozenset[Table]]:
        """The chains that it printed, and the tables that contain only such chains. Waits for its end."""
        text, refused = self._text()
        parsed = parse_chains(self.run.ns, self.run.tool.family, text, self.run.expected)
        chains = [one for one in parsed if one.table not in refused]
        own = frozenset(table for table in self.tables if table[1] not in refused)
        return [_mark_unshown(one, self.unshown) for one in chains], own

    def chain_counters(self) -> Iterator[ChainCounters]:
        """The chains that it printed with counters. Waits for its end."""
        text, refused = self._text()
        for one in parse_save(self.run.ns, self.run.tool.family, text):
            if one.chain.table not in refused:
                yield replace(one, chain=_mark_unshown(one.chain, self.unshown))

    def _text(self) -> tuple[str, frozenset[str]]:
        text = self.run.text()
        return text, frozenset(incompatible_tables(text))


def _start_saving_nft(
    ns: str,
    present: Iterable[Table],
    backend: Backend,
    held: ExitStack,
    read_anyway: Iterable[commands.FirewallTool] = (),
    *,
    counters: bool = False,
    wanted: Iterable[Chain] = (),
) -> list[_NftSave]:
    """Start reading the chains that iptables-nft (only with that backend) and ebtables-nft wrote, in those tables among
    `present` that can contain some. The tools of `read_anyway` are called also if there is no table. Leaving `held`
    ends those that still run."""
    present = tuple(present)
    runs = []
    iptables = (commands.IPTABLES_NFT, commands.IP6TABLES_NFT) if backend == "nft" else ()
    for tool in (*iptables, commands.EBTABLES_NFT):
        tables = frozenset(table for table in present if table[0] == tool.family and table in BUILTIN)
        if tables or tool in read_anyway:
            named = () if tool.family == "bridge" else tables
            unshown = {table: nft_rules.unshown_rules(tool.family, table) for _, table in named}
            run = held.enter_context(tools.SaveRun(tool, ns, counters=counters, wanted=wanted))
            runs.append(_NftSave(tables, run, unshown))
    return runs


def _mark_unshown(chain: Chain, unshown: _Unshown) -> Chain:
    """The chain with a sentence in place of each rule that iptables-nft shows as another one."""
    if numbers := unshown.get(chain.table, {}).get(chain.name):
        rules = (unshown_rule(item) if number in numbers else item for number, item in enumerate(chain.rules, 1))
        return replace(chain, rules=tuple(rules))
    return chain


def _read_small_tables(ns: str, tables: list[str]) -> Iterable[Chain] | None:
    """The legacy IPv4 chains, without starting a program; None if the tables are too large for that, or not readable
    that way."""
    from labctl.kernel.firewall import iptc_legacy

    return iptc_legacy.read_tables(ns, tables)


class _AcceptedWords:
    """Looks for names and rules that would have another meaning in the tools' input. The nodes of a cluster often share
    the rules of a chain; these are looked at once."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], tuple[tuple[FirewallRule, ...], tuple[str, ...]]] = {}
        self._names: set[str] = set()

    def check(self, ns: str, edit: TableEdit, family_tools: Mapping[str, commands.FirewallTool]) -> tuple[str, ...]:
        """The accounting objects that the rules name. Raises KernelError for a name or a rule that must not reach the
        tools."""
        if edit.family not in family_tools:
            name = (*edit.chains_to_write, *edit.chains_to_delete)[0].name
            what = f"there is no firewall family {edit.family}"
            raise KernelError(f"cannot write chain {name} in {ns}: {what}")
        found: dict[str, None] = {}
        self._check_name(ns, edit, edit.table)
        for chain in (*edit.chains_to_write, *edit.chains_to_delete):
            if chain.name not in self._names:
                self._check_name(ns, edit, chain.name)
            seen = self._seen.get((id(chain.rules), edit.family))
            if seen is None:
                seen = self._seen[id(chain.rules), edit.family] = self._check_rules(ns, chain)
            if seen[1]:
                found |= dict.fromkeys(seen[1])
        return tuple(found)

    def _check_name(self, ns: str, edit: TableEdit, name: str) -> None:
        if not _NAME.fullmatch(name):
            what = f"{name!r} is not a valid name for a chain"
            raise KernelError(f"cannot write table {edit.table} in {ns}: {what}")
        self._names.add(name)

    def _check_rules(self, ns: str, chain: Chain) -> tuple[tuple[FirewallRule, ...], tuple[str, ...]]:
        """The rules, which keep their id then, and the accounting objects that they name."""
        if may_be_stray(one.args for one in chain.rules):
            self._require_no_stray_word(ns, chain)
        return chain.rules, accounting_objects(chain.rules)

    def _require_no_stray_word(self, ns: str, chain: Chain) -> None:
        for one in chain.rules:
            if (word := stray_word(one.args, chain.family)) is not None:
                where = f"in {chain.table} {chain.name} of {ns}"
                what = f"{word[:60]!r} cannot be part of a rule"
                raise KernelError(f"cannot write rule {one} {where}: {what}")
