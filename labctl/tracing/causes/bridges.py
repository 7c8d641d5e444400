"""Losses at bridges: ports that do not forward a frame, frames for other machines, and bridge loops. Pure."""

from __future__ import annotations

from labctl.core.names import summarize_names
from labctl.core.resources import IP, Link
from labctl.core.sentence import sentence
from labctl.tracing.bridge_ports import port_towards
from labctl.tracing.causes.segments import is_routed
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command

BRIDGE_FUNCTIONS = ("br_", "__br_")  # how the names of the kernel's functions of bridges begin


def hairpin_off(loss_point: LossPoint) -> Cause | None:
    """A frame that must leave by the bridge port that it came in by. A bridge allows that only with hairpin mode.

    The frame's own destination is behind that port, or the bridge itself translated the packet to an address behind it
    (bridge-nf-call-iptables). What the machine routes leaves by the bridge's own device: hairpin mode does not matter.
    """
    evidence, port = loss_point.evidence, _port_of(loss_point)
    if port is None or port.master is None or port.hairpin or loss_point.delivered:
        return None
    if loss_point.drop is not None and not loss_point.drop.location.startswith(BRIDGE_FUNCTIONS):
        return None
    tip = loss_point.last_observation
    if tip is None or (tip.direction == "in" and tip.dev == port.master):
        return None  # the bridge gave it to the machine
    if not loss_point.only_bridged:
        name = f"net.bridge.bridge-nf-call-{'iptables' if loss_point.version == 4 else 'ip6tables'}"
        translated = loss_point.dst != loss_point.hops[-1].observations[0].dst
        if not translated or loss_point.sysctl(name) != "1":
            return None
    if _port_towards(loss_point, port.master, loss_point.dst) != port:
        return None
    text = sentence(
        "the packet must leave {node} by the port that it came in by, {port}, but hairpin mode is off on that port",
        node=loss_point.node,
        port=port.at,
    )
    facts = (Note("bridge", f"{port.at}: hairpin off"),)
    words = f"bridge link set dev {port.at.dev} hairpin on"
    return Cause("hairpin-off", text, facts, (exec_command(evidence, loss_point.node, words),))


def bridge_down(loss_point: LossPoint) -> Cause | None:
    """A frame that came in at a port of a bridge that is down."""
    evidence, port, tip = loss_point.evidence, loss_point.device, loss_point.last_observation
    if tip is None or tip.direction != "in" or port is None or port.master is None:
        return None
    down = evidence.link(loss_point.node, port.master)
    if down is None or down.kind != "bridge" or down.up:
        return None
    text = sentence(
        "the bridge {down} is down, so it does not take what comes in at its port {dev}", down=down.at, dev=port.at.dev
    )
    tries = (exec_command(evidence, down.at.ns, f"ip link set {down.at.dev} up"),)
    return Cause("link-down", text, (), tries)


def bridge(loss_point: LossPoint) -> Cause | None:
    """A frame that a bridge received, or created, and did not send on."""
    link = loss_point.device
    if loss_point.last_observation is None or link is None or loss_point.delivered:
        return None
    out = _port_towards(loss_point, link.master, loss_point.dst) if link.master is not None else None
    if link.isolated and out is not None and out.isolated and out != link:
        text = sentence(
            "both ports, {first} and {second}, are isolated: the bridge {bridge} does not forward between them",
            first=link.at,
            second=out.at,
            bridge=link.master,
        )
        return Cause("isolated", text)
    if link.kind == "bridge" and not loss_point.entering and loss_point.last_observation.mac is not None:
        return _mac_owner_down(loss_point, loss_point.last_observation.mac[1])
    if (
        loss_point.entering
        and link.master is not None
        and loss_point.last_observation.mac is not None
        and not loss_point.last_observation.addressed_here
    ):
        return _mac_owner_down(loss_point, loss_point.last_observation.mac[1])
    return None


