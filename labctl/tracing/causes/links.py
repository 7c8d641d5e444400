"""Losses below routing: neighbours that do not answer, cables that lose frames, tunnels that cannot send. Pure."""

from __future__ import annotations

from labctl.core.resources import Fdb, Link
from labctl.render.resources import route_text
from labctl.tracing.bridge_ports import DEFAULT_FDB_MAC
from labctl.tracing.causes.macvlan import stacked_neighbour
from labctl.tracing.causes.neighbour_answers import asked_note, own_answer, proxy_answer
from labctl.tracing.causes.neighbour_owner import owner_clause, silent_owner
from labctl.tracing.evidence import UnansweredNeighbour
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command

VETH_MTU_SLACK_BYTES = 4  # bytes that a veth accepts beyond its MTU, for a VLAN tag
ETHERNET_HEADER_BYTES = 14
NEIGHBOUR_FUNCTIONS = ("neigh_destroy", "neigh_invalidate")  # they drop what waits for a MAC address


def neighbour(loss_point: LossPoint) -> Cause | None:
    """There was no answer for the MAC address of the next hop."""
    unanswered = missing_neighbour(loss_point)
    failed = _neighbour_drop(loss_point)
    if unanswered is None and not failed:
        return None
    if unanswered is None:
        return Cause("neighbour", f"{loss_point.node} got no answer when it asked for the MAC address of the next hop")
    link = loss_point.evidence.link(unanswered.node, unanswered.dev)
    table = exec_command(loss_point.evidence, unanswered.node, f"ip neigh show dev {unanswered.dev}")
    what = "ARP" if loss_point.version == 4 else "neighbour discovery"
    if link is not None and link.kind == "vxlan":
        sentence = (
            f"the tunnel {unanswered.node}/{unanswered.dev} gets no answer for the MAC address of {unanswered.ip}"
        )
        facts = (
            Note("vxlan", f"{unanswered.node}/{unanswered.dev} has no neighbour entry for {unanswered.ip}"),
            *_entries(loss_point, link),
        )
        return Cause("vxlan-neighbour", sentence, facts, (table,))
    found = own_answer(loss_point, unanswered) or proxy_answer(loss_point, unanswered)
    found = found or silent_owner(loss_point, unanswered) or stacked_neighbour(loss_point, unanswered)
    return found or _dead_backend(loss_point, unanswered) or Cause(
        "neighbour",
        f"{unanswered.node}/{unanswered.dev} gets no answer for {unanswered.ip}"
        f" ({what})" + owner_clause(loss_point, unanswered),
        (asked_note(unanswered),),
        (table,),
    )  # fmt: skip


def missing_neighbour(loss_point: LossPoint) -> UnansweredNeighbour | None:
    """The neighbour there that did not answer, or that the kernel has marked as failed."""
    unanswered = loss_point.unanswered_neighbour or _purged_neighbour(loss_point)
    if unanswered is None and not _neighbour_drop(loss_point):
        unanswered = _failed_neighbour(loss_point)
    return unanswered


def _neighbour_drop(loss_point: LossPoint) -> bool:
    return loss_point.drop is not None and loss_point.drop.reason.startswith("NEIGH_")


def _purged_neighbour(loss_point: LossPoint) -> UnansweredNeighbour | None:
    """The next hop of a packet that the kernel dropped while it waited there for the MAC address. Another packet may
    have caused the request, before the trace."""
    lookup = loss_point.lookup
    if lookup is None or lookup.error or lookup.dev is None or not loss_point.dropped_in(*NEIGHBOUR_FUNCTIONS):
        return None
    return UnansweredNeighbour(loss_point.node, lookup.dev, lookup.via or loss_point.dst)


