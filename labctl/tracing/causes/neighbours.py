"""A rule that dropped the question for the MAC address of the next hop, or its answer: the probe itself waits. Pure."""

from __future__ import annotations

from labctl.core.iptables import BUILTIN, LEGACY_FAMILIES, TERMINATING_TARGETS, FirewallRule
from labctl.core.resources import IP
from labctl.core.sentence import Sentence, sentence
from labctl.tracing.causes.links import missing_neighbour
from labctl.tracing.causes.rules import chain_rule, list_command, uncertainty
from labctl.tracing.counted_rules import bridge_dropping_rules
from labctl.tracing.evidence import CounterIncrease, NeighbourObservation, RuleHit, UnansweredNeighbour
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import TOOLS, Cause, Note, asked_note, place_text, rule_note
from labctl.tracing.rule_matching import ARP, IPV6, RulePacket, can_match
from labctl.tracing.underlay import lost_in_tunnel, underlay_dropping_rules

ICMPV6 = 58
SOLICITATION_TYPE, ADVERTISEMENT_TYPE = 135, 136
INWARD_CHAINS = ("PREROUTING", "INPUT", "FORWARD")


def neighbour_rule(loss_point: LossPoint) -> Cause | None:
    """A rule dropped the neighbour solicitation (for IPv4: the ARP request) or its answer. The kernel reports the rules
    that IPv6 messages matched; otherwise the counters are used."""
    missing = missing_neighbour(loss_point)
    return _rule_of(loss_point, missing) if missing is not None else None


def _rule_of(loss_point: LossPoint, missing: UnansweredNeighbour) -> Cause | None:
    hit = _reported(loss_point, missing)
    if hit is not None:
        return _cause(loss_point, missing, hit, is_request=hit.role == "solicitation", sure=True)
    last = last_neighbour_observation(loss_point, missing)
    ends = _answering_namespaces(loss_point, missing.ip)
    if last is None or not ends:
        return None
    counted, is_request = _counted(loss_point, last, at_end=last.node in ends)
    if counted is None:
        return None
    return _cause(loss_point, missing, counted, is_request=is_request, sure=False)


def _answering_namespaces(loss_point: LossPoint, ip: IP) -> set[str]:
    return {state.node for state in loss_point.evidence.namespaces if any(one.addr.ip == ip for one in state.addresses)}


def _observations(loss_point: LossPoint, missing: UnansweredNeighbour) -> list[NeighbourObservation]:
    """Where the question of this machine, and answers to it, were seen."""
    about = [one for one in loss_point.evidence.neighbour_observations if one.ip == missing.ip]
    senders = {one.src for one in about if one.is_request and (one.node, one.direction) == (missing.node, "out")}
    return [one for one in about if not one.is_request or one.src in senders]


def last_neighbour_observation(loss_point: LossPoint, missing: UnansweredNeighbour) -> NeighbourObservation | None:
    """Where the answer, or the question if there is none, was last seen on the way. A copy of the question that came to
    another machine of the same bridge does not count."""
    found = _observations(loss_point, missing)
    ends = _answering_namespaces(loss_point, missing.ip)
    answers = [one for one in found if not one.is_request and (one.node in ends or _is_port(loss_point, one))]
    answers += [one for one in found if not one.is_request and one.node == missing.node]
    if answers:
        return max(answers, key=lambda one: (one.node == missing.node, one.when))
    requests = [one for one in found if one.is_request]
    arrived = [one for one in requests if one.node in ends and one.direction == "in"]
    between = [one for one in requests if one.node == missing.node or _is_port(loss_point, one)]
    return next(reversed(arrived or between), None)


def _is_port(loss_point: LossPoint, one: NeighbourObservation) -> bool:
    link = loss_point.evidence.link(one.node, one.dev)
    return link is not None and (link.master is not None or (link.kind == "bridge" and one.direction == "out"))


def _reported(loss_point: LossPoint, missing: UnansweredNeighbour) -> RuleHit | None:
    """The reported rule that dropped the message. Rules of machines that only received a copy do not count."""
    found = _observations(loss_point, missing)
    ends = _answering_namespaces(loss_point, missing.ip)
    link = loss_point.evidence.link(missing.node, missing.dev)
    if not ends and link is not None and link.peer is not None:
        ends = {link.peer.ns}  # a router that may answer for others
    bridges = {one.node for one in found if _is_port(loss_point, one)} - {missing.node}
    senders = {one.src for one in found if one.is_request}
    arrived = any(one.is_request and one.node in ends and one.direction == "in" for one in found)
    asking = ends if arrived else {missing.node} | ends | bridges
    for hit in loss_point.evidence.rule_hits:
        if hit.neighbour != missing.ip or hit.kind == "return" or hit.target not in TERMINATING_TARGETS:
            continue
        if hit.role == "solicitation" and hit.node in asking and (not senders or hit.src in senders):
            return hit
        if hit.role == "advertisement" and hit.node in ends | bridges | {missing.node}:
            return hit
    return None


