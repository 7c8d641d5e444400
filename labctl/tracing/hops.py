"""From sightings to the packet's path: one hop per visit to a namespace. Pure.

A bridge that does not know a MAC address floods, so the taps see a tree of copies. A frame that enters a device left
the device at the other end of the cable before; a frame that leaves came in before. The branch that got furthest is
the path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.core.observations import PacketRole, RouteLookup, RouteQuery
from labctl.core.resources import IP
from labctl.tracing.evidence import Evidence, PacketObservation


@dataclass(frozen=True, slots=True)
class Hop:
    """One visit of the packet to a namespace. `flooded` counts the copies that left for elsewhere."""

    node: str
    observations: tuple[PacketObservation, ...]
    flooded: int = 0

    @property
    def ins(self) -> tuple[PacketObservation, ...]:
        """The sightings of the packet coming in."""
        return tuple(item for item in self.observations if item.direction == "in")

    @property
    def outs(self) -> tuple[PacketObservation, ...]:
        """The sightings of the packet going out."""
        return tuple(item for item in self.observations if item.direction == "out")

    @property
    def outside_tunnel(self) -> tuple[PacketObservation, ...]:
        """The sightings outside a tunnel; all sightings, if it is inside a tunnel at each of them."""
        return tuple(item for item in self.observations if item.encap == "none") or self.observations


def path(evidence: Evidence, role: PacketRole) -> tuple[Hop, ...]:
    """The hops of the request, of its reply, or of the first ICMP error."""
    observations = _without_retransmits([item for item in evidence.observations if item.role == role])
    if role == "error":  # keep the first of several errors: a probe that is sent again causes another error
        observations = list({(item.node, item.dev, item.direction): item for item in reversed(observations)}.values())[
            ::-1
        ]
    if not observations:
        return ()
    parents = [_parent(evidence, observations, number) for number in range(len(observations))]
    leaves = sorted(set(range(len(observations))) - {parent for parent in parents if parent is not None})
    end = evidence.question.source if role != "request" else evidence.question.target_ns
    chain: list[int] = []
    index: int | None
    index = max(leaves, key=lambda leaf: _branch_rank(evidence, observations, leaf, end))
    while index is not None:
        chain.insert(0, index)
        index = parents[index]
    return tuple(_hops([observations[number] for number in chain], _flooded_copies(observations, chain, parents)))


def _branch_rank(
    evidence: Evidence, observations: Sequence[PacketObservation], leaf: int, end: str | None
) -> tuple[bool, bool, int]:
    """The rank of a branch's end: first arrival at the target, then a frame that is no stray copy, then the latest."""
    last = observations[leaf]
    link = evidence.link(last.node, last.dev)
    wanted = last.addressed_here or (link is not None and link.master is not None)
    return last.node == end and last.direction == "in" and wanted, wanted, leaf


def _without_retransmits(observations: list[PacketObservation]) -> list[PacketObservation]:
    """The sightings without retransmissions (a TCP SYN is sent again after a second)."""
    if not observations or observations[0].direction != "out":
        return observations
    first = observations[0]
    for number, item in enumerate(observations[1:], 1):
        again = (item.node, item.dev, item.direction, item.ttl) == (first.node, first.dev, first.direction, first.ttl)
        if again and item.when - first.when > 100_000_000:
            return observations[:number]
    return observations


def _parent(evidence: Evidence, observations: Sequence[PacketObservation], number: int) -> int | None:
    item, before = observations[number], range(number - 1, -1, -1)
    earlier: int | None = next((at for at in before if observations[at].node == item.node), None)
    if item.direction == "out":
        while earlier is not None and _leaves_by_veth(evidence, observations[earlier]):
            earlier = next((at for at in range(earlier - 1, -1, -1) if observations[at].node == item.node), None)
        return earlier if earlier is not None else (number - 1 if number else None)
    link = evidence.link(item.node, item.dev)
    if item.dev == "lo" or (link is not None and link.kind in ("bridge", "vxlan", "vlan")):
        return earlier
    peer = link.peer if link is not None else None
    for at in before:
        other = observations[at]
        if peer is not None and (other.node, other.dev, other.direction) == (peer.ns, peer.dev, "out"):
            return at
    if peer is not None:
        return earlier
    return number - 1 if number else None


def _leaves_by_veth(evidence: Evidence, item: PacketObservation) -> bool:
    """Whether the packet left by a cable. What leaves after that is another copy."""
    link = evidence.link(item.node, item.dev)
    return item.direction == "out" and link is not None and link.kind == "veth"


def _flooded_copies(
    observations: Sequence[PacketObservation], chain: Sequence[int], parents: Sequence[int | None]
) -> dict[int, int]:
    """The number of copies that left the path, by the time of the sighting where they left."""
    floods: dict[int, int] = {}
    for number, parent in enumerate(parents):
        if parent is not None and number not in chain and parent in chain and observations[number].direction == "out":
            floods[observations[parent].when] = floods.get(observations[parent].when, 0) + 1
    return floods


def _hops(chain: Iterable[PacketObservation], floods: dict[int, int]) -> Iterable[Hop]:
    visit: list[PacketObservation] = []
    for item in chain:
        if visit and visit[-1].node != item.node:
            yield Hop(visit[0].node, tuple(visit), sum(floods.get(one.when, 0) for one in visit))
            visit = []
        visit.append(item)
    if visit:
        yield Hop(visit[0].node, tuple(visit), sum(floods.get(one.when, 0) for one in visit))