def _failed_neighbour(loss_point: LossPoint) -> UnansweredNeighbour | None:
    """A neighbour that the kernel has marked as failed, so that it does not ask again at once."""
    hop = (
        loss_point.lookup.via or loss_point.dst
        if loss_point.lookup is not None and not loss_point.lookup.error
        else None
    )
    for one in loss_point.namespace.neighbours:
        if (
            one.ip == hop
            and one.state in ("failed", "incomplete")
            and (loss_point.last_observation is None or loss_point.entering)
        ):
            return UnansweredNeighbour(loss_point.node, one.at.dev, one.ip)
    return None


def _dead_backend(loss_point: LossPoint, neighbour: UnansweredNeighbour) -> Cause | None:
    translation = loss_point.translation
    if translation is None or translation.new_dst != neighbour.ip:
        return None
    sentence = (
        f"{translation.node} rewrites {translation.dst} to the backend {neighbour.ip} (DNAT), which does not answer"
    )
    return Cause("dead-backend", sentence + owner_clause(loss_point, neighbour), (asked_note(neighbour),))


def veth_peer(loss_point: LossPoint) -> Cause | None:
    """A frame that left by a veth and did not arrive at the other end."""
    link = loss_point.device
    if (
        loss_point.last_observation is None
        or loss_point.last_observation.direction != "out"
        or link is None
        or link.kind != "veth"
    ):
        return None
    peer = link.peer
    other = loss_point.evidence.link(peer.ns, peer.dev) if peer is not None else None
    if peer is None or other is None:
        return Cause("cable", f"the other end of the cable at {link.at} does not exist")
    if not other.up or link.at.dev in loss_point.namespace.no_carrier:
        sentence = f"the other end of the cable, {peer}, is down"
        return Cause(
            "link-down", sentence, (), (exec_command(loss_point.evidence, peer.ns, f"ip link set {peer.dev} up"),)
        )
    size = loss_point.last_observation.length - ETHERNET_HEADER_BYTES
    if other.mtu is not None and size > other.mtu + VETH_MTU_SLACK_BYTES:
        sentence = (
            f"a black hole: the packet of {size} bytes is too big for {peer} (MTU {other.mtu}), and no error is sent"
        )
        facts = (Note("mtu", f"{link.at}: mtu {link.mtu}, its other end {peer}: mtu {other.mtu}"),)
        tries = (exec_command(loss_point.evidence, peer.ns, f"ip link set {peer.dev} mtu {link.mtu}"),)
        return Cause("mtu-black-hole", sentence, facts, tries)
    return None


def link_down(loss_point: LossPoint) -> Cause | None:
    """The device that the route names is down, or its cable has no other end."""
    if (
        loss_point.delivered
        or loss_point.lookup is None
        or loss_point.lookup.dev is None
        or (loss_point.last_observation is not None and not loss_point.entering)
    ):
        return None
    link = loss_point.evidence.link(loss_point.node, loss_point.lookup.dev)
    if link is None:
        return None
    if not link.up:
        command_text = f"ip link set {link.at.dev} up"
        return Cause(
            "link-down", f"{link.at} is down", (), (exec_command(loss_point.evidence, loss_point.node, command_text),)
        )
    if link.at.dev not in loss_point.namespace.no_carrier:
        return None
    if link.peer is None:
        return Cause("link-down", f"{link.at} has no carrier: the other end of its cable does not exist")
    command_text = f"ip link set {link.peer.dev} up"
    sentence = f"{link.at} has no carrier: the other end of its cable, {link.peer}, is down"
    return Cause("link-down", sentence, (), (exec_command(loss_point.evidence, link.peer.ns, command_text),))


