"""Why a packet came to a machine that cannot pass it on: a router before it used a less specific route. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

from labctl.core.iptables import TERMINATING_TARGETS, FirewallRule
from labctl.core.observations import RouteLookup
from labctl.core.resources import IP, Address, Link, Route
from labctl.core.sentence import Sentence, sentence
from labctl.render.resources import route_text
from labctl.tracing.address_owners import owner
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hop_routing import find_lookup, route_queries
from labctl.tracing.hops import Hop
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command, lookup_text, route_get_command

# the causes that can be the effect of a packet that took a wrong way
EFFECTS = ("no-route", "forwarding-off", "reject-route", "neighbour", "loop", "ttl", "rp-filter", "kernel")


def with_route_behind(loss_point: LossPoint, cause: Cause) -> Cause:
    """The cause with the cause behind it, if a router on the way had no better route than the one that led the packet
    to where it was lost: the device that leads to the address is down, or a route is missing."""
    if cause.kind == "rule":
        return _with_out_device(loss_point, cause)
    if cause.kind not in EFFECTS or loss_point.last_observation is None or loss_point.delivered:
        return cause
    for hop in reversed(loss_point.hops):
        end = _cable_down(loss_point.evidence, hop.node, loss_point.dst)
        if end is not None:
            return _cable_cause(loss_point, cause, end)
        for found in _lookups(loss_point, hop):
            down = _device_down(loss_point.evidence, found)
            if down is not None:
                return _down_cause(loss_point, cause, found, down)
            back = _route_back(loss_point, found)
            if back is not None:
                return _missing_cause(loss_point, cause, found, back)
    return cause


def _with_out_device(loss_point: LossPoint, cause: Cause) -> Cause:
    """The cause that a rule about the outgoing device dropped the packet, with the route that chose this device, if
    the destination is not in a network there: then the route is wrong, and not the rule."""
    ended = [one for one in loss_point.rule_hits if one.target in TERMINATING_TARGETS and one.role == loss_point.role]
    found = loss_point.lookup
    if not ended or found is None or found.error or found.via is not None or ended[-1].oif != found.dev:
        return cause
    if ended[-1].nft is not None:
        return cause
    option = FirewallRule.from_text(ended[-1].rule).option("-o")
    networks = [one.addr.network for one in loss_point.namespace.addresses if one.at.dev == found.dev]
    if option is None or option.negated or not networks or any(found.dst in one for one in networks):
        return cause
    text = sentence(
        "{cause}: the route {route} of {node} sends it out by {dev}, although {dst} is in no network of that device",
        cause=cause.sentence,
        route=_short(found),
        node=found.node,
        dev=found.dev,
        dst=found.dst,
    )
    return replace(cause, sentence=text)


def _lookups(loss_point: LossPoint, hop: Hop) -> Iterator[RouteLookup]:
    """The routes by which the packet left a machine, the last one first."""
    if hop.observations[-1].direction != "out":
        return
    for query in reversed(route_queries(loss_point.evidence, hop, loss_point.role)):
        found = find_lookup(loss_point.evidence, query)
        if found is not None and not found.error and found.kind == "unicast" and found.dev is not None:
            yield found


def _prefix_length(found: RouteLookup) -> int:
    """The prefix length of the route that was used."""
    word = found.route.partition(" ")[0]
    return 0 if word == "default" else ip_network(word).prefixlen


def _cable_down(evidence: TraceEvidence, node: str, ip: IP) -> Link | None:
    """The end of the cable to the machine with the address, at this machine, if it is down: then its routes are gone.
    A bridge port has none."""
    name = owner(evidence, ip, node)
    state = evidence.namespace(name) if name not in (None, node) and name is not None else None
    at = next((one.at for one in state.addresses if one.addr.ip == ip), None) if state is not None else None
    link = evidence.link(at.ns, at.dev) if at is not None else None
    near = evidence.link(link.peer.ns, link.peer.dev) if link is not None and link.peer is not None else None
    return near if near is not None and near.at.ns == node and not near.up and near.master is None else None


def _cable_cause(loss_point: LossPoint, cause: Cause, end: Link) -> Cause:
    name = end.peer.ns if end.peer is not None else ""
    text = sentence(
        "{link}, which leads to {node}, is down, so its routes are gone, and {effect}",
        link=end.at,
        node=name,
        effect=cause.sentence,
    )
    tries = (exec_command(loss_point.evidence, end.at.ns, f"ip link set {end.at.dev} up"),)
    return Cause("link-down", text, cause.facts, tries)


def _device_down(evidence: TraceEvidence, found: RouteLookup) -> Address | None:
    """The address in the network of the destination at a device that is down. Its route was more specific."""
    for one in evidence.namespace(found.node).addresses:
        link = evidence.link(found.node, one.at.dev)
        if link is None or link.up or found.dst not in one.addr.network or one.connected is False:
            continue
        if one.addr.network.prefixlen > _prefix_length(found):
            return one
    return None


def _down_cause(loss_point: LossPoint, cause: Cause, found: RouteLookup, down: Address) -> Cause:
    text = sentence(
        "{link} is down, so {node} sends packets to {dst} by its route {route} instead of {network}, and {effect}",
        link=down.at,
        node=found.node,
        dst=found.dst,
        route=_short(found),
        network=down.addr.network,
        effect=cause.sentence,
    )
    fact = Note("address", sentence("{at} has {addr}", at=down.at, addr=down.addr))
    facts = (_lookup_note(found), fact, *_others(cause, found))
    tries = (exec_command(loss_point.evidence, found.node, f"ip link set {down.at.dev} up"),)
    return Cause("link-down", text, facts, tries)


def _route_back(loss_point: LossPoint, found: RouteLookup) -> Route | None:
    """The route of the target's side back to the packet's source by this very router, which itself has only a default
    route to the target: the counterpart of the route that is missing."""
    evidence = loss_point.evidence
    target = owner(evidence, found.dst, found.node)
    if _prefix_length(found) or target in (None, found.node) or target is None:
        return None
    here = {one.addr.ip for one in evidence.namespace(found.node).addresses}
    passed = {hop.node for hop in loss_point.hops}  # a gateway on the way has a route back in any case
    sources = {item.src for hop in loss_point.hops for item in hop.outside_tunnel}
    # a machine at a cable of this router uses it as its gateway, also if the router leads to it by another way
    ends = () if target in _neighbouring(evidence, found.node) else (target,)
    for node in (*ends, *_neighbouring(evidence, target)):
        for route in evidence.namespace(node).routes:
            specific = route.kind == "unicast" and route.dst.prefixlen > 0 and route.via in here
            if node not in passed and specific and any(ip in route.dst for ip in sources):
                return route
    return None


def _neighbouring(evidence: TraceEvidence, node: str) -> list[str]:
    """The machines at the other end of a machine's cables."""
    links = (one for one in evidence.namespace(node).links if one.peer is not None)
    return list(dict.fromkeys(link.peer.ns for link in links if link.peer is not None and link.peer.ns != node))


