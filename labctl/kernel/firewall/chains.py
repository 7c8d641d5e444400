"""Read and write firewall chains with the backend of the lab.

`read_chains`, `read_chain_counters` and `write` act on the namespace of the calling thread (`thread.NetnsThread`).
Their `ns` is only the name for chains and errors; `backend` decides which tables are the lab's. Legacy IPv4 uses
python-iptables for small changes and one run of the restore program for larger ones. IPv6, bridges and the nft backend
always use the tools. Reading must not create a table, so a table is opened only if the kernel lists it already. The
tables of the other backend are never the lab's; they always count as extra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.core.diff import Change
from labctl.core.iptables import BUILTIN, LEGACY_FAMILIES, Backend
from labctl.core.iptables_save import ChainCounters, TableEdit, edits_by_table, incompatible_tables, parse_save
from labctl.core.resources import Chain, IpSet
from labctl.errors import KernelError
from labctl.kernel.firewall import commands
from labctl.kernel.firewall import tools as restore
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.kernel.netlink import ipset, nft_tables

MAX_IPTC_RULES = 12  # up to so many rules python-iptables (0.1 ms each) is faster than one restore (1.5 ms), measured
_NAME = re.compile(r"[^\s\"'\x00-\x20-]\S{0,30}")
_TOOL_NAMES = tuple(f"{name}{verb}" for name in ("iptables", "ip6tables") for verb in ("", "-save", "-restore"))


def read_chains(ns: str, wanted_chains: Iterable[Chain] = (), backend: Backend = "legacy") -> tuple[Chain, ...]:
    """Every chain of this thread's namespace, of all families, with `ns` as the name of the namespace.

    `wanted_chains` are the chains that the caller is interested in. They only decide whether ebtables is called also if
    there is no nft table of the bridge family. A namespace without tables costs two small reads of /proc.
    Raises KernelError, MissingError.
    """
    chains: list[Chain] = []
    if tables := restore.legacy_tables("ip_tables_names"):
        chains += _read_ip(ns, tables) if backend == "legacy" else _strays(ns, "ip")
    if restore.legacy_tables("ip6_tables_names"):
        chains += (
            (one.chain for one in restore.read_chains(commands.IP6TABLES_LEGACY, ns))
            if backend == "legacy"
            else _strays(ns, "ip6")
        )
    made = nft_tables.tables()
    if any(chain.family == "bridge" for chain in wanted_chains) or any(family == "bridge" for family, _ in made):
        chains += (one.chain for one in restore.read_chains(commands.EBTABLES_NFT, ns))
    own: set[tuple[str, str]] = set()
    if backend == "nft":
        found, own = _read_nft(ns, made)
        chains += (one.chain for one in found)
    # a table of nft (or, in a legacy lab, of iptables-nft) becomes one Chain as a whole, and always counts as extra
    foreign = (table for table in made if table[0] != "bridge" and table not in own)
    chains += (Chain(ns, name, f"{family} {name}", family="nft") for family, name in foreign)
    return tuple(chains)


def read_chain_counters(ns: str, backend: Backend = "legacy") -> tuple[ChainCounters, ...]:
    """Every chain as in `read_chains`, with the packets and bytes that each rule counted. Slower than `read_chains`: it
    always starts programs. Raises KernelError, MissingError."""
    made = nft_tables.tables()
    found: list[ChainCounters] = []
    if backend == "nft":
        found += _read_nft(ns, made)[0]
    for tool, names in ((commands.IPTABLES_LEGACY, "ip_tables_names"), (commands.IP6TABLES_LEGACY, "ip6_tables_names")):
        if restore.legacy_tables(names):
            found += restore.read_chains(tool, ns) if backend == "legacy" else _stray(restore.read_chains(tool, ns))
    if any(family == "bridge" for family, _ in made):
        found += restore.read_chains(commands.EBTABLES_NFT, ns)
    return tuple(found)


def has_tables() -> bool:
    """Whether this thread's namespace has any firewall table. It costs two small reads and creates nothing."""
    return bool(
        restore.legacy_tables("ip_tables_names") or restore.legacy_tables("ip6_tables_names") or nft_tables.tables()
    )


def write(ns: str, changes: Iterable[Change], lock: Path | None = None, backend: Backend = "legacy") -> None:
    """Carry out all changes of chains in this thread's namespace; changes of other objects are ignored.

    Each table changes atomically. Chains without a change keep their rules and counters. `lock` is the lock file that
    the writers of this lab share; None if there is only one writer.
    Raises KernelError, which names the refused rule, and MissingError.
    """
    changes = tuple(changes)
    for change in changes:
        if isinstance(change.have, Chain) and change.have.family == "nft":
            nft_tables.remove(ns, *change.have.name.split(" ", 1))
    families: dict[str, list[TableEdit]] = {}
    for edit in edits_by_table(change for change in changes if getattr(change.subject, "family", "") != "nft"):
        _check_names(ns, edit, commands.TOOLS[backend])
        families.setdefault(edit.family, []).append(edit)
    for family, changing in families.items():
        if family == "ip" and backend == "legacy" and sum(edit.rule_count for edit in changing) <= MAX_IPTC_RULES:
            from labctl.kernel.firewall import iptc_legacy

            changing = iptc_legacy.write(changing)
        if changing:
            restore.write(commands.TOOLS[backend][family], ns, changing, lock)


