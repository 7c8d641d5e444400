"""Faults of MTU: a smaller one at a sender, a router, the far end of a cable, a bridge port, a tunnel. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.plan_paths import PlannedPath
from labctl.core.resources import Interface
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects, Traffic, Trip

DEFAULT_MTU = 1500
SMALLER_BYTES = 120  # by how much a broken MTU is below what the path allows
HEADER_BYTES = {4: 28, 6: 48}  # IP, and ICMP or UDP
VXLAN_BYTES = 50
SMALLEST_MTU = 1280  # below, a device loses its IPv6 addresses, too


def _path_mtu(objects: LabObjects, trip: Trip) -> int:
    """The biggest packet that fits both ways, as planned."""
    found = [DEFAULT_MTU]
    for way in trip.ways:
        for hop in way.hops:
            for at in (hop.out, *hop.crossed):
                link = objects.link(at)
                found += [link.mtu] if link is not None and link.mtu is not None else []
            for below in hop.tunnel:
                below_links = map(objects.link, below.crossed)
                found += [(link.mtu or DEFAULT_MTU) - VXLAN_BYTES for link in below_links if link is not None]
            found += [hop.route.mtu] if hop.route.mtu is not None else []
    return min(found)


def _fault(
    objects: LabObjects, kind: str, at: Interface, trips: list[Trip], cause: str, *symptoms: str, below: int = 0
) -> Iterator[Fault]:
    """The fault that a device has an MTU that is too small for a packet which else just fits. Not if the plan leaves
    its MTU to the kernel, because then no value is wrong."""
    link = objects.link(at)
    if link is None or link.mtu is None or not trips:
        return
    size = _path_mtu(objects, trips[0])
    mtu = size + below - SMALLER_BYTES
    version = trips[0].there.dst.version
    if mtu < SMALLEST_MTU or mtu >= link.mtu:
        return
    causes = (ExpectedCause((cause,), (str(at),)),)
    others = (ExpectedCause(symptoms),) if symptoms else ()
    traffic = tuple(
        Traffic(trip.source, trip.target, ("icmp", "udp"), size=_path_mtu(objects, trip) - HEADER_BYTES[version])
        for trip in trips[:6]
        if trip.there.dst.version == version
    )
    yield Fault(kind, str(at), (Change(replace(link, mtu=mtu), link),), causes, traffic, others)


def _interfaces(objects: LabObjects, place: str) -> Iterator[tuple[Interface, list[Trip]]]:
    """The interfaces that requests cross, with their probes: `sender` sends it first, `router` sends it on, `far` is
    the other end of a cable, `port` a port of a bridge, `tunnel` a tunnel."""
    found: dict[Interface, list[Trip]] = {}
    for trip in objects.trips:
        for at in dict.fromkeys(_places(objects, trip.there, place)):
            found.setdefault(at, []).append(trip)
    return iter(found.items())


def _places(objects: LabObjects, path: PlannedPath, place: str) -> Iterator[Interface]:
    for number, hop in enumerate(path.hops):
        link = objects.link(hop.out)
        if link is None:
            continue
        if link.kind == "vxlan":
            if place == "tunnel" and hop.route.mtu is None:
                yield hop.out
        elif place == ("sender" if number == 0 else "router") and hop.route.mtu is None:
            yield hop.out
        for below in hop.tunnel:
            yield from _bridged(objects, below.crossed, "underlay", place)
        yield from _bridged(objects, hop.crossed, "far", place)


def _bridged(objects: LabObjects, crossed: tuple[Interface, ...], far: str, place: str) -> Iterator[Interface]:
    for at in crossed[1:]:
        link = objects.link(at)
        if link is None or link.kind != "veth":
            continue
        if place == (far if far == "underlay" or link.master is None else "port"):
            yield at


def _mtu_sender(objects: LabObjects) -> Iterator[Fault]:
    for at, trips in _interfaces(objects, "sender"):
        yield from _fault(objects, "mtu-sender", at, trips, "too-big", "unsent")


def _mtu_router(objects: LabObjects) -> Iterator[Fault]:
    for at, trips in _interfaces(objects, "router"):
        trips = [trip for trip in trips if trip.source != at.ns]
        # a frame that comes in by this device, before the packet goes out by it, is dropped without an error
        arriving = ExpectedCause(("mtu-black-hole",), (str(at),))
        for fault in _fault(objects, "mtu-router", at, trips, "too-big"):
            yield replace(fault, causes=(*fault.causes, arriving))


def _mtu_tunnel(objects: LabObjects) -> Iterator[Fault]:
    for at, trips in _interfaces(objects, "tunnel"):
        yield from _fault(objects, "mtu-tunnel", at, [trip for trip in trips if trip.source != at.ns], "too-big")


def _mtu_far_end(objects: LabObjects) -> Iterator[Fault]:
    for at, trips in _interfaces(objects, "far"):
        yield from _fault(objects, "mtu-far-end", at, trips, "mtu-black-hole")


def _mtu_bridge_port(objects: LabObjects) -> Iterator[Fault]:
    for at, trips in _interfaces(objects, "port"):
        yield from _fault(objects, "mtu-bridge-port", at, trips, "mtu-black-hole")


def _mtu_underlay(objects: LabObjects) -> Iterator[Fault]:
    for at, trips in _interfaces(objects, "underlay"):
        yield from _fault(objects, "mtu-underlay", at, trips, "mtu-black-hole", below=VXLAN_BYTES)


KINDS = (
    FaultKind(
        "mtu-sender",
        sentence("The sender's own device has a smaller MTU than the path."),
        sentence("The kernel refuses to send a big packet that may not be fragmented."),
        _mtu_sender,
    ),
    FaultKind(
        "mtu-router",
        sentence("The device by which a router sends packets on has a smaller MTU."),
        sentence("The router drops a big packet that may not be fragmented, and reports the MTU to its sender."),
        _mtu_router,
    ),
    FaultKind(
        "mtu-tunnel",
        sentence("The device of a tunnel has a smaller MTU than the path needs."),
        sentence("The node drops a big packet before the tunnel, and reports the MTU to its sender."),
        _mtu_tunnel,
    ),
    FaultKind(
        "mtu-far-end",
        sentence("The receiving end of a cable has a smaller MTU than the sending one."),
        sentence("Big packets disappear in the cable, and no ICMP error comes back."),
        _mtu_far_end,
    ),
    FaultKind(
        "mtu-bridge-port",
        sentence("A port of a bridge has a smaller MTU."),
        sentence("The bridge drops big frames, and no ICMP error comes back."),
        _mtu_bridge_port,
    ),
    FaultKind(
        "mtu-underlay",
        sentence("The network below a tunnel has a smaller MTU than the tunnel needs."),
        sentence("Big packets disappear in the tunnel, and no ICMP error comes back; small ones pass."),
        _mtu_underlay,
    ),
)
