"""The door to the firewall: chains read, written and spoken back, whatever tool does it behind.

`read`, `write` and `counted` act on the namespace of the thread that calls them (`netns.Inside`); the
`ns` they take is only the name that chains and errors bear. IPv4 goes through python-iptables as long
as a change is small, and through one run of the restore program beyond that; IPv6 and bridges always
through the tools. Looking must not create: a table is opened only if the kernel lists it already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labctl.diff import Change
from labctl.errors import KernelError
from labctl.kernel import ipsets, nft, restore
from labctl.kernel.netns import CLONE_NEWNET, Inside, unshare
from labctl.kernel.saved import Counted, Edit, edits
from labctl.plan import Chain, IpSet

FEW = 12  # rules up to which python-iptables (0.1 ms each) is faster than one restore (1.5 ms), measured
_NAME = re.compile(r"[^\s\"'\x00-\x20-]\S{0,30}")
_PEOPLE = tuple(f"{name}{verb}" for name in ("iptables", "ip6tables") for verb in ("", "-save", "-restore"))


def read(ns: str, asking: Iterable[Chain] = ()) -> tuple[Chain, ...]:
    """Every chain of the namespace this thread is in, of all families, under the name `ns`.

    `asking` are the chains one wants to know about: it only decides whether ebtables is asked although
    nothing says that it has rules. A namespace without tables costs two small reads of /proc.
    Raises KernelError, MissingError.
    """
    chains: list[Chain] = []
    if tables := _tables("ip_tables_names"):
        chains += _read_ip(ns, tables)
    if _tables("ip6_tables_names"):
        chains += (one.chain for one in restore.save(restore.IP6, ns))
    made = nft.tables()
    if any(chain.family == "bridge" for chain in asking) or any(family == "bridge" for family, _ in made):
        chains += (one.chain for one in restore.save(restore.BRIDGE, ns))
    # labs are written in legacy tables: what nft or iptables-nft made is told as one piece, and is always extra
    chains += (Chain(ns, name, f"{family} {name}", family="nft") for family, name in made if family != "bridge")
    return tuple(chains)


def counted(ns: str) -> tuple[Counted, ...]:
    """Every chain as `read` gives it, with the packets and bytes that each rule saw. For people: it forks."""
    found: list[Counted] = []
    for tool, some in (
        (restore.IP, bool(_tables("ip_tables_names"))),
        (restore.IP6, bool(_tables("ip6_tables_names"))),
        (restore.BRIDGE, any(family == "bridge" for family, _ in nft.tables())),
    ):
        found += restore.save(tool, ns) if some else ()
    return tuple(found)


def filters() -> bool:
    """Whether the namespace of this thread has any firewall table. Two small reads, and nothing is made."""
    return bool(_tables("ip_tables_names") or _tables("ip6_tables_names") or nft.tables())


def write(ns: str, changes: Iterable[Change], lock: Path | None = None) -> None:
    """Make all changes of chains in the namespace this thread is in; other kinds of changes are passed over.

    Each table changes in one stroke; chains that no change names keep rules and counters. `lock` is the
    lock file that the writers of this lab share; None where there is but one.
    Raises KernelError with the rule at fault, MissingError.
    """
    changes = tuple(changes)
    for change in changes:
        if isinstance(change.have, Chain) and change.have.family == "nft":
            nft.remove(ns, *change.have.name.split(" ", 1))
    families: dict[str, list[Edit]] = {}
    for edit in edits(change for change in changes if getattr(change.subject, "family", "") != "nft"):
        _check_names(ns, edit)
        families.setdefault(edit.family, []).append(edit)
    for family, changing in families.items():
        if family == "ip" and sum(edit.rules for edit in changing) <= FEW:
            from labctl.kernel import iptc_legacy

            changing = iptc_legacy.write(changing)
        if changing:
            restore.write(restore.TOOLS[family], ns, changing, lock)


def canonical(chains: Iterable[Chain], sets: Iterable[IpSet] = ()) -> dict[tuple[Any, ...], Chain]:
    """What xtables itself makes of chains: written into namespaces that are thrown away, and read back.

    Rules in a scenario may be spelled in ways that only the tools know. Give all chains of a namespace
    together, since rules jump from one to the other, and the sets that they match. Raises KernelError for a rule
    that is none.
    """
    matched = tuple(sets)
    places: dict[str, list[Chain]] = {}
    for chain in chains:
        places.setdefault(chain.ns, []).append(chain)
    found: dict[tuple[Any, ...], Chain] = {}
    for ns, wanted in places.items():
        with Inside() as inside:
            for chain in inside.run(None, _spoken_back, ns, wanted, [one for one in matched if one.ns == ns]):
                found[chain.key] = chain
    return {chain.key: found[chain.key] for wanted in places.values() for chain in wanted if chain.key in found}


def person_path(directory: Path | str) -> Path:
    """Make a directory for the front of PATH in which `iptables` is the variant that labs are written with.

    Returns it; making it again is harmless. ebtables stays what the system has. Raises MissingError.
    """
    multi = os.path.realpath(restore.find("iptables-legacy"))
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in _PEOPLE:
        link = directory / name
        if not link.is_symlink() or os.readlink(link) != multi:
            link.unlink(missing_ok=True)
            link.symlink_to(multi)
    return directory


def _spoken_back(ns: str, wanted: list[Chain], sets: list[IpSet]) -> tuple[Chain, ...]:
    unshare(CLONE_NEWNET)
    if sets:
        ipsets.write(ns, [Change(one, None) for one in sets])
    write(ns, [Change(chain, None) for chain in wanted])
    return read(ns, wanted)


def _read_ip(ns: str, tables: list[str]) -> Iterable[Chain]:
    from labctl.kernel import iptc_legacy

    found = iptc_legacy.read(ns, tables)
    return found if found is not None else (one.chain for one in restore.save(restore.IP, ns))


def _tables(name: str) -> list[str]:
    """The tables of a family that exist in this namespace; none where the kernel has no such family."""
    try:
        fd = os.open(f"/proc/thread-self/net/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return os.read(fd, 4096).decode().split()
    finally:
        os.close(fd)


def _check_names(ns: str, edit: Edit) -> None:
    """Refuse names that would be read as something else in the tools' input."""
    for chain in (*edit.put, *edit.drop):
        if chain.family not in restore.TOOLS:
            raise KernelError(f"cannot write chain {chain.name} in {ns}: no firewall has the family {chain.family}")
        for name in (chain.table, chain.name):
            if not _NAME.fullmatch(name):
                raise KernelError(f"cannot write table {chain.table} in {ns}: {name!r} is no name for a chain")


__all__ = ["FEW", "canonical", "counted", "filters", "person_path", "read", "write"]
