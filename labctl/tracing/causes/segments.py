"""Losses because a network of cables and bridges is broken: a bridge or a port is down, detached or isolated. Pure.

The frame that is lost is the question for a MAC address, so only the state of the devices shows the place.
"""

from __future__ import annotations

from labctl.core.resources import Interface, Link
from labctl.core.sentence import sentence
from labctl.tracing.bridge_ports import outgoing_port
from labctl.tracing.causes.links import missing_neighbour
from labctl.tracing.causes.neighbour_owner import owner_of
from labctl.tracing.evidence import TraceEvidence, UnansweredNeighbour
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, asked_note, exec_command, lookup_text, route_get_command


def broken_segment(loss_point: LossPoint) -> Cause | None:
    """The question for the MAC address of the next hop cannot reach the machine that has the address."""
    evidence = loss_point.evidence
    asked = missing_neighbour(loss_point)
    here = evidence.link(asked.node, asked.dev) if asked is not None else None
    if asked is None or here is None:
        return None
    question = asked_note(asked)
    name = owner_of(loss_point, asked)
    found = _between(evidence, asked, here, name, question) if name is not None else None
    return found or _near(evidence, asked, here, question)


def _near(evidence: TraceEvidence, asked: UnansweredNeighbour, here: Link, note: Note) -> Cause | None:
    """The bridge at the other end of the asking device's cable is down, or that end is a port of none."""
    other = evidence.link(here.peer.ns, here.peer.dev) if here.peer is not None else None
    if other is None or not here.up or not other.up:
        return None
    if other.master is not None:
        bridge = evidence.link(other.at.ns, other.master)
        return _down_cause(evidence, bridge, asked, note) if bridge is not None and not bridge.up else None
    state = evidence.namespace(other.at.ns)
    bridges = [link for link in state.links if link.kind == "bridge"]
    if not bridges or is_routed(evidence, other):
        return None
    fitting = [one for one in bridges if _can_answer(evidence, one, asked)]
    what = sentence(
        "{other}, the other end of the cable of {here}, has no address and no route", other=other.at, here=here.at
    )
    text = sentence("{text}, and is not a port of any bridge", text=what)
    if not fitting:
        text = sentence(
            "{text}, and is not a port of a bridge, and no bridge of {node} has the address {ip}",
            text=what,
            node=other.at.ns,
            ip=asked.ip,
        )
    tries: tuple[str, ...] = ()
    if len(fitting) == 1:
        text = sentence("{text}, and is not a port of the bridge {bridge}", text=what, bridge=fitting[0].at)
        tries = (exec_command(evidence, other.at.ns, f"ip link set {other.at.dev} master {fitting[0].at.dev}"),)
    return Cause("port-detached", text, (note,), tries)


def _can_answer(evidence: TraceEvidence, bridge: Link, asked: UnansweredNeighbour) -> bool:
    """Whether the address that was asked for can be behind a bridge: the bridge has no address of its version, or one
    of the same subnet."""
    networks = [
        one.addr.network
        for one in evidence.namespace(bridge.at.ns).addresses
        if one.at == bridge.at and one.addr.version == asked.ip.version and not one.addr.ip.is_link_local
    ]
    return not networks or any(asked.ip in network for network in networks)


def is_routed(evidence: TraceEvidence, link: Link) -> bool:
    """Whether a device without a bridge is meant for routing: it has an address, a route, or answers for others."""
    state = evidence.namespace(link.at.ns)
    name = f"net.ipv4.conf.{link.at.dev.replace('.', '/')}.proxy_arp"
    return (
        link.kind != "veth"
        or any(one.at == link.at and not one.addr.ip.is_link_local for one in state.addresses)
        or any(
            one.dev == link.at.dev and not one.dst.is_link_local and not one.dst.is_multicast for one in state.routes
        )
        or state.sysctls.get(name) == "1"
    )


