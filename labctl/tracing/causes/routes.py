"""Losses in routing: forwarding off, no route, the reverse-path filter, a loop, a packet that is too big. Pure."""

from __future__ import annotations

from labctl.core.observations import Lookup, RouteInput
from labctl.tracing.hops import answered
from labctl.tracing.loss_point import Scene
from labctl.tracing.result import Note, Why, answer_text, command, route_get

REJECTING = ("unreachable", "blackhole", "prohibit", "throw")
ERRORS = {"EHOSTUNREACH": "unreachable", "EINVAL": "blackhole", "EACCES": "prohibit"}  # the error of each kind of route


def loop(scene: Scene) -> Why | None:
    """The TTL expired."""
    expired = [one for one in scene.evidence.crossings if one.role == "error" and "exceeded" in one.text]
    dying = scene.tip is not None and scene.entering and scene.tip.ttl <= 1 and not scene.delivered
    if not expired and not dying:
        return None
    nodes = [hop.node for hop in scene.hops]
    again = [node for node in dict.fromkeys(nodes) if nodes.count(node) > 2]
    if again:
        names = " and ".join(again[-2:])
        sentence = f"a routing loop: {names} send the packet to each other until its TTL expires"
        tries = tuple(command(scene.evidence, node, f"ip route get {scene.dst}") for node in again[-2:])
        return Why("loop", sentence, tuple(_routes_of(scene, again[-2:])), tries)
    return Why("ttl", f"its TTL expired in {scene.node}")


def _routes_of(scene: Scene, nodes: list[str]) -> list[Note]:
    found: dict[str, Note] = {}
    for one in scene.evidence.lookups:
        if one.node in nodes and one.dst == scene.dst and one.route:
            found.setdefault(one.node, Note("route", f"{one.node}: {route_get(one)}  =>  {one.route}"))
    return list(found.values())


def forwarding(scene: Scene) -> Why | None:
    """The namespace is not a router."""
    if not scene.entering or scene.delivered or scene.iif is None:
        return None
    if not scene.because("IP_INADDRERRORS", "IP_INNOROUTES"):
        return None
    if any(one.addr.ip == scene.dst for one in scene.room.addresses):
        return None  # the (outer) packet has arrived: forwarding is not the question
    name = scene.iif.replace(".", "/")
    if scene.version == 4:
        names = ["net.ipv4.ip_forward", f"net.ipv4.conf.{name}.forwarding"]
    else:
        names = ["net.ipv6.conf.all.forwarding"]
    off = [one for one in names if scene.sysctl(one) == "0"]
    if not off:
        return None
    ip = f"IPv{scene.version}"
    sentence = f"{scene.node} does not have the address {scene.dst} and does not forward: {ip} forwarding is off"
    facts = tuple(Note("sysctl", f"{scene.node}: {one} = 0") for one in off)
    return Why("forwarding-off", sentence, facts, (command(scene.evidence, scene.node, f"sysctl -w {off[0]}=1"),))


def no_route(scene: Scene) -> Why | None:
    """The namespace has no route for the packet, or one that refuses."""
    if (scene.tip is not None and scene.tip.way == "out") or scene.delivered:
        return None
    found = scene.lookup
    if found is not None and found.kind in REJECTING:
        return _refusing(scene, found.kind, found.route)
    if found is None or not found.error:
        return None
    if found.error != "ENETUNREACH":
        return _rejected(scene, found)
    sentence = f"{scene.node} has no route to {scene.dst}"
    tries = (command(scene.evidence, scene.node, "ip route show table all"),)
    return Why("no-route", sentence, (_asked(found),), tries)


def _refusing(scene: Scene, kind: str, route: str) -> Why:
    word = {"blackhole": "silently discards", "prohibit": "prohibits", "throw": "rejects (throw)"}.get(kind, "refuses")
    sentence = f"{scene.node} has a route that {word} packets to {scene.dst}"
    return Why("reject-route", sentence, (Note("route", f"{scene.node}: {route}"),))


