"""A mesh check: choose its pairs, ask them within its time limit, and look closer at a few that failed.

The pairs are asked in parts, so that neither labctl nor the kernel holds something for each pair of a large mesh. A
part has its own temporary neighbour entries, if it needs more than the machine's table has room for.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import AbstractContextManager, nullcontext
from ipaddress import ip_address
from itertools import islice

from labctl.checks.attempt import CheckAttempt
from labctl.checks.context import CheckContext
from labctl.checks.verdict import evaluate_mesh
from labctl.core.mesh_pairs import MAX_PAIRS, MeshPairs, choose_pairs
from labctl.core.neighbour_presets import NeighbourPresets
from labctl.core.neighbour_tables import DEFAULT_LIMIT, full_tables
from labctl.core.probe_kinds import equivalent_command
from labctl.core.resources import IP
from labctl.core.results import Outcome, Pair, PairCounts
from labctl.core.scenario_types import ANSWER_TIMEOUT_S, Check
from labctl.core.sentence import all_of, joined, sentence
from labctl.core.topology import LEAF_ROLES, Topology
from labctl.dataclass import dataclass, replace
from labctl.kernel.host import paths
from labctl.kernel.netlink import neighbour_tables
from labctl.kernel.probes.mesh import Mesh, PairRequest
from labctl.kernel.probes.neighbours import TemporaryNeighbours

PART = MAX_PAIRS  # pairs that are asked with the same neighbour entries
SLOWEST_PAIRS_PER_S = 1000  # without `within`, a check may take a second for so many pairs
LAST_ANSWER_S = 1.0  # seconds at the end of `within` for answers and repetitions: no new pair is asked
RETRY_S = 0.5  # seconds for repetitions after each part
FULL_TABLE = sentence("the machine's neighbour table was full")
MAX_REPROBED_PAIRS = 3  # failed pairs that are probed again, with taps


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """When a mesh check ends, as times of `time.monotonic`: no pair is asked for the first time after `asking`, and the
    last answer may take `answer_s` seconds, but not longer than to `end`."""

    asking: float
    end: float
    answer_s: float

    def retrying(self, now: float) -> float:
        """The end of the last repetitions, if the last pair was asked `now`. On a machine that stood still it is after
        `end`: a pair that was asked gets the time to answer."""
        return max(min(self.end, now + self.answer_s), now + self.end - self.asking)


def time_limits(check: Check, pair_count: int, now: float) -> TimeLimits:
    """`within` holds the whole check. Without it, the time grows with the number of pairs, and the last answer may take
    as long as that of any other check."""
    if check.within is not None:
        end = now + check.within
        return TimeLimits(end - min(LAST_ANSWER_S, check.within / 2), end, check.within)
    asking = now + ANSWER_TIMEOUT_S + pair_count / SLOWEST_PAIRS_PER_S
    return TimeLimits(asking, asking + ANSWER_TIMEOUT_S, ANSWER_TIMEOUT_S)


def check_mesh(context: CheckContext, check: Check) -> Outcome:
    """Ask the pairs of a mesh, all or a sample of them, and decide."""
    topology, begun = context.topology, time.monotonic()
    names = dict.fromkeys(name for _, targets in check.groups for name in targets)
    nowhere = [name for name in names if not topology.addresses(name)]
    if nowhere:
        return Outcome(check, "fail", tuple(sentence("{name} has no address", name=name) for name in nowhere))
    on = {machine.name: machine.on for machine in topology.lab.machines if machine.on is not None}
    limit = None if check.pairs == "all" else MAX_PAIRS
    pairs = choose_pairs(check.groups, on, f"{context.lab}\n{check.say}", limit)
    if not pairs.total:
        return Outcome(check, "skip", (sentence("there is no pair of machines to test"),))
    limits = time_limits(check, len(pairs), begun)
    addresses = {name: topology.addresses(name)[0] for name in names}
    neighbours, unasked_reason = _Neighbours(context), ""
    tables = neighbour_tables.read()
    own = {name: topology.possible_addresses(name) for sources, _ in check.groups for name in sources}
    with Mesh(context.lab, _members(check, addresses), context.thread, own) as mesh:
        feed = ((source, target, addresses[target]) for source, target in pairs)
        try:
            while part := list(islice(feed, PART)):
                with neighbours.preset(part):
                    unasked_reason = mesh.ask(part, limits.asking)
                    retrying = limits.retrying(time.monotonic())
                    mesh.retry(min(time.monotonic() + RETRY_S, retrying))
                if unasked_reason:
                    break
            if unanswered := mesh.unanswered:
                with neighbours.preset(unanswered):
                    mesh.retry(retrying)
        except NoRoomError as error:
            unasked_reason = str(error)
        versions = {address.version for address in addresses.values()}
        full = full_tables(tables, neighbour_tables.read(), versions)
        result = mesh.result(FULL_TABLE if full else "")
    counts = _counts(topology, check, pairs, result.asked)
    verdict, lines = evaluate_mesh(result, counts, unasked_reason)
    source, target = (result.bad[0].source, result.bad[0].target) if result.bad else next(iter(pairs))
    command = equivalent_command(paths.command_prefix(context.lab), replace(check, source=source), addresses[target])
    looks = (_reprobe_pair(context, check, pair) for pair in _worst(result.bad))
    notes = (*(map(str, full) if result.bad else ()), *neighbours.notes)
    return Outcome(check, verdict, (*lines, *looks, *notes), command, pairs=counts)


class NoRoomError(Exception):
    """The machine's neighbour table has no room for the entries that the pairs need. The text says how to make room."""


