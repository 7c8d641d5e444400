"""Losses below routing: silent neighbours, cables that swallow frames, bridges and tunnels that lead nowhere. Pure."""

from __future__ import annotations

from labctl.core.resources import IP, Fdb, Link
from labctl.render.resources import route_words
from labctl.tracing.evidence import Asked
from labctl.tracing.loss_point import Scene
from labctl.tracing.result import Note, Why, command, owner

SLACK = 4  # bytes that a veth takes beyond its MTU: room for a VLAN tag
ETHERNET = 14
EVERYWHERE = "00:00:00:00:00:00"  # the forwarding entry of a VXLAN for all that it does not know


def neighbour(scene: Scene) -> Why | None:
    """Nobody told the MAC address of the next hop."""
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
        sentence = f"nobody behind the tunnel {asked.node}/{asked.dev} says which MAC address {asked.ip} has"
        facts = (
            Note("vxlan", f"{asked.node}/{asked.dev} has no neighbour entry for {asked.ip}"),
            *_entries(scene, link),
        )
        return Why("vxlan-neighbour", sentence, facts, (table,))
    return _proxy(scene, asked, link) or _dead_backend(scene, asked) or Why(
        "neighbour",
        f"nobody at {asked.node}/{asked.dev} answers for {asked.ip} ({what})" + _absent(scene, asked.ip),
        (Note("arp", f"{asked.node}/{asked.dev} asked who has {asked.ip}, and got no answer"),),
        (table,),
    )  # fmt: skip


def _known_failure(scene: Scene) -> Asked | None:
    """A neighbour that the kernel has given up, so that it no longer asks."""
    hop = scene.lookup.via or scene.dst if scene.lookup is not None and not scene.lookup.error else None
    for one in scene.room.neighbours:
        if one.ip == hop and one.state in ("failed", "incomplete") and (scene.tip is None or scene.entering):
            return Asked(scene.node, one.at.dev, one.ip)
    return None


def _absent(scene: Scene, ip: IP) -> str:
    name = owner(scene.evidence, ip)
    return ": no machine of the lab has that address" if name is None else f", although {name} has it"


def _proxy(scene: Scene, asked: Asked, link: Link | None) -> Why | None:
    """A router at the other end of the cable that should answer in another's name."""
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
    sentence = f"nobody answers for {asked.ip}: {peer.ns} would have to, in its name, but {word} is off at {peer}"
    facts = (
        Note("arp", f"{asked.node}/{asked.dev} asked who has {asked.ip}, and got no answer"),
        Note("sysctl", f"{peer.ns}: {name} = 0"),
    )
    return Why("proxy-arp-off", sentence, facts, (command(scene.evidence, peer.ns, f"sysctl -w {name}=1"),))


def _dead_backend(scene: Scene, asked: Asked) -> Why | None:
    on = scene.sent_on
    if on is None or on.new != asked.ip:
        return None
    sentence = f"{on.node} sends {on.dst} on to the backend {asked.ip} (DNAT), and nobody answers for that"
    facts = (Note("arp", f"{asked.node}/{asked.dev} asked who has {asked.ip}, and got no answer"),)
    return Why("dead-backend", sentence + _absent(scene, asked.ip), facts)


def cable(scene: Scene) -> Why | None:
    """A frame that left by a veth and did not come out of its other end."""
    link = scene.device
    if scene.tip is None or scene.tip.way != "out" or link is None or link.kind != "veth":
        return None
    peer = link.peer
    other = scene.evidence.link(peer.ns, peer.dev) if peer is not None else None
    if peer is None or other is None:
        return Why("cable", f"the other end of {link.at} is gone")
    if not other.up or link.at.dev in scene.room.carrier:
        sentence = f"the other end of the cable, {peer}, is down"
        return Why("link-down", sentence, (), (command(scene.evidence, peer.ns, f"ip link set {peer.dev} up"),))
    size = scene.tip.length - ETHERNET
    if other.mtu is not None and size > other.mtu + SLACK:
        sentence = (
            f"a black hole: the packet of {size} bytes is too big for {peer} (MTU {other.mtu}), and nobody is told"
        )
        facts = (Note("mtu", f"{link.at}: mtu {link.mtu}, its other end {peer}: mtu {other.mtu}"),)
        tries = (command(scene.evidence, peer.ns, f"ip link set {peer.dev} mtu {link.mtu}"),)
        return Why("mtu-black-hole", sentence, facts, tries)
    return None


