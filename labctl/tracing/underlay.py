"""A question for a MAC address that went into a tunnel: where its packet was lost, and the rules that can have dropped
it there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labctl.core.iptables import BUILTIN, LEGACY_FAMILIES, TERMINATING_TARGETS, FirewallRule
from labctl.core.resources import Link
from labctl.tracing.counted_rules import bridge_dropping_rules
from labctl.tracing.evidence import CounterIncrease, NeighbourObservation, TraceEvidence
from labctl.tracing.rule_matching import IPV4, IPV6, RulePacket, can_match
from labctl.tracing.tunnel_path import receiving_tunnel, socket_namespace, tunnel_addresses

UDP = 17
INWARD_CHAINS = ("PREROUTING", "INPUT", "FORWARD", "POSTROUTING")
OUTWARD_CHAINS = ("OUTPUT", "POSTROUTING")


@dataclass(frozen=True, slots=True)
class LostInTunnel:
    """A question or an answer that left by `tunnel`, was lost in the namespace `node`, and was last seen at `last`: in
    its tunnel packet, or, if that never left, at the tunnel itself."""

    node: str
    tunnel: Link
    last: NeighbourObservation

    @property
    def is_request(self) -> bool:
        """Whether it is the question."""
        return self.last.is_request


def lost_in_tunnel(evidence: TraceEvidence, seen: Sequence[NeighbourObservation]) -> LostInTunnel | None:
    """Where a question or its answer was lost between the two ends of a tunnel; None if it was not lost there. `seen`
    are the observations of one question and of its answers."""
    for one in seen:
        near = evidence.link(one.node, one.dev)
        if not one.is_request or one.direction != "out" or near is None or near.kind != "vxlan":
            continue
        far = _far_tunnel(evidence, near, one)
        if far is None:
            continue
        if not _took(seen, far, is_request=True):
            return _lost(evidence, seen, near, far, one)
        answer = next((item for item in seen if not item.is_request and _is_at(item, far, "out")), None)
        if answer is not None and not _took(seen, near, is_request=False):
            return _lost(evidence, seen, far, near, answer)
    return None


def _far_tunnel(evidence: TraceEvidence, near: Link, question: NeighbourObservation) -> Link | None:
    """The tunnel that leads to the machine with the address; None if that is not certain."""
    macs = {
        link.mac
        for state in evidence.namespaces
        for address in state.addresses
        if address.addr.ip == question.ip and (link := evidence.link(address.at.ns, address.at.dev)) is not None
    }
    found = [far for mac in macs if mac is not None and (far := receiving_tunnel(evidence, near, mac)) is not None]
    return found[0] if len(found) == 1 else None


def _is_at(one: NeighbourObservation, link: Link, direction: str) -> bool:
    return (one.node, one.dev, one.direction) == (link.at.ns, link.at.dev, direction)


def _took(seen: Sequence[NeighbourObservation], link: Link, *, is_request: bool) -> bool:
    """Whether a tunnel took the message out of its packet."""
    return any(one.is_request == is_request and _is_at(one, link, "in") for one in seen)


def _lost(
    evidence: TraceEvidence, seen: Sequence[NeighbourObservation], sender: Link, taker: Link, sent: NeighbourObservation
) -> LostInTunnel:
    """The last observation of the tunnel packet on its way to the other end."""
    ends = {one.addr.ip for one in tunnel_addresses(evidence, taker)}
    carried = [one for one in seen if one.is_request == sent.is_request and one.outer is not None]
    on_way = [one for one in carried if one.outer is not None and one.outer[1] in ends]
    last = max(on_way, key=lambda one: one.when, default=sent)
    return LostInTunnel(last.node if last.outer is not None else socket_namespace(sender), sender, last)


def underlay_dropping_rules(evidence: TraceEvidence, lost: LostInTunnel) -> list[CounterIncrease]:
    """The rules and policies that drop or reject, counted a packet, and can have matched the tunnel packet where it was
    last seen."""
    last = lost.last
    outer = last.outer
    version = outer[0].version if outer is not None else 4
    port = dict(lost.tunnel.options).get("dstport", "")
    packet = RulePacket(
        IPV4 if version == 4 else IPV6,
        UDP,
        frozenset((outer[0],)) if outer is not None else frozenset(),
        frozenset((outer[1],)) if outer is not None else frozenset(),
        dports=frozenset((int(port),)) if port.isdigit() else frozenset(),
        mac=last.mac if outer is not None else None,
    )
    entering = outer is not None and last.direction == "in"
    found = bridge_dropping_rules(evidence, lost.node, last.dev, entering, packet) if outer is not None else []
    family = "ip" if version == 4 else "ip6"
    chains = INWARD_CHAINS if entering else OUTWARD_CHAINS
    for one in evidence.counter_increases:
        if one.node != lost.node or one.family not in (family, LEGACY_FAMILIES[family]):
            continue
        if one.target not in TERMINATING_TARGETS:
            continue
        if one.chain in BUILTIN.get((family, one.table), ()) and one.chain not in chains:
            continue
        if one.number == 0 or can_match(FirewallRule.from_text(one.rule), packet, one.family):
            found.append(one)
    return found
