"""What the evidence says of one hop: its devices, its NAT, and the questions to the routing there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from labctl.core.iptables import FirewallRule
from labctl.core.observations import PacketRole, RouteLookup, RouteQuery
from labctl.core.resources import IP, Interface
from labctl.tracing.evidence import RuleHit, TraceEvidence
from labctl.tracing.hops import Hop, PacketObservation, lower_interface

ADDRESS_OPTIONS = ("-s", "-d", "--match-set", "--dst-type", "--src-type")
NAT_TARGETS = {"SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP"}
# netfilter's numbers
PREROUTING_HOOK, INPUT_HOOK, FORWARD_HOOK, OUTPUT_HOOK, POSTROUTING_HOOK = range(5)
UNANSWERED_STATES = ("unreplied", "SYN_SENT")  # of connections for which conntrack has seen no reply


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
    """The packet's destination after this namespace's DNAT or reversed SNAT."""
    return nat_endpoint(evidence, item)[0]


def nat_endpoint(evidence: TraceEvidence, item: PacketObservation) -> tuple[IP, int | None]:
    """The packet's destination and port after this namespace's DNAT or reversed SNAT, according to conntrack. The
    kernel removes the entry of a connection that is refused: then according to the rules that the packet matched."""
    ports = item.dport is not None
    for flow in evidence.flows:
        if flow.node != item.node:
            continue
        if (flow.src, flow.dst) == (item.src, item.dst) and _ports_match(item, flow.sport, flow.dport):
            return flow.reply_src, flow.reply_sport if ports else None
        if (flow.reply_src, flow.reply_dst) == (item.src, item.dst) and _ports_match(
            item, flow.reply_sport, flow.reply_dport
        ):
            if item.role == "reply" and flow.state in UNANSWERED_STATES:
                return item.dst, item.dport  # conntrack does not know the reply
            return flow.src, flow.sport if ports else None
    if item.direction != "in" or item.encap != "none":
        return item.dst, item.dport
    if item.role == "reply" and item.text == "reset":
        return _own_source(evidence, item)
    if item.role != "request":
        return item.dst, item.dport
    for hit in evidence.rule_hits:
        if (hit.node, hit.role, hit.hook) == (item.node, "request", INPUT_HOOK) and hit.dport is not None and ports:
            return hit.dst, hit.dport
    rule = nat_rule(evidence, item)
    if rule is None:
        return item.dst, item.dport
    later = evidence.rule_hits[evidence.rule_hits.index(rule) :]
    for hit in later:
        if (hit.node, hit.role, hit.hook, hit.src) == (item.node, "request", FORWARD_HOOK, item.src):
            return hit.dst, hit.dport if ports else None
    return _rule_translation(evidence, item, rule)


def _own_source(evidence: TraceEvidence, reply: PacketObservation) -> tuple[IP, int | None]:
    """The request's own source before this namespace rewrote it to the destination of the reply."""
    for hop in evidence.hops["request"]:
        before, after = hop.outside_tunnel[0], hop.outside_tunnel[-1]
        if hop.node == reply.node and (after.src, after.sport) == (reply.dst, reply.dport):
            return before.src, before.sport
    return reply.dst, reply.dport


def is_relayed(evidence: TraceEvidence, came: PacketObservation, left: PacketObservation) -> bool:
    """Whether a program in the namespace received the packet and sent its content on, as a proxy does: both ends are
    others, one of them the machine's own, and neither conntrack nor a rule translated the packet."""
    same = (came.src, came.sport, came.dst, came.dport), (left.src, left.sport, left.dst, left.dport)
    if evidence.question.protocol == "icmp" or (came.direction, left.direction) != ("in", "out") or same[0] == same[1]:
        return False
    own = {one.addr.ip for one in evidence.namespace(came.node).addresses}
    taken = came.dst in own or came.dst.is_loopback
    sent = left.src in own or left.src.is_loopback
    if not (taken and sent) or came.role == "error":
        return False
    flows = [flow for flow in evidence.flows if flow.node == came.node and flow.is_translated]
    ends = {(flow.src, flow.dst) for flow in flows} | {(flow.reply_src, flow.reply_dst) for flow in flows}
    wanted = came.node, "nat", "rule", came.role
    nat = any(
        (one.node, one.purpose, one.kind, one.role) == wanted and one.target in NAT_TARGETS
        for one in evidence.rule_hits
    )
    return (came.src, came.dst) not in ends and not nat


