"""Faults of forwarding: routers that do not forward, reverse-path filters, forged sources, ways that differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface

from labctl.core.diff import Change
from labctl.core.plan_paths import PlannedPath
from labctl.core.resources import Address, Interface, Route, Sysctl
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects, Trip


def sysctl_change(objects: LabObjects, ns: str, name: str, value: str) -> Change:
    """The change of one setting, which the plan may leave to the kernel."""
    return Change(Sysctl(ns, name, value), objects.sysctl(ns, name))


def in_sysctl(dev: str) -> str:
    """The name of a device in the name of a setting."""
    return dev.replace(".", "/")


def rp_filter_level(objects: LabObjects, ns: str, dev: str) -> int:
    """The planned level of the reverse-path filter at a device: the higher of `all` and its own."""
    names = ("net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{in_sysctl(dev)}.rp_filter")
    found = (objects.sysctl(ns, name) for name in names)
    return max(int(one.value) if one is not None else 0 for one in found)


def _forwarding_off(objects: LabObjects) -> Iterator[Fault]:
    for ns in objects.routers:
        traffic = objects.probes(lambda path, ns=ns: path.dst.version == 4 and path.forwards_at(ns))  # type: ignore[misc]
        change = sysctl_change(objects, ns, "net.ipv4.ip_forward", "0")
        if traffic:
            yield Fault("forwarding-off", ns, (change,), (ExpectedCause(("forwarding-off",), (ns,)),), traffic)


def _interface_forwarding_off(objects: LabObjects) -> Iterator[Fault]:
    for at in _forwarding_devices(objects, 4):
        traffic = objects.probes(lambda path, at=at: _enters(path, at))  # type: ignore[misc]
        change = sysctl_change(objects, at.ns, f"net.ipv4.conf.{in_sysctl(at.dev)}.forwarding", "0")
        causes = (ExpectedCause(("forwarding-off",), (at.ns, at.dev)),)
        symptoms = (ExpectedCause(("forwarding-off",), (at.ns,)),)
        if traffic:
            yield Fault("interface-forwarding-off", str(at), (change,), causes, traffic, symptoms)


def _ipv6_forwarding_off(objects: LabObjects) -> Iterator[Fault]:
    for ns in dict.fromkeys(at.ns for at in _forwarding_devices(objects, 6)):
        traffic = objects.probes(lambda path, ns=ns: path.dst.version == 6 and path.forwards_at(ns))  # type: ignore[misc]
        change = sysctl_change(objects, ns, "net.ipv6.conf.all.forwarding", "0")
        yield Fault("forwarding-off-ipv6", ns, (change,), (ExpectedCause(("forwarding-off",), (ns, "IPv6")),), traffic)


def _forwarding_devices(objects: LabObjects, version: int) -> tuple[Interface, ...]:
    """The devices by which packets that are forwarded come in, in the order of the probes."""
    ways = (way for trip in objects.trips for way in trip.ways if way.dst.version == version)
    hops = (hop for way in ways for hop in way.hops if hop.iif is not None)
    return tuple(dict.fromkeys(Interface(hop.ns, hop.iif) for hop in hops if hop.iif is not None))


def _enters(path: PlannedPath, at: Interface) -> bool:
    return path.dst.version == 4 and any(hop.ns == at.ns and hop.iif == at.dev for hop in path.hops)


def _asymmetric_at(objects: LabObjects, trip: Trip) -> Iterator[Interface]:
    """Where a packet of the trip comes in by another device than its machine uses towards the sender."""
    for way in trip.ways:
        if way.src is None or way.dst.version != 4:
            continue
        for hop in way.hops:
            if hop.iif is None or objects.is_leaf(hop.ns):
                continue
            back = objects.paths.lookup(hop.ns, way.src, way.dst)
            if back is not None and objects.paths.device(hop.ns, back) not in (None, hop.iif):
                yield Interface(hop.ns, hop.iif)


def _rp_filter_strict(objects: LabObjects) -> Iterator[Fault]:
    found: dict[Interface, list[Trip]] = {}
    for trip in objects.trips:
        for at in dict.fromkeys(_asymmetric_at(objects, trip)) if trip.keeps_addresses else ():
            if rp_filter_level(objects, at.ns, at.dev) != 1:
                found.setdefault(at, []).append(trip)
    for at, trips in found.items():
        changes = _strict(objects, at)
        causes = (ExpectedCause(("rp-filter",), (at.ns, at.dev)),)
        yield Fault("rp-filter-strict", str(at), changes, causes, objects.as_traffic(trips))
    for trip, at, change in _direct_routes(objects):
        changes = (change, *_strict(objects, at))
        causes = (ExpectedCause(("rp-filter",), (at.ns, at.dev)),)
        yield Fault("rp-filter-strict", str(at), changes, causes, objects.as_traffic([trip]))


def _strict(objects: LabObjects, at: Interface) -> tuple[Change, ...]:
    """The changes of the settings that make the reverse-path filter strict at a device."""
    names = ("net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{in_sysctl(at.dev)}.rp_filter")
    changes = (sysctl_change(objects, at.ns, name, "1") for name in names)
    return tuple(change for change in changes if change.want != change.have)


def _martian_source(objects: LabObjects) -> Iterator[Fault]:
    for trip in objects.trips:
        way = trip.there
        if way.src is None or way.dst.version != 4 or not trip.keeps_addresses:
            continue
        for hop in way.hops:
            if (
                hop.iif is None
                or objects.is_leaf(hop.ns)
                or any(one.addr.ip == way.src for one in objects.all(Address, hop.ns))
            ):
                continue
            address = Address(Interface(hop.ns, "lo"), ip_interface(way.src))
            if objects.link(address.at) is None:
                continue
            traffic = objects.probes(lambda path, hop=hop, src=way.src: path.src == src and path.forwards_at(hop.ns))  # type: ignore[misc]
            causes = (ExpectedCause(("local-source", "wrong-machine"), (hop.ns, str(way.src))),)
            symptoms = (ExpectedCause(("neighbour",)),)  # the router does not answer the ARP requests of that machine
            on = f"{hop.ns}/{way.src}"
            yield Fault("martian-source", on, (Change(address, None),), causes, traffic, symptoms)


def _asymmetric_route(objects: LabObjects) -> Iterator[Fault]:
    for trip, at, change in _direct_routes(objects):
        if rp_filter_level(objects, at.ns, at.dev) != 1:
            assert isinstance(change.want, Route)
            on = f"{change.want.ns}/{change.want.dst}"
            yield Fault("asymmetric-route", on, (change,), (), objects.as_traffic([trip]))


def _direct_routes(objects: LabObjects) -> Iterator[tuple[Trip, Interface, Change]]:
    """Routes through a tunnel to a node of the same network that can be direct instead: a probe, the device by which
    its request then comes in at that node, and the change. The other direction stays in the tunnel."""
    for trip in objects.trips:
        for hop in trip.there.hops:
            near = hop.tunnel[0] if len(hop.tunnel) == 1 else None
            if near is None or hop.iif is None or near.ns != hop.ns or not near.crossed:
                continue
            if hop.route.dst.prefixlen == 0 or not isinstance(objects.planned(hop.route), Route) or hop.route.encap:
                continue
            broken = replace(hop.route, via=near.next_hop, dev=near.out.dev, onlink=False, mtu=None)
            yield trip, near.crossed[-1], Change(broken, hop.route)


KINDS = (
    FaultKind(
        "forwarding-off",
        sentence("A router does not forward: net.ipv4.ip_forward is 0."),
        sentence("Every IPv4 packet that is not for the machine itself ends there."),
        _forwarding_off,
    ),
    FaultKind(
        "interface-forwarding-off",
        sentence("A router does not forward what comes in by one device: its setting forwarding is 0."),
        sentence("IPv4 packets that come in by that device and are for others end there; other devices work."),
        _interface_forwarding_off,
    ),
    FaultKind(
        "forwarding-off-ipv6",
        sentence("A router does not forward IPv6: net.ipv6.conf.all.forwarding is 0."),
        sentence("Every IPv6 packet that is not for the machine itself ends there; IPv4 works."),
        _ipv6_forwarding_off,
    ),
    FaultKind(
        "rp-filter-strict",
        sentence(
            "The reverse-path filter is strict (rp_filter is 1) where requests and replies use different devices."
        ),
        sentence("The router drops packets if the route to their source uses another device."),
        _rp_filter_strict,
    ),
    FaultKind(
        "martian-source",
        sentence("A router has the address of another machine, too."),
        sentence("It drops packets from that machine as forged (martian source), and keeps the packets to it."),
        _martian_source,
    ),
    FaultKind(
        "asymmetric-route",
        sentence("A node sends packets directly, and the other node answers through the tunnel."),
        sentence("Request and reply take different ways; both arrive."),
        _asymmetric_route,
        sentence("Both ways deliver; only a claim about the way of the packets can fail."),
    ),
)
