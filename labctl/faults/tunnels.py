"""Faults of VXLAN tunnels: numbers, ports, forwarding entries and neighbours that differ or are missing. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labctl.core.diff import Change
from labctl.core.plan_paths import PlannedHop
from labctl.core.resources import IP, Address, Fdb, Link, Neighbour, Resource, Route
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects, Trip

WRONG_MAC = "02:de:ad:00:00:02"  # a MAC address that no device of a lab has


@dataclass(frozen=True, slots=True)
class _Tunnel:
    """A VXLAN device that sends a probe to another one, with the probe and its hop."""

    near: Link
    far: Link
    hop: PlannedHop
    trip: Trip

    @property
    def number(self) -> str:
        return dict(self.near.options).get("id", "")


def _tunnels(objects: LabObjects) -> Iterator[_Tunnel]:
    found = set()
    for trip in objects.trips:
        for hop in trip.there.hops:
            ends = [link for link in map(objects.link, hop.crossed) if link is not None and link.kind == "vxlan"]
            if len(ends) == 2 and hop.tunnel and (ends[0].at, ends[1].at) not in found:
                found.add((ends[0].at, ends[1].at))
                yield _Tunnel(ends[0], ends[1], hop, trip)


def _traffic(objects: LabObjects, tunnel: _Tunnel) -> list[Trip]:
    """The probes that the tunnel carries."""
    return objects.hit_trips(lambda path: path.crosses(tunnel.near.at) and path.crosses(tunnel.far.at))


def recreated(objects: LabObjects, broken: Link, planned: Link) -> tuple[Change, ...]:
    """The changes that create a device again with other options. The kernel removes everything on it, so that is
    created again as well."""
    kept: list[Resource] = [
        item
        for item in objects.lab.plan
        if (isinstance(item, (Address, Neighbour, Fdb)) and item.at == planned.at)
        or (isinstance(item, Route) and (item.ns, item.dev) == (planned.ns, planned.at.dev))
    ]
    return (Change(broken, planned), *(Change(item, None) for item in kept))


def _with_option(link: Link, name: str, value: str) -> Link:
    return replace(link, options=tuple((key, value if key == name else old) for key, old in link.options))


def _devices(objects: LabObjects) -> Iterator[_Tunnel]:
    seen = set()
    for tunnel in _tunnels(objects):
        if tunnel.near.at not in seen:
            seen.add(tunnel.near.at)
            yield tunnel


def _vxlan_wrong_id(objects: LabObjects) -> Iterator[Fault]:
    for tunnel in _devices(objects):
        link, number = tunnel.near, tunnel.number
        if not number:
            continue
        wrong = str(int(number) + 1)
        changes = recreated(objects, _with_option(link, "id", wrong), link)
        causes = (ExpectedCause(("vxlan-vni",), (wrong, number)),)
        symptoms = (ExpectedCause(("vxlan-vni", "vxlan-neighbour", "neighbour", "closed-port", "kernel")),)
        trips = _traffic(objects, tunnel)
        yield Fault("vxlan-wrong-id", str(link.at), changes, causes, objects.as_traffic(trips), symptoms)


def _vxlan_wrong_port(objects: LabObjects) -> Iterator[Fault]:
    for tunnel in _devices(objects):
        port = dict(tunnel.near.options).get("dstport")
        if port is None:
            continue
        wrong = str(int(port) + 1)
        changes = recreated(objects, _with_option(tunnel.near, "dstport", wrong), tunnel.near)
        causes = (ExpectedCause(("vxlan-port",), (wrong, port)),)
        symptoms = (ExpectedCause(("vxlan-port", "vxlan-vni", "neighbour", "closed-port", "kernel")),)
        trips = _traffic(objects, tunnel)
        yield Fault("vxlan-wrong-port", str(tunnel.near.at), changes, causes, objects.as_traffic(trips), symptoms)


def _entry(objects: LabObjects, tunnel: _Tunnel) -> Fdb | None:
    """The forwarding entry that the probe needs."""
    end = objects.link(tunnel.hop.crossed[-1])
    entries = [one for one in objects.all(Fdb, tunnel.near.ns) if one.at == tunnel.near.at and one.dst is not None]
    return next((one for one in entries if end is not None and one.mac == end.mac), None)


def _entries(objects: LabObjects) -> Iterator[tuple[_Tunnel, Fdb]]:
    for tunnel in _tunnels(objects):
        entry = _entry(objects, tunnel)
        if entry is not None:
            yield tunnel, entry


def _vxlan_fdb_missing(objects: LabObjects) -> Iterator[Fault]:
    for tunnel, entry in _entries(objects):
        causes = (ExpectedCause(("vxlan-fdb",), (str(entry.at), entry.mac)),)
        symptoms = (ExpectedCause(("neighbour", "kernel")),)
        trips = _trips_of(objects, tunnel)
        on = f"{entry.at}/{entry.mac}"
        yield Fault("vxlan-fdb-missing", on, (Change(None, entry),), causes, objects.as_traffic(trips), symptoms)


def _trips_of(objects: LabObjects, tunnel: _Tunnel) -> list[Trip]:
    """The probes that need the same entry."""
    end = tunnel.hop.crossed[-1]
    return objects.hit_trips(
        lambda path: any(hop.crossed[-1:] == (end,) and tunnel.near.at in hop.crossed for hop in path.hops)
    )


def _wrong_remote(
    objects: LabObjects, kind: str, tunnel: _Tunnel, entry: Fdb, remote: IP, cause: ExpectedCause
) -> Fault:
    broken = Fdb(entry.at, entry.mac, remote)
    changes = (Change(None, entry), Change(broken, None))
    symptoms = (
        ExpectedCause(("ttl", "vxlan-underlay", "vxlan-vni", "wrong-mac", "closed-port", "neighbour", "kernel")),
    )
    traffic = objects.as_traffic(_trips_of(objects, tunnel))
    return Fault(kind, f"{entry.at}/{entry.mac}", changes, (cause,), traffic, symptoms)


def _vxlan_wrong_remote(objects: LabObjects) -> Iterator[Fault]:
    for tunnel, entry in _entries(objects):
        below = tunnel.hop.tunnel[0]
        others = [
            one for one in objects.all(Address) if one.addr.version == 4 and one.at in objects.paths.segment(below.out)
        ]
        ends = {tunnel.near.link_netns or tunnel.near.ns, tunnel.far.link_netns or tunnel.far.ns}
        wrong = next((one for one in others if one.ns not in ends), None)
        if wrong is not None:
            cause = ExpectedCause(("vxlan-vni", "vxlan-remote"), (wrong.ns,))
            yield _wrong_remote(objects, "vxlan-wrong-remote", tunnel, entry, wrong.addr.ip, cause)


def _vxlan_own_remote(objects: LabObjects) -> Iterator[Fault]:
    for tunnel, entry in _entries(objects):
        below = tunnel.hop.tunnel[0]
        own = next((one for one in objects.addresses(below.ns) if one.at == below.out), None)
        # where the tunnel is a port of a bridge, the bridge would learn the static addresses of other ports there
        learned = tunnel.near.master is not None and any(one.dst is None for one in objects.all(Fdb, below.ns))
        if own is not None and not learned:
            cause = ExpectedCause(("vxlan-own-remote", "loop"), (below.ns, entry.at.dev, str(own.addr.ip)))
            yield _wrong_remote(objects, "vxlan-own-remote", tunnel, entry, own.addr.ip, cause)


def _neighbours(objects: LabObjects) -> Iterator[tuple[_Tunnel, Neighbour]]:
    """The neighbours of tunnels, by which a node knows the MAC address of the far end."""
    for tunnel in _tunnels(objects):
        for one in objects.all(Neighbour, tunnel.near.ns):
            if one.at == tunnel.near.at and one.ip == tunnel.hop.next_hop and not one.proxy:
                yield tunnel, one


def _vxlan_neighbour_missing(objects: LabObjects) -> Iterator[Fault]:
    for tunnel, one in _neighbours(objects):
        causes = (ExpectedCause(("vxlan-neighbour", "neighbour"), (tunnel.near.at.ns, str(one.ip))),)
        symptoms = (ExpectedCause(("neighbour",), (str(one.ip),)),)
        traffic = objects.as_traffic(_trips_of(objects, tunnel))
        yield Fault("vxlan-neighbour-missing", f"{one.at}/{one.ip}", (Change(None, one),), causes, traffic, symptoms)


def _vxlan_neighbour_wrong(objects: LabObjects) -> Iterator[Fault]:
    for tunnel, one in _neighbours(objects):
        if tunnel.near.master is not None:
            continue
        change = Change(replace(one, mac=WRONG_MAC), one)
        causes = (ExpectedCause(("vxlan-fdb", "wrong-mac", "stale-neighbour"), (str(one.at), WRONG_MAC)),)
        traffic = objects.as_traffic(_trips_of(objects, tunnel))
        yield Fault("vxlan-neighbour-stale", f"{one.at}/{one.ip}", (change,), causes, traffic)


KINDS = (
    FaultKind(
        "vxlan-wrong-id",
        sentence("The VXLAN device of a node has another number (VNI) than those of the other nodes."),
        sentence("The other nodes have no VXLAN with that number, so they drop its packets."),
        _vxlan_wrong_id,
    ),
    FaultKind(
        "vxlan-wrong-port",
        sentence("The VXLAN device of a node uses another UDP port than those of the other nodes."),
        sentence("The other nodes have no socket for its packets, and their packets find none here."),
        _vxlan_wrong_port,
    ),
    FaultKind(
        "vxlan-fdb-missing",
        sentence("A forwarding entry of a VXLAN device is missing."),
        sentence("The tunnel does not know which node has the MAC address, and drops the frame."),
        _vxlan_fdb_missing,
    ),
    FaultKind(
        "vxlan-wrong-remote",
        sentence("A forwarding entry of a VXLAN device names another machine."),
        sentence("The tunnel's packets go to a machine that does not expect them."),
        _vxlan_wrong_remote,
    ),
    FaultKind(
        "vxlan-own-remote",
        sentence("A forwarding entry of a VXLAN device names the node's own address."),
        sentence("The tunnel would send to itself, so the kernel drops the packet."),
        _vxlan_own_remote,
    ),
    FaultKind(
        "vxlan-neighbour-missing",
        sentence("The neighbour entry for the far end of a tunnel is missing."),
        sentence("The node does not know the MAC address of the far end, and no machine answers for it."),
        _vxlan_neighbour_missing,
    ),
    FaultKind(
        "vxlan-neighbour-stale",
        sentence("The neighbour entry for the far end of a tunnel has a wrong MAC address."),
        sentence("The tunnel has no forwarding entry for that MAC address, and drops the frame."),
        _vxlan_neighbour_wrong,
    ),
)
