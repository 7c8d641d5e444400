"""Losses below routing: neighbours that do not answer, cables that lose frames, tunnels that cannot send. Pure."""

from __future__ import annotations

from labctl.core.resources import IP, Fdb, Link
from labctl.render.resources import route_words
from labctl.tracing.evidence import Asked
from labctl.tracing.loss_point import Scene
from labctl.tracing.result import Note, Why, command, owner

SLACK = 4  # bytes that a veth accepts beyond its MTU, for a VLAN tag
ETHERNET = 14
EVERYWHERE = "00:00:00:00:00:00"  # the forwarding entry of a VXLAN for all unknown MAC addresses


def neighbour(scene: Scene) -> Why | None:
    """There was no answer for the MAC address of the next hop."""
    asked = scene.asked
    failed = scene.drop is not None and scene.drop.reason.startswith("NEIGH_")
    if asked is None and not failed:
        asked = _known_failure(scene)
    if asked is None and not failed:
        return None
    if asked is None:
        return Why("neighbour", f"{scene.node} got no answer when it asked for the MAC address of the next hop")
    link = scene.evidence.link(asked.node, asked.dev)
    table = command(scene.evidence, asked.node, f"ip neigh show dev {asked.dev}")
    what = "ARP" if scene.version == 4 else "neighbour discovery"
    if link is not None and link.kind == "vxlan":
        sentence = f"the tunnel {asked.node}/{asked.dev} gets no answer for the MAC address of {asked.ip}"
        facts = (
            Note("vxlan", f"{asked.node}/{asked.dev} has no neighbour entry for {asked.ip}"),
            *_entries(scene, link),
        )
        return Why("vxlan-neighbour", sentence, facts, (table,))
    return _proxy(scene, asked, link) or _dead_backend(scene, asked) or Why(
        "neighbour",
        f"{asked.node}/{asked.dev} gets no answer for {asked.ip} ({what})" + _absent(scene, asked.ip),
        (Note("arp", f"{asked.node}/{asked.dev} asked for the MAC address of {asked.ip} and got no answer"),),
        (table,),
    )  # fmt: skip


def _known_failure(scene: Scene) -> Asked | None:
    """A neighbour that the kernel has marked as failed, so that it does not ask again at once."""
    hop = scene.lookup.via or scene.dst if scene.lookup is not None and not scene.lookup.error else None
    for one in scene.room.neighbours:
        if one.ip == hop and one.state in ("failed", "incomplete") and (scene.tip is None or scene.entering):
            return Asked(scene.node, one.at.dev, one.ip)
    return None


def _absent(scene: Scene, ip: IP) -> str:
    name = owner(scene.evidence, ip)
    return ": no machine of the lab has that address" if name is None else f", although {name} has that address"


def _proxy(scene: Scene, asked: Asked, link: Link | None) -> Why | None:
    """The router at the other end of the cable should answer by proxy ARP, but does not."""
    peer = link.peer if link is not None else None
    other = scene.evidence.link(peer.ns, peer.dev) if peer is not None else None
    if peer is None or other is None or other.master is not None or not other.up:
        return None
    room = scene.evidence.room(peer.ns)
    gateway = scene.lookup is not None and scene.lookup.via == asked.ip
    if any(one.addr.ip == asked.ip for one in room.addresses) or not (gateway or owner(scene.evidence, asked.ip)):
        return None
    name = f"net.ipv4.conf.{peer.dev.replace('.', '/')}.proxy_arp"
    if scene.version == 6:
        name = f"net.ipv6.conf.{peer.dev.replace('.', '/')}.proxy_ndp"
    value = room.sysctls.get(name)
    router = room.sysctls.get("net.ipv4.ip_forward" if scene.version == 4 else "net.ipv6.conf.all.forwarding") == "1"
    if value != "0" or not router or len([one for one in room.links if one.at.dev != "lo"]) < 2:
        return None
    word = "proxy ARP" if scene.version == 4 else "proxy NDP"
    sentence = f"there is no answer for {asked.ip}: {peer.ns} should answer for it, but {word} is off at {peer}"
    facts = (
        Note("arp", f"{asked.node}/{asked.dev} asked for the MAC address of {asked.ip} and got no answer"),
        Note("sysctl", f"{peer.ns}: {name} = 0"),
    )
    return Why("proxy-arp-off", sentence, facts, (command(scene.evidence, peer.ns, f"sysctl -w {name}=1"),))


def _dead_backend(scene: Scene, asked: Asked) -> Why | None:
    on = scene.sent_on
    if on is None or on.new != asked.ip:
        return None
    sentence = f"{on.node} rewrites {on.dst} to the backend {asked.ip} (DNAT), which does not answer"
    facts = (Note("arp", f"{asked.node}/{asked.dev} asked for the MAC address of {asked.ip} and got no answer"),)
    return Why("dead-backend", sentence + _absent(scene, asked.ip), facts)


def cable(scene: Scene) -> Why | None:
    """A frame that left by a veth and did not arrive at the other end."""
    link = scene.device
    if scene.tip is None or scene.tip.way != "out" or link is None or link.kind != "veth":
        return None
    peer = link.peer
    other = scene.evidence.link(peer.ns, peer.dev) if peer is not None else None
    if peer is None or other is None:
        return Why("cable", f"the other end of the cable at {link.at} does not exist")
    if not other.up or link.at.dev in scene.room.carrier:
        sentence = f"the other end of the cable, {peer}, is down"
        return Why("link-down", sentence, (), (command(scene.evidence, peer.ns, f"ip link set {peer.dev} up"),))
    size = scene.tip.length - ETHERNET
    if other.mtu is not None and size > other.mtu + SLACK:
        sentence = (
            f"a black hole: the packet of {size} bytes is too big for {peer} (MTU {other.mtu}), and no error is sent"
        )
        facts = (Note("mtu", f"{link.at}: mtu {link.mtu}, its other end {peer}: mtu {other.mtu}"),)
        tries = (command(scene.evidence, peer.ns, f"ip link set {peer.dev} mtu {link.mtu}"),)
        return Why("mtu-black-hole", sentence, facts, tries)
    return None