def _missing_cause(loss_point: LossPoint, cause: Cause, found: RouteLookup, back: Route) -> Cause:
    evidence = loss_point.evidence
    name = owner(evidence, found.dst, found.node)
    text = sentence(
        "{node} has no route to {dst} ({name}) except its default route, although {back} has one back ({network}); so"
        " {effect}",
        node=found.node,
        dst=found.dst,
        name=name,
        back=back.ns,
        network=back.dst,
        effect=_without_name(cause.sentence, f"{found.dst} ({name})"),
    )
    facts = (_lookup_note(found), Note("route", f"{back.ns}: {route_text(back)}"), *_others(cause, found))
    tries = (exec_command(evidence, found.node, route_get_command(found)), *cause.tries)
    return replace(cause, kind="no-route", sentence=text, facts=facts, tries=tries)


def _without_name(text: str, name: str) -> str:
    """The sentence with `it` instead of the name, which came before."""
    if not isinstance(text, Sentence):
        return text.replace(name, "it", 1)
    if name not in text:
        return text
    values = dict(text.values)
    key = next((key for key, value in values.items() if name in str(value)), None)
    if key is None:
        return text
    values[key] = sentence("it") if str(values[key]) == name else _without_name(values[key], name)
    return Sentence(text.template, values, text.many, text.number)


def _others(cause: Cause, found: RouteLookup) -> tuple[Note, ...]:
    return tuple(note for note in cause.facts if note != _lookup_note(found))


def _short(found: RouteLookup) -> str:
    return found.route.partition(" ")[0]


def _lookup_note(found: RouteLookup) -> Note:
    return Note("route", f"{found.node}: {route_get_command(found)}  =>  {lookup_text(found)}")