def _between(
    evidence: TraceEvidence, asked: UnansweredNeighbour, here: Link, name: str, question: Note
) -> Cause | None:
    """Something on the way to the machine that has the address."""
    end = next((one.at for one in evidence.namespace(name).addresses if one.addr.ip == asked.ip), None)
    there = evidence.link(name, end.dev) if end is not None else None
    if there is None or there.at.dev == "lo" or not here.up or not there.up:
        return None
    way = _way(evidence, here.at, there.at)
    if not way:
        return _detached(evidence, asked, here, there, question)
    found = _down_on(evidence, way, asked, question) or _isolated(evidence, way, asked, question)
    return found or _twins(way, question)


def _way(evidence: TraceEvidence, start: Interface, end: Interface) -> tuple[Link, ...]:
    """The devices from one to the other, over cables and bridges; empty if none leads there."""
    ways: dict[Interface, tuple[Link, ...]] = {}
    first = evidence.link(start.ns, start.dev)
    border: list[tuple[Link, ...]] = [(first,)] if first is not None else []
    while border:
        way = border.pop(0)
        link = way[-1]
        if link.at in ways:
            continue
        ways[link.at] = way
        border += [(*way, other) for other in _connected(evidence, link)]
    return ways.get(end, ())


def _connected(evidence: TraceEvidence, link: Link) -> list[Link]:
    at = [link.peer] if link.peer is not None else []
    at += [Interface(link.at.ns, link.master)] if link.master is not None else []
    found = [one for where in at if (one := evidence.link(where.ns, where.dev)) is not None]
    if link.kind == "bridge":
        found += [one for one in evidence.namespace(link.at.ns).links if one.master == link.at.dev]
    return found


def _down_on(evidence: TraceEvidence, way: tuple[Link, ...], asked: UnansweredNeighbour, note: Note) -> Cause | None:
    """A bridge, or a port between two bridges, is down. The ends and their cables have separate causes."""
    for link in way[1:-1]:
        if link.up or (link.kind != "bridge" and not _between_bridges(evidence, link)):
            continue
        return _down_cause(evidence, link, asked, note)
    return None


def _down_cause(evidence: TraceEvidence, link: Link, asked: UnansweredNeighbour, note: Note) -> Cause:
    what = sentence("the bridge port {link}", link=link.at)
    if link.kind == "bridge":
        what = sentence("the bridge {link}", link=link.at)
    text = sentence(
        "{link} is down, so the question of {node} for {ip} cannot pass", link=what, node=asked.node, ip=asked.ip
    )
    tries = (exec_command(evidence, link.at.ns, f"ip link set {link.at.dev} up"),)
    return Cause("link-down", text, (note,), tries)


def _between_bridges(evidence: TraceEvidence, link: Link) -> bool:
    """Whether both ends of a cable are ports of bridges."""
    other = evidence.link(link.peer.ns, link.peer.dev) if link.peer is not None else None
    return link.master is not None and other is not None and other.master is not None


def _isolated(evidence: TraceEvidence, way: tuple[Link, ...], asked: UnansweredNeighbour, note: Note) -> Cause | None:
    """A bridge does not forward between two ports that are both isolated."""
    for first, bridge, second in zip(way, way[1:], way[2:], strict=False):
        if bridge.kind != "bridge" or not (first.isolated and second.isolated):
            continue
        if not first.master == second.master == bridge.at.dev:
            continue
        text = sentence(
            "both ports, {first} and {second}, are isolated: the bridge {bridge} does not forward between them, so"
            " {node} gets no answer for {ip}",
            first=first.at,
            second=second.at,
            bridge=bridge.at.dev,
            node=asked.node,
            ip=asked.ip,
        )
        words = f"bridge link set dev {second.at.dev} isolated off"
        return Cause("isolated", text, (note,), (exec_command(evidence, second.at.ns, words),))
    return None


