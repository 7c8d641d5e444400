"""Faults of addresses: missing, with a wrong prefix length, on two machines; IPv6 switched off. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

from labctl.core.diff import Change
from labctl.core.resources import Address, Net, Route
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.forwarding import in_sysctl, sysctl_change
from labctl.faults.lab_objects import LabObjects

NO_ANSWER = ("neighbour", "no-route", "no-route-back", "unsent", "rp-filter", "forwarding-off")


def _used_addresses(objects: LabObjects, version: int) -> Iterator[Address]:
    """The addresses that are the end of a probe, or a next hop, those of pods first."""
    ways = [way for trip in objects.trips for way in trip.ways if way.dst.version == version]
    used = {(way.end, way.dst) for way in ways if way.arrives}
    used |= {(hop.crossed[-1].ns, hop.next_hop) for way in ways for hop in way.hops if hop.crossed}
    found = [one for one in objects.all(Address) if (one.ns, one.addr.ip) in used and one.at.dev != "lo"]
    return iter(sorted(found, key=lambda one: not objects.is_leaf(one.ns)))


def _missing(objects: LabObjects, kind: str, version: int) -> Iterator[Fault]:
    for address in _used_addresses(objects, version):
        ip = address.addr.ip
        changes = (Change(None, address),)
        trips = objects.hit_trips(
            lambda path, ns=address.ns, ip=ip: (
                path.dst.version == ip.version  # type: ignore[misc]
                and (
                    ip in (path.dst, path.src)
                    or any(hop.next_hop == ip and hop.crossed[-1:] and hop.crossed[-1].ns == ns for hop in path.hops)
                )
            )
        )
        lost = [trip for trip in trips if trip.there.dst == ip] or objects.lost_trips(changes, trips)
        causes = (ExpectedCause(("no-address",), (address.ns, str(ip))),)
        symptoms = (ExpectedCause(NO_ANSWER),)
        if lost:
            on = f"{address.at}/{ip}"
            yield Fault(kind, on, changes, causes, objects.as_traffic(lost), symptoms)


def _address_missing(objects: LabObjects) -> Iterator[Fault]:
    return _missing(objects, "address-missing", 4)


def _ipv6_address_missing(objects: LabObjects) -> Iterator[Fault]:
    return _missing(objects, "address-missing-ipv6", 6)


def _with_prefix(objects: LabObjects, address: Address, prefixlen: int, *, keep_routes: bool) -> tuple[Change, ...]:
    """The changes that give an address another prefix length. The kernel removes the routes with the address, so they
    are created again with `keep_routes`."""
    other = Address(address.at, ip_interface(f"{address.addr.ip}/{prefixlen}"), address.connected)
    kept = [one for one in objects.all(Route, address.ns) if one.dev == address.at.dev] if keep_routes else []
    return (Change(None, address), Change(other, None), *(Change(route, None) for route in kept))


def _prefix_too_long(objects: LabObjects) -> Iterator[Fault]:
    for address in _used_addresses(objects, 4):
        if not objects.is_leaf(address.ns) or address.addr.network.prefixlen > 29 or address.connected is False:
            continue
        changes = _with_prefix(objects, address, 32, keep_routes=False)
        trips = [trip for trip in objects.trips if trip.there.src == address.addr.ip]
        trips += [trip for trip in objects.trips if trip.there.dst == address.addr.ip]
        if any(one.dev != address.at.dev for one in objects.all(Route, address.ns)):
            continue  # another device takes what this one cannot send
        causes = (ExpectedCause(("no-route", "no-route-back"), (address.ns,)),)
        symptoms = (ExpectedCause(("unsent",), (address.ns,)),)
        if trips:
            yield Fault("prefix-too-long", str(address.at), changes, causes, objects.as_traffic(trips), symptoms)


def _prefix_too_wide(objects: LabObjects) -> Iterator[Fault]:
    for address in _used_addresses(objects, 4):
        if not objects.is_leaf(address.ns) or address.connected is False or objects.paths.has_proxy(address.at):
            continue
        ip = address.addr.ip
        for trip in objects.trips:
            wide = _covering(address, trip.there.dst)
            if trip.there.src != ip or wide is None or trip.there.hops[0].out != address.at:
                continue
            changes = _with_prefix(objects, address, wide.prefixlen, keep_routes=True)
            trips = [one for one in objects.trips if one.there.src == ip and one.there.dst in wide]
            trips = objects.lost_trips(changes, trips)
            causes = (ExpectedCause(("neighbour",), (address.ns, str(trip.there.dst))),)
            if trip in trips:
                yield Fault("prefix-too-short", str(address.at), changes, causes, objects.as_traffic([trip]))
                break


def _covering(address: Address, other: object) -> Net | None:
    """The smallest network that has both addresses, if the address's own does not; None if it is too wide."""
    for prefixlen in range(address.addr.network.prefixlen - 1, 7, -1):
        net = ip_network(f"{address.addr.ip}/{prefixlen}", strict=False)
        if other in net and other not in (net.network_address, net.broadcast_address):
            return net if other not in address.addr.network else None
    return None


