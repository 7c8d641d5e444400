"""Faults of routing: routes that are missing, wrong or refuse, rules of policy routing, loops. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_network

from labctl.core.diff import Change
from labctl.core.plan_paths import PlannedHop
from labctl.core.resources import IP, RT_TABLE_MAIN, Chain, Interface, Link, Route, Rule
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.forwarding import rp_filter_level
from labctl.faults.lab_objects import LabObjects, Trip

NO_WAY = ("no-route", "no-route-back", "reject-route", "rp-filter", "loop")
SILENT = ("neighbour", "vxlan-neighbour", "proxy-arp-route")


def object_name(route: Route) -> str:
    """The object of a fault on a route: `node1/10.244.1.0/24`, with the table if it is not the main one."""
    table = "" if route.table == RT_TABLE_MAIN else f"@{route.table}"
    return f"{route.ns}/{route.dst}{table}"


def _unicast_routes(objects: LabObjects) -> Iterator[Route]:
    """The routes that forward packets, those of nodes and fabrics first, because they carry most traffic."""
    routes = [route for route in objects.all(Route) if route.kind == "unicast"]
    routes.sort(key=lambda route: (objects.is_leaf(route.ns), route.dst.prefixlen == 0))
    return iter(routes)


def _used_routes(objects: LabObjects) -> Iterator[tuple[Route, list[Trip]]]:
    """The routes that probes use, with the probes."""
    for route in _unicast_routes(objects):
        trips = objects.trips_by_route.get(route.key)
        if trips:
            yield route, trips


def _fault(
    objects: LabObjects, kind: str, on: str, changes: tuple[Change, ...], trips: list[Trip], kinds: tuple[str, ...]
) -> Iterator[Fault]:
    """The fault with the probes that do not arrive any more. The cause names the machine of the route. A trace that
    names only where the packet ended, because a less specific route took it, has stopped before the cause."""
    lost = objects.lost_trips(changes, trips)
    if not lost:
        return
    ns = on.partition("/")[0]
    causes = (ExpectedCause(kinds, (ns,)),)
    symptoms = (
        ExpectedCause(
            (
                *NO_WAY,
                *SILENT,
                "ttl",
                "forwarding-off",
                "unsent",
                "rule",
                "vxlan-underlay",
                "kernel",
                "arp-off",
                "proxy-arp-off",
            )
        ),
    )
    yield Fault(kind, on, changes, causes, objects.as_traffic(lost), symptoms)


def _missing(kind: str, objects: LabObjects) -> Iterator[Fault]:
    for route, trips in _used_routes(objects):
        user_defined = objects.topology.role(route.ns) == "fabric" and route.via is not None
        if user_defined == (kind == "udr-missing"):
            yield from _fault(objects, kind, object_name(route), (Change(None, route),), trips, (*NO_WAY, *SILENT))


def _refusing(objects: LabObjects, name: str, kind: str) -> Iterator[Fault]:
    for route, trips in _used_routes(objects):
        broken = replace(route, kind=kind, via=None, dev=None, onlink=False, src=None, scope=None, encap=None, mtu=None)
        yield from _fault(
            objects,
            name,
            object_name(route),
            (Change(broken, route),),
            trips,
            ("reject-route", "rp-filter", "no-route-back", "proxy-arp-route"),
        )


def _route_blackhole(objects: LabObjects) -> Iterator[Fault]:
    return _refusing(objects, "route-blackhole", "blackhole")


def _route_unreachable(objects: LabObjects) -> Iterator[Fault]:
    return _refusing(objects, "route-unreachable", "unreachable")


def _route_prohibit(objects: LabObjects) -> Iterator[Fault]:
    return _refusing(objects, "route-prohibit", "prohibit")


def _route_wrong_gateway(objects: LabObjects) -> Iterator[Fault]:
    for route, trips in _used_routes(objects):
        dev = objects.paths.device(route.ns, route)
        nobody = objects.paths.free_address(Interface(route.ns, dev)) if dev is not None and route.via else None
        if nobody is None or route.via is None or nobody.version != route.via.version:
            continue
        near = [
            one.addr.network for one in objects.addresses(route.ns) if one.at.dev == dev and one.connected is not False
        ]
        onlink = route.onlink or not any(nobody in net for net in near)  # else the kernel refuses the gateway
        changes = (Change(replace(route, via=nobody, onlink=onlink), route),)
        for fault in _fault(objects, "route-wrong-gateway", object_name(route), changes, trips, ()):
            causes = (ExpectedCause(SILENT, (route.ns, str(nobody))),)
            yield replace(fault, causes=causes)


def _other_device(objects: LabObjects, ns: str, dev: str | None) -> str | None:
    """Another device of the machine, where no machine answers for others."""
    for link in objects.all(Link, ns):
        usable = link.up and link.master is None and link.kind in ("veth", "bridge")
        if usable and link.at.dev != dev and not objects.paths.has_proxy(link.at):
            return link.at.dev
    return None


def _route_wrong_device(objects: LabObjects) -> Iterator[Fault]:
    for route, trips in _used_routes(objects):
        dev = objects.paths.device(route.ns, route)
        other = _other_device(objects, route.ns, dev)
        if other is None:
            continue
        broken = replace(route, via=None, dev=other, onlink=False, encap=None, mtu=None, scope=None)
        name = object_name(route)
        for fault in _fault(objects, "route-wrong-device", name, (Change(broken, route),), trips, ()):
            # no-route: a network that knows where the address is sends the packet back to the machine itself; rule: a
            # firewall lets nothing out by that device, and the trace names the route that chose it
            causes = (ExpectedCause((*SILENT, "rp-filter", "no-route", "rule"), (route.ns, other)),)
            yield replace(fault, causes=causes)


def _route_more_specific(objects: LabObjects) -> Iterator[Fault]:
    found: set[str] = set()
    for trip in objects.trips:
        for hop in trip.there.hops:
            other = _other_device(objects, hop.ns, hop.out.dev)
            if objects.is_leaf(hop.ns) or other is None or hop.route.dst.prefixlen == hop.route.dst.max_prefixlen:
                continue
            dst = ip_network(trip.there.dst)
            broken = Route(hop.ns, dst, dev=other, table=hop.route.table)
            name = object_name(broken)
            if name in found:
                continue
            for fault in _fault(objects, "route-more-specific", name, (Change(broken, None),), [trip], ()):
                found.add(name)
                yield replace(fault, causes=(ExpectedCause((*SILENT, "rp-filter", "rule"), (hop.ns, other)),))


def _policy_rule_missing(objects: LabObjects) -> Iterator[Fault]:
    for rule in objects.all(Rule):
        trips = objects.hit_trips(
            lambda path, rule=rule: any(hop.rule is not None and hop.rule.key == rule.key for hop in path.hops)  # type: ignore[misc]
        )
        match = " ".join(
            f"{word} {value}" for word, value in (("from", rule.src), ("to", rule.dst), ("iif", rule.iif)) if value
        )
        on = f"{rule.ns}/rule {rule.pref}" + (f" {match}" if match else "")
        yield from _fault(objects, "policy-rule-missing", on, (Change(None, rule),), trips, (*NO_WAY, *SILENT))


def _routing_loop(objects: LabObjects) -> Iterator[Fault]:
    for trip in objects.trips:
        for first, second in zip(trip.there.hops, trip.there.hops[1:], strict=False):
            broken = _route_back_to(objects, trip, first, second) if trip.keeps_addresses else None
            if broken is None or objects.paths.lookup(first.ns, trip.there.dst, trip.there.src, first.out.dev) is None:
                continue
            causes: tuple[ExpectedCause, ...] = (ExpectedCause(("loop",), (first.ns, second.ns)),)
            if first.route.via is None:  # a router that answers for the target does not, if its route leads back
                causes += (ExpectedCause(("proxy-arp-route",), (first.ns, second.ns, str(trip.there.dst))),)
            traffic = objects.as_traffic([trip])
            symptoms = (ExpectedCause(("ttl", "local-source", "rule")),)
            yield Fault("routing-loop", object_name(broken), (Change(broken, None),), causes, traffic, symptoms)


def _route_back_to(objects: LabObjects, trip: Trip, first: PlannedHop, second: PlannedHop) -> Route | None:
    """The route of the second router that sends the packet back to the first; None if that router would not forward it
    once more."""
    if objects.is_leaf(first.ns) or first.iif is None or first.tunnel or not first.crossed:
        return None
    if any(_checks_sources(objects, at.ns) for at in first.crossed):
        return None
    if _is_bridged_on(objects, second.ns, trip.there.dst):
        return None
    if {first.ns, second.ns} - set(objects.routers) or rp_filter_level(objects, first.ns, first.out.dev) == 1:
        return None
    near = next((one.addr.ip for one in objects.addresses(first.ns) if one.at == first.out), None)
    again = objects.paths.lookup(first.ns, trip.there.dst, trip.there.src, first.out.dev)
    if near is None or near.version != trip.there.dst.version or again is None or again.key != first.route.key:
        return None
    dst = ip_network(trip.there.dst)
    at = first.crossed[-1]
    return Route(second.ns, dst, via=near, dev=at.dev, table=second.route.table, onlink=True)


def _is_bridged_on(objects: LabObjects, ns: str, dst: IP) -> bool:
    """Whether a rule of ebtables gives packets to this address another MAC address: the machine does not route them."""
    chain = objects.chain(ns, "nat", "PREROUTING", "bridge")
    return chain is not None and any(one.target == "dnat" and f"--ip-dst {dst}" in str(one) for one in chain.rules)


def _checks_sources(objects: LabObjects, ns: str) -> bool:
    """Whether the fabric of a cloud drops what a machine sends with a source that is not its own."""
    return objects.topology.role(ns) == "fabric" and any(one.family == "bridge" for one in objects.all(Chain, ns))


KINDS = (
    FaultKind(
        "route-missing",
        sentence("A route is missing."),
        sentence("Packets that need it are rejected, or take a less specific route."),
        partial(_missing, "route-missing"),
    ),
    FaultKind(
        "udr-missing",
        sentence(
            "The fabric lacks its route to pods of a node (Azure: user-defined route, UDR; Google Cloud: custom route)."
        ),
        sentence("Packets to these pods end in the fabric, or take a less specific route."),
        partial(_missing, "udr-missing"),
    ),
    FaultKind(
        "route-blackhole",
        sentence("A route silently discards packets instead of forwarding them."),
        sentence("Packets to its network disappear, and no ICMP error comes back."),
        _route_blackhole,
    ),
    FaultKind(
        "route-unreachable",
        sentence("A route of type unreachable has taken the place of the right one."),
        sentence("The router rejects packets to its network and reports that the host is unreachable."),
        _route_unreachable,
    ),
    FaultKind(
        "route-prohibit",
        sentence("A route of type prohibit has taken the place of the right one."),
        sentence(
            "The router rejects packets to its network and reports that the target is administratively prohibited."
        ),
        _route_prohibit,
    ),
    FaultKind(
        "route-wrong-gateway",
        sentence("A route names a gateway address that no machine has."),
        sentence("The machine asks for the MAC address of the gateway and gets no answer."),
        _route_wrong_gateway,
    ),
    FaultKind(
        "route-wrong-device",
        sentence("A route sends packets out of the wrong device."),
        sentence("The machine looks for the target in a network where it is not."),
        _route_wrong_device,
    ),
    FaultKind(
        "route-more-specific",
        sentence("A more specific route overlaps the right one and leads to another device."),
        sentence("The longest prefix wins, so packets to one address go where no machine answers."),
        _route_more_specific,
    ),
    FaultKind(
        "policy-rule-missing",
        sentence("A rule of policy routing is missing."),
        sentence("Packets that it should select use another routing table."),
        _policy_rule_missing,
    ),
    FaultKind(
        "routing-loop",
        sentence("Two routers each send packets for an address to the other."),
        sentence("The packet goes back and forth until its TTL expires."),
        _routing_loop,
    ),
)
