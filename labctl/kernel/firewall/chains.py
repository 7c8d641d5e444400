"""Read and write firewall chains with the backend of the lab.

`read`, `write` and `counted` act on the namespace of the calling thread (`thread.Inside`). Their `ns` is only the name
for chains and errors; `backend` decides which tables are the lab's. Legacy IPv4 uses python-iptables for small changes
and one run of the restore program for larger ones. IPv6, bridges and the nft backend always use the tools. Reading must
not create a table, so a table is opened only if the kernel lists it already. The tables of the other backend are never
the lab's; they always count as extra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.core.diff import Change
from labctl.core.iptables import BUILTIN, STRAY, Backend
from labctl.core.iptables_save import Counted, Edit, edits, incompatible, parse
from labctl.core.resources import Chain, IpSet
from labctl.errors import KernelError
from labctl.kernel.firewall import commands
from labctl.kernel.firewall import tools as restore
from labctl.kernel.namespaces.thread import CLONE_NEWNET, Inside, unshare
from labctl.kernel.netlink import ipset, nft_tables

FEW = 12  # up to so many rules python-iptables (0.1 ms each) is faster than one restore (1.5 ms), measured
_NAME = re.compile(r"[^\s\"'\x00-\x20-]\S{0,30}")
_PEOPLE = tuple(f"{name}{verb}" for name in ("iptables", "ip6tables") for verb in ("", "-save", "-restore"))


def read(ns: str, asking: Iterable[Chain] = (), backend: Backend = "legacy") -> tuple[Chain, ...]:
    """Every chain of this thread's namespace, of all families, with `ns` as the name of the namespace.

    `asking` has the chains that the caller is interested in. It only decides whether ebtables is called also if there
    is no nft table of the bridge family. A namespace without tables costs two small reads of /proc.
    Raises KernelError, MissingError.
    """
    chains: list[Chain] = []
    if tables := restore.listed("ip_tables_names"):
        chains += _read_ip(ns, tables) if backend == "legacy" else _strays(ns, "ip")
    if restore.listed("ip6_tables_names"):
        chains += (one.chain for one in restore.save(commands.IP6, ns)) if backend == "legacy" else _strays(ns, "ip6")
    made = nft_tables.tables()
    if any(chain.family == "bridge" for chain in asking) or any(family == "bridge" for family, _ in made):
        chains += (one.chain for one in restore.save(commands.BRIDGE, ns))
    own: set[tuple[str, str]] = set()
    if backend == "nft":
        found, own = _read_nft(ns, made)
        chains += (one.chain for one in found)
    # a table of nft (or, in a legacy lab, of iptables-nft) becomes one Chain as a whole, and always counts as extra
    foreign = (table for table in made if table[0] != "bridge" and table not in own)
    chains += (Chain(ns, name, f"{family} {name}", family="nft") for family, name in foreign)
    return tuple(chains)


def counted(ns: str, backend: Backend = "legacy") -> tuple[Counted, ...]:
    """Every chain as in `read`, with the packets and bytes that each rule counted. Slower than `read`: it always starts
    programs. Raises KernelError, MissingError."""
    made = nft_tables.tables()
    found: list[Counted] = []
    if backend == "nft":
        found += _read_nft(ns, made)[0]
    for tool, names in ((commands.IP, "ip_tables_names"), (commands.IP6, "ip6_tables_names")):
        if restore.listed(names):
            found += restore.save(tool, ns) if backend == "legacy" else _stray(restore.save(tool, ns))
    if any(family == "bridge" for family, _ in made):
        found += restore.save(commands.BRIDGE, ns)
    return tuple(found)


def filters() -> bool:
    """Whether this thread's namespace has any firewall table. It costs two small reads and creates nothing."""
    return bool(restore.listed("ip_tables_names") or restore.listed("ip6_tables_names") or nft_tables.tables())


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
    families: dict[str, list[Edit]] = {}
    for edit in edits(change for change in changes if getattr(change.subject, "family", "") != "nft"):
        _check_names(ns, edit, commands.TOOLS[backend])
        families.setdefault(edit.family, []).append(edit)
    for family, changing in families.items():
        if family == "ip" and backend == "legacy" and sum(edit.rules for edit in changing) <= FEW:
            from labctl.kernel.firewall import iptc_legacy

            changing = iptc_legacy.write(changing)
        if changing:
            restore.write(commands.TOOLS[backend][family], ns, changing, lock)


def canonical(
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
        with Inside() as inside:
            there = [change for change in known if change.subject.ns == ns]
            for chain in inside.run(None, _spoken_back, ns, wanted, there, backend):
                found[chain.key] = chain
    return {chain.key: found[chain.key] for wanted in places.values() for chain in wanted if chain.key in found}


def person_path(directory: Path | str, backend: Backend = "legacy") -> Path:
    """Create a directory for the front of PATH in which `iptables` is the variant of the lab's backend.

    Returns the directory; a second call is harmless. ebtables stays the system's. Raises MissingError, OSError.
    """
    multi = os.path.realpath(commands.find(f"iptables-{backend}"))
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in _PEOPLE:
        link = directory / name
        if not link.is_symlink() or os.readlink(link) != multi:
            link.unlink(missing_ok=True)
            link.symlink_to(multi)
    return directory


def _spoken_back(ns: str, wanted: list[Chain], sets: list[Change], backend: Backend) -> tuple[Chain, ...]:
    unshare(CLONE_NEWNET)
    if sets:
        ipset.write(ns, sets)
    write(ns, [Change(chain, None) for chain in wanted], None, backend)
    return read(ns, wanted, backend)


def _read_nft(ns: str, made: Iterable[tuple[str, str]]) -> tuple[list[Counted], set[tuple[str, str]]]:
    """The chains that iptables-nft wrote, and those nft tables among `made` that contain only such chains."""
    found: list[Counted] = []
    own: set[tuple[str, str]] = set()
    for tool in (commands.NFT, commands.NFT6):
        tables = {table for table in made if table[0] == tool.family and table in BUILTIN}
        if tables:
            text = restore.save_text(tool, ns)
            own |= tables - {(tool.family, name) for name in incompatible(text)}
            found += (one for one in parse(ns, tool.family, text) if (tool.family, one.chain.table) in own)
    return found, own


def _strays(ns: str, family: str) -> Iterator[Chain]:
    """The chains of legacy tables in a lab with the nft backend."""
    return (one.chain for one in _stray(restore.save(commands.TOOLS["legacy"][family], ns)))


def _stray(found: Iterable[Counted]) -> Iterator[Counted]:
    return (replace(one, chain=replace(one.chain, family=STRAY[one.chain.family])) for one in found)


def _read_ip(ns: str, tables: list[str]) -> Iterable[Chain]:
    from labctl.kernel.firewall import iptc_legacy

    found = iptc_legacy.read(ns, tables)
    return found if found is not None else (one.chain for one in restore.save(commands.IP, ns))


def _check_names(ns: str, edit: Edit, tools: Mapping[str, commands.Tool]) -> None:
    """Raise KernelError for names that would have another meaning in the tools' input."""
    for chain in (*edit.put, *edit.drop):
        if chain.family not in tools:
            raise KernelError(f"cannot write chain {chain.name} in {ns}: there is no firewall family {chain.family}")
        for name in (chain.table, chain.name):
            if not _NAME.fullmatch(name):
                raise KernelError(f"cannot write table {chain.table} in {ns}: {name!r} is not a valid name for a chain")


__all__ = ["FEW", "canonical", "counted", "filters", "person_path", "read", "write"]
