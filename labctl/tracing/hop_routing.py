"""What the evidence says of one hop: its devices, its NAT, and the questions to the routing there. Pure."""

from __future__ import annotations

from labctl.core.observations import PacketRole, RouteLookup, RouteQuery
from labctl.core.resources import IP
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hops import Hop, PacketObservation


def devices(evidence: TraceEvidence, hop: Hop) -> tuple[str, ...]:
    """The devices on the hop, in order. A bridge that only forwarded the frame is in brackets."""
    names: list[str] = []
    for number, item in enumerate(hop.observations):
        if number and hop.observations[number - 1].dev != item.dev:
            between = bridge_between(evidence, hop.observations[number - 1], item)
            names += [f"({between})"] if between else []
        if not names or names[-1] != item.dev:
            names.append(item.dev)
    return tuple(names)


def bridge_between(evidence: TraceEvidence, one: PacketObservation, other: PacketObservation) -> str | None:
    """The bridge that forwarded a frame from one of its ports to another; None if no bridge did."""
    first, second = evidence.link(one.node, one.dev), evidence.link(other.node, other.dev)
    if first is None or second is None or first.master is None or (one.direction, other.direction) != ("in", "out"):
        return None
    return first.master if first.master == second.master else None


def nat_destination(evidence: TraceEvidence, item: PacketObservation) -> IP:
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


def route_queries(evidence: TraceEvidence, hop: Hop, role: PacketRole) -> tuple[RouteQuery, ...]:
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


def last_route_query(evidence: TraceEvidence, hop: Hop, role: PacketRole) -> RouteQuery | None:
    """The last question to the namespace's routing: for the packet that is still in it, else for the packet that left.
    None if it was only bridged."""
    last = hop.outside_tunnel[-1]
    if last.direction == "in" and not (last.dev == "lo" and hop.outs):
        return _inbound_query(evidence, last, nat_destination(evidence, last))
    asked = route_queries(evidence, hop, role)
    return asked[-1] if asked else None


def _inbound_query(evidence: TraceEvidence, observation: PacketObservation, dst: IP) -> RouteQuery | None:
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


def fwmark_for(evidence: TraceEvidence, query: RouteQuery, role: PacketRole) -> int:
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


def reply_route_query(evidence: TraceEvidence, hop: Hop) -> RouteQuery | None:
    """The question for the route back from a namespace to the packet's source."""
    last = hop.outside_tunnel[-1]
    own = nat_destination(evidence, last)
    return RouteQuery(hop.node, last.src, own) if last.direction == "in" else None


def find_lookup(evidence: TraceEvidence, query: RouteQuery | None) -> RouteLookup | None:
    """The kernel's answer to that question."""
    if query is None:
        return None
    for found in evidence.lookups:
        if (found.node, found.dst, found.src, found.iif) == (query.node, query.dst, query.src, query.iif):
            return found
    return None
