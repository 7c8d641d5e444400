"""Losses in routing: forwarding off, no route, the reverse-path filter, a loop, a packet that is too big. Pure."""

from __future__ import annotations

from labctl.core.iptables import TERMINATING_TARGETS
from labctl.core.observations import RouteLookup, RouteQuery
from labctl.core.resources import Rule
from labctl.core.sentence import Sentence, sentence
from labctl.render.resources import route_text
from labctl.render.resources import rule_text as policy_rule_text
from labctl.tracing.address_owners import address_text
from labctl.tracing.causes.rules import chain_rule, list_command
from labctl.tracing.hop_routing import find_lookup, fwmark_for
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command, lookup_text, route_get_command, rule_note
from labctl.tracing.route_tables import (
    asked_tables,
    has_route,
    refusing_rule,
    routes_elsewhere,
    tables_text,
    users_text,
)

REJECT_ROUTE_TYPES = ("unreachable", "blackhole", "prohibit", "throw")
ROUTE_TYPE_BY_ERROR = {
    "EHOSTUNREACH": "unreachable",
    "EINVAL": "blackhole",
    "EACCES": "prohibit",
}  # the error of each kind of route


def forwarding_off(loss_point: LossPoint) -> Cause | None:
    """The namespace is not a router."""
    if not loss_point.entering or loss_point.delivered or loss_point.iif is None or loss_point.only_bridged:
        return None
    if not loss_point.reason_allows("IP_INADDRERRORS", "IP_INNOROUTES"):
        return None
    if any(one.addr.ip == loss_point.dst for one in loss_point.namespace.addresses):
        return None  # the (outer) packet has arrived: forwarding is not the question
    name = loss_point.iif.replace(".", "/")
    if loss_point.version == 4:
        names = ["net.ipv4.ip_forward", f"net.ipv4.conf.{name}.forwarding"]
    else:
        names = ["net.ipv6.conf.all.forwarding"]
    off = [one for one in names if loss_point.sysctl(one) == "0"]
    if not off:
        return None
    text = sentence(
        "{node} does not have the address {dst} and does not forward: IPv{version} forwarding is off",
        node=loss_point.node,
        dst=loss_point.dst,
        version=loss_point.version,
    )
    if off[0] != names[0]:
        text = sentence("{text} for what comes in by {iif}", text=text, iif=loss_point.iif)
    facts = tuple(Note("sysctl", f"{loss_point.node}: {one} = 0") for one in off)
    return Cause(
        "forwarding-off",
        text,
        facts,
        (exec_command(loss_point.evidence, loss_point.node, f"sysctl -w {off[0]}=1"),),
    )


def no_route(loss_point: LossPoint) -> Cause | None:
    """The namespace has no route for the packet, or one that refuses."""
    if (
        loss_point.last_observation is not None and loss_point.last_observation.direction == "out"
    ) or loss_point.delivered:
        return None
    found = loss_point.lookup
    if found is not None and found.kind in REJECT_ROUTE_TYPES:
        return _reject_route(loss_point, found.kind, found.route)
    if found is None or not found.error:
        return None
    if found.error != "ENETUNREACH":
        return _reject_cause(loss_point, found)
    if _refusing_rule(loss_point, found) is not None:
        return _refused_packet(loss_point, found)
    target = _destination_text(loss_point, found)
    return _no_route_cause(
        loss_point, found, "no-route", sentence("{node} has no route to {dst}", node=loss_point.node, dst=target)
    )


def no_route_back(loss_point: LossPoint) -> Cause | None:
    """The request arrived, but its namespace has no route for the reply, or refuses it."""
    if loss_point.role != "request" or not loss_point.delivered or loss_point.last_observation is None:
        return None
    back = loss_point.reply_lookup or find_lookup(
        loss_point.evidence, RouteQuery(loss_point.node, loss_point.last_observation.src)
    )
    if back is None or not back.error:
        return None
    if back.error == "ENETUNREACH" and _refusing_rule(loss_point, back) is None:
        target = _destination_text(loss_point, back)
        text = sentence("the request arrived, but {node} has no route back to {dst}", node=loss_point.node, dst=target)
        return _no_route_cause(loss_point, back, "no-route-back", text)
    text = sentence(
        "the request arrived, but the routing of {node} refuses the reply to {dst}", node=loss_point.node, dst=back.dst
    )
    return _refused_by_rule(loss_point, back, "no-route-back", text)


def _destination_text(loss_point: LossPoint, found: RouteLookup) -> str:
    """The destination of a lookup, with the name of its machine."""
    evidence = loss_point.evidence
    requests = evidence.hops["request"]
    if requests and found.dst == requests[0].observations[0].src:
        return f"{found.dst} ({evidence.question.source})"
    return address_text(evidence, found.dst, found.node)