def _twins(way: tuple[Link, ...], note: Note) -> Cause | None:
    """Both ends have one MAC address, so a bridge between them takes the answer for a frame to where it came from."""
    near, far = way[0], way[-1]
    bridge = next((link for link in way[1:-1] if link.kind == "bridge"), None)
    if bridge is None or near.mac is None or near.mac != far.mac:
        return None
    text = sentence(
        "{near} and {far} have the same MAC address {mac}, so the bridge {bridge} does not deliver between them",
        near=near.at,
        far=far.at,
        mac=near.mac,
        bridge=bridge.at,
    )
    return Cause("duplicate-mac", text, (note,))


def same_mac(loss_point: LossPoint) -> Cause | None:
    """The frame came to a machine that has the same MAC address as the machine with the packet's destination."""
    evidence, tip, here = loss_point.evidence, loss_point.last_observation, loss_point.device
    if tip is None or tip.mac is None or here is None or not loss_point.entering or here.mac != tip.mac[1]:
        return None
    owners = [
        link
        for state in evidence.namespaces
        for one in state.addresses
        if one.addr.ip == loss_point.dst and (link := evidence.link(one.at.ns, one.at.dev)) is not None
    ]
    if any(link.at.ns == here.at.ns for link in owners):
        return None
    twin = next((link for link in owners if link.mac == here.mac), None)
    if twin is None:
        return None
    text = sentence(
        "{here} and {twin} have the same MAC address {mac}, so the frame for {target} came to {node}",
        here=here.at,
        twin=twin.at,
        mac=here.mac,
        target=twin.at.ns,
        node=here.at.ns,
    )
    fact = Note("address", sentence("{at} has {addr}", at=twin.at, addr=loss_point.dst))
    return Cause("duplicate-mac", text, (fact,))


def stale_entry(loss_point: LossPoint) -> Cause | None:
    """A bridge sent the frame to another machine, because of a static forwarding entry with the wrong port."""
    evidence, tip, link = loss_point.evidence, loss_point.last_observation, loss_point.device
    if tip is None or tip.mac is None or tip.addressed_here or not loss_point.entering:
        return None
    if link is None or link.peer is None or link.master is not None or link.mac == tip.mac[1]:
        return None
    port = evidence.link(link.peer.ns, link.peer.dev)
    owner = next((one for state in evidence.namespaces for one in state.links if one.mac == tip.mac[1]), None)
    if port is None or port.master is None or owner is None or owner.at == link.at:
        return None
    entry = next(
        (one for one in evidence.namespace(port.at.ns).fdb if (one.at, one.mac) == (port.at, tip.mac[1])), None
    )
    right = [one for one in _way(evidence, Interface(port.at.ns, port.master), owner.at)[1:] if one.at.ns == port.at.ns]
    if entry is None or not right or right[0].at == port.at:
        return None
    text = sentence(
        "the bridge {bridge} has a static forwarding entry for {mac} at {port}, but {owner}, which has that MAC"
        " address, is behind {right}",
        bridge=Interface(port.at.ns, port.master),
        mac=tip.mac[1],
        port=port.at,
        owner=owner.at,
        right=right[0].at,
    )
    tries = (exec_command(evidence, port.at.ns, f"bridge fdb del {entry.mac} dev {port.at.dev} master static"),)
    return Cause("fdb-stale", text, (Note("fdb", f"{port.at}: {entry.mac} static"),), tries)


