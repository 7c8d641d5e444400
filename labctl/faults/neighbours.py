"""Faults of neighbours: wrong entries, and machines that do not answer ARP requests. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.plan_paths import PlannedHop, PlannedPath
from labctl.core.resources import Interface, Neighbour
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.forwarding import in_sysctl, sysctl_change
from labctl.faults.lab_objects import LabObjects

NOBODY_MAC = "02:de:ad:00:00:01"  # a MAC address that no device of a lab has


def _hops(objects: LabObjects) -> Iterator[PlannedHop]:
    """The hops of the probes to machines of the same network, each pair of device and next hop once."""
    found: dict[tuple[Interface, object], PlannedHop] = {}
    for trip in objects.trips:
        for way in trip.ways:
            for hop in way.hops:
                if hop.crossed and hop.next_hop.version == 4:
                    found.setdefault((hop.out, hop.next_hop), hop)
    return iter(found.values())


def _uses(path: PlannedPath, hop: PlannedHop) -> bool:
    return path.asks_for(hop.out, hop.next_hop)


def _neighbour_stale(objects: LabObjects) -> Iterator[Fault]:
    for hop in _hops(objects):
        planned = next(
            (one for one in objects.all(Neighbour, hop.ns) if (one.at, one.ip) == (hop.out, hop.next_hop)), None
        )
        if _is_vxlan(objects, hop.out) or hop.tunnel:
            continue
        broken = Neighbour(hop.out, hop.next_hop, NOBODY_MAC)
        traffic = objects.probes(lambda path, hop=hop: _uses(path, hop))  # type: ignore[misc]
        causes = (ExpectedCause(("stale-neighbour", "wrong-mac"), (hop.ns, NOBODY_MAC)),)
        symptoms = (ExpectedCause(("wrong-mac", "kernel"), ()),)
        on = f"{hop.out}/{hop.next_hop}"
        yield Fault("neighbour-stale", on, (Change(broken, planned),), causes, traffic, symptoms)


def _is_vxlan(objects: LabObjects, at: Interface) -> bool:
    link = objects.link(at)
    return link is not None and link.kind == "vxlan"


def _neighbour_missing(objects: LabObjects) -> Iterator[Fault]:
    for hop in _hops(objects):
        planned = next(
            (one for one in objects.all(Neighbour, hop.ns) if (one.at, one.ip) == (hop.out, hop.next_hop)), None
        )
        if planned is None or planned.state != "permanent" or _is_vxlan(objects, hop.out):
            continue
        changes = (Change(None, planned),)
        trips = objects.lost_trips(changes, objects.hit_trips(lambda path, hop=hop: _uses(path, hop)))  # type: ignore[misc]
        if trips:
            causes = (ExpectedCause(("neighbour",), (hop.ns, str(hop.next_hop))),)
            symptoms = (ExpectedCause(("proxy-arp-off",), (str(hop.next_hop),)),)
            on = f"{hop.out}/{hop.next_hop}"
            yield Fault("neighbour-missing", on, changes, causes, objects.as_traffic(trips), symptoms)


def _asked(objects: LabObjects) -> Iterator[tuple[Interface, PlannedHop]]:
    """The interfaces that have to answer ARP requests for an address of their own, pods first."""
    found: dict[Interface, PlannedHop] = {}
    for hop in _hops(objects):
        at = hop.crossed[-1]
        if (
            not hop.tunnel
            and objects.paths.owner(at, hop.next_hop)
            and not objects.paths.planned_mac(hop.out, hop.next_hop)
        ):
            found.setdefault(at, hop)
    return iter(sorted(found.items(), key=lambda item: not objects.is_leaf(item[0].ns)))


def _arp_ignore(objects: LabObjects) -> Iterator[Fault]:
    for at, hop in _asked(objects):
        change = sysctl_change(objects, at.ns, f"net.ipv4.conf.{in_sysctl(at.dev)}.arp_ignore", "8")
        traffic = objects.probes(lambda path, hop=hop: _uses(path, hop))  # type: ignore[misc]
        causes = (ExpectedCause(("arp-ignore",), (at.ns, str(hop.next_hop))),)
        symptoms = (ExpectedCause(("neighbour",), (str(hop.next_hop),)),)
        yield Fault("arp-ignore", str(at), (change,), causes, traffic, symptoms)


def _arp_off(objects: LabObjects) -> Iterator[Fault]:
    for at, hop in _asked(objects):
        link = objects.link(at)
        if link is None or link.kind != "veth" or not link.arp:
            continue
        traffic = objects.probes(lambda path, hop=hop: _uses(path, hop))  # type: ignore[misc]
        causes = (ExpectedCause(("neighbour", "arp-off", "wrong-mac"), (str(at), "ARP")),)
        symptoms = (ExpectedCause(("neighbour", "wrong-mac", "kernel")),)
        yield Fault("arp-off", str(at), (Change(replace(link, arp=False), link),), causes, traffic, symptoms)


def _proxy_arp_off(objects: LabObjects) -> Iterator[Fault]:
    found: dict[Interface, PlannedHop] = {}
    for hop in _hops(objects):
        at = hop.crossed[-1]
        name = f"net.ipv4.conf.{in_sysctl(at.dev)}.proxy_arp"
        planned = objects.sysctl(at.ns, name)
        if planned is None or planned.value != "1" or objects.paths.is_local(at.ns, hop.next_hop):
            continue
        found.setdefault(at, hop)
    for at, hop in found.items():
        change = sysctl_change(objects, at.ns, f"net.ipv4.conf.{in_sysctl(at.dev)}.proxy_arp", "0")
        traffic = objects.probes(lambda path, hop=hop: _uses(path, hop))  # type: ignore[misc]
        causes = (ExpectedCause(("proxy-arp-off",), (at.ns, at.dev)),)
        symptoms = (ExpectedCause(("neighbour",), (str(hop.next_hop),)),)
        yield Fault("proxy-arp-off", str(at), (change,), causes, traffic, symptoms)


KINDS = (
    FaultKind(
        "neighbour-stale",
        sentence("A permanent neighbour entry has a MAC address that no machine has."),
        sentence("The machine sends frames to a MAC address where no machine accepts them, and never asks again."),
        _neighbour_stale,
    ),
    FaultKind(
        "neighbour-missing",
        sentence("A permanent neighbour entry that replaces ARP is missing."),
        sentence("The machine asks for the MAC address, and no machine answers."),
        _neighbour_missing,
    ),
    FaultKind(
        "arp-ignore",
        sentence("A machine does not answer ARP requests: arp_ignore of the device is 8."),
        sentence("Others cannot learn its MAC address; what they know already works until it expires."),
        _arp_ignore,
    ),
    FaultKind(
        "arp-off",
        sentence("ARP is off at a device (NOARP)."),
        sentence("It answers no ARP request, and sends its own frames without asking for a MAC address."),
        _arp_off,
    ),
    FaultKind(
        "proxy-arp-off",
        sentence("A router does not answer ARP requests for others: proxy_arp of the device is 0."),
        sentence("Machines behind it get no answer for their gateway, or for a neighbour that the router leads to."),
        _proxy_arp_off,
    ),
)