def kernel_spelling(
    chains: Iterable[Chain], sets: Iterable[IpSet] = (), backend: Backend = "legacy"
) -> dict[tuple[Any, ...], Chain]:
    """The chains in the spelling of xtables, by key: written into temporary namespaces, and read back.

    Rules in a scenario may have spellings that only the tools know. Give all chains of a namespace together, since
    rules jump from one to the other, and the sets that they match. Raises KernelError for a rule that is not valid.
    """
    known = [Change(replace(one, members=()), None) for one in sets]
    places: dict[str, list[Chain]] = {}
    for chain in chains:
        places.setdefault(chain.ns, []).append(chain)
    found: dict[tuple[Any, ...], Chain] = {}
    for ns, wanted in places.items():
        with NetnsThread() as inside:
            there = [change for change in known if change.subject.ns == ns]
            for chain in inside.run(None, _read_back, ns, wanted, there, backend):
                found[chain.key] = chain
    return {chain.key: found[chain.key] for wanted in places.values() for chain in wanted if chain.key in found}


def make_tool_directory(directory: Path | str, backend: Backend = "legacy") -> Path:
    """Create a directory for the front of PATH in which `iptables` is the variant of the lab's backend.

    Returns the directory; a second call is harmless. ebtables stays the system's. Raises MissingError, OSError.
    """
    multi = os.path.realpath(commands.find(f"iptables-{backend}"))
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in _TOOL_NAMES:
        link = directory / name
        if not link.is_symlink() or os.readlink(link) != multi:
            link.unlink(missing_ok=True)
            link.symlink_to(multi)
    return directory


def _read_back(ns: str, wanted: list[Chain], sets: list[Change], backend: Backend) -> tuple[Chain, ...]:
    unshare(CLONE_NEWNET)
    if sets:
        ipset.write(ns, sets)
    write(ns, [Change(chain, None) for chain in wanted], None, backend)
    return read_chains(ns, wanted, backend)


def _read_nft(ns: str, nft_tables: Iterable[tuple[str, str]]) -> tuple[list[ChainCounters], set[tuple[str, str]]]:
    """The chains that iptables-nft wrote, and those of `nft_tables` that contain only such chains."""
    found: list[ChainCounters] = []
    own: set[tuple[str, str]] = set()
    for tool in (commands.IPTABLES_NFT, commands.IP6TABLES_NFT):
        tables = {table for table in nft_tables if table[0] == tool.family and table in BUILTIN}
        if tables:
            text = restore.save_text(tool, ns)
            own |= tables - {(tool.family, name) for name in incompatible_tables(text)}
            found += (one for one in parse_save(ns, tool.family, text) if (tool.family, one.chain.table) in own)
    return found, own


def _strays(ns: str, family: str) -> Iterator[Chain]:
    """The chains of legacy tables in a lab with the nft backend."""
    return (one.chain for one in _stray(restore.read_chains(commands.TOOLS["legacy"][family], ns)))


def _stray(found: Iterable[ChainCounters]) -> Iterator[ChainCounters]:
    return (replace(one, chain=replace(one.chain, family=LEGACY_FAMILIES[one.chain.family])) for one in found)


def _read_ip(ns: str, tables: list[str]) -> Iterable[Chain]:
    from labctl.kernel.firewall import iptc_legacy

    found = iptc_legacy.read_tables(ns, tables)
    return found if found is not None else (one.chain for one in restore.read_chains(commands.IPTABLES_LEGACY, ns))


def _check_names(ns: str, edit: TableEdit, tools: Mapping[str, commands.FirewallTool]) -> None:
    """Raise KernelError for names that would have another meaning in the tools' input."""
    for chain in (*edit.chains_to_write, *edit.chains_to_delete):
        if chain.family not in tools:
            raise KernelError(f"cannot write chain {chain.name} in {ns}: there is no firewall family {chain.family}")
        for name in (chain.table, chain.name):
            if not _NAME.fullmatch(name):
                raise KernelError(f"cannot write table {chain.table} in {ns}: {name!r} is not a valid name for a chain")


__all__ = [
    "MAX_IPTC_RULES",
    "has_tables",
    "kernel_spelling",
    "make_tool_directory",
    "read_chain_counters",
    "read_chains",
    "write",
]