def _duplicate_address(objects: LabObjects) -> Iterator[Fault]:
    for trip in objects.trips:
        hop = trip.there.hops[0] if len(trip.there.hops) == 1 else None
        if hop is None or not hop.crossed or not objects.is_leaf(trip.source):
            continue
        owner = next((one for one in objects.addresses(hop.crossed[-1].ns) if one.addr.ip == trip.there.dst), None)
        if owner is None or hop.out.ns == owner.ns or hop.tunnel:
            continue
        twin = Address(hop.out, owner.addr)
        causes = (ExpectedCause(("wrong-machine",), (hop.out.ns, str(owner.addr.ip))),)
        yield Fault(
            "duplicate-address", f"{twin.at}/{owner.addr.ip}", (Change(twin, None),), causes, objects.as_traffic([trip])
        )


def _ipv6_disabled(objects: LabObjects) -> Iterator[Fault]:
    for address in _used_addresses(objects, 6):
        change = sysctl_change(objects, address.ns, f"net.ipv6.conf.{in_sysctl(address.at.dev)}.disable_ipv6", "1")
        traffic = objects.probes(lambda path, at=address.at: path.dst.version == 6 and path.crosses(at))  # type: ignore[misc]
        causes = (ExpectedCause(("ipv6-off",), (address.ns, address.at.dev)),)
        symptoms = (ExpectedCause((*NO_ANSWER, "no-address")),)
        yield Fault("ipv6-disabled", str(address.at), (change,), causes, traffic, symptoms)


KINDS = (
    FaultKind(
        "address-missing",
        sentence("A device has lost its IPv4 address."),
        sentence("No machine answers for the address, and the routes of the device are gone."),
        _address_missing,
    ),
    FaultKind(
        "prefix-too-long",
        sentence("A pod's address has a prefix length that is too long: 32."),
        sentence("The pod has no neighbours and no gateway, so it reaches no other machine."),
        _prefix_too_long,
    ),
    FaultKind(
        "prefix-too-short",
        sentence("A pod's address has a prefix length that is too short."),
        sentence("The pod takes a remote machine for a neighbour: it asks for its MAC address and gets no answer."),
        _prefix_too_wide,
    ),
    FaultKind(
        "duplicate-address",
        sentence("Another machine of the segment has the same address."),
        sentence("Packets for the address go to the wrong machine, or now to one and now to the other."),
        _duplicate_address,
    ),
    FaultKind(
        "address-missing-ipv6",
        sentence("A device has lost its IPv6 address."),
        sentence("IPv6 fails there; IPv4 works."),
        _ipv6_address_missing,
    ),
    FaultKind(
        "ipv6-disabled",
        sentence("IPv6 is off at a device: its setting disable_ipv6 is 1."),
        sentence("The kernel removes its IPv6 addresses and routes; IPv4 works."),
        _ipv6_disabled,
    ),
)
