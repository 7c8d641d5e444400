"""A bridge port with an MTU that is too small for the frame: the bridge drops it and sends no error. Pure."""

from __future__ import annotations

from labctl.core.resources import Link
from labctl.core.sentence import sentence
from labctl.tracing.bridge_ports import is_multicast, outgoing_port, ports_of
from labctl.tracing.causes.links import ETHERNET_HEADER_BYTES, VETH_MTU_SLACK_BYTES
from labctl.tracing.hops import PacketObservation
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command

TOO_BIG_ERRORS = ("fragmentation needed", "packet too big")
FRAGMENT_FUNCTIONS = ("ip_do_fragment", "ip_fragment", "ip6_fragment", "is_skb_forwardable")


def bridge_mtu(loss_point: LossPoint) -> Cause | None:
    """A frame entered a bridge, or the machine itself sent it there, and is too big for the port that it leaves by."""
    evidence = loss_point.evidence
    seen = _at_bridge(loss_point)
    if seen is None or seen.mac is None or loss_point.delivered:
        return None
    if seen is loss_point.last_observation and not _drop_allows(loss_point):
        return None  # else the drop is that of the flooded copy
    if any(one.role == "error" and one.text in TOO_BIG_ERRORS for one in evidence.observations):
        return None  # a router reported it
    link = evidence.link(seen.node, seen.dev)
    bridge = link.master or link.at.dev if link is not None else ""
    iif = seen.dev if seen.direction == "in" else None
    port = _port_of_frame(loss_point, seen, bridge, iif)
    size = seen.length - ETHERNET_HEADER_BYTES
    if link is None or port is None or port.mtu is None or size <= port.mtu + _slack_bytes(loss_point, seen):
        return None
    text = sentence(
        "a black hole: the packet of {size} bytes is too big for the bridge port {port} (MTU {mtu}), and no error"
        " is sent",
        size=size,
        port=port.at,
        mtu=port.mtu,
    )
    fact = sentence(
        "{port}: mtu {mtu}; the bridge {node}/{bridge} drops bigger frames silently",
        port=port.at,
        mtu=port.mtu,
        node=seen.node,
        bridge=bridge,
    )
    tries = _tries(loss_point, port, max(size, link.mtu or 0))
    return Cause("mtu-black-hole", text, (Note("mtu", fact),), tries)


def _at_bridge(loss_point: LossPoint) -> PacketObservation | None:
    """Where the frame was last seen at a bridge: at the port that it came in by, or at the bridge by which the machine
    sent it. If another machine got a flooded copy, where the frame came in before."""
    tip = loss_point.last_observation
    link = loss_point.device
    if tip is None or link is None:
        return None
    if loss_point.entering and link.master is not None:
        return tip if loss_point.only_bridged else None
    if tip.direction == "out" and link.kind == "bridge":
        return tip
    if not loss_point.entering or tip.addressed_here or tip.mac is None:
        return None
    for hop in reversed(loss_point.hops[:-1]):
        for item in reversed(hop.ins):
            port = loss_point.evidence.link(item.node, item.dev)
            if port is not None and port.master is not None and item.mac == tip.mac:
                return item
    return None


def _drop_allows(loss_point: LossPoint) -> bool:
    """Whether the kernel's drop, if it is known, can be that of a bridge which found the frame too big."""
    drop = loss_point.drop
    if drop is None:
        return True
    return loss_point.reason_allows("PKT_TOO_BIG") and (
        drop.location.startswith(("br_", "__br_")) or drop.location in FRAGMENT_FUNCTIONS
    )


def _port_of_frame(loss_point: LossPoint, seen: PacketObservation, bridge: str, iif: str | None) -> Link | None:
    """The port that the frame must leave by. If it is not known, the widest of all that the frame may leave by."""
    evidence = loss_point.evidence
    mac = seen.mac[1] if seen.mac is not None else ""
    port = outgoing_port(evidence, seen.node, bridge, mac, iif) if mac else None
    if port is not None or (mac and is_multicast(mac)):
        return port
    ports = [one for one in ports_of(evidence, seen.node, bridge) if one.at.dev != iif and one.up]
    return max(ports, key=lambda one: one.mtu or 0, default=None)


def _slack_bytes(loss_point: LossPoint, seen: PacketObservation) -> int:
    """How many bytes a port accepts beyond its MTU. None, if bridged packets pass iptables: then IP's own limit
    counts."""
    version = loss_point.version if seen.outer is None else seen.outer[0].version
    name = "net.bridge.bridge-nf-call-iptables" if version == 4 else "net.bridge.bridge-nf-call-ip6tables"
    return 0 if loss_point.evidence.namespace(seen.node).sysctls.get(name) == "1" else VETH_MTU_SLACK_BYTES


def _tries(loss_point: LossPoint, port: Link, mtu: int) -> tuple[str, ...]:
    """A bigger MTU for the port, and for the other end of its cable. A tunnel cannot have one without need, so then the
    sender gets the smaller MTU, and its kernel knows."""
    evidence = loss_point.evidence
    if port.kind != "veth":
        first = loss_point.hops[0].observations[0]
        return (exec_command(evidence, first.node, f"ip link set {first.dev} mtu {port.mtu}"),)
    ends = [port, *([evidence.link(port.peer.ns, port.peer.dev)] if port.peer is not None else [])]
    return tuple(
        exec_command(evidence, end.at.ns, f"ip link set {end.at.dev} mtu {mtu}")
        for end in ends
        if end is not None and (end.mtu or 0) < mtu
    )
