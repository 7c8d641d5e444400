"""The temporary neighbour entries of a mesh check.

All namespaces of the machine share one table of neighbours. Where it has no room for those that a mesh needs, the check
makes permanent entries, which the kernel does not count, and removes them at its end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set

from labctl.checks.context import CheckContext
from labctl.core.mesh_pairs import Row
from labctl.core.neighbour_presets import NeededEntries, NeighbourPresets
from labctl.core.neighbour_tables import DEFAULT_LIMIT, NeighbourTable
from labctl.core.resources import IP
from labctl.core.sentence import all_of, sentence
from labctl.core.topology import LEAF_ROLES
from labctl.kernel.netlink import neighbour_tables
from labctl.kernel.probes.neighbours import TemporaryNeighbours

MAX_ENTRIES = 20_000  # that exist together, unless one part needs more


class NoRoomError(Exception):
    """The machine's neighbour table has no room for the entries that the pairs need. The text says how to make room."""


class MeshNeighbours:
    """The temporary neighbour entries for parts of a mesh. A context manager: leaving it removes them."""

    def __init__(
        self, context: CheckContext, addresses: Mapping[str, IP], tables: tuple[NeighbourTable, ...], max_files: int
    ) -> None:
        """`addresses` are those of the targets, `max_files` how many files may be open for the entries."""
        self._context, self._addresses, self._max_files = context, addresses, max_files
        self._tables: tuple[NeighbourTable, ...] | None = tables  # as they were read last, if they are as then
        self._presets = NeighbourPresets(context.topology.lab)
        self._leaves = [machine.name for machine in context.topology.lab.machines if machine.role in LEAF_ROLES]
        self._made: TemporaryNeighbours | None = None
        self._entry_count = 0

    def __enter__(self) -> MeshNeighbours:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._made is not None:
            made, self._made = self._made, None
            made.__exit__(*exc)

    def preset(self, rows: Collection[Row]) -> None:
        """Make the entries that the probes of these rows need; none if the machine's table has room for all of them
        and as many again. Those of earlier parts stay, up to `MAX_ENTRIES`. Raises NoRoomError."""
        needed, versions = self._needed(rows)
        if self._tables is None:
            self._tables = neighbour_tables.read()
        tables = [table for table in self._tables if table.version in versions]
        room = min((table.room for table in tables), default=DEFAULT_LIMIT)
        if needed.unpredictable > room:
            limits = all_of(table.raised_limit for table in tables)
            raise NoRoomError(
                sentence(
                    "the pairs need {unpredictable} neighbour entries that labctl cannot preset, and the"
                    " machine's table has room for {room}: the sysctl {limits} gives it room",
                    unpredictable=needed.unpredictable,
                    room=room,
                    limits=limits,
                )
            )
        if len(needed.presets) + needed.unpredictable <= room / 2:
            self._tables = None  # the kernel makes the entries of this part: the next one may find less room
            return
        if self._made is not None and self._made.entry_count + len(needed.presets) > MAX_ENTRIES:
            self.__exit__()
        if self._made is None:
            self._made = TemporaryNeighbours(self._context.lab, self._context.thread, self._max_files).__enter__()
        self._add(self._made, needed)

    def preset_early(self, rows: Collection[Row]) -> bool:
        """As `preset`, while an earlier part is asked: only if its entries were preset too, and none of them has to be
        removed. Returns whether it is done."""
        made = self._made
        if made is None:
            return False
        needed, _ = self._needed(rows)
        if needed.unpredictable or made.entry_count + len(needed.presets) > MAX_ENTRIES:
            return False
        self._add(made, needed)
        return True

    def _add(self, made: TemporaryNeighbours, needed: NeededEntries) -> None:
        made.add(needed.presets)
        self._entry_count = max(self._entry_count, made.entry_count)

    def _needed(self, rows: Collection[Row]) -> tuple[NeededEntries, set[int]]:
        """The entries that the probes of these rows need, and the IP versions of the probes."""
        topology = self._context.topology
        receivers: dict[str, set[str]] = {}
        senders: dict[str, set[str]] = {}
        askers: dict[tuple[str, ...], list[str]] = {}  # of the same targets, which most rows share with others
        for source, targets in rows:
            receivers.setdefault(source, set()).update(targets)
            askers.setdefault(targets, []).append(source)
        for targets, sources in askers.items():
            for target in targets:
                senders.setdefault(target, set()).update(sources)
        found: dict[frozenset[str], frozenset[IP]] = {}

        def addresses_of(names: frozenset[str]) -> frozenset[IP]:
            """The addresses of machines. Most sources of a mesh have the same targets, so they are looked up once."""
            if names not in found:
                found[names] = frozenset(ip for name in names for ip in topology.addresses(name))
            return found[names]

        peers: dict[str, frozenset[IP]] = {}  # of each machine, with its own addresses, which need no entry
        for name in {**receivers, **senders}:
            own = {name} if name in receivers else set()
            asked = addresses_of(frozenset(receivers.get(name, own) | own))
            peers[name] = asked | addresses_of(frozenset(senders.get(name, own) | own))
        passing: dict[str, set[IP]] = {machine.on: set() for machine in topology.lab.machines if machine.on is not None}
        for name, exchanged in peers.items():
            machine = topology.machines.get(name)
            node = name if machine is None or machine.on is None else machine.on
            if node in passing:
                passing[node].update(exchanged, topology.addresses(name))
        leaves: dict[str, Set[IP]] = dict.fromkeys(self._leaves, frozenset())
        leaves.update((name, peers[name]) for name in peers if name in leaves)
        probed = {self._addresses[name] for name in senders}
        addresses = (ip for name in peers for ip in topology.addresses(name))
        return self._presets.needed(addresses, leaves, probed, passing), {ip.version for ip in probed}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about the entries."""
        count = self._entry_count
        preset = sentence(
            "{count} neighbour entries were preset for this check: the machine's table does not hold so many",
            count=count,
        )
        return (preset,) if count else ()