def tunnel(loss_point: LossPoint) -> Cause | None:
    """A frame that a VXLAN device could not send, or that was not decapsulated at the far end."""
    link = loss_point.device
    if loss_point.last_observation is None:
        return None
    if loss_point.last_observation.encap.startswith("vxlan") and loss_point.entering:
        return _unknown_vni(loss_point)
    if link is None or link.kind != "vxlan" or loss_point.last_observation.direction != "out":
        return None
    if _external(link):
        return _external_tunnel(loss_point, link)
    mac = loss_point.last_observation.mac[1] if loss_point.last_observation.mac is not None else ""
    known = _remote_entries(loss_point, link)
    entry = next((one for one in known if one.mac in (mac, DEFAULT_FDB_MAC)), None)
    if entry is None and not {"remote", "group"} & {name for name, _ in link.options}:
        sentence = f"the tunnel {link.at} does not know which host has {mac}: there is no forwarding entry (fdb) for it"
        tries = (exec_command(loss_point.evidence, loss_point.node, f"bridge fdb show dev {link.at.dev}"),)
        return Cause("vxlan-fdb", sentence, tuple(_entries(loss_point, link)), tries)
    where = f"towards {entry.dst}" if entry is not None else ""
    return Cause(
        "vxlan-underlay", f"the tunnel {link.at} could not send it {where}".rstrip(), tuple(_entries(loss_point, link))
    )


def _external(link: Link) -> bool:
    """Whether a tunnel has no fixed VNI: each packet brings its VNI and its far end as metadata."""
    return link.kind == "vxlan" and ("external", "on") in link.options


def _external_tunnel(loss_point: LossPoint, link: Link) -> Cause:
    """Such a tunnel got no far end with this packet, or could not reach it."""
    asked = loss_point.lookup.table if loss_point.lookup is not None else None
    routes = [one for one in loss_point.namespace.routes if one.dev == link.at.dev and loss_point.dst in one.dst]
    fits = [one for one in routes if asked in (None, one.table)]
    best = max(fits, key=lambda one: one.dst.prefixlen, default=None)
    facts = () if best is None else (Note("route", f"{loss_point.node}: {route_text(best)}"),)
    tries = (exec_command(loss_point.evidence, loss_point.node, "ip route show table all"),)
    no_tunnel_info = loss_point.drop is not None and loss_point.drop.reason == "TUNNEL_TXINFO"
    if no_tunnel_info or (best is not None and best.encap is None):
        sentence = f"the tunnel {link.at} got no far end for it: its route has no encap"
        return Cause("vxlan-untold", sentence, facts, tries)
    where = f" towards {best.encap[1]}" if best is not None and best.encap is not None else ""
    return Cause("vxlan-underlay", f"the tunnel {link.at} could not send it{where}", facts, tries)


def _remote_entries(loss_point: LossPoint, link: Link) -> list[Fdb]:
    """The forwarding entries of a tunnel that name a far end. The bridge's own entries for the port are left out."""
    return [one for one in loss_point.evidence.namespace(link.at.ns).fdb if one.at == link.at and one.dst is not None]


def _entries(loss_point: LossPoint, link: Link) -> list[Note]:
    entries = [f"{one.mac} dst {one.dst}" for one in _remote_entries(loss_point, link)]
    return [Note("fdb", f"{link.at}: {', '.join(entries[:4]) or 'no entries'}")]


def _unknown_vni(loss_point: LossPoint) -> Cause | None:
    """A tunnel packet at a host that does not decapsulate it."""
    assert loss_point.last_observation is not None
    tip = loss_point.last_observation
    if tip.outer is None or not any(one.addr.ip == tip.outer[1] for one in loss_point.namespace.addresses):
        return None
    vni, links = tip.encap.split()[-1], [link for link in loss_point.namespace.links if link.kind == "vxlan"]
    if any(_external(link) for link in links):
        down = next((link.at for link in links if _external(link) and not link.up), None)
        if down is None:
            return None
        sentence = f"{loss_point.node} received the packet in VXLAN {vni}, but {down}, which decapsulates it, is down"
        return Cause(
            "link-down",
            sentence,
            (),
            (exec_command(loss_point.evidence, loss_point.node, f"ip link set {down.dev} up"),),
        )
    here = {name: value for link in links for name, value in link.options}
    if here.get("id") == vni:
        return None
    found = f"its VXLAN is {here['id']}" if "id" in here else "it has no VXLAN device"
    sentence = f"{loss_point.node} received the packet in VXLAN {vni}, which it does not have: {found}"
    return Cause("vxlan-vni", sentence)
