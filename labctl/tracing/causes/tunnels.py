"""Losses in VXLAN tunnels: no far end, a wrong one, another VNI or port there, or no way to it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.core.observations import RouteQuery
from labctl.core.resources import IP, Link
from labctl.core.sentence import Sentence, all_of, joined, sentence
from labctl.render.resources import route_text
from labctl.tracing.address_owners import address_text, is_read, owners
from labctl.tracing.bridge_ports import DEFAULT_FDB_MAC
from labctl.tracing.evidence import TraceEvidence, UnansweredNeighbour
from labctl.tracing.hop_routing import find_lookup
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, asked_note, exec_command, lookup_text, route_get_command
from labctl.tracing.tunnel_path import (
    TunnelSending,
    is_flow_based,
    last_sending,
    receiving_tunnel,
    remote_entries,
    sending,
    socket_namespace,
    tunnel_address_text,
    tunnel_addresses,
    tunnels_to,
)


def tunnel_settings(loss_point: LossPoint) -> Cause | None:
    """The two ends of a tunnel do not fit: the far end is not where the receiver is, or has another VNI or port."""
    tip = loss_point.last_observation
    sent = last_sending(loss_point.evidence, loss_point.hops)
    if sent is None or tip is None or loss_point.delivered or not sent.remotes:
        return None
    link = loss_point.device
    taken = link if link is not None and link.kind == "vxlan" and tip.direction == "in" else None
    return _wrong_settings(loss_point.evidence, sent, taken)


def neighbour_tunnel(loss_point: LossPoint, asked: UnansweredNeighbour) -> Cause | None:
    """The question for a MAC address goes into a tunnel that does not know the answer, or of which the two ends do not
    fit."""
    evidence = loss_point.evidence
    asking = evidence.link(asked.node, asked.dev)
    if asking is None:
        return None
    targets = {
        evidence.link(one.at.ns, one.at.dev)
        for state in evidence.namespaces
        for one in state.addresses
        if one.addr.ip == asked.ip and state.node != asked.node
    }
    macs = {link.mac for link in targets if link is not None and link.mac is not None}
    for link in tunnels_to(evidence, asking.at):
        for mac in sorted(macs):
            if is_flow_based(link) or receiving_tunnel(evidence, link, mac) is None:
                continue
            if ("proxy", "on") in link.options:
                return _no_proxy_entry(evidence, link, asked)
            flood = sending(evidence, link, DEFAULT_FDB_MAC)
            if flood.remotes:
                found = _wrong_settings(evidence, TunnelSending(link, mac, flood.remotes, flood.source))
                if found is not None:
                    return found
    return None


def _no_proxy_entry(evidence: TraceEvidence, link: Link, asked: UnansweredNeighbour) -> Cause | None:
    """A tunnel that answers the questions itself (proxy), and passes none on, lacks the entry."""
    known = evidence.namespace(link.at.ns).neighbours
    if any((one.at, one.ip) == (link.at, asked.ip) and one.mac is not None for one in known):
        return None
    text = sentence(
        "the tunnel {link} answers for the machines behind it (proxy), but has no neighbour entry for {ip}",
        link=link.at,
        ip=asked.ip,
    )
    family = "ip -6" if asked.ip.version == 6 else "ip"
    tries = (exec_command(evidence, link.at.ns, f"{family} neigh show dev {link.at.dev}"),)
    return Cause("vxlan-neighbour", text, (asked_note(asked), *entry_notes(evidence, link)), tries)


def _wrong_settings(evidence: TraceEvidence, sent: TunnelSending, taken: Link | None = None) -> Cause | None:
    """What does not fit. `taken` is the tunnel that took the packet, if one did: then its id and port fit."""
    link = sent.link
    remote = sent.remotes[0]
    here = evidence.namespace(socket_namespace(link)).addresses
    own = next((one for one in sent.remotes if any(address.addr.ip == one for address in here)), None)
    facts = _sending_notes(evidence, sent)
    tries: tuple[str, ...]
    show = "ip -d link show dev" if sent.source.endswith("remote") else "bridge fdb show dev"
    tries = (exec_command(evidence, link.at.ns, f"{show} {link.at.dev}"),)
    if own is not None and len(sent.remotes) == 1:
        text = own_remote_text(sent, own, socket_namespace(link))
        return Cause("vxlan-own-remote", text, facts, tries)
    far = receiving_tunnel(evidence, link, sent.mac)
    if remote.is_multicast:
        return None
    if far is None:
        unknown = len(sent.remotes) == 1 and not owners(evidence, remote)
        text = sentence(
            "the {source} of {link} sends frames for {mac} to {remote}, which no machine has",
            source=sent.source,
            link=link.at,
            mac=sent.mac,
            remote=remote,
        )
        return Cause("vxlan-remote", text, facts, tries) if unknown else None
    if not is_read(evidence, socket_namespace(far)) or (taken is not None and taken.at == far.at):
        return None
    if not any(one.addr.ip in sent.remotes for one in tunnel_addresses(evidence, far)):
        named = [address_text(evidence, one, socket_namespace(link)) for one in sent.remotes[:3]]
        where = all_of(named)
        if not owners(evidence, remote):
            where = sentence("{remote}, which no machine has", remote=remote)
        right = tunnel_address_text(evidence, far, remote.version)
        text = sentence(
            "the {source} of {link} sends frames for {mac} to {where}, but {far} is at {right}",
            source=sent.source,
            link=link.at,
            mac=_mac_text(sent, far),
            where=where,
            far=far.at,
            right=right,
        )
        if "fdb" in sent.source and " or " not in right:
            words = f"bridge fdb replace {sent.mac} dev {link.at.dev} dst {right} self permanent"
            tries += (exec_command(evidence, link.at.ns, words),)
        return Cause("vxlan-remote", text, facts, tries)
    return _unlike_ends(evidence, link, far, facts) if taken is None else None


def _mac_text(sent: TunnelSending, far: Link) -> str:
    return f"{sent.mac} ({far.at})" if sent.mac == far.mac else sent.mac


def _unlike_ends(evidence: TraceEvidence, link: Link, far: Link, facts: tuple[Note, ...]) -> Cause | None:
    """The far end is the right machine, but its tunnel has another port or VNI, or is down."""
    mine, other = dict(link.options), dict(far.options)
    notes = tuple(
        Note("vxlan", f"{one.at}: id {dict(one.options).get('id')} dstport {dict(one.options).get('dstport')}")
        for one in (link, far)
    )
    if not far.up:
        up = (exec_command(evidence, far.at.ns, f"ip link set {far.at.dev} up"),)
        text = sentence("{far}, the other end of the tunnel {link}, is down", far=far.at, link=link.at)
        return Cause("link-down", text, notes, up)
    tries = tuple(exec_command(evidence, one.at.ns, f"ip -d link show dev {one.at.dev}") for one in (link, far))
    if mine.get("dstport") != other.get("dstport") and None not in (mine.get("dstport"), other.get("dstport")):
        text = sentence(
            "the tunnel {link} sends to UDP port {port}, but its other end, {far}, listens on port {other_port}",
            link=link.at,
            port=mine["dstport"],
            far=far.at,
            other_port=other["dstport"],
        )
        return Cause("vxlan-port", text, (*notes, *facts), tries)
    if not is_flow_based(far) and mine.get("id") != other.get("id"):
        ids = mine.get("id"), other.get("id")
        text = sentence(
            "the tunnel {link} has the id (VNI) {vni}, but its other end, {far}, has {other_vni}",
            link=link.at,
            vni=ids[0],
            far=far.at,
            other_vni=ids[1],
        )
        return Cause("vxlan-vni", text, (*notes, *facts), tries)
    return None


def own_remote_text(sent: TunnelSending, own: IP, node: str) -> Sentence:
    """The sentence that a tunnel of the machine `node` sends frames to an address of that machine itself."""
    return sentence(
        "the {source} of {link} sends frames for {mac} to {own}, an address of {node} itself",
        source=sent.source,
        link=sent.link.at,
        mac=sent.mac,
        own=own,
        node=node,
    )


def _sending_notes(evidence: TraceEvidence, sent: TunnelSending) -> tuple[Note, ...]:
    if sent.source.endswith("remote"):
        return (Note("vxlan", f"{sent.link.at}: remote {', '.join(str(one) for one in sent.remotes)}"),)
    return entry_notes(evidence, sent.link)


def entry_notes(evidence: TraceEvidence, link: Link) -> tuple[Note, ...]:
    """The forwarding entries of a tunnel, the first four."""
    entries = [f"{one.mac} dst {one.dst}" for one in remote_entries(evidence, link)]
    known = joined(", ", entries[:4]) if entries else sentence("no entries")
    return (Note("fdb", joined(": ", (link.at, known))),)


def tunnel(loss_point: LossPoint) -> Cause | None:
    """A frame that a VXLAN device could not send, or that was not decapsulated at the far end."""
    tip, link = loss_point.last_observation, loss_point.device
    if tip is None:
        return None
    if tip.encap.startswith("vxlan") and loss_point.entering:
        return _not_decapsulated(loss_point)
    if link is None or link.kind != "vxlan" or tip.direction != "out":
        return None
    if is_flow_based(link):
        return _flow_based_tunnel(loss_point, link)
    sent = sending(loss_point.evidence, link, tip.mac[1] if tip.mac is not None else "")
    if not sent.remotes and not {"remote", "group"} & {name for name, _ in link.options}:
        return _unknown_remote(loss_point, link, sent.mac)
    notes = list(entry_notes(loss_point.evidence, link))
    tries: list[str] = []
    for remote in sent.remotes:
        found = find_lookup(loss_point.evidence, RouteQuery(socket_namespace(link), remote))
        if found is not None and found.error:
            notes.append(Note("route", f"{found.node}: {route_get_command(found)}  =>  {lookup_text(found)}"))
            tries.append(exec_command(loss_point.evidence, found.node, "ip route show table all"))
        down = _underlay_down(loss_point, link, found.dev) if found is not None else None
        if down is not None:
            return down
    text = _unsent_text(link, sent.remotes[0] if sent.remotes else None)
    if tries:
        text = sentence("{text}: {node} has no route to it", text=text, node=socket_namespace(link))
    return Cause("vxlan-underlay", text, tuple(notes), tuple(dict.fromkeys(tries)))


def _unsent_text(link: Link, remote: IP | None) -> Sentence:
    if remote is None:
        return sentence("the tunnel {link} could not send it", link=link.at)
    return sentence("the tunnel {link} could not send it towards {remote}", link=link.at, remote=remote)


def _underlay_down(loss_point: LossPoint, tunnel_link: Link, dev: str | None) -> Cause | None:
    """The device by which the tunnel's packets leave is down, or its cable is."""
    node = socket_namespace(tunnel_link)
    link = loss_point.evidence.link(node, dev) if dev is not None else None
    if link is None or (link.up and link.at.dev not in loss_point.evidence.namespace(node).no_carrier):
        return None
    down = link.at if not link.up or link.peer is None else link.peer
    reason = sentence("{link} has no carrier: {peer}, its other end, is down", link=link.at, peer=down)
    if down == link.at:
        reason = sentence("{link} is down", link=down)
    text = sentence(
        "the tunnel {tunnel} leaves by {link}, but {reason}", tunnel=tunnel_link.at, link=link.at, reason=reason
    )
    tries = (exec_command(loss_point.evidence, down.ns, f"ip link set {down.dev} up"),)
    return Cause("link-down", text, (), tries)


