"""Losses at bridges: ports that do not forward a frame, frames for other machines, and bridge loops. Pure."""

from __future__ import annotations

from labctl.core.names import some
from labctl.core.resources import IP, Port
from labctl.tracing.loss_point import Scene
from labctl.tracing.result import Note, Why, command


def bridge(scene: Scene) -> Why | None:
    """A frame that a bridge received, or created, and did not send on."""
    link = scene.device
    if scene.tip is None or link is None or scene.delivered:
        return None
    port = _port_of(scene)
    owner_port = _towards(scene, scene.dst)
    if port is not None and owner_port == Port(scene.node, port) and _hairpins(scene, port):
        at = f"{scene.node}/{port}"
        sentence = f"the packet must leave {scene.node} by the port that it came in by, {at}, but hairpin is off there"
        facts = (Note("bridge", f"{scene.node}/{port}: hairpin off"),)
        words = f"bridge link set dev {port} hairpin on"
        return Why("hairpin-off", sentence, facts, (command(scene.evidence, scene.node, words),))
    out = scene.evidence.link(scene.node, owner_port.dev) if owner_port is not None else None
    if link.isolated and out is not None and out.isolated and link.master == out.master:
        sentence = (
            f"both ports, {link.at} and {out.at}, are isolated: the bridge {link.master} does not forward between them"
        )
        return Why("isolated", sentence)
    if scene.entering and link.master is not None and scene.tip.mac is not None and not scene.tip.ours:
        return _deaf(scene, scene.tip.mac[1])
    return None


def _port_of(scene: Scene) -> str | None:
    """The bridge port by which the packet came in at the last hop."""
    for item in scene.hops[-1].ins:
        link = scene.evidence.link(item.node, item.dev)
        if link is not None and link.master is not None:
            return item.dev
    return None


def _hairpins(scene: Scene, port: str) -> bool:
    link = scene.evidence.link(scene.node, port)
    return link is not None and not link.hairpin


def _towards(scene: Scene, ip: IP) -> Port | None:
    """The device of this namespace whose cable leads to the namespace that has the address."""
    for room in scene.evidence.rooms:
        if any(one.addr.ip == ip for one in room.addresses):
            peers = (link.peer for link in room.links if link.peer is not None)
            return next((peer for peer in peers if peer.ns == scene.node), None)
    return None


def address(scene: Scene) -> Why | None:
    """A frame for another machine's MAC address."""
    link = scene.device
    if scene.tip is None or link is None or not scene.entering or scene.tip.ours or scene.tip.mac is None:
        return None
    if link.master is not None or link.mac in (None, scene.tip.mac[1]):
        return None
    sentence = f"the frame is for {scene.tip.mac[1]}, but {link.at} has the address {link.mac} and does not accept it"
    return _deaf(scene, scene.tip.mac[1]) or Why("wrong-mac", sentence, (), ())


def _deaf(scene: Scene, mac: str) -> Why | None:
    """The frame's destination cannot receive: the bridge has no working port to it, so it floods to other machines."""
    for room in scene.evidence.rooms:
        for link in room.links:
            if link.mac != mac or link.master is not None or (link.up and link.at.dev not in room.carrier):
                continue
            down = link.at if not link.up or link.peer is None else link.peer
            sentence = f"the frame is for {mac}, {link.at}, which cannot receive: {down} is down"
            told = f"no port of the bridge leads to {mac} any more"
            if scene.node != link.at.ns and scene.device is not None and scene.device.master is None:
                told += f", so the bridge floods: the frame came to {scene.node} instead"
            facts = (Note("bridge", told),)
            return Why("link-down", sentence, facts, (command(scene.evidence, down.ns, f"ip link set {down.dev} up"),))
    return None


def circling(scene: Scene) -> Why | None:
    """Frames that circulate in a loop of bridges displace the probe. Only if no other cause is found."""
    where = scene.evidence.circling
    if not where or scene.delivered:
        return None
    sentence = "frames circulate in a loop of bridges, and the packet was lost among them"
    facts = (Note("bridge", f"the same frames pass again and again at {some(where, 6)}"),)
    tries = (command(scene.evidence, where[0].ns, f"ip link set {where[0].dev} down"),)
    return Why("bridge-loop", sentence, facts, tries)
