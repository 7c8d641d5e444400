"""A frame with the wrong MAC address, because of a neighbour entry, or because the device does not ask. Pure."""

from __future__ import annotations

from labctl.core.observations import RouteLookup
from labctl.core.resources import IP, Interface, Link, Neighbour
from labctl.core.sentence import sentence
from labctl.tracing.address_owners import address_text, owner, owners
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hop_routing import find_lookup, route_queries
from labctl.tracing.hops import PacketObservation
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command, lookup_text, route_get_command
from labctl.tracing.tunnel_path import tunnels_to

NOT_RESOLVED = ("failed", "incomplete")


def does_not_ask(loss_point: LossPoint) -> Cause | None:
    """ARP is off at the device that sent the frame, so the frame has the sender's own MAC address as destination."""
    sent = _sent_frame(loss_point)
    if sent is None or sent.mac is None or sent.mac[0] != sent.mac[1]:
        return None
    link = loss_point.evidence.link(sent.node, sent.dev)
    if link is None or link.arp:
        return None
    text = sentence(
        "{link} does not ask for MAC addresses ({word} is off there: NOARP), so it sends the packet to its own MAC"
        " address",
        link=link.at,
        word=sentence("neighbour discovery") if loss_point.version == 6 else "ARP",
    )
    tries = (exec_command(loss_point.evidence, sent.node, f"ip link set {sent.dev} arp on"),)
    fact = sentence("the frame is for {mac}, the MAC of {link}", mac=sent.mac[1], link=link.at)
    return Cause("arp-off", text, (Note("arp", fact),), tries)


def wrong_entry(loss_point: LossPoint) -> Cause | None:
    """The neighbour entry of the next hop has another MAC address than the machine that has the next hop's address."""
    evidence = loss_point.evidence
    sent = _sent_frame(loss_point)
    lookup = _sending_lookup(loss_point, sent)
    if sent is None or sent.mac is None or lookup is None or lookup.error or lookup.dev is None:
        return None
    entry = _entry(evidence, sent, lookup)
    if entry is not None and not owners(evidence, entry.ip):
        return _wrong_proxy(loss_point, entry)
    right = _device_with(evidence, lookup.via or lookup.dst, Interface(sent.node, sent.dev))
    if entry is None or right is None or right.mac in (None, entry.mac) or entry.mac != sent.mac[1]:
        return None
    holders = _holders(evidence, entry.mac)
    if any(one.at.ns == right.at.ns or _answers_for_others(evidence, one) for one in holders):
        return None  # a machine may answer with the MAC address of another of its devices
    entry = _proxy_entry(evidence, entry) or entry  # a tunnel gave that answer
    text = sentence(
        "the neighbour entry of {entry} for {ip} has the MAC address {mac}, but {right}, which has {ip}, has"
        " {right_mac}",
        entry=entry.at,
        ip=entry.ip,
        mac=entry.mac,
        right=right.at,
        right_mac=right.mac,
    )
    facts = [Note("neighbour", f"{entry.at.ns}: {entry.ip} dev {entry.at.dev} lladdr {entry.mac} {entry.state}")]
    if len(holders) == 1:
        fact = sentence("{mac} is the MAC address of {holder}", mac=entry.mac, holder=holders[0].at)
        facts.append(Note("neighbour", fact))
    return Cause("stale-neighbour", text, tuple(facts), (_correction(evidence, entry, right.mac),))


def own_mac(loss_point: LossPoint) -> Cause | None:
    """A machine sent the frame to the MAC address of one of its own devices, because the network says that the address
    is there, at the machine itself: its route should lead to another device."""
    evidence, sent = loss_point.evidence, _sent_frame(loss_point)
    lookup = _sending_lookup(loss_point, sent)
    if sent is None or sent.mac is None or lookup is None or lookup.error or lookup.via is not None:
        return None
    own = next((one for one in evidence.namespace(sent.node).links if one.mac == sent.mac[1]), None)
    if own is None or own.master is not None or sent.node == loss_point.node:
        return None
    prefix = lookup.route.partition(" ")[0]
    specific = prefix == str(lookup.dst)
    fault = sentence("the route {prefix} of {node} is the most specific one that it has", prefix=prefix, node=sent.node)
    if specific:
        fault = sentence("the route {prefix} of {node} leads out of the wrong device", prefix=prefix, node=sent.node)
    target = address_text(evidence, lookup.dst, sent.node)
    text = sentence(
        "{node} sends packets to {target} out of {dev}, but to the MAC address of {own} itself, so no other machine"
        " takes them: {cause}",
        node=sent.node,
        target=target,
        dev=sent.dev,
        own=own.at,
        cause=fault,
    )
    fact = sentence(
        "{node}: {dst} dev {dev} has the MAC address {mac}, that of {own}",
        node=sent.node,
        dst=lookup.dst,
        dev=sent.dev,
        mac=own.mac,
        own=own.at,
    )
    facts = (
        Note("route", f"{lookup.node}: {route_get_command(lookup)}  =>  {lookup_text(lookup)}"),
        Note("neighbour", fact),
    )
    return Cause("no-route", text, facts, (exec_command(evidence, sent.node, route_get_command(lookup)),))