def _unknown_remote(loss_point: LossPoint, link: Link, mac: str) -> Cause:
    evidence = loss_point.evidence
    text = sentence(
        "the tunnel {link} does not know which host has {mac}: there is no forwarding entry (fdb) for it",
        link=link.at,
        mac=mac,
    )
    tries = [exec_command(evidence, loss_point.node, f"bridge fdb show dev {link.at.dev}")]
    facts = list(entry_notes(evidence, link))
    far = receiving_tunnel(evidence, link, mac)
    local = dict(far.options).get("local") if far is not None else None
    if far is not None and local is not None:
        fact = sentence("{mac} is behind {far}, which is at {local}", mac=mac, far=far.at, local=local)
        facts.append(Note("vxlan", fact))
        words = f"bridge fdb append {mac} dev {link.at.dev} dst {local} self permanent"
        tries.append(exec_command(evidence, loss_point.node, words))
    return Cause("vxlan-fdb", text, tuple(facts), tuple(tries))


def _flow_based_tunnel(loss_point: LossPoint, link: Link) -> Cause:
    """Such a tunnel got no far end with this packet, or could not reach it."""
    asked = loss_point.lookup.table if loss_point.lookup is not None else None
    routes = [one for one in loss_point.namespace.routes if one.dev == link.at.dev and loss_point.dst in one.dst]
    fits = [one for one in routes if asked in (None, one.table)]
    best = max(fits, key=lambda one: one.dst.prefixlen, default=None)
    facts = () if best is None else (Note("route", f"{loss_point.node}: {route_text(best)}"),)
    tries = (exec_command(loss_point.evidence, loss_point.node, "ip route show table all"),)
    no_tunnel_info = loss_point.drop is not None and loss_point.drop.reason == "TUNNEL_TXINFO"
    if no_tunnel_info or (best is not None and best.encap is None):
        text = sentence("the tunnel {link} got no far end for it: its route has no encap", link=link.at)
        return Cause("vxlan-untold", text, facts, tries)
    remote = best.encap[1] if best is not None and best.encap is not None else None
    return Cause("vxlan-underlay", _unsent_text(link, remote), facts, tries)