def devices(evidence: Evidence, hop: Hop) -> tuple[str, ...]:
    """The devices on the hop, in order. A bridge that only forwarded the frame is in brackets."""
    names: list[str] = []
    for number, item in enumerate(hop.observations):
        if number and hop.observations[number - 1].dev != item.dev:
            between = bridge_between(evidence, hop.observations[number - 1], item)
            names += [f"({between})"] if between else []
        if not names or names[-1] != item.dev:
            names.append(item.dev)
    return tuple(names)


def bridge_between(evidence: Evidence, one: PacketObservation, other: PacketObservation) -> str | None:
    """The bridge that forwarded a frame from one of its ports to another; None if no bridge did."""
    first, second = evidence.link(one.node, one.dev), evidence.link(other.node, other.dev)
    if first is None or second is None or first.master is None or (one.direction, other.direction) != ("in", "out"):
        return None
    return first.master if first.master == second.master else None


def nat_destination(evidence: Evidence, item: PacketObservation) -> IP:
    """The packet's destination after this namespace's DNAT or reversed SNAT, according to conntrack."""
    for flow in evidence.flows:
        if flow.node != item.node:
            continue
        if (flow.src, flow.dst) == (item.src, item.dst) and _ports_match(item, flow.sport, flow.dport):
            return flow.reply_src
        if (flow.reply_src, flow.reply_dst) == (item.src, item.dst) and _ports_match(
            item, flow.reply_sport, flow.reply_dport
        ):
            return flow.src
    return item.dst


def _ports_match(item: PacketObservation, sport: int, dport: int) -> bool:
    return item.ident == sport if item.sport is None else (item.sport, item.dport) == (sport, dport)


def route_queries(evidence: Evidence, hop: Hop, role: PacketRole) -> tuple[RouteQuery, ...]:
    """The questions to the namespace's routing for this packet, one for each time that it was routed, in order.

    A packet is routed where it first leaves, or where it leaves after it came in, unless a bridge forwarded it from
    one port to another. A namespace may do both with one packet: bridge it to a port, and route what comes out there.
    """
    found: list[RouteQuery | None] = []
    for number, observation in enumerate(hop.outside_tunnel):
        if observation.direction != "out":
            continue
        if not number:
            own = observation.src if role != "request" and observation.dev != "lo" else None
            found.append(RouteQuery(hop.node, _outer_destination(observation, observation.dst), own))
        elif (came := hop.outside_tunnel[number - 1]).direction == "in" and bridge_between(
            evidence, came, observation
        ) is None:
            found.append(_inbound_query(evidence, came, observation.dst))
    return tuple(one for one in found if one is not None)


def last_route_query(evidence: Evidence, hop: Hop, role: PacketRole) -> RouteQuery | None:
    """The last question to the namespace's routing: for the packet that is still in it, else for the packet that left.
    None if it was only bridged."""
    last = hop.outside_tunnel[-1]
    if last.direction == "in" and not (last.dev == "lo" and hop.outs):
        return _inbound_query(evidence, last, nat_destination(evidence, last))
    asked = route_queries(evidence, hop, role)
    return asked[-1] if asked else None


def _inbound_query(evidence: Evidence, observation: PacketObservation, dst: IP) -> RouteQuery | None:
    """The question for a packet that came in and goes to `dst`; None if the frame is not for this machine."""
    if observation.dev == "lo":  # a packet to the machine itself is routed once, when it leaves
        return RouteQuery(observation.node, _outer_destination(observation, dst))
    iif = observation.dev
    link = evidence.link(observation.node, iif)
    if link is not None and link.master is not None:
        iif = link.master
        bridge = evidence.link(observation.node, iif)
        if bridge is not None and bridge.mac and observation.mac is not None and observation.mac[1] != bridge.mac:
            return None  # not for the host of the bridge
    src = observation.outer[0] if observation.outer is not None else observation.src
    return RouteQuery(observation.node, _outer_destination(observation, dst), src, iif)


def _outer_destination(item: PacketObservation, dst: IP) -> IP:
    return item.outer[1] if item.outer is not None else dst


def fwmark_for(evidence: Evidence, query: RouteQuery, role: PacketRole) -> int:
    """The fwmark of the packet when it was routed, 0 for none. For a packet that came in, this is its mark after
    PREROUTING. A packet of the machine itself is routed again if the mangle table changes its mark. Marks that are
    set later do not affect the route."""
    met = [one for one in evidence.rule_hits if (one.node, one.role) == (query.node, role)]
    if query.iif is not None:
        return next((one.mark for one in reversed(met) if (one.hook, one.iif) == (0, query.iif)), 0)
    first, second = (
        next((one.mark for one in reversed(met) if (one.hook, one.table) == (3, table)), 0)
        for table in ("raw", "mangle")
    )
    return second if second != first else 0


def reply_route_query(evidence: Evidence, hop: Hop) -> RouteQuery | None:
    """The question for the route back from a namespace to the packet's source."""
    last = hop.outside_tunnel[-1]
    own = nat_destination(evidence, last)
    return RouteQuery(hop.node, last.src, own) if last.direction == "in" else None


def find_lookup(evidence: Evidence, query: RouteQuery | None) -> RouteLookup | None:
    """The kernel's answer to that question."""
    if query is None:
        return None
    for found in evidence.lookups:
        if (found.node, found.dst, found.src, found.iif) == (query.node, query.dst, query.src, query.iif):
            return found
    return None