def _port_of(loss_point: LossPoint) -> Link | None:
    """The bridge port by which the packet came in at the last hop."""
    links = (loss_point.evidence.link(item.node, item.dev) for hop in loss_point.hops[-1:] for item in hop.ins)
    return next((link for link in links if link is not None and link.master is not None), None)


def _port_towards(loss_point: LossPoint, bridge: str, ip: IP) -> Link | None:
    """The port of a bridge that leads to the device with an address."""
    for namespace in loss_point.evidence.namespaces:
        for one in namespace.addresses:
            if (
                one.addr.ip == ip
                and (port := port_towards(loss_point.evidence, loss_point.node, bridge, one.at)) is not None
            ):
                return port
    return None


def _in_no_bridge(loss_point: LossPoint, link: Link) -> Cause | None:
    """The sender knows a MAC address still, but the other end of its cable is a port of no bridge any more."""
    if link.peer is None or is_routed(loss_point.evidence, link):
        return None
    if not any(one.kind == "bridge" for one in loss_point.evidence.namespace(link.at.ns).links):
        return None
    what = sentence(
        "{other}, the other end of the cable of {here}, has no address and no route", other=link.at, here=link.peer
    )
    return Cause("port-detached", sentence("{text}, and is not a port of any bridge", text=what), (), ())


def wrong_mac(loss_point: LossPoint) -> Cause | None:
    """A frame for another machine's MAC address."""
    link = loss_point.device
    if (
        loss_point.last_observation is None
        or link is None
        or not loss_point.entering
        or loss_point.last_observation.addressed_here
        or loss_point.last_observation.mac is None
    ):
        return None
    if link.master is not None or link.mac in (None, loss_point.last_observation.mac[1]):
        return None
    if (detached := _in_no_bridge(loss_point, link)) is not None:
        return detached
    text = sentence(
        "the frame is for {mac}, but {link} has the address {link_mac} and does not accept it",
        mac=loss_point.last_observation.mac[1],
        link=link.at,
        link_mac=link.mac,
    )
    return _mac_owner_down(loss_point, loss_point.last_observation.mac[1]) or Cause("wrong-mac", text, (), ())


def _mac_owner_down(loss_point: LossPoint, mac: str) -> Cause | None:
    """The frame's destination cannot receive: the bridge has no working port to it, so it floods to other machines."""
    for namespace in loss_point.evidence.namespaces:
        for link in namespace.links:
            if link.mac != mac or link.master is not None or (link.up and link.at.dev not in namespace.no_carrier):
                continue
            down = link.at if not link.up or link.peer is None else link.peer
            text = sentence(
                "the frame is for {mac}, {link}, which cannot receive: {down} is down", mac=mac, link=link.at, down=down
            )
            effect = sentence("no port of the bridge leads to {mac} any more", mac=mac)
            flooded = loss_point.entering and loss_point.device is not None and loss_point.device.master is None
            if loss_point.node != link.at.ns and flooded:
                effect = sentence(
                    "{effect}, so the bridge floods: the frame came to {node} instead",
                    effect=effect,
                    node=loss_point.node,
                )
            facts = (Note("bridge", effect),)
            return Cause(
                "link-down",
                text,
                facts,
                (exec_command(loss_point.evidence, down.ns, f"ip link set {down.dev} up"),),
            )
    return None


def bridge_loop(loss_point: LossPoint) -> Cause | None:
    """Frames that circulate in a loop of bridges displace the probe. Only if no other cause is found."""
    interfaces = loss_point.evidence.looping
    if not interfaces or loss_point.delivered:
        return None
    text = sentence("frames circulate in a loop of bridges, and the packet was lost among them")
    names = summarize_names(interfaces, 6)
    facts = (Note("bridge", sentence("the same frames pass again and again at {interfaces}", interfaces=names)),)
    tries = (exec_command(loss_point.evidence, interfaces[0].ns, f"ip link set {interfaces[0].dev} down"),)
    return Cause("bridge-loop", text, facts, tries)