def _not_decapsulated(loss_point: LossPoint) -> Cause | None:
    """A tunnel packet at a host that does not decapsulate it."""
    assert loss_point.last_observation is not None
    tip = loss_point.last_observation
    if tip.outer is None or not any(one.addr.ip == tip.outer[1] for one in loss_point.namespace.addresses):
        return None
    evidence, node = loss_point.evidence, loss_point.node
    vni = tip.encap.split()[-1]
    links = [
        link for state in evidence.namespaces for link in state.links
        if link.kind == "vxlan" and socket_namespace(link) == node
    ]  # fmt: skip
    fits = [link for link in links if is_flow_based(link) or dict(link.options).get("id") == vni]
    down = next((link.at for link in fits if not link.up), None)
    if down is not None:
        text = sentence(
            "{node} received the packet in VXLAN {vni}, but {down}, which decapsulates it, is down",
            node=node,
            vni=vni,
            down=down,
        )
        tries = (exec_command(evidence, down.ns, f"ip link set {down.dev} up"),)
        return Cause("link-down", text, (), tries)
    if fits:
        return _other_port(loss_point, fits)
    ids = [dict(link.options).get("id", "") for link in links]
    found = sentence("its VXLAN is {ids}", ids=all_of(ids)) if ids else sentence("it has no VXLAN device")
    text = sentence(
        "{node} received the packet in VXLAN {vni}, which it does not have: {found}", node=node, vni=vni, found=found
    )
    return Cause("vxlan-vni", text)


def _other_port(loss_point: LossPoint, links: Sequence[Link]) -> Cause | None:
    """The tunnel is there, but listens on another UDP port than the packet was sent to, so the host reported that."""
    errors = [one for one in loss_point.evidence.observations if one.role == "error" and one.text == "port unreachable"]
    sender = _flow_sender(loss_point)
    port = dict(sender.options).get("dstport") if sender is not None else None
    ports = {dict(link.options).get("dstport", "") for link in links}
    if not errors or sender is None or port is None or port in ports:
        return None
    text = sentence(
        "the tunnel {sender} sends to UDP port {port}, but {node} listens for VXLAN on port {ports}",
        sender=sender.at,
        port=port,
        node=loss_point.node,
        ports=all_of(sorted(ports)),
    )
    return Cause("vxlan-port", text)


def _flow_sender(loss_point: LossPoint) -> Link | None:
    """The tunnel that sent the packet last, also one without a fixed VNI."""
    for hop in reversed(loss_point.hops):
        for item in reversed(hop.outs):
            link = loss_point.evidence.link(item.node, item.dev)
            if link is not None and link.kind == "vxlan":
                return link
    return None