def _counted(loss_point: LossPoint, last: NeighbourObservation, *, at_end: bool) -> tuple[CounterIncrease | None, bool]:
    """The rule that dropped the message where it was last seen, by its counter, and whether the message is the
    question. At the machine that should answer (`at_end`), it may also be the answer that did not leave."""
    evidence = loss_point.evidence
    entering = last.direction == "in"
    packet = _message(last, last.is_request)
    found = bridge_dropping_rules(evidence, last.node, last.dev, entering, packet)
    if found or last.ip.version == 4 or evidence.rules_traced:
        return (found[0] if found else None), last.is_request
    for is_request in (True, False) if at_end and last.is_request else (last.is_request,):
        chains = ("OUTPUT", "POSTROUTING") if is_request != last.is_request or not entering else INWARD_CHAINS
        for one in evidence.counter_increases:
            if one.node != last.node or one.target not in TERMINATING_TARGETS:
                continue
            if one.family not in ("ip6", LEGACY_FAMILIES["ip6"]):
                continue
            if one.chain in BUILTIN.get(("ip6", one.table), ()) and one.chain not in chains:
                continue
            rule = FirewallRule.from_text(one.rule)
            if one.number == 0 or can_match(rule, _message(last, is_request), one.family):
                return one, is_request
    return None, last.is_request


def _message(seen: NeighbourObservation, is_request: bool) -> RulePacket:
    """The question or the answer as rules see it; the MAC addresses are those of the observation."""
    mac = seen.mac if is_request == seen.is_request else None
    if seen.ip.version == 6:
        return RulePacket(
            IPV6, ICMPV6, icmp_type=SOLICITATION_TYPE if is_request else ADVERTISEMENT_TYPE, mac=mac
        )  # fmt: skip
    dsts = frozenset((seen.ip,)) if is_request else frozenset()
    return RulePacket(ARP, srcs=frozenset((seen.src,)), dsts=dsts, mac=mac, arp_request=is_request)


def _cause(
    loss_point: LossPoint,
    missing: UnansweredNeighbour,
    one: RuleHit | CounterIncrease,
    *,
    is_request: bool,
    sure: bool,
    carried: bool = False,
) -> Cause:
    """The cause that a rule dropped the question or the answer; `carried` means in the packet of a tunnel."""
    message = _message_text(missing, is_request)
    if carried:
        message = sentence("the tunnel packet with {message}", message=message)
    text = sentence(
        "{rule} in {node} {dropped} {message}",
        rule=chain_rule(one),
        node=one.node,
        dropped=TERMINATING_TARGETS[one.target],
        message=message,
    )
    if not sure:
        text = sentence("probably {text} ({uncertainty})", text=text, uncertainty=uncertainty(one))
    facts = [rule_note(one)]
    facts += [] if carried else _bridge_nf_note(loss_point, missing, one)
    facts += missing_neighbour_notes(loss_point, missing)
    return Cause("rule", text, tuple(facts), (list_command(loss_point, one),))


def _message_text(missing: UnansweredNeighbour, is_request: bool) -> Sentence:
    """The question or the answer, with its two ends."""
    ends = {"node": missing.node, "ip": missing.ip}
    if missing.ip.version == 6:
        if is_request:
            return sentence("the neighbour solicitation of {node} for {ip}", **ends)
        return sentence("the neighbour advertisement of {ip} to {node}", **ends)
    if is_request:
        return sentence("the ARP request of {node} for {ip}", **ends)
    return sentence("the ARP reply of {ip} to {node}", **ends)


def underlay_rule(loss_point: LossPoint) -> Cause | None:
    """A rule dropped the packet of a tunnel that carried the question for a MAC address, or its answer."""
    missing = missing_neighbour(loss_point)
    lost = lost_in_tunnel(loss_point.evidence, _observations(loss_point, missing)) if missing is not None else None
    if missing is None or lost is None:
        return None
    if lost.last.outer is None:  # perhaps the machine waits for the neighbour that the tunnel packet goes to
        for asked in loss_point.evidence.unanswered_neighbours:
            if asked.node == lost.node and asked != missing and (found := _rule_of(loss_point, asked)) is not None:
                return found
    rule = next(iter(underlay_dropping_rules(loss_point.evidence, lost)), None)
    if rule is None:
        return None
    return _cause(loss_point, missing, rule, is_request=lost.is_request, sure=False, carried=True)


def missing_neighbour_notes(loss_point: LossPoint, missing: UnansweredNeighbour) -> list[Note]:
    """The request without an answer, and how far it or its answer came."""
    note = asked_note(missing)
    last = last_neighbour_observation(loss_point, missing)
    if last is not None and last.node != missing.node:
        where = place_text(last.direction, last.node, last.dev)
        text = sentence("{text}; the answer was last seen {place}", text=note.text, place=where)
        if last.is_request:
            text = sentence("{text}; the request was last seen {place}", text=note.text, place=where)
        note = Note("arp", text)
    return [note]


def _bridge_nf_note(loss_point: LossPoint, missing: UnansweredNeighbour, one: RuleHit | CounterIncrease) -> list[Note]:
    """The setting because of which a message between two ports of a bridge passed ip6tables."""
    name = "net.bridge.bridge-nf-call-ip6tables"
    if one.family == "bridge" or loss_point.evidence.namespace(one.node).sysctls.get(name) != "1":
        return []
    for seen in _observations(loss_point, missing):
        link = loss_point.evidence.link(seen.node, seen.dev)
        if seen.node == one.node and seen.direction == "in" and link is not None and link.master is not None:
            text = sentence(
                "{node}: {name} = 1, so frames that {bridge} only bridges pass {tool} as well",
                node=one.node,
                name=name,
                bridge=link.master,
                tool=TOOLS["ip6"],
            )
            return [Note("sysctl", text)]
    return []
