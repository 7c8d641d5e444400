"""Faults of interfaces: devices that are down, cables without carrier, MAC addresses that two machines have. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.resources import Fdb, Link
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects

GONE_WITH_IT = (
    "no-route",
    "no-route-back",
    "reject-route",
    "unsent",
    "neighbour",
    "rp-filter",
    "forwarding-off",
    "vxlan-underlay",
)


def crossed_links(objects: LabObjects) -> Iterator[Link]:
    """The devices that probes cross, in the order of the probes."""
    ways = (way for trip in objects.trips for way in trip.ways)
    found = dict.fromkeys(at for way in ways for hop in way.hops for at in (hop.out, *hop.interfaces))
    links = (objects.link(at) for at in found)
    return (link for link in links if link is not None)


def down(objects: LabObjects, kind: str, link: Link, *symptoms: ExpectedCause) -> Iterator[Fault]:
    """The fault that a device is down. The kernel removes its routes, so a trace may stop at a missing route."""
    traffic = objects.probes(lambda path: path.crosses(link.at))
    causes = (ExpectedCause(("link-down",), (str(link.at),)),)
    if traffic and link.up:
        # the kernel creates the route of an address again when the device comes up, also if a program deleted it
        bare = [Change(one, None) for one in objects.addresses(link.ns) if one.at == link.at and one.connected is False]
        changes = (Change(replace(link, up=False), link), *bare)
        yield Fault(kind, str(link.at), changes, causes, traffic, symptoms)


def _interface_down(objects: LabObjects) -> Iterator[Fault]:
    links = [link for link in crossed_links(objects) if link.master is None and link.kind != "bridge"]
    for link in sorted(links, key=lambda link: not objects.is_leaf(link.ns)):
        if not _is_far_end(objects, link):
            yield from down(objects, "interface-down", link, ExpectedCause(GONE_WITH_IT))


def _carrier_lost(objects: LabObjects) -> Iterator[Fault]:
    for link in crossed_links(objects):
        if link.master is None and link.kind == "veth" and _is_far_end(objects, link):
            yield from down(objects, "carrier-lost", link, ExpectedCause(GONE_WITH_IT))


def _is_far_end(objects: LabObjects, link: Link) -> bool:
    """Whether it is the end of a cable that belongs to the node of a pod, or to the fabric of a node."""
    if link.peer is None:
        return False
    machine = objects.topology.machines.get(link.peer.ns)
    return machine is not None and (machine.on == link.ns or objects.topology.role(link.ns) == "fabric")


def _duplicate_mac(objects: LabObjects) -> Iterator[Fault]:
    """Between the two machines themselves nothing arrives, whichever sent last. Others reach one of them."""
    static = {one.mac for one in objects.all(Fdb)}
    for trip in objects.trips:
        victim = (
            objects.link(trip.there.hops[0].crossed[-1]) if trip.there.hops and trip.there.hops[0].crossed else None
        )
        if victim is None or len(trip.there.hops) != 1 or trip.there.hops[0].tunnel:
            continue
        twin = objects.link(trip.there.hops[0].out)
        ways = trip.there.hops[0].crossed
        if twin is None or twin.kind != "veth" or victim.kind != "veth" or len(ways) < 5:
            continue
        if victim.mac is None or twin.mac in (None, victim.mac) or {victim.mac, twin.mac} & static:
            continue
        change = Change(replace(twin, mac=victim.mac), twin)
        causes = (ExpectedCause(("duplicate-mac",), (victim.mac, victim.ns, twin.ns)),)
        symptoms = (ExpectedCause(("wrong-mac", "kernel", "neighbour")),)
        yield Fault("duplicate-mac", str(twin.at), (change,), causes, objects.as_traffic([trip]), symptoms)


KINDS = (
    FaultKind(
        "interface-down",
        sentence("A machine's own device is down."),
        sentence("The machine loses its routes by that device, and nothing answers for its addresses."),
        _interface_down,
    ),
    FaultKind(
        "carrier-lost",
        sentence("The other end of a machine's cable is down."),
        sentence("The machine's device is up, but has no carrier, so it sends and receives nothing."),
        _carrier_lost,
    ),
    FaultKind(
        "duplicate-mac",
        sentence("Two machines on one bridge have the same MAC address."),
        sentence("The bridge sends frames for both to the one that sent last; between the two, nothing arrives."),
        _duplicate_mac,
    ),
)