class _Neighbours:
    """The temporary neighbour entries for parts of a mesh."""

    def __init__(self, context: CheckContext) -> None:
        self._context = context
        self._presets = NeighbourPresets(context.topology.lab)
        self._entry_count = 0

    def preset(self, requests: Collection[PairRequest]) -> AbstractContextManager[object]:
        """The entries that probes between these pairs need, as long as the context lasts; none if the machine's table
        has room for all of them and as many again. Raises NoRoomError."""
        topology = self._context.topology
        peers: dict[str, set[IP]] = {}
        for source, target, address in requests:
            peers.setdefault(source, set()).add(address)
            peers.setdefault(target, set()).update(topology.addresses(source))
        names = (machine.name for machine in topology.lab.machines if machine.role in LEAF_ROLES)
        leaves: dict[str, Set[IP]] = {name: peers.get(name, frozenset()) for name in names}
        addresses = (ip for name in peers for ip in topology.addresses(name))
        needed = self._presets.needed(addresses, leaves, {address for _, _, address in requests})
        versions = {address.version for _, _, address in requests}
        tables = [table for table in neighbour_tables.read() if table.version in versions]
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
            return nullcontext()
        made = TemporaryNeighbours(self._context.lab, needed.presets, self._context.thread)
        self._entry_count = max(self._entry_count, len(needed.presets))
        return made

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about the entries."""
        count = self._entry_count
        preset = sentence(
            "{count} neighbour entries were preset for this check: the machine's table does not hold so many",
            count=count,
        )
        return (preset,) if count else ()


def _members(check: Check, addresses: dict[str, IP]) -> Iterable[tuple[str, int]]:
    """The sockets that the check needs: (namespace, IP version)."""
    found: dict[tuple[str, int], None] = {}
    for sources, targets in check.groups:
        for version in dict.fromkeys(addresses[name].version for name in targets):
            found.update(dict.fromkeys((name, version) for name in sources))
        found.update(dict.fromkeys((name, addresses[name].version) for name in targets))
    return found


def _counts(topology: Topology, check: Check, pairs: MeshPairs, asked: int) -> PairCounts:
    names = dict.fromkeys(name for group in check.groups for side in group for name in side)
    roles = {topology.role(name) for name in names}
    nodes = {topology.role(topology.machines[name].on or name) for name in names if name in topology.machines}
    return PairCounts(pairs.total, len(pairs), asked, _noun(nodes, "node"), _noun(roles, "machine"))


def _noun(roles: Collection[str | None], default: str) -> str:
    role = next(iter(roles)) if len(roles) == 1 else None
    return role or default


def _worst(bad: Iterable[Pair]) -> Iterator[Pair]:
    """The first pairs that failed because of the lab; if there are none, the first of all."""
    return islice(sorted(bad, key=lambda pair: bool(pair.tool_fault)), MAX_REPROBED_PAIRS)


def _reprobe_pair(context: CheckContext, check: Check, pair: Pair) -> str:
    """Where a single probe between a failed pair was last seen."""
    single = Check(check.say, "ping", pair.source, str(pair.address), within=0.3)
    evidence, _ = CheckAttempt(context, single, ip_address(pair.address)).run()
    seen = (*evidence.trail.requests, *evidence.trail.replies)
    what = sentence("last seen {packet}", packet=seen[-1]) if seen else sentence("not seen")
    return joined(": ", (f"{pair.source} -> {pair.target}", what))