def _no_route_cause(loss_point: LossPoint, found: RouteLookup, kind: str, text: Sentence) -> Cause:
    """The cause that a lookup found nothing, as `text` says: with the tables that were asked, for which interface, and
    another table that has a route."""
    evidence, state = loss_point.evidence, loss_point.evidence.namespace(found.node)
    tables = asked_tables(state, found, _mark(loss_point, found))
    unusable = has_route(state, found, tables)
    if tables and not unusable:
        text = sentence("{text} in {tables}", text=text, tables=tables_text(tables))
    if found.iif is not None:
        text = sentence("{text} for what comes in by {iif}", text=text, iif=found.iif)
    facts, commands = [_lookup_note(found)], [route_get_command(found)]
    if unusable:
        text = sentence(
            "{text} that it can use: the one in {tables} leads nowhere now", text=text, tables=tables_text(tables)
        )
    elif tables and (other := routes_elsewhere(state, found, tables)) is not None:
        text = sentence(
            "{text} (its route is in {table}; {users})",
            text=text,
            table=tables_text((other.table,)),
            users=users_text(state, other.table, found.dst.version),
        )
        facts.append(Note("route", f"{found.node}: {route_text(other)}"))
        commands.append("ip -6 rule show" if found.dst.version == 6 else "ip rule show")
    return Cause(kind, text, tuple(facts), tuple(exec_command(evidence, found.node, one) for one in commands))


def _mark(loss_point: LossPoint, found: RouteLookup) -> int:
    """The packet's mark when it was routed, also where the answer does not depend on it."""
    query = RouteQuery(found.node, found.dst, found.src, found.iif)
    return found.mark or fwmark_for(loss_point.evidence, query, loss_point.role)


def _refusing_rule(loss_point: LossPoint, found: RouteLookup) -> Rule | None:
    """The rule of policy routing that refused; None if the lookup came to tables before."""
    mark, state = _mark(loss_point, found), loss_point.evidence.namespace(found.node)
    rule = refusing_rule(state, found, mark)
    return rule if rule is not None and ROUTE_TYPE_BY_ERROR.get(found.error, "unreachable") == rule.kind else None


def _refused_packet(loss_point: LossPoint, found: RouteLookup) -> Cause:
    text = sentence("the routing of {node} refuses packets to {dst}", node=loss_point.node, dst=found.dst)
    return _refused_by_rule(loss_point, found, "reject-route", text)


def _refused_by_rule(loss_point: LossPoint, found: RouteLookup, kind: str, text: Sentence) -> Cause:
    """The cause that a rule of policy routing, or a route, refuses packets, as `text` says."""
    facts, rule = [_lookup_note(found)], _refusing_rule(loss_point, found)
    if rule is not None:
        text = sentence("{text}: ip rule {pref} is {kind}", text=text, pref=rule.pref, kind=rule.kind)
        facts.append(Note("rule", f"{found.node}: ip rule {policy_rule_text(rule)}"))
    command = "ip -6 rule show" if found.dst.version == 6 else "ip rule show"
    return Cause(kind, text, tuple(facts), (exec_command(loss_point.evidence, found.node, command),))


def _reject_route(loss_point: LossPoint, kind: str, route: str) -> Cause:
    words = {"node": loss_point.node, "dst": loss_point.dst}
    text = {
        "blackhole": sentence("{node} has a route that silently discards packets to {dst}", **words),
        "prohibit": sentence("{node} has a route that prohibits packets to {dst}", **words),
        "throw": sentence("{node} has a route that rejects (throw) packets to {dst}", **words),
    }.get(kind, sentence("{node} has a route that refuses packets to {dst}", **words))
    return Cause("reject-route", text, (Note("route", f"{loss_point.node}: {route}"),))


def _reject_cause(loss_point: LossPoint, found: RouteLookup) -> Cause | None:
    """The lookup failed with another error: by a route of that kind, else by a rule of policy routing."""
    kind = ROUTE_TYPE_BY_ERROR.get(found.error)
    if kind is None:
        return None
    fits = [
        one for one in loss_point.namespace.routes if one.kind == kind and one.dst.version == loss_point.dst.version
    ]
    best = max((one for one in fits if loss_point.dst in one.dst), key=lambda one: one.dst.prefixlen, default=None)
    if best is not None:
        return _reject_route(loss_point, best.kind, route_text(best))
    if not loss_point.reason_allows("IP_INNOROUTES", "IP_OUTNOROUTES"):
        return None
    return _refused_packet(loss_point, found)


def _lookup_note(found: RouteLookup) -> Note:
    return Note("route", f"{found.node}: {route_get_command(found)}  =>  {lookup_text(found)}")


