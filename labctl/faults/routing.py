"""Faults of routing: routes that are missing, wrong or refuse, policy rules, forwarding, the reverse-path filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.resources import RT_TABLE_MAIN, Route, Sysctl
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects


def _object_name(route: Route) -> str:
    """The object of a fault on a route: `node1/10.244.1.0/24`, with the table if it is not the main one."""
    table = "" if route.table == RT_TABLE_MAIN else f"@{route.table}"
    return f"{route.ns}/{route.dst}{table}"


def _unicast_routes(objects: LabObjects) -> Iterator[Route]:
    """The routes that forward packets, those of nodes and fabrics first, because they carry most traffic."""
    routes = [route for route in objects.all(Route) if route.kind == "unicast"]
    routes.sort(key=lambda route: (objects.is_leaf(route.ns), route.dst.prefixlen == 0))
    return iter(routes)


def _route_missing(objects: LabObjects) -> Iterator[Fault]:
    for route in _unicast_routes(objects):
        traffic = objects.traffic(route.ns, towards=route.dst) + objects.traffic(route.ns, back=route.dst)
        causes = (
            ExpectedCause(("no-route", "no-route-back", "reject-route", "rp-filter"), (route.ns,)),
            ExpectedCause(("neighbour", "proxy-arp-off", "no-proxy-route"), (route.ns,)),
        )
        yield Fault("route-missing", _object_name(route), (Change(None, route),), causes, traffic)


def _route_blackhole(objects: LabObjects) -> Iterator[Fault]:
    for route in _unicast_routes(objects):
        broken = replace(route, kind="blackhole", via=None, dev=None, onlink=False, src=None, scope=None, encap=None)
        traffic = objects.traffic(route.ns, towards=route.dst) + objects.traffic(route.ns, back=route.dst)
        causes = (ExpectedCause(("reject-route", "rp-filter"), (route.ns,)),)
        yield Fault("route-blackhole", _object_name(route), (Change(broken, route),), causes, traffic)


def _forwarding_off(objects: LabObjects) -> Iterator[Fault]:
    for ns in objects.routers:
        planned = objects.sysctl(ns, "net.ipv4.ip_forward")
        broken = Sysctl(ns, "net.ipv4.ip_forward", "0")
        causes = (ExpectedCause(("forwarding-off",), (ns,)),)
        yield Fault("forwarding-off", ns, (Change(broken, planned),), causes, objects.traffic(ns))


KINDS = (
    FaultKind(
        "route-missing",
        "A route is missing.",
        "Packets that need it are rejected, or take a less specific route.",
        _route_missing,
    ),
    FaultKind(
        "route-blackhole",
        "A route silently discards packets instead of forwarding them.",
        "Packets to its network disappear, and no ICMP error comes back.",
        _route_blackhole,
    ),
    FaultKind(
        "forwarding-off",
        "A router does not forward: net.ipv4.ip_forward is 0.",
        "Every IPv4 packet that is not for the machine itself ends there.",
        _forwarding_off,
    ),
)