def _wrong_proxy(loss_point: LossPoint, entry: Neighbour) -> Cause | None:
    """The entry for an address that no machine has, because a router answers for it, has another MAC address than the
    router, which therefore does not accept the frame."""
    evidence, tip, link = loss_point.evidence, loss_point.last_observation, loss_point.device
    if tip is None or tip.mac is None or not loss_point.entering or tip.addressed_here or link is None:
        return None
    if entry.mac != tip.mac[1] or link.master is not None or link.mac in (None, entry.mac):
        return None
    if link.peer != entry.at or not _is_router(evidence, link.at.ns, entry.ip.version):
        return None
    holders = _holders(evidence, entry.mac)
    owner_text: str = sentence("which no device of the lab has")
    if holders:
        owner_text = sentence("that of {holder}", holder=holders[0].at)
    name = sentence("the neighbour entry of {entry} for {ip}", entry=entry.at, ip=entry.ip)
    if entry.state == "permanent":
        name = sentence("the permanent neighbour entry of {entry} for {ip}", entry=entry.at, ip=entry.ip)
    text = sentence(
        "{entry} has the MAC address {mac}, {owner}, but {link}, the other end of its cable, has {link_mac} and does"
        " not accept the frame",
        entry=name,
        mac=entry.mac,
        owner=owner_text,
        link=link.at,
        link_mac=link.mac,
    )
    facts = (Note("neighbour", f"{entry.at.ns}: {entry.ip} dev {entry.at.dev} lladdr {entry.mac} {entry.state}"),)
    return Cause("stale-neighbour", text, facts, (_correction(evidence, entry, link.mac),))


def _is_router(evidence: TraceEvidence, node: str, version: int) -> bool:
    name = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    return evidence.namespace(node).sysctls.get(name) == "1"


def _correction(evidence: TraceEvidence, entry: Neighbour, mac: str | None) -> str:
    """The command that puts an entry right: an entry that the kernel learned is removed, so that it asks again."""
    family = "ip -6" if entry.ip.version == 6 else "ip"
    words = f"{family} neigh del {entry.ip} dev {entry.at.dev}"
    if entry.state == "permanent":
        words = f"{family} neigh replace {entry.ip} lladdr {mac} dev {entry.at.dev} nud permanent"
    return exec_command(evidence, entry.at.ns, words)


def _proxy_entry(evidence: TraceEvidence, entry: Neighbour) -> Neighbour | None:
    """The entry of a VXLAN device that answers for the machines behind it (proxy), from which the machine learned."""
    for link in tunnels_to(evidence, entry.at):
        if ("proxy", "on") in link.options:
            for one in evidence.namespace(link.at.ns).neighbours:
                if (one.at, one.ip, one.mac) == (link.at, entry.ip, entry.mac):
                    return one
    return None


def _sent_frame(loss_point: LossPoint) -> PacketObservation | None:
    """Where the frame that was seen last had left the machine that made it; of a packet in a tunnel, the inner frame.
    None if the machine has taken it out of the frame, to route it or to deliver it."""
    tip = loss_point.last_observation
    if tip is None or tip.mac is None or loss_point.delivered:
        return None
    for hop in reversed(loss_point.hops):
        for item in reversed(hop.observations):
            link = loss_point.evidence.link(item.node, item.dev)
            made = item.direction == "out" and item.encap == "none" and link is not None and link.mac == tip.mac[0]
            if made and item.mac == tip.mac:
                return item
    return None


def _sending_lookup(loss_point: LossPoint, sent: PacketObservation | None) -> RouteLookup | None:
    """The answer of the routing with which the frame was sent."""
    if sent is None:
        return None
    for hop in reversed(loss_point.hops):
        if sent in hop.observations:
            found = [
                find_lookup(loss_point.evidence, one)
                for one in route_queries(loss_point.evidence, hop, loss_point.role)
            ]
            return next((one for one in reversed(found) if one is not None and one.dev == sent.dev), None)
    return None


def _entry(evidence: TraceEvidence, sent: PacketObservation, lookup: RouteLookup) -> Neighbour | None:
    hop = lookup.via or lookup.dst
    for one in evidence.namespace(sent.node).neighbours:
        if one.at.dev == sent.dev and one.ip == hop and not one.proxy and one.state not in NOT_RESOLVED:
            return one
    return None


def _device_with(evidence: TraceEvidence, ip: IP, near: Interface) -> Link | None:
    """The device that has an address, on the network of `near`, or at the other end of its cable."""
    name = owner(evidence, ip, near.ns)
    if name is None or name == near.ns:
        return None
    at = next((one.at for one in evidence.namespace(name).addresses if one.addr.ip == ip), None)
    here = [one.addr for one in evidence.namespace(near.ns).addresses if one.at == near]
    link = evidence.link(at.ns, at.dev) if at is not None else None
    if link is None or at is None or at.dev == "lo":
        return None
    sending = evidence.link(near.ns, near.dev)
    tunnels = sending is not None and sending.kind == link.kind == "vxlan"
    there = [one.addr for one in evidence.namespace(at.ns).addresses if one.at == at and one.addr.ip == ip]
    same_network = any(one.network == other.network for one in here for other in there)
    cable = sending is not None and sending.peer == at
    return link if tunnels or same_network or cable else None


def _holders(evidence: TraceEvidence, mac: str | None) -> list[Link]:
    """The devices with a MAC address, without the ports of bridges."""
    return [link for state in evidence.namespaces for link in state.links if link.mac == mac and link.master is None]


def _answers_for_others(evidence: TraceEvidence, holder: Link) -> bool:
    """Whether the machine of a device answers there for others (proxy ARP), so that the entry may be right."""
    values = evidence.namespace(holder.at.ns).sysctls
    names = [
        f"net.{family}.conf.{dev}.{setting}"
        for family, settings in (("ipv4", ("proxy_arp", "proxy_arp_pvlan")), ("ipv6", ("proxy_ndp",)))
        for setting in settings
        for dev in ("all", holder.at.dev.replace(".", "/"))
    ]
    return any(values.get(name, "0") != "0" for name in names)