def untranslated(evidence: TraceEvidence, item: PacketObservation) -> tuple[IP, int | None, IP, int | None] | None:
    """Source and destination, with their ports, of a packet that the machine itself sent, before it translated them.
    None if it did not translate them, or conntrack does not know the packet."""
    for flow in evidence.flows:
        if flow.node != item.node or not flow.is_translated or item.direction != "out":
            continue
        one = (flow.src, flow.sport, flow.dst, flow.dport)
        other = (flow.reply_src, flow.reply_sport, flow.reply_dst, flow.reply_dport)
        for before, after in ((one, other[2:] + other[:2]), (other, one[2:] + one[:2])):
            if (item.src, item.dst) == (after[0], after[2]) and _ports_match(item, after[1], after[3]):
                ports = (before[1], before[3]) if item.sport is not None else (None, None)
                return before[0], ports[0], before[2], ports[1]
    return None


def nat_rule(evidence: TraceEvidence, item: PacketObservation) -> RuleHit | None:
    """The rule that translated the destination of a request that came in there."""
    for hit in evidence.rule_hits:
        here = (hit.node, hit.role, hit.purpose, hit.hook, hit.kind)
        if here != (item.node, "request", "nat", PREROUTING_HOOK, "rule") or hit.target not in ("DNAT", "REDIRECT"):
            continue
        if (hit.src, hit.dst) == (item.src, item.dst):
            return hit
    return None


def translated_port(hit: RuleHit) -> int | None:
    """The port to which a DNAT or REDIRECT rule translates; None if it keeps the port or chooses from several."""
    return _translation_of(hit)[1]


def _translation_of(hit: RuleHit) -> tuple[str, int | None]:
    """The address and the port in the text of a DNAT or REDIRECT rule; "" and None if it does not name exactly one."""
    if hit.nft is not None:
        from labctl.tracing.nft_rules import translation_of

        return translation_of(hit.rule, hit.nft.element)
    rule = FirewallRule.from_text(hit.rule)
    option = rule.option("--to-destination") or rule.option("--to-ports")
    text = option.args[-1] if option is not None else ""
    if hit.target == "REDIRECT":
        return "", int(text) if text.isdigit() else None
    address, colon, port = text.rpartition(":")
    if text.count(":") != 1 and not text.startswith("["):  # an address only, of IPv4 or IPv6
        address, colon, port = text, "", ""
    return address.strip("[]"), int(port) if colon and port.isdigit() else None


def _rule_translation(evidence: TraceEvidence, item: PacketObservation, rule: RuleHit) -> tuple[IP, int | None]:
    """The destination according to the text of the rule; as it was, if the text does not name exactly one."""
    text, port = _translation_of(rule)
    mine = [one for one in evidence.namespace(item.node).addresses if one.addr.version == item.dst.version]
    ip = item.dst
    if rule.target == "REDIRECT":  # to the first address of the device by which it came in
        link = evidence.link(item.node, item.dev)
        iif = link.master if link is not None and link.master is not None else item.dev
        ip = next((one.addr.ip for one in mine if one.at.dev == iif), item.dst)
    elif text:
        try:
            ip = ip_address(text)
        except ValueError:
            return item.dst, item.dport
    return ip, item.dport if port is None or item.dport is None else port


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
        if not number and not _is_of_upper_device(evidence, observation):
            own = observation.src if role != "request" and observation.dev != "lo" else None
            found.append(RouteQuery(hop.node, _outer_destination(observation, observation.dst), own))
        elif not number:
            continue
        elif is_relayed(evidence, came := hop.outside_tunnel[number - 1], observation):
            found.append(RouteQuery(hop.node, observation.dst, observation.src))
        elif came.direction == "in" and bridge_between(evidence, came, observation) is None:
            found.append(_inbound_query(evidence, came, observation.dst))
    return tuple(one for one in found if one is not None)


def _is_of_upper_device(evidence: TraceEvidence, observation: PacketObservation) -> bool:
    """Whether a frame leaves by this device for a macvlan above it, which may be in another namespace. The namespace of
    the device does not route it."""
    at = Interface(observation.node, observation.dev)
    source = observation.mac[0] if observation.mac is not None else ""
    own = evidence.link(at.ns, at.dev)
    return (own is None or own.mac != source) and any(
        link.mac == source and lower_interface(link) == at for state in evidence.namespaces for link in state.links
    )


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


def source_keeping_rule(hits: Sequence[RuleHit]) -> RuleHit | None:
    """The RETURN or ACCEPT among the rules of nat/POSTROUTING that kept the source. A rule before a translation counts
    more than others, then one that looks at addresses."""
    found = [one for one in hits if one.kind == "rule" and one.target in ("RETURN", "ACCEPT")]
    return max(found, key=lambda one: (_names_address(one), bool(one.skipped), found.index(one)), default=None)


def _names_address(hit: RuleHit) -> bool:
    if hit.nft is not None:
        return any(word in hit.rule for word in ("saddr", "daddr", "fib "))
    rule = FirewallRule.from_text(hit.rule)
    return any(rule.option(name) is not None for name in ADDRESS_OPTIONS)
