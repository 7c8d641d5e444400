"""The port by which a bridge sends a frame on, from the devices and cables of all namespaces. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import Interface, Link
from labctl.tracing.evidence import TraceEvidence

DEFAULT_FDB_MAC = "00:00:00:00:00:00"  # the forwarding entry of a VXLAN for all unknown MAC addresses


def ports_of(evidence: TraceEvidence, node: str, bridge: str) -> tuple[Link, ...]:
    """The ports of a bridge."""
    return tuple(link for link in evidence.namespace(node).links if link.master == bridge)


def outgoing_port(evidence: TraceEvidence, node: str, bridge: str, mac: str, iif: str | None) -> Link | None:
    """The port of the bridge that leads to a MAC address; None if that is not known. `iif` is the port by which the
    frame came in: the bridge does not send it back there.

    A static forwarding entry decides, else the cables: the port from which the owner of the address can be reached. If
    no cable leads there, it is the only VXLAN device among the ports.
    """
    if is_multicast(mac):
        return None
    ports = [port for port in ports_of(evidence, node, bridge) if port.at.dev != iif]
    static = {entry.at.dev for entry in evidence.namespace(node).fdb if entry.mac == mac}
    if chosen := next((port for port in ports if port.at.dev in static), None):
        return chosen
    owners = {link.at for state in evidence.namespaces for link in state.links if link.mac == mac}
    for port in ports:
        if port.peer is not None and any(link.at in owners for link in links_behind(evidence, port)):
            return port
    tunnels = [port for port in ports if port.kind == "vxlan"]
    return tunnels[0] if len(tunnels) == 1 else None


def port_towards(evidence: TraceEvidence, node: str, bridge: str, at: Interface) -> Link | None:
    """The port of the bridge from which cables and other bridges lead to a device; None if none does."""
    ports = ports_of(evidence, node, bridge)
    return next((port for port in ports if any(link.at == at for link in links_behind(evidence, port))), None)


def is_multicast(mac: str) -> bool:
    """Whether a MAC address is a multicast or the broadcast address."""
    return bool(int(mac[:2], 16) & 1)


def links_behind(evidence: TraceEvidence, port: Link) -> Iterator[Link]:
    """The devices that a frame reaches which leaves by this port, across the cables and other bridges."""
    waiting, seen = [port], {port.at}
    while waiting:
        near = waiting.pop()
        far = evidence.link(near.peer.ns, near.peer.dev) if near.peer is not None else None
        if far is None or far.at in seen:
            continue
        seen.add(far.at)
        yield far
        if far.master is None:
            continue
        bridge = evidence.link(far.at.ns, far.master)
        if bridge is not None:
            yield bridge
        others = [one for one in ports_of(evidence, far.at.ns, far.master) if one.at not in seen]
        yield from others
        seen.update(one.at for one in others)
        waiting += others
