"""Read and write firewall chains with the backend of the lab.

`read_chains`, `read_chain_counters` and `write` act on the namespace of the calling thread (`NetnsThread`). Their `ns`
is only the name for chains and errors; `backend` decides which tables are the lab's. Legacy IPv4 uses python-iptables
for small changes and one run of the restore program for larger ones. IPv6, bridges and the nft backend always use the
tools. Reading must not create a table, so a table is opened only if the kernel lists it already. The tables of the
other backend are never the lab's; they always count as extra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from labctl.core import nft_ruleset
from labctl.core.diff import Change
from labctl.core.iptables import BUILTIN, LEGACY_FAMILIES, Backend, accounting_objects, unshown_rule
from labctl.core.iptables_extensions import stray_word
from labctl.core.iptables_save import ChainCounters, TableEdit, edits_by_table, incompatible_tables, parse_save
from labctl.core.resources import Chain
from labctl.errors import KernelError
from labctl.kernel.firewall import commands, nft_program, tools
from labctl.kernel.netlink import nfacct, nft_rules, nft_tables

MAX_IPTC_RULES = 12  # up to so many rules python-iptables (0.1 ms each) is faster than one restore (1.5 ms), measured
_NAME = re.compile(r"[^\s\"'\x00-\x20-]\S{0,30}")


def read_chains(ns: str, wanted_chains: Iterable[Chain] = (), backend: Backend = "legacy") -> tuple[Chain, ...]:
    """Every chain of this thread's namespace, of all families, with `ns` as the name of the namespace.

    `wanted_chains` are the chains that the caller is interested in. They only decide whether ebtables is called also if
    there is no nft table of the bridge family. A namespace without tables costs two small reads of /proc.
    Raises KernelError, MissingError.
    """
    chains: list[Chain] = []
    if tables := tools.legacy_tables("ip_tables_names"):
        chains += _read_ip(ns, tables) if backend == "legacy" else _strays(ns, "ip")
    if tools.legacy_tables("ip6_tables_names"):
        chains += (
            (one.chain for one in tools.read_chains(commands.IP6TABLES_LEGACY, ns))
            if backend == "legacy"
            else _strays(ns, "ip6")
        )
    made = nft_tables.tables()
    own: set[tuple[str, str]] = set()
    bridge = (commands.EBTABLES_NFT,) if any(chain.family == "bridge" for chain in wanted_chains) else ()
    with ExitStack() as held:
        found, own = _start_reading_nft(ns, made, backend, held, bridge)()
    chains += (one.chain for one in found)
    # a table of nft (or, in a legacy lab, of iptables-nft) becomes one Chain as a whole, and one for each chain in it;
    # they are extra, unless CNI plugins wrote them
    nft_chains = [chain for chain in wanted_chains if chain.family == "nft"]
    for family, name in made:
        if (family, name) not in own:
            chains.append(nft_ruleset.table_item(ns, family, name))
            chains += nft_program.read_chains(ns, family, name, nft_chains)
    return tuple(chains)


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
    reading: list[Callable[[], Iterable[ChainCounters]]] = []
    own = _start_reading_nft(ns, made, backend, held)
    reading.append(lambda: own()[0])
    for tool, names in ((commands.IPTABLES_LEGACY, "ip_tables_names"), (commands.IP6TABLES_LEGACY, "ip6_tables_names")):
        if tools.legacy_tables(names):
            run = held.enter_context(tools.SaveRun(tool, ns))
            reading.append(run.chains if backend == "legacy" else partial(_stray_chains, run))
    return lambda: tuple(one for read in reading for one in read())


def _stray_chains(run: tools.SaveRun) -> Iterator[ChainCounters]:
    return _stray(run.chains())


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
    changes = tuple(changes)
    for change in changes:
        if change.want is None and isinstance(change.have, Chain) and nft_ruleset.is_table_item(change.have):
            nft_tables.remove(ns, *change.have.name.split(" ", 1))
    nft_program.write(ns, changes)
    families: dict[str, list[TableEdit]] = {}
    names = accounting_objects(one for change in changes if isinstance(change.want, Chain) for one in change.want.rules)
    if names:
        nfacct.create(ns, names)
    for edit in edits_by_table(change for change in changes if getattr(change.subject, "family", "") != "nft"):
        _check_words(ns, edit, commands.TOOLS[backend])
        families.setdefault(edit.family, []).append(edit)
    for family, changing in families.items():
        if family == "ip" and backend == "legacy" and sum(edit.rule_count for edit in changing) <= MAX_IPTC_RULES:
            from labctl.kernel.firewall import iptc_legacy

            changing = iptc_legacy.write(changing)
        if changing:
            tools.write(commands.TOOLS[backend][family], ns, changing, lock)


Table: TypeAlias = tuple[str, str]  # family, name
NftChains: TypeAlias = tuple[list[ChainCounters], set[Table]]
_Unshown: TypeAlias = Mapping[str, Mapping[str, frozenset[int]]]  # table -> chain -> numbers of rules


def _start_reading_nft(
    ns: str,
    present: Iterable[Table],
    backend: Backend,
    held: ExitStack,
    read_anyway: Iterable[commands.FirewallTool] = (),
) -> Callable[[], NftChains]:
    """Start reading the chains that iptables-nft (only with that backend) and ebtables-nft wrote. The returned function
    waits for them, and also returns those nft tables among `present` that contain only such chains. The tools of
    `read_anyway` are called also if there is no table. Leaving `held` ends those that still run."""
    present = tuple(present)
    runs: list[tuple[set[Table], tools.SaveRun, _Unshown]] = []
    iptables = (commands.IPTABLES_NFT, commands.IP6TABLES_NFT) if backend == "nft" else ()
    for tool in (*iptables, commands.EBTABLES_NFT):
        tables = {table for table in present if table[0] == tool.family and table in BUILTIN}
        if tables or tool in read_anyway:
            named = () if tool.family == "bridge" else tables
            unshown = {table: nft_rules.unshown_rules(tool.family, table) for _, table in named}
            runs.append((tables, held.enter_context(tools.SaveRun(tool, ns)), unshown))

    def finish() -> NftChains:
        found: list[ChainCounters] = []
        own: set[Table] = set()
        for tables, run, unshown in runs:
            text, family = run.text(), run.tool.family
            refused = {(family, name) for name in incompatible_tables(text)}
            own |= tables - refused
            read = (one for one in parse_save(ns, family, text) if (family, one.chain.table) not in refused)
            found += _mark_unshown(read, unshown)
        return found, own

    return finish


def _mark_unshown(found: Iterable[ChainCounters], unshown: _Unshown) -> Iterator[ChainCounters]:
    """The chains with a sentence in place of each rule that iptables-nft shows as another one."""
    for one in found:
        chain = one.chain
        if numbers := unshown.get(chain.table, {}).get(chain.name):
            rules = (unshown_rule(item) if number in numbers else item for number, item in enumerate(chain.rules, 1))
            one = replace(one, chain=replace(chain, rules=tuple(rules)))
        yield one


def _strays(ns: str, family: str) -> Iterator[Chain]:
    """The chains of legacy tables in a lab with the nft backend."""
    return (one.chain for one in _stray(tools.read_chains(commands.TOOLS["legacy"][family], ns)))


def _stray(found: Iterable[ChainCounters]) -> Iterator[ChainCounters]:
    return (replace(one, chain=replace(one.chain, family=LEGACY_FAMILIES[one.chain.family])) for one in found)


def _read_ip(ns: str, tables: list[str]) -> Iterable[Chain]:
    from labctl.kernel.firewall import iptc_legacy

    found = iptc_legacy.read_tables(ns, tables)
    return found if found is not None else (one.chain for one in tools.read_chains(commands.IPTABLES_LEGACY, ns))


def _check_words(ns: str, edit: TableEdit, family_tools: Mapping[str, commands.FirewallTool]) -> None:
    """Raise KernelError for names and rules that would have another meaning in the tools' input."""
    for chain in (*edit.chains_to_write, *edit.chains_to_delete):
        if chain.family not in family_tools:
            raise KernelError(f"cannot write chain {chain.name} in {ns}: there is no firewall family {chain.family}")
        for name in (chain.table, chain.name):
            if not _NAME.fullmatch(name):
                raise KernelError(f"cannot write table {chain.table} in {ns}: {name!r} is not a valid name for a chain")
        for one in chain.rules:
            if (word := stray_word(one.args, chain.family)) is not None:
                where = f"in {edit.table} {chain.name} of {ns}"
                raise KernelError(f"cannot write rule {one} {where}: {word[:60]!r} cannot be part of a rule")
