"""A mesh check: choose its pairs, ask them within its time limit, and look closer at a few that failed.

The pairs are asked in parts, so that neither labctl nor the kernel holds something for each pair of a large mesh. A
part has its own temporary neighbour entries, if it needs more than the machine's table has room for.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import islice

from labctl.checks.context import NODE_TAP_LIMIT, CheckContext, namespaces_to_tap
from labctl.checks.mesh_neighbours import MeshNeighbours, NoRoomError
from labctl.checks.verdict import evaluate_mesh
from labctl.core.mesh_pairs import MAX_PAIRS, MeshPairs, Row, choose_pairs, each_pair, in_rows, parts
from labctl.core.neighbour_tables import full_tables
from labctl.core.probe_kinds import equivalent_command
from labctl.core.results import Outcome, Pair, PairCounts
from labctl.core.scenario_types import ANSWER_TIMEOUT_S, Check
from labctl.core.sentence import joined, sentence
from labctl.core.topology import Topology
from labctl.kernel.capture.tap import Taps
from labctl.kernel.host import paths
from labctl.kernel.host.thread_pool import ThreadPool
from labctl.kernel.netlink import neighbour_tables
from labctl.kernel.probes.mesh import Mesh

PART = MAX_PAIRS  # pairs that are asked together
SLOWEST_PAIRS_PER_S = 1000  # without `within`, a check may take a second for so many pairs, ...
SLOWEST_MACHINES_PER_S = 200  # ... and one for so many machines, whose namespaces it enters
LAST_ANSWER_S = 1.0  # seconds at the end of `within` for answers and repetitions: no new pair is asked
RETRY_S = 0.5  # seconds for repetitions after a part, ...
RETRY_SHARE = 0.1  # ... and their part of the whole time: the others have their turn at the end
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


def time_limits(check: Check, pair_count: int, machine_count: int, now: float) -> TimeLimits:
    """`within` holds the whole check. Without it, the time grows with the numbers of pairs and machines, and the last
    answer may take as long as that of any other check."""
    if check.within is not None:
        end = now + check.within
        return TimeLimits(end - min(LAST_ANSWER_S, check.within / 2), end, check.within)
    asking = now + ANSWER_TIMEOUT_S + pair_count / SLOWEST_PAIRS_PER_S + machine_count / SLOWEST_MACHINES_PER_S
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
    machine_count = len({name for group in check.groups for side in group for name in side})
    limits = time_limits(check, len(pairs), machine_count, begun)
    addresses = {name: topology.addresses(name)[0] for name in names}
    tables = neighbour_tables.read()
    with (
        Mesh(context.lab, context.thread, addresses, topology.possible_addresses) as mesh,
        MeshNeighbours(context, addresses, tables, 2 * mesh.machines_at_once) as neighbours,
    ):
        try:
            unasked_reason = _ask_in_parts(mesh, neighbours, pairs, limits, begun)
            _retry(mesh, neighbours, limits.retrying(time.monotonic()))
        except NoRoomError as error:
            unasked_reason = str(error)
        versions = {address.version for address in addresses.values()}
        full = full_tables(tables, neighbour_tables.read(), versions)
        result = mesh.result(FULL_TABLE if full else "")
    counts = _counts(topology, check, pairs, result.asked)
    verdict, lines = evaluate_mesh(result, counts, unasked_reason)
    source, target = (result.bad[0].source, result.bad[0].target) if result.bad else next(iter(pairs))
    command = equivalent_command(paths.command_prefix(context.lab), replace(check, source=source), addresses[target])
    looks = _reprobe_pairs(context, check, tuple(_worst(result.bad)))
    notes = (*(map(str, full) if result.bad else ()), *neighbours.notes)
    return Outcome(check, verdict, (*lines, *looks, *notes), command, pairs=counts)


def _ask_in_parts(mesh: Mesh, neighbours: MeshNeighbours, pairs: MeshPairs, limits: TimeLimits, begun: float) -> str:
    """Ask the pairs, part by part. While one part is asked, the neighbour entries for the next one are made, if that
    removes none. Returns why not all were asked, "" if all were. Raises NoRoomError."""
    upcoming = parts(pairs.rows(), PART, mesh.machines_at_once)
    part, ready, retried, left_over = next(upcoming), False, 0.0, len(pairs)

    def prepare() -> tuple[list[Row], bool]:
        """The next part, and whether its entries are made."""
        following = next(upcoming, [])
        return following, bool(following) and neighbours.preset_early(following)

    while part:
        if not ready:
            neighbours.preset(part)
        left_over -= sum(len(targets) for _, targets in part)
        with ThreadPool("neighbours") as pool:
            next_part = pool.submit(prepare) if left_over else None
            reason = mesh.ask(part, limits.asking)
            started = time.monotonic()
            left = RETRY_S + (started - begun) * RETRY_SHARE - retried
            if left > 0 and (doubtful := mesh.doubtful):
                here = set(doubtful).intersection(each_pair(part))
                mesh.retry(sorted(here), min(started + min(left, RETRY_S), limits.retrying(started)))
                retried += time.monotonic() - started
        if reason or next_part is None:
            return reason
        part, ready = next_part.result()
    return ""


def _retry(mesh: Mesh, neighbours: MeshNeighbours, deadline: float) -> None:
    """Repeat the probes of all doubtful pairs until the deadline. If these have more machines than can be asked
    at once, they take turns."""
    possible = True
    while possible and (doubtful := mesh.doubtful) and time.monotonic() < deadline:
        possible = False
        turns = list(parts(in_rows(doubtful), PART, mesh.machines_at_once))
        for part in turns:
            neighbours.preset(part)
            end = deadline if len(turns) == 1 else min(time.monotonic() + RETRY_S, deadline)
            possible |= mesh.retry(each_pair(part), end)


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


def _reprobe_pairs(context: CheckContext, check: Check, pairs: Sequence[Pair]) -> list[str]:
    """Where a single probe between each of these pairs was last seen. Where there are no taps, which a mesh does not
    need, there are some during these probes."""
    singles = [Check(check.say, "ping", pair.source, str(pair.address), within=0.3) for pair in pairs]
    named = [name for single in singles for name in context.topology.check_namespaces(single)]
    if not pairs or all(map(context.taps.socket_of, named)):
        return [_reprobe_pair(context, pair, single) for pair, single in zip(pairs, singles, strict=True)]
    with Taps(context.lab, namespaces_to_tap(context.topology, named, NODE_TAP_LIMIT), context.thread) as taps:
        tapped = replace(context, taps=taps)
        return [_reprobe_pair(tapped, pair, single) for pair, single in zip(pairs, singles, strict=True)]


def _reprobe_pair(context: CheckContext, pair: Pair, single: Check) -> str:
    """Where a single probe between a failed pair was last seen."""
    from labctl.checks.attempt import CheckAttempt

    evidence, _ = CheckAttempt(context, single, ip_address(pair.address)).run()
    seen = (*evidence.trail.requests, *evidence.trail.replies)
    what = sentence("last seen {packet}", packet=seen[-1]) if seen else sentence("not seen")
    return joined(": ", (f"{pair.source} -> {pair.target}", what))
