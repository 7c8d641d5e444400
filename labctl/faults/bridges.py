"""Faults of bridges: ports that are down, detached or isolated, stale forwarding entries, duplicates. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.resources import Chain, Fdb, Interface, Link, Neighbour
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.interfaces import GONE_WITH_IT, crossed_links, down
from labctl.faults.lab_objects import LabObjects, Traffic


def _ports(objects: LabObjects) -> Iterator[Link]:
    """The bridge ports that probes cross, those of pods first."""
    ports = [link for link in crossed_links(objects) if link.master is not None and link.kind == "veth"]
    return iter(sorted(ports, key=lambda link: link.peer is None or not objects.is_leaf(link.peer.ns)))


def _bridge_port_down(objects: LabObjects) -> Iterator[Fault]:
    for link in _ports(objects):
        yield from down(objects, "bridge-port-down", link, ExpectedCause(GONE_WITH_IT))


def _bridge_down(objects: LabObjects) -> Iterator[Fault]:
    for link in crossed_links(objects):
        if link.kind == "bridge":
            yield from down(objects, "bridge-down", link, ExpectedCause(GONE_WITH_IT))


def _port_detached(objects: LabObjects) -> Iterator[Fault]:
    for link in _ports(objects):
        traffic = objects.probes(lambda path, at=link.at: path.crosses(at))  # type: ignore[misc]
        change = Change(replace(link, master=None, hairpin=False, isolated=False), link)
        causes = (ExpectedCause(("neighbour", "port-detached"), (str(link.at),)),)
        symptoms = (ExpectedCause(("neighbour", "kernel", "forwarding-off")),)
        yield Fault("port-detached", str(link.at), (change,), causes, traffic, symptoms)


def _port_pairs(objects: LabObjects) -> Iterator[tuple[Link, Link, Link]]:
    """Pairs of ports of one bridge between which the bridge forwards a probe, with the device behind the second."""
    found = set()
    for trip in objects.trips:
        for way in trip.ways:
            for hop in way.hops:
                links = [objects.link(at) for at in hop.crossed]
                for first, bridge, second, end in zip(links, links[1:], links[2:], links[3:], strict=False):
                    if first is None or second is None or end is None or bridge is None or bridge.kind != "bridge":
                        continue
                    if first.master == second.master == bridge.at.dev and (first.at, second.at) not in found:
                        found.add((first.at, second.at))
                        yield first, second, end


def _ports_isolated(objects: LabObjects) -> Iterator[Fault]:
    for first, second, _ in _port_pairs(objects):
        if (first.kind, second.kind) != ("veth", "veth"):
            continue
        changes = tuple(Change(replace(port, isolated=True), port) for port in (first, second))
        traffic = objects.probes(lambda path, one=first.at, two=second.at: path.crosses(one) and path.crosses(two))  # type: ignore[misc]
        causes = (ExpectedCause(("isolated",), (str(first.at), str(second.at))),)
        symptoms = (ExpectedCause(("neighbour",)),)
        yield Fault("ports-isolated", f"{first.at}+{second.at.dev}", changes, causes, traffic, symptoms)


def _hairpin_off(objects: LabObjects) -> Iterator[Fault]:
    """A pod or container that reaches itself by a port of its node: a claim of the lab says where that is so."""
    for port in objects.all(Link):
        if not port.hairpin or port.peer is None:
            continue
        for check in objects.lab.checks:
            machine = objects.lab.machine(check.source)
            if check.source != port.peer.ns or machine is None or check.expect != "reply" or check.probe != "tcp":
                continue
            if check.target == machine.on and check.port is not None:
                change = Change(replace(port, hairpin=False), port)
                causes = (ExpectedCause(("hairpin-off",), (str(port.at),)),)
                traffic = (Traffic(check.source, check.target, ("tcp",), check.port, listen=check.listen),)
                yield Fault("hairpin-off", str(port.at), (change,), causes, traffic)


def _fdb_stale(objects: LabObjects) -> Iterator[Fault]:
    found_before: set[str] = set()
    for trip in objects.trips:
        for way in trip.ways:
            for hop in way.hops:
                found = _port_behind_bridge(objects, hop.crossed)
                if found is None:
                    continue
                port, end = found
                wrong = _wrong_port(objects, hop.crossed, port)
                if wrong is None or end.mac is None or any(one.mac == end.mac for one in objects.all(Fdb, port.ns)):
                    continue
                on = f"{port.ns}/{port.master}/{end.mac}"
                # without an ARP request: its answer would correct the entry
                known = Neighbour(hop.out, hop.next_hop, end.mac)
                if on in found_before or objects.planned(known) is not None:
                    continue
                found_before.add(on)
                traffic = objects.probes(lambda path, hop=hop: path.asks_for(hop.out, hop.next_hop))  # type: ignore[misc]
                causes = (ExpectedCause(("fdb-stale", "wrong-mac"), (str(wrong.at), end.mac)),)
                # `kernel` says only that the bridge did not forward the frame
                symptoms = (ExpectedCause(("wrong-mac",), (end.mac,)), ExpectedCause(("kernel",)))
                changes = (Change(Fdb(wrong.at, end.mac), None), Change(known, None))
                yield Fault("fdb-stale", on, changes, causes, traffic, symptoms)


def _port_behind_bridge(objects: LabObjects, crossed: tuple[Interface, ...]) -> tuple[Link, Link] | None:
    """The port by which a bridge sends the frame to its receiver, and that receiver's device."""
    if len(crossed) < 3:
        return None
    bridge, port, end = (objects.link(at) for at in crossed[-3:])
    if bridge is None or port is None or end is None or bridge.kind != "bridge" or port.master != bridge.at.dev:
        return None
    return port, end