def reverse_path(loss_point: LossPoint) -> Cause | None:
    """The route back to the source does not use the interface by which the packet came in."""
    if (
        not loss_point.entering
        or loss_point.version == 6
        or loss_point.iif is None
        or loss_point.last_observation is None
    ):
        return None
    said = loss_point.drop is not None and loss_point.drop.reason in (
        "IP_RPFILTER",
        "IP_LOCAL_SOURCE",
        "IP_INVALID_SOURCE",
    )
    names = ("net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{loss_point.iif.replace('.', '/')}.rp_filter")
    level = max(int(loss_point.sysctl(name) or 0) for name in names)
    refused = loss_point.lookup is not None and loss_point.lookup.error in ("EINVAL", "EXDEV")
    src = loss_point.last_observation.src
    mine = next((one for one in loss_point.namespace.addresses if one.addr.ip == src), None)
    if mine is not None and (said or (refused and loss_point.reason_allows("IP_RPFILTER", "IP_LOCAL_SOURCE"))):
        text = sentence(
            "{node} itself has the source address {src}, so it rejects the packet as forged",
            node=loss_point.node,
            src=src,
        )
        show = exec_command(loss_point.evidence, loss_point.node, f"ip addr show to {src}")
        fact = Note("address", sentence("{at} has {addr}", at=mine.at, addr=mine.addr))
        return Cause("local-source", text, (fact,), (show,))
    if not said and not (level and refused and loss_point.reason_allows("IP_RPFILTER")):
        return None
    back = find_lookup(loss_point.evidence, RouteQuery(loss_point.node, loss_point.last_observation.src))
    own = any(one.at.dev == loss_point.iif and one.addr.version == 4 for one in loss_point.namespace.addresses)
    if not said and _passes_rp_filter(back, loss_point.iif, loose=own and level > 1):
        return None
    facts = [Note("sysctl", f"{loss_point.node}: {name} = {loss_point.sysctl(name)}") for name in names]
    if back is not None:
        answer = f"{loss_point.node}: {route_get_command(back)}  =>  {lookup_text(back)}"
        facts.insert(0, Note("back", sentence("{answer} (it came in by {iif})", answer=answer, iif=loss_point.iif)))
    text = sentence(
        "the reverse-path filter of {node}: the route back to {src} does not use {iif}",
        node=loss_point.node,
        src=loss_point.last_observation.src,
        iif=loss_point.iif,
    )
    tries = (exec_command(loss_point.evidence, loss_point.node, f"sysctl -w {names[0]}=0 {names[1]}=0"),)
    return Cause("rp-filter", text, tuple(facts), tries)


def _passes_rp_filter(back: RouteLookup | None, iif: str, *, loose: bool) -> bool:
    """Whether a reverse-path filter accepts a packet that came in by `iif`. A loose filter accepts any route back, but
    only on a device that has an address."""
    return back is not None and not back.error and back.kind == "unicast" and (loose or back.dev == iif)


def too_big(loss_point: LossPoint) -> Cause | None:
    """A packet that must not be fragmented and is bigger than the MTU of the next link."""
    words = ("fragmentation needed", "packet too big")
    errors = [one for one in loss_point.evidence.observations if one.role == "error" and one.text in words]
    said = loss_point.drop is not None and loss_point.drop.reason == "PKT_TOO_BIG"
    unsent = loss_point.last_observation is None and "too long" in loss_point.evidence.detail
    out = loss_point.lookup.dev if loss_point.lookup is not None else None
    link = loss_point.evidence.link(loss_point.node, out) if out else None
    size = loss_point.last_observation.length - 14 if loss_point.last_observation is not None else None
    counters = loss_point.namespace.counters
    failed = "Ip.FragFails" in counters or "Ip6FragFails" in counters
    counted = failed and loss_point.entering and size is not None and link is not None and size > (link.mtu or size)
    if not (errors or said or unsent or (counted and loss_point.reason_allows())):
        return None
    what = sentence("the packet of {size} bytes", size=size) if size else sentence("the packet")
    where: str = sentence("the next link of {node}", node=loss_point.node)
    facts: list[Note] = []
    if out:
        where = f"{loss_point.node}/{out}"
    limited = where
    if link is not None and link.mtu:
        limited = f"{where} (MTU {link.mtu})"
        facts.append(Note("mtu", f"{where}: mtu {link.mtu}"))
    text = sentence("{packet} is too big for {link}, and it may not be fragmented (DF)", packet=what, link=limited)
    if loss_point.version == 6:
        text = sentence(
            "{packet} is too big for {link}, and only its sender may fragment it (IPv6)", packet=what, link=limited
        )
    tries = (exec_command(loss_point.evidence, loss_point.node, f"ip link show {out}"),) if out else ()
    hits = loss_point.evidence.rule_hits
    ended = next((one for one in hits if one.role == "error" and one.target in TERMINATING_TARGETS), None)
    if ended is None:
        return Cause("too-big", text, tuple(facts), tries)
    text = sentence(
        "{text}; {rule} in {node} {dropped} the ICMP error for the sender",
        text=text,
        rule=chain_rule(ended),
        node=ended.node,
        dropped=TERMINATING_TARGETS[ended.target],
    )
    facts.append(rule_note(ended))
    return Cause("mtu-black-hole", text, tuple(facts), (*tries, list_command(loss_point, ended)))