def _rejected(scene: Scene, found: Lookup) -> Why | None:
    """The lookup failed with another error: by a route of that kind, else by a rule of policy routing."""
    from labctl.render.resources import route_words

    kind = ERRORS.get(found.error)
    if kind is None:
        return None
    fits = [one for one in scene.room.routes if one.kind == kind and one.dst.version == scene.dst.version]
    best = max((one for one in fits if scene.dst in one.dst), key=lambda one: one.dst.prefixlen, default=None)
    if best is not None:
        return _refusing(scene, best.kind, route_words(best))
    if not scene.because("IP_INNOROUTES", "IP_OUTNOROUTES"):
        return None
    sentence = f"the routing of {scene.node} refuses packets to {scene.dst}"
    tries = (command(scene.evidence, scene.node, "ip rule show"),)
    return Why("reject-route", sentence, (_asked(found),), tries)


def _asked(found: Lookup) -> Note:
    return Note("route", f"{found.node}: {route_get(found)}  =>  {answer_text(found)}")


def reverse_path(scene: Scene) -> Why | None:
    """The route back to the source does not use the interface by which the packet came in."""
    if not scene.entering or scene.version == 6 or scene.iif is None or scene.tip is None:
        return None
    said = scene.drop is not None and scene.drop.reason in ("IP_RPFILTER", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE")
    names = ("net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{scene.iif.replace('.', '/')}.rp_filter")
    level = max(int(scene.sysctl(name) or 0) for name in names)
    refused = scene.lookup is not None and scene.lookup.error in ("EINVAL", "EXDEV")
    if not said and not (level and refused and scene.because("IP_RPFILTER")):
        return None
    back = answered(scene.evidence, RouteInput(scene.node, scene.tip.src))
    own = any(one.at.dev == scene.iif and one.addr.version == 4 for one in scene.room.addresses)
    if not said and _returns(back, scene.iif, loose=own and level > 1):
        return None
    facts = [Note("sysctl", f"{scene.node}: {name} = {scene.sysctl(name)}") for name in names]
    if any(one.addr.ip == scene.tip.src for one in scene.room.addresses):
        sentence = f"{scene.node} itself has the source address {scene.tip.src}, so it rejects the packet as forged"
        return Why("local-source", sentence, (), ())
    if back is not None:
        facts.insert(
            0, Note("back", f"{scene.node}: {route_get(back)}  =>  {answer_text(back)} (it came in by {scene.iif})")
        )
    sentence = f"the reverse-path filter of {scene.node}: the route back to {scene.tip.src} does not use {scene.iif}"
    tries = (command(scene.evidence, scene.node, f"sysctl -w {names[0]}=0 {names[1]}=0"),)
    return Why("rp-filter", sentence, tuple(facts), tries)


def _returns(back: Lookup | None, iif: str, *, loose: bool) -> bool:
    """Whether a reverse-path filter accepts a packet that came in by `iif`. A loose filter accepts any route back, but
    only on a device that has an address."""
    return back is not None and not back.error and back.kind == "unicast" and (loose or back.dev == iif)


def too_big(scene: Scene) -> Why | None:
    """A packet that must not be fragmented and is bigger than the MTU of the next link."""
    words = ("fragmentation needed", "packet too big")
    errors = [one for one in scene.evidence.crossings if one.role == "error" and one.text in words]
    said = scene.drop is not None and scene.drop.reason == "PKT_TOO_BIG"
    unsent = scene.tip is None and "too long" in scene.evidence.said
    if not (errors or said or unsent):
        return None
    out = scene.lookup.dev if scene.lookup is not None else None
    link = scene.evidence.link(scene.node, out) if out else None
    size = scene.tip.length - 14 if scene.tip is not None else None
    what = f"the packet of {size} bytes" if size else "the packet"
    where = f"{scene.node}/{out}" if out else f"the next link of {scene.node}"
    limit = f" (MTU {link.mtu})" if link is not None and link.mtu else ""
    ban = "and only its sender may fragment it (IPv6)" if scene.version == 6 else "and it may not be fragmented (DF)"
    sentence = f"{what} is too big for {where}{limit}, {ban}"
    facts = [Note("mtu", f"{where}: mtu {link.mtu}")] if link is not None and link.mtu else []
    tries = (command(scene.evidence, scene.node, f"ip link show {out}"),) if out else ()
    return Why("too-big", sentence, tuple(facts), tries)
