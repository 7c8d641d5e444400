"""The point where a packet was last seen, with all that is known about it: the input of the causes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.core.observations import KernelEvent, PacketRole, RouteLookup, RouteQuery
from labctl.core.resources import IP, Link
from labctl.tracing import drop_attribution
from labctl.tracing.bridge_ports import is_multicast, ports_of
from labctl.tracing.evidence import CounterIncrease, NamespaceState, RuleHit, TraceEvidence, UnansweredNeighbour
from labctl.tracing.hop_routing import find_lookup, last_route_query, nat_destination, nat_endpoint, reply_route_query
from labctl.tracing.hops import Hop, PacketObservation


@dataclass(frozen=True, slots=True)
class Translation:
    """A destination that a namespace rewrote."""

    node: str
    dst: IP
    port: int | None
    new_dst: IP
    new_port: int | None


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The point where the trail of the request (or of its reply) ends.

    `tip` is the last sighting, None if the packet never left its source. `dst` is its destination from there.
    `delivered` means that it arrived in a namespace that has that address. `drop` is the kernel's drop event.
    """

    evidence: TraceEvidence
    role: PacketRole
    hops: tuple[Hop, ...]
    last_observation: PacketObservation | None
    node: str
    namespace: NamespaceState
    dst: IP
    drop: KernelEvent | None = None
    lookup: RouteLookup | None = None
    reply_lookup: RouteLookup | None = None
    delivered: bool = False

    @property
    def version(self) -> int:
        """The IP version of the packet there; of a packet in a tunnel, that of the tunnel's packet."""
        return self.dst.version

    @property
    def entering(self) -> bool:
        """Whether the packet was coming in at the last sighting."""
        return self.last_observation is not None and self.last_observation.direction == "in"

    @property
    def device(self) -> Link | None:
        """The device it was last seen at."""
        return (
            self.evidence.link(self.last_observation.node, self.last_observation.dev)
            if self.last_observation is not None
            else None
        )

    @property
    def iif(self) -> str | None:
        """The device by which the packet came in, as routing sees it: for a bridge port, the bridge."""
        ins = self.hops[-1].ins if self.hops else ()
        if not ins:
            return None
        link = self.evidence.link(self.node, ins[-1].dev)
        return link.master if link is not None and link.master is not None else ins[-1].dev

    @property
    def only_bridged(self) -> bool:
        """Whether it came in at a port of a bridge in a frame for another machine, so that it is not routed there."""
        link = self.device
        if not self.entering or self.last_observation is None or link is None or link.master is None:
            return False
        if self.last_observation.mac is None or is_multicast(self.last_observation.mac[1]):
            return False
        links = (self.evidence.link(self.node, link.master), *ports_of(self.evidence, self.node, link.master))
        return self.last_observation.mac[1] not in {one.mac for one in links if one is not None}

    @property
    def rule_hits(self) -> tuple[RuleHit, ...]:
        """The rules that the packet matched there; at its destination also those that the reply matched."""
        roles = {self.role, "reply"} if self.delivered else {self.role}
        found = (one for one in self.evidence.rule_hits if one.node in self._nodes and one.role in roles)
        return tuple(sorted(found, key=lambda one: self._nodes.index(one.node)))

    @property
    def counter_increases(self) -> tuple[CounterIncrease, ...]:
        """The rules there with a counter that increased meanwhile."""
        return tuple(one for one in self.evidence.counter_increases if one.node in self._nodes)

    @property
    def sending_namespace(self) -> str:
        """The namespace, or, if the packet left by a tunnel, that where the tunnel sends its packets."""
        link, tip = self.device, self.last_observation
        tunnel = link is not None and link.kind == "vxlan" and tip is not None and tip.direction == "out"
        return (link.link_netns if tunnel and link is not None else None) or self.node

    @property
    def _nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.node, self.sending_namespace)))

    @property
    def translation(self) -> Translation | None:
        """The last translation of the request's destination on the path."""
        return self.translations[-1] if self.translations else None

    @property
    def translations(self) -> tuple[Translation, ...]:
        """The translations of the request's destination on the path, in order: as seen by taps, else as recorded by
        conntrack or by the rules at its last hop."""
        hops, question = self.evidence.hops["request"], self.evidence.question
        found: dict[str, Translation] = {}
        if hops and hops[0].observations[0].direction == "out":  # the source itself may translate it before it leaves
            sent = hops[0].outside_tunnel[0]
            if sent.encap == "none" and (sent.dst, sent.dport) != (question.address, question.port):
                own = Translation(hops[0].node, question.address, question.port, sent.dst, sent.dport)
                found[own.node] = own
        for hop in hops:
            before, after = hop.outside_tunnel[0], hop.outside_tunnel[-1]
            if (before.dst, before.dport) != (after.dst, after.dport):
                found.setdefault(hop.node, Translation(hop.node, before.dst, before.dport, after.dst, after.dport))
        nodes = {item.node for item in self.evidence.observations}
        for flow in self.evidence.flows:
            ports = flow.protocol in (6, 17)
            there, then = (
                (flow.dst, flow.dport if ports else None),
                (flow.reply_src, flow.reply_sport if ports else None),
            )
            if flow.node in nodes and there != then:
                found.setdefault(flow.node, Translation(flow.node, *there, *then))
        if hops and (last := hops[-1].outside_tunnel[-1]).direction == "in":
            new = nat_endpoint(self.evidence, last)
            if new != (last.dst, last.dport):
                found.setdefault(last.node, Translation(last.node, last.dst, last.dport, *new))
        return tuple(found.values())

    @property
    def unanswered_neighbour(self) -> UnansweredNeighbour | None:
        """The neighbour that did not answer there."""
        link, tip = self.device, self.last_observation
        tunnel = link is not None and link.kind == "vxlan" and tip is not None and tip.direction == "out"
        for one in self.evidence.unanswered_neighbours:
            if one.node in self._nodes and (tunnel or one.ip.version == self.version):
                return one
        return None

    def sysctl(self, name: str) -> str | None:
        """The value of a sysctl there; None if it was not read."""
        return self.namespace.sysctls.get(name)

    def reason_allows(self, *reasons: str) -> bool:
        """Whether the kernel gave one of these reasons, or no reason that contradicts them."""
        return self.drop is None or self.drop.reason in ("", "NOT_SPECIFIED") or self.drop.reason in reasons

    def dropped_in(self, *functions: str) -> bool:
        """Whether the kernel dropped it in one of these functions."""
        return self.drop is not None and self.drop.location in functions


