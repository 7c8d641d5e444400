"""Faults of interfaces: devices that are down, cables without carrier, MAC addresses that two machines have. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.resources import Link
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects

GONE_WITH_IT = ("no-route", "no-route-back", "reject-route", "unsent", "neighbour", "rp-filter", "forwarding-off")


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
        yield Fault(kind, str(link.at), (Change(replace(link, up=False), link),), causes, traffic, symptoms)


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
    for trip in objects.trips:
        for way in trip.ways:
            if not way.hops or not way.hops[-1].crossed:
                continue
            victim = objects.link(way.hops[-1].crossed[-1])
            twin = _other_machine(objects, victim) if victim is not None else None
            if victim is None or twin is None or twin.at in way.hops[-1].crossed:
                continue
            change = Change(replace(twin, mac=victim.mac), twin)
            causes = (ExpectedCause(("duplicate-mac",), (str(victim.mac), victim.ns, twin.ns)),)
            symptoms = (ExpectedCause(("wrong-mac", "kernel", "neighbour", "hairpin-off")),)
            traffic = objects.probes(
                lambda path, end=victim.at, other=twin.at: (
                    bool(path.hops)  # type: ignore[misc]
                    and end in path.hops[-1].crossed[-1:]
                    and not path.crosses(other)
                )
            )
            yield Fault("duplicate-mac", str(twin.at), (change,), causes, traffic, symptoms)


def _other_machine(objects: LabObjects, victim: Link) -> Link | None:
    """The device of another pod or machine on the same bridge."""
    for at, way in objects.paths.segment(victim.at).items():
        link = objects.link(at)
        bridged = any(one is not None and one.kind == "bridge" for one in map(objects.link, way))
        if link is None or link.kind != "veth" or link.master is not None or not bridged or victim.mac is None:
            continue
        if at.ns != victim.ns and link.mac not in (None, victim.mac):
            return link
    return None


KINDS = (
    FaultKind(
        "interface-down",
        "A machine's own device is down.",
        "The machine loses its routes by that device, and nothing answers for its addresses.",
        _interface_down,
    ),
    FaultKind(
        "carrier-lost",
        "The other end of a machine's cable is down.",
        "The machine's device is up, but has no carrier, so it sends and receives nothing.",
        _carrier_lost,
    ),
    FaultKind(
        "duplicate-mac",
        "Two machines on one bridge have the same MAC address.",
        "The bridge sends frames for both to the one that it heard last.",
        _duplicate_mac,
    ),
)