def _detached(evidence: TraceEvidence, asked: UnansweredNeighbour, here: Link, there: Link, note: Note) -> Cause | None:
    """The cable of one of both ends in a device without address that is not a port, beside the bridge of the other."""
    for near, far in ((here, there), (there, here)):
        loose = evidence.link(near.peer.ns, near.peer.dev) if near.peer is not None else None
        bridge = _bridge_towards(evidence, far)
        if loose is None or bridge is None or loose.master is not None or loose.at.ns != bridge.ns:
            continue
        if is_routed(evidence, loose):
            continue
        ends = {"loose": loose.at, "near": near.at, "bridge": bridge}
        text = sentence("{loose}, the other end of the cable of {near}, is not a port of the bridge {bridge}", **ends)
        if near is there:
            text = sentence(
                "{loose}, the other end of the cable of {near}, which has the address {ip}, is not a port of the bridge"
                " {bridge}",
                ip=asked.ip,
                **ends,
            )
        elif far.kind != "bridge":
            text = sentence("{text}, by which {far} is connected", text=text, far=far.at)
        tries = (exec_command(evidence, loose.at.ns, f"ip link set {loose.at.dev} master {bridge.dev}"),)
        return Cause("port-detached", text, (note,), tries)
    return None


def _bridge_towards(evidence: TraceEvidence, link: Link) -> Interface | None:
    """The bridge that a device is, or that its cable leads to."""
    if link.kind == "bridge":
        return link.at
    other = evidence.link(link.peer.ns, link.peer.dev) if link.peer is not None else None
    return Interface(other.at.ns, other.master) if other is not None and other.master is not None else None


def isolated_ports(loss_point: LossPoint) -> Cause | None:
    """A frame came in by an isolated port, and has to leave by another one. Other ports may have got a copy of it."""
    evidence, tip = loss_point.evidence, loss_point.last_observation
    if tip is None or tip.mac is None or not loss_point.entering or tip.addressed_here:
        return None
    first = next(
        (
            link
            for hop in reversed(loss_point.hops)
            for item in reversed(hop.ins)
            if item.mac is not None
            and item.mac[1] == tip.mac[1]  # an ebtables rule may have rewritten the sender's address
            and (link := evidence.link(item.node, item.dev)) is not None
            and link.master
        ),
        None,
    )
    if first is None or not first.isolated or first.master is None:
        return None
    second = outgoing_port(evidence, first.at.ns, first.master, tip.mac[1], first.at.dev)
    if second is None or not second.isolated:
        return None
    text = sentence(
        "both ports, {first} and {second}, are isolated: the bridge {bridge} does not forward between them",
        first=first.at,
        second=second.at,
        bridge=first.master,
    )
    words = f"bridge link set dev {second.at.dev} isolated off"
    return Cause("isolated", text, (), (exec_command(evidence, second.at.ns, words),))


def routes_gone(loss_point: LossPoint) -> Cause | None:
    """There is no route, and a device with an address is down: the kernel has removed the routes of that device."""
    found = loss_point.lookup
    tip = loss_point.last_observation
    if found is None or found.error != "ENETUNREACH" or loss_point.delivered:
        return None
    if tip is not None and not loss_point.entering:
        return None
    state = loss_point.namespace
    down = {link.at: link for link in state.links if not link.up and link.at.dev != "lo"}
    nets = [(one.at, one.addr.network) for one in state.addresses if one.at in down and one.addr.version == 4]
    direct = [at for at, net in nets if found.dst.version == 4 and found.dst in net]
    # without a device for the address itself, the only one that is down had the route, if there was one. A device that
    # goes down loses its IPv6 addresses, so those with an IPv4 address are tried first
    devices = list(dict.fromkeys(direct or [at for at, _ in nets]))
    if not devices and found.dst.version == 6:
        devices = [at for at, link in down.items() if link.kind in ("veth", "bridge", "vxlan")]
    if len(devices) != 1:
        return None
    at = devices[0]
    text = sentence(
        "{node} has no route to {dst}: {at} is down, so its routes are gone", node=loss_point.node, dst=found.dst, at=at
    )
    facts = [Note("route", f"{loss_point.node}: {route_get_command(found)}  =>  {lookup_text(found)}")]
    facts += [Note("address", sentence("{at} is in {net}", at=at, net=net)) for one, net in nets if one == at]
    return Cause(
        "link-down", text, tuple(facts), (exec_command(loss_point.evidence, at.ns, f"ip link set {at.dev} up"),)
    )