def unplugged(scene: Scene) -> Why | None:
    """The device that the route names is down, or its cable ends nowhere."""
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
        return Why("link-down", f"{link.at} has no carrier: the other end of its cable is gone")
    words = f"ip link set {link.peer.dev} up"
    sentence = f"{link.at} has no carrier: the other end of its cable, {link.peer}, is down"
    return Why("link-down", sentence, (), (command(scene.evidence, link.peer.ns, words),))


def tunnel(scene: Scene) -> Why | None:
    """A frame that a VXLAN device did not know where to send, or that nobody took out of its tunnel."""
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
    """Whether a tunnel takes all numbers, and is told number and far end with each packet that it sends."""
    return link.kind == "vxlan" and ("external", "on") in link.options


def _told(scene: Scene, link: Link) -> Why:
    """Such a tunnel that was told nothing with this packet, or a far end that it could not reach."""
    asked = scene.lookup.table if scene.lookup is not None else None
    routes = [one for one in scene.room.routes if one.dev == link.at.dev and scene.dst in one.dst]
    fits = [one for one in routes if asked in (None, one.table)]
    best = max(fits, key=lambda one: one.dst.prefixlen, default=None)
    facts = () if best is None else (Note("route", f"{scene.node}: {route_words(best)}"),)
    tries = (command(scene.evidence, scene.node, "ip route show table all"),)
    untold = scene.drop is not None and scene.drop.reason == "TUNNEL_TXINFO"
    if untold or (best is not None and best.encap is None):
        sentence = f"the tunnel {link.at} was not told where to send it: its route has no encap"
        return Why("vxlan-untold", sentence, facts, tries)
    where = f" towards {best.encap[1]}" if best is not None and best.encap is not None else ""
    return Why("vxlan-underlay", f"the tunnel {link.at} could not send it{where}", facts, tries)


def _far_ends(scene: Scene, link: Link) -> list[Fdb]:
    """What a tunnel knows of far ends; a port of a bridge has entries of that, too, which lead no further."""
    return [one for one in scene.evidence.room(link.at.ns).fdb if one.at == link.at and one.dst is not None]


def _entries(scene: Scene, link: Link) -> list[Note]:
    entries = [f"{one.mac} dst {one.dst}" for one in _far_ends(scene, link)]
    return [Note("fdb", f"{link.at}: {', '.join(entries[:4]) or 'no entries'}")]


def _unwanted(scene: Scene) -> Why | None:
    """A tunnel packet at a host that does not open it."""
    assert scene.tip is not None
    tip = scene.tip
    if tip.outer is None or not any(one.addr.ip == tip.outer[1] for one in scene.room.addresses):
        return None
    vni, links = tip.encap.split()[-1], [link for link in scene.room.links if link.kind == "vxlan"]
    if any(_external(link) for link in links):
        down = next((link.at for link in links if _external(link) and not link.up), None)
        if down is None:
            return None
        sentence = f"{scene.node} got the packet in VXLAN {vni} and {down}, which takes it out, is down"
        return Why("link-down", sentence, (), (command(scene.evidence, scene.node, f"ip link set {down.dev} up"),))
    here = {name: value for link in links for name, value in link.options}
    if here.get("id") == vni:
        return None
    found = f"its tunnel is {here['id']}" if "id" in here else "it has no VXLAN device"
    sentence = f"{scene.node} got the packet in VXLAN {vni} and does not know that network: {found}"
    return Why("vxlan-vni", sentence)