def find_loss_point(evidence: TraceEvidence) -> LossPoint:
    """The end of the reply's trail, if there is a reply, else of the request's. A refusal that came back is not a
    lost reply: then the point where the request was refused counts. One that was lost is like a lost reply."""
    roles: tuple[PacketRole, ...] = ("request",) if evidence.answer == "refused" else ("reply", "request")
    for role in roles:
        hops = evidence.hops[role]
        if hops:
            found = _loss_point_at_end(evidence, role, hops)
            errors = evidence.hops["error"]
            return _loss_point_at_end(evidence, "error", errors) if _is_refusal_lost(found, errors) else found
    question = evidence.question
    lookup = find_lookup(evidence, RouteQuery(question.source, question.address))
    namespace = evidence.namespace(question.source)
    drop = drop_attribution.find_drop_event(evidence, ())
    own = any(one.addr.ip == question.address for one in namespace.addresses)
    local = (own or (lookup is not None and lookup.kind == "local")) and drop is None
    return LossPoint(
        evidence, "request", (), None, question.source, namespace, question.address, drop, lookup, None, local
    )  # fmt: skip


def _is_refusal_lost(request: LossPoint, errors: tuple[Hop, ...]) -> bool:
    """Whether the target refused a datagram (port unreachable), and the refusal was lost on its way back."""
    evidence = request.evidence
    if request.role != "request" or not request.delivered or not errors or evidence.question.protocol != "udp":
        return False
    first, last = errors[0].observations[0], errors[-1].observations[-1]
    if (
        evidence.answer != "timeout"
        or first.text != "port unreachable"
        or (first.node, first.direction)
        != (
            request.node,
            "out",
        )
    ):
        return False
    rejected = any(one.target == "REJECT" for one in request.rule_hits)
    return last.node not in (evidence.question.source, request.node) and not rejected


def _loss_point_at_end(evidence: TraceEvidence, role: PacketRole, hops: tuple[Hop, ...]) -> LossPoint:
    hop = hops[-1]
    last_observation = _last_on_path(evidence, hop)
    wanted = last_route_query(evidence, hop, role)
    lookup = find_lookup(evidence, wanted)
    back = find_lookup(evidence, reply_route_query(evidence, hop))
    namespace = evidence.namespace(last_observation.node)
    dst = nat_destination(evidence, last_observation) if last_observation.direction == "in" else last_observation.dst
    dst = last_observation.outer[1] if last_observation.outer is not None else dst
    here = any(one.addr.ip == dst for one in namespace.addresses) or (lookup is not None and lookup.kind == "local")
    port = evidence.link(last_observation.node, last_observation.dev)
    accepted = last_observation.addressed_here or (port is not None and port.master is not None)
    arrived = last_observation.direction == "in" and last_observation.encap == "none" and accepted
    delivered = arrived and here and wanted is not None
    copied = last_observation is not hop.observations[-1]  # then the kernel's drop is that of the copy
    drop = None if copied else drop_attribution.find_drop_event(evidence, hops)
    return LossPoint(
        evidence, role, hops, last_observation, last_observation.node, namespace, dst, drop, lookup, back, delivered
    )


def _last_on_path(evidence: TraceEvidence, hop: Hop) -> PacketObservation:
    """The hop's last observation. A promiscuous bridge sees a copy of each frame between its ports, which is not the
    frame on its way: then the observation at the port counts."""
    last = hop.observations[-1]
    bridge = evidence.link(last.node, last.dev)
    if bridge is None or bridge.kind != "bridge" or last.direction != "in" or last.addressed_here:
        return last
    if last.mac is None or last.mac[1] == bridge.mac or is_multicast(last.mac[1]):
        return last
    ports = {one.at.dev for one in ports_of(evidence, last.node, last.dev)}
    before = (one for one in reversed(hop.observations[:-1]) if one.dev in ports and one.direction == "in")
    return next((one for one in before if one.mac == last.mac), last)