def _wrong_port(objects: LabObjects, crossed: tuple[Interface, ...], right: Link) -> Link | None:
    """Another port of the bridge, not the one that the frame comes in by."""
    for link in objects.all(Link, right.ns):
        if link.master == right.master and link.at != right.at and link.at not in crossed and link.kind == "veth":
            return link
    return None


def _promiscuous_double(objects: LabObjects) -> Iterator[Fault]:
    for bridge in objects.all(Link):
        if bridge.kind != "bridge" or not bridge.promisc:
            continue
        for chain in objects.all(Chain, bridge.ns):
            if chain.family == "bridge" and "DEDUP" in chain.name and chain.rules:
                change = Change(replace(chain, rules=()), chain)
                traffic = objects.probes(lambda path, ns=bridge.ns: path.end == ns)  # type: ignore[misc]
                yield Fault("promiscuous-double", f"{chain.ns}/{chain.name}", (change,), (), traffic)


KINDS = (
    FaultKind(
        "bridge-port-down",
        sentence("The bridge port of a machine is down."),
        sentence("The bridge sends nothing to the machine, and the machine's device has no carrier."),
        _bridge_port_down,
    ),
    FaultKind(
        "bridge-down",
        sentence("A bridge is down."),
        sentence("It forwards nothing between its ports, and the machine loses the routes by it."),
        _bridge_down,
    ),
    FaultKind(
        "port-detached",
        sentence("A device that should be a port of a bridge is not one."),
        sentence("What comes in by it reaches no other machine of the bridge."),
        _port_detached,
    ),
    FaultKind(
        "ports-isolated",
        sentence("Two ports of a bridge are isolated."),
        sentence("The bridge forwards nothing between them; both reach the other ports."),
        _ports_isolated,
    ),
    FaultKind(
        "hairpin-off",
        sentence("Hairpin mode is off at a bridge port."),
        sentence(
            "The bridge sends no frame back by its port, so a container does not reach itself by the port of its host."
        ),
        _hairpin_off,
    ),
    FaultKind(
        "fdb-stale",
        sentence("A static forwarding entry of a bridge has a MAC address at the wrong port."),
        sentence("The bridge sends frames for that machine to another one, until that machine itself sends a frame."),
        _fdb_stale,
    ),
    FaultKind(
        "promiscuous-double",
        sentence("The rules against duplicates of a promiscuous bridge are missing."),
        sentence("A pod gets a packet twice: from the port of its node, and from the bridge."),
        _promiscuous_double,
        sentence("Every packet arrives, some of them twice."),
    ),
)
