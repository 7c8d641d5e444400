"""The rules that can have dropped the lost packet, by their counters. Pure.

Used where the kernel gives no report of the rules that a packet matched: always for ebtables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from labctl.core.iptables import BUILTIN, LEGACY_FAMILIES, TERMINATING_TARGETS, FirewallRule
from labctl.packets.decode import ECHO_TYPES
from labctl.tracing.bridge_ports import is_multicast, outgoing_port, ports_of
from labctl.tracing.evidence import CounterIncrease, TraceEvidence
from labctl.tracing.hops import PacketObservation
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.rule_matching import IPV4, IPV6, RulePacket, can_match

MAC_TRANSLATIONS = ("dnat", "redirect", "snat")  # targets of ebtables that change the addresses of a frame


def dropping_rules(loss_point: LossPoint) -> list[CounterIncrease]:
    """The rules and policies of the namespace that drop or reject, counted a packet meanwhile, and can have matched
    this one. Those of ebtables are in the order in which a frame passes their chains."""
    family = "ip" if loss_point.version == 4 else "ip6"
    increases = loss_point.counter_increases
    found = [
        one
        for one in increases
        if one.family in (family, LEGACY_FAMILIES[family])
        and one.target in TERMINATING_TARGETS
        and (one.number == 0 or can_match(FirewallRule.from_text(one.rule), _ip_packet(loss_point), one.family))
    ]
    tip = loss_point.last_observation
    if tip is not None:
        packet = probe_packet(loss_point.evidence, tip)
        found += bridge_dropping_rules(loss_point.evidence, tip.node, tip.dev, tip.direction == "in", packet)
    return found


def probe_packet(evidence: TraceEvidence, item: PacketObservation) -> RulePacket:
    """The packet of an observation as rules see it. Of a packet in a tunnel, only the outer addresses are known."""
    if item.outer is not None:
        src, dst = item.outer
        return RulePacket(
            IPV4 if src.version == 4 else IPV6, srcs=frozenset((src,)), dsts=frozenset((dst,)), mac=item.mac
        )
    version = item.src.version
    flows = [flow for flow in evidence.flows if flow.node == item.node and flow.is_translated]
    srcs, dsts = {item.src}, {item.dst}
    sports, dports = {item.sport} - {None}, {item.dport} - {None}
    for flow in flows:
        srcs |= {flow.reply_dst, flow.dst}
        dsts |= {flow.reply_src, flow.src}
        if item.sport is not None:
            sports |= {flow.reply_dport, flow.dport}
            dports |= {flow.reply_sport, flow.sport}
    protocol = {"tcp": 6, "udp": 17, "icmp": 1 if version == 4 else 58}[evidence.question.protocol]
    kind = None
    if item.role == "error":
        protocol = 1 if version == 4 else 58
    elif evidence.question.protocol == "icmp":
        kind = ECHO_TYPES[version][item.role == "reply"]
    return RulePacket(
        IPV4 if version == 4 else IPV6, protocol, frozenset(srcs), frozenset(dsts),
        frozenset(port for port in sports if port is not None), frozenset(port for port in dports if port is not None),
        kind, mac=item.mac,
    )  # fmt: skip


def _ip_packet(loss_point: LossPoint) -> RulePacket:
    """The packet as the rules of iptables see it."""
    tip = loss_point.last_observation
    if tip is None or (tip.direction == "out" and tip.encap == "none" and _is_tunnel(loss_point)):
        return RulePacket(IPV4 if loss_point.version == 4 else IPV6)
    packet = probe_packet(loss_point.evidence, tip)
    iifs = frozenset((loss_point.iif,)) if loss_point.entering and loss_point.iif is not None else frozenset()
    return RulePacket(
        packet.ethertype, packet.protocol, packet.srcs, packet.dsts, packet.sports, packet.dports, packet.icmp_type,
        iifs=iifs,
    )  # fmt: skip


def _is_tunnel(loss_point: LossPoint) -> bool:
    link = loss_point.device
    return link is not None and link.kind not in ("veth", "bridge")


def bridge_dropping_rules(
    evidence: TraceEvidence, node: str, dev: str, entering: bool, packet: RulePacket
) -> list[CounterIncrease]:
    """The rules and policies of ebtables in a namespace that can have dropped a frame which was last seen at this
    device: a port of a bridge that it entered, or a bridge by which the machine itself sent it."""
    link = evidence.link(node, dev)
    increases = [one for one in evidence.counter_increases if one.node == node and one.family == "bridge"]
    if link is None or not increases:
        return []
    bridge = link.master if entering else dev if link.kind == "bridge" else None
    if bridge is None:
        return []
    if any(one.target in MAC_TRANSLATIONS for one in increases):
        packet = replace(packet, mac=None)
    port = None
    if packet.mac is not None:
        port = outgoing_port(evidence, node, bridge, packet.mac[1], dev if entering else None)
    iifs = frozenset((dev,)) if entering else frozenset()
    oifs = frozenset((port.at.dev,)) if port is not None else frozenset()
    inward = replace(packet, iifs=iifs, bridge_iif=bridge)
    onward = replace(packet, oifs=oifs, bridge_oif=bridge)
    across = replace(inward, oifs=oifs, bridge_oif=bridge)
    packets = {"BROUTING": inward, "PREROUTING": inward, "INPUT": inward, "FORWARD": across}
    found = []
    for base in _passed_chains(evidence, node, bridge, entering, packet):
        passed = packets.get(base, onward)
        found += [one for one in increases if one.target in TERMINATING_TARGETS and one not in found
                  and _can_reach(increases, one, base, passed, frozenset())]  # fmt: skip
    return sorted(found, key=lambda one: one.packets == 0)  # a policy without a counter last


def _passed_chains(
    evidence: TraceEvidence, node: str, bridge: str, entering: bool, packet: RulePacket
) -> tuple[str, ...]:
    """The chains of ebtables that a frame passes after it was seen: those for the machine itself, or for other ports;
    all of them if the frame's destination is not known, or is a multicast address."""
    if not entering:
        return ("OUTPUT", "POSTROUTING")
    links = [evidence.link(node, bridge), *ports_of(evidence, node, bridge)]
    own = {link.mac for link in links if link is not None}
    before = ("BROUTING", "PREROUTING")
    if packet.mac is None or is_multicast(packet.mac[1]):
        return (*before, "INPUT", "FORWARD", "POSTROUTING")
    return (*before, "INPUT") if packet.mac[1] in own else (*before, "FORWARD", "POSTROUTING")


def _can_reach(
    increases: Sequence[CounterIncrease], one: CounterIncrease, base: str, packet: RulePacket, seen: frozenset[str]
) -> bool:
    """Whether the packet can match a rule when it begins at a chain of the kernel: the rule matches, and its chain is
    that chain, or a rule that counted a packet meanwhile leads to it."""
    if one.number and not can_match(FirewallRule.from_text(one.rule), packet, "bridge"):
        return False
    if one.chain in BUILTIN.get(("bridge", one.table), ()) or one.table == "broute":
        return one.chain == base
    jumps = [other for other in increases if (other.table, other.target) == (one.table, one.chain)]
    return one.chain not in seen and any(
        _can_reach(increases, jump, base, packet, seen | {one.chain}) for jump in jumps
    )
