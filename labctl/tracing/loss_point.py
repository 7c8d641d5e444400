"""The point where a packet was last seen, with all that is known about it: the input of the causes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.core.observations import Event, Lookup, Role, RouteInput
from labctl.core.resources import IP, Link
from labctl.tracing import drop_attribution
from labctl.tracing.evidence import Asked, Crossing, Evidence, Met, Moved, Room
from labctl.tracing.hops import Hop, answered, back_input, road, route_input, translated


@dataclass(frozen=True, slots=True)
class Translation:
    """A destination that a namespace rewrote."""

    node: str
    dst: IP
    port: int | None
    new: IP
    new_port: int | None


@dataclass(frozen=True, slots=True)
class Scene:
    """The point where the trail of the request (or of its reply) ends.

    `tip` is the last sighting, None if the packet never left its source. `dst` is its destination from there.
    `delivered` means that it arrived in a namespace that has that address. `drop` is the kernel's drop event.
    """

    evidence: Evidence
    role: Role
    hops: tuple[Hop, ...]
    tip: Crossing | None
    node: str
    room: Room
    dst: IP
    drop: Event | None = None
    lookup: Lookup | None = None
    back: Lookup | None = None
    delivered: bool = False

    @property
    def version(self) -> int:
        """The IP version of the probe."""
        return self.evidence.question.address.version

    @property
    def entering(self) -> bool:
        """Whether the packet was coming in at the last sighting."""
        return self.tip is not None and self.tip.way == "in"

    @property
    def device(self) -> Link | None:
        """The device it was last seen at."""
        return self.evidence.link(self.tip.node, self.tip.dev) if self.tip is not None else None

    @property
    def iif(self) -> str | None:
        """The device by which the packet came in, as routing sees it: for a bridge port, the bridge."""
        ins = self.hops[-1].ins if self.hops else ()
        if not ins:
            return None
        link = self.evidence.link(self.node, ins[-1].dev)
        return link.master if link is not None and link.master is not None else ins[-1].dev

    @property
    def met(self) -> tuple[Met, ...]:
        """The rules that the packet matched there; at its destination also those that the reply matched."""
        roles = {self.role, "reply"} if self.delivered else {self.role}
        return tuple(one for one in self.evidence.met if one.node == self.node and one.role in roles)

    @property
    def moved(self) -> tuple[Moved, ...]:
        """The rules there whose counters increased meanwhile."""
        return tuple(one for one in self.evidence.moved if one.node == self.node)

    @property
    def sent_on(self) -> Translation | None:
        """The translation of the request's destination on the path: as seen by taps, else as recorded by conntrack."""
        for hop in road(self.evidence, "request"):
            before, after = hop.bare[0], hop.bare[-1]
            if (before.dst, before.dport) != (after.dst, after.dport):
                return Translation(hop.node, before.dst, before.dport, after.dst, after.dport)
        nodes = {item.node for item in self.evidence.crossings}
        for flow in self.evidence.flows:
            ports = flow.protocol in (6, 17)
            there, then = (
                (flow.dst, flow.dport if ports else None),
                (flow.reply_src, flow.reply_sport if ports else None),
            )
            if flow.node in nodes and there != then:
                return Translation(flow.node, *there, *then)
        return None

    @property
    def asked(self) -> Asked | None:
        """The neighbour that did not answer there."""
        return next(
            (one for one in self.evidence.asked if one.node == self.node and one.ip.version == self.version), None
        )

    def sysctl(self, name: str) -> str | None:
        """The value of a sysctl there; None if it was not read."""
        return self.room.sysctls.get(name)

    def because(self, *reasons: str) -> bool:
        """Whether the kernel gave one of these reasons, or no reason that contradicts them."""
        return self.drop is None or self.drop.reason in ("", "NOT_SPECIFIED") or self.drop.reason in reasons

    def at(self, *functions: str) -> bool:
        """Whether the kernel dropped it in one of these functions."""
        return self.drop is not None and self.drop.location in functions


def scene(evidence: Evidence) -> Scene:
    """The end of the reply's trail, if there is a reply, else of the request's. A refusal that came back is not a
    lost reply: then the point where the request was refused counts."""
    roles: tuple[Role, ...] = ("request",) if evidence.answer == "refused" else ("reply", "request")
    for role in roles:
        hops = road(evidence, role)
        if hops:
            return _at_tip(evidence, role, hops)
    question = evidence.question
    lookup = answered(evidence, RouteInput(question.source, question.address))
    room = evidence.room(question.source)
    drop = drop_attribution.drop(evidence, ())
    local = any(one.addr.ip == question.address for one in room.addresses) and drop is None
    return Scene(
        evidence, "request", (), None, question.source, room, question.address, drop, lookup, None, local
    )  # fmt: skip


def _at_tip(evidence: Evidence, role: Role, hops: tuple[Hop, ...]) -> Scene:
    hop = hops[-1]
    tip = hop.crossings[-1]
    wanted = route_input(evidence, hop, role)
    lookup = answered(evidence, wanted)
    back = answered(evidence, back_input(evidence, hop))
    room = evidence.room(tip.node)
    dst = translated(evidence, tip) if tip.way == "in" else tip.dst
    dst = tip.outer[1] if tip.outer is not None else dst
    here = any(one.addr.ip == dst for one in room.addresses) or (lookup is not None and lookup.kind == "local")
    delivered = tip.way == "in" and tip.encap == "none" and here and wanted is not None
    drop = drop_attribution.drop(evidence, hops)
    return Scene(evidence, role, hops, tip, tip.node, room, dst, drop, lookup, back, delivered)