def unplugged(scene: Scene) -> Why | None:
    """The device that the route names is down, or its cable has no other end."""
    if (
        scene.delivered
        or scene.lookup is None
        or scene.lookup.dev is None
        or (scene.tip is not None and not scene.entering)
    ):
        return None
    link = scene.evidence.link(scene.node, scene.lookup.dev)
    if link is None:
        return None
    if not link.up:
        words = f"ip link set {link.at.dev} up"
        return Why("link-down", f"{link.at} is down", (), (command(scene.evidence, scene.node, words),))
    if link.at.dev not in scene.room.carrier:
        return None
    if link.peer is None:
        return Why("link-down", f"{link.at} has no carrier: the other end of its cable does not exist")
    words = f"ip link set {link.peer.dev} up"
    sentence = f"{link.at} has no carrier: the other end of its cable, {link.peer}, is down"
    return Why("link-down", sentence, (), (command(scene.evidence, link.peer.ns, words),))


def tunnel(scene: Scene) -> Why | None:
    """A frame that a VXLAN device could not send, or that was not decapsulated at the far end."""
    link = scene.device
    if scene.tip is None:
        return None
    if scene.tip.encap.startswith("vxlan") and scene.entering:
        return _unwanted(scene)
    if link is None or link.kind != "vxlan" or scene.tip.way != "out":
        return None
    if _external(link):
        return _told(scene, link)
    mac = scene.tip.mac[1] if scene.tip.mac is not None else ""
    known = _far_ends(scene, link)
    entry = next((one for one in known if one.mac in (mac, EVERYWHERE)), None)
    if entry is None and not {"remote", "group"} & {name for name, _ in link.options}:
        sentence = f"the tunnel {link.at} does not know which host has {mac}: there is no forwarding entry (fdb) for it"
        tries = (command(scene.evidence, scene.node, f"bridge fdb show dev {link.at.dev}"),)
        return Why("vxlan-fdb", sentence, tuple(_entries(scene, link)), tries)
    where = f"towards {entry.dst}" if entry is not None else ""
    return Why(
        "vxlan-underlay", f"the tunnel {link.at} could not send it {where}".rstrip(), tuple(_entries(scene, link))
    )


def _external(link: Link) -> bool:
    """Whether a tunnel has no fixed VNI: each packet brings its VNI and its far end as metadata."""
    return link.kind == "vxlan" and ("external", "on") in link.options


def _told(scene: Scene, link: Link) -> Why:
    """Such a tunnel got no far end with this packet, or could not reach it."""
    asked = scene.lookup.table if scene.lookup is not None else None
    routes = [one for one in scene.room.routes if one.dev == link.at.dev and scene.dst in one.dst]
    fits = [one for one in routes if asked in (None, one.table)]
    best = max(fits, key=lambda one: one.dst.prefixlen, default=None)
    facts = () if best is None else (Note("route", f"{scene.node}: {route_words(best)}"),)
    tries = (command(scene.evidence, scene.node, "ip route show table all"),)
    untold = scene.drop is not None and scene.drop.reason == "TUNNEL_TXINFO"
    if untold or (best is not None and best.encap is None):
        sentence = f"the tunnel {link.at} got no far end for it: its route has no encap"
        return Why("vxlan-untold", sentence, facts, tries)
    where = f" towards {best.encap[1]}" if best is not None and best.encap is not None else ""
    return Why("vxlan-underlay", f"the tunnel {link.at} could not send it{where}", facts, tries)


def _far_ends(scene: Scene, link: Link) -> list[Fdb]:
    """The forwarding entries of a tunnel that name a far end. The bridge's own entries for the port are left out."""
    return [one for one in scene.evidence.room(link.at.ns).fdb if one.at == link.at and one.dst is not None]


def _entries(scene: Scene, link: Link) -> list[Note]:
    entries = [f"{one.mac} dst {one.dst}" for one in _far_ends(scene, link)]
    return [Note("fdb", f"{link.at}: {', '.join(entries[:4]) or 'no entries'}")]


def _unwanted(scene: Scene) -> Why | None:
    """A tunnel packet at a host that does not decapsulate it."""
    assert scene.tip is not None
    tip = scene.tip
    if tip.outer is None or not any(one.addr.ip == tip.outer[1] for one in scene.room.addresses):
        return None
    vni, links = tip.encap.split()[-1], [link for link in scene.room.links if link.kind == "vxlan"]
    if any(_external(link) for link in links):
        down = next((link.at for link in links if _external(link) and not link.up), None)
        if down is None:
            return None
        sentence = f"{scene.node} received the packet in VXLAN {vni}, but {down}, which decapsulates it, is down"
        return Why("link-down", sentence, (), (command(scene.evidence, scene.node, f"ip link set {down.dev} up"),))
    here = {name: value for link in links for name, value in link.options}
    if here.get("id") == vni:
        return None
    found = f"its VXLAN is {here['id']}" if "id" in here else "it has no VXLAN device"
    sentence = f"{scene.node} received the packet in VXLAN {vni}, which it does not have: {found}"
    return Why("vxlan-vni", sentence)
