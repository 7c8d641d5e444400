"""How a VXLAN device sent a packet: the far end, what names it, and the tunnel where the receiver is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labctl.core.resources import IP, Address, Fdb, Interface, Link
from labctl.core.sentence import Sentence, one_of, sentence
from labctl.tracing.address_owners import owners
from labctl.tracing.bridge_ports import DEFAULT_FDB_MAC, is_multicast, links_behind, ports_of
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hops import Hop


@dataclass(frozen=True, slots=True)
class TunnelSending:
    """A frame for `mac` that a VXLAN device sent to `remotes`; `source` says what names them: a forwarding entry (fdb),
    the default forwarding entry, the device's own setting (remote), or a learned entry. `mac` is the default entry's if
    the frame goes to all. No remotes: none is known."""

    link: Link
    mac: str
    remotes: tuple[IP, ...]
    source: Sentence


def last_sending(evidence: TraceEvidence, hops: Sequence[Hop]) -> TunnelSending | None:
    """The last time that a VXLAN device with a fixed VNI sent the packet, if it has not been routed since then. The
    destination of the tunnel's packet counts, if it was seen."""
    items = [item for hop in hops for item in hop.observations]
    for number in range(len(items) - 1, -1, -1):
        item = items[number]
        link = evidence.link(item.node, item.dev)
        if link is None or link.kind != "vxlan" or item.direction != "out" or item.mac is None:
            continue
        after = items[number + 1 :]
        routed = any((one.ttl, one.src, one.dst) != (item.ttl, item.src, item.dst) for one in after)
        if is_flow_based(link) or routed:
            return None
        found = sending(evidence, link, item.mac[1])
        outer = next((one.outer[1] for one in after if one.outer is not None), None)
        if outer is not None and outer not in found.remotes:
            return TunnelSending(link, item.mac[1], (outer,), sentence("learned entry"))
        return found
    return None


def sending(evidence: TraceEvidence, link: Link, mac: str) -> TunnelSending:
    """Where a VXLAN device sends frames for a MAC address, by its static forwarding entries and its own settings."""
    entries = remote_entries(evidence, link)
    exact = tuple(one.dst for one in entries if one.mac == mac and one.dst is not None)
    if exact and mac != DEFAULT_FDB_MAC:
        return TunnelSending(link, mac, exact, sentence("forwarding entry (fdb)"))
    options = dict(link.options)
    remote = options.get("remote") or options.get("group")
    default = tuple(one.dst for one in entries if one.mac == DEFAULT_FDB_MAC and one.dst is not None)
    if default and [str(one) for one in default] != [remote]:
        return TunnelSending(link, mac, default, sentence("default forwarding entry (fdb)"))
    return TunnelSending(link, mac, default, sentence("setting remote"))


def remote_entries(evidence: TraceEvidence, link: Link) -> list[Fdb]:
    """The forwarding entries of a tunnel that name a far end. The bridge's own entries for the port are left out."""
    return [one for one in evidence.namespace(link.at.ns).fdb if one.at == link.at and one.dst is not None]


def is_flow_based(link: Link) -> bool:
    """Whether a tunnel has no fixed VNI: each packet brings its VNI and its far end as metadata."""
    return link.kind == "vxlan" and ("external", "on") in link.options


def receiving_tunnel(evidence: TraceEvidence, link: Link, mac: str) -> Link | None:
    """The VXLAN device of another machine that leads to a MAC address: its own, or one behind its bridge. With several,
    one with the same id; None if that is not certain."""
    if is_multicast(mac):
        return None
    found = [
        tunnel
        for state in evidence.namespaces
        for tunnel in state.links
        if tunnel.kind == "vxlan" and tunnel.at != link.at and any(one.mac == mac for one in _reached(evidence, tunnel))
    ]
    same = [one for one in found if dict(one.options).get("id") == dict(link.options).get("id")]
    chosen = same or found
    return chosen[0] if len(chosen) == 1 else None


def tunnels_to(evidence: TraceEvidence, at: Interface) -> Iterator[Link]:
    """The VXLAN devices that frames of an interface can leave by: itself, or ports of the bridges that it reaches."""
    link = evidence.link(at.ns, at.dev)
    if link is None:
        return
    bridges = [link] if link.kind == "bridge" else []
    if link.kind == "vxlan":
        yield link
    for one in links_behind(evidence, link):
        bridges += [one] if one.kind == "bridge" else []
    for bridge in bridges:
        yield from (port for port in ports_of(evidence, bridge.at.ns, bridge.at.dev) if port.kind == "vxlan")


def socket_namespace(link: Link) -> str:
    """The namespace where a tunnel sends and receives its packets."""
    return link.link_netns or link.at.ns


def tunnel_addresses(evidence: TraceEvidence, link: Link) -> list[Address]:
    """The addresses at which a tunnel can receive packets: not its own, which are inside the tunnel."""
    addresses = evidence.namespace(socket_namespace(link)).addresses
    return [one for one in addresses if not one.addr.ip.is_loopback and one.at != link.at]


def tunnel_address_text(evidence: TraceEvidence, link: Link, version: int) -> Sentence:
    """The address that others should send a tunnel's packets to: its setting `local`, else the addresses there."""
    local = dict(link.options).get("local")
    found = [
        one.addr.ip
        for one in tunnel_addresses(evidence, link)
        if one.addr.version == version and not one.addr.ip.is_link_local
    ]
    unique = [ip for ip in found if len(owners(evidence, ip)) == 1]
    return one_of([local] if local else (unique or found)[:3] or [""])


def _reached(evidence: TraceEvidence, tunnel: Link) -> Iterator[Link]:
    yield tunnel
    if tunnel.master is None:
        return
    bridge = evidence.link(tunnel.at.ns, tunnel.master)
    if bridge is not None:
        yield bridge
    for port in ports_of(evidence, tunnel.at.ns, tunnel.master):
        yield port
        yield from links_behind(evidence, port)
