"""A packet that goes in a circle until its TTL expires: between routers, or inside one machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.tracing.causes.tunnels import entry_notes
from labctl.tracing.hops import Hop, PacketObservation
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command, route_get_command
from labctl.tracing.tunnel_path import is_flow_based, sending, socket_namespace

MIN_TURNS = 3  # a packet that passes a machine that often goes in a circle


def loop(loss_point: LossPoint) -> Cause | None:
    """The TTL expired."""
    tip = loss_point.last_observation
    expired = any(one.role == "error" and "exceeded" in one.text for one in loss_point.evidence.observations)
    dying = tip is not None and loss_point.entering and tip.ttl <= 1 and not loss_point.delivered
    if not expired and not dying:
        return None
    inside = _inside_machine(loss_point)
    if inside is not None:
        return inside
    nodes = [hop.node for hop in loss_point.hops if _routes(hop) or hop is loss_point.hops[-1]]
    circle = [node for node in dict.fromkeys(nodes) if nodes.count(node) >= MIN_TURNS]
    if not circle:
        return Cause("ttl", f"its TTL expired in {loss_point.node}")
    names = " and ".join((", ".join(circle[:-1]), circle[-1])) if len(circle) > 1 else circle[0]
    done = {1: "gets the packet back again and again", 2: "send the packet to each other"}
    sentence = f"a routing loop: {names} {done.get(len(circle), 'send the packet around')} until its TTL expires"
    family = "ip -6" if loss_point.version == 6 else "ip"
    tries = tuple(
        exec_command(loss_point.evidence, node, f"{family} route get {loss_point.dst}") for node in circle[-6:]
    )
    return Cause("loop", sentence, tuple(_routes_of(loss_point, circle)), tries)


def _routes(hop: Hop) -> bool:
    """Whether the machine routed the packet: its TTL is smaller when it leaves. A bridge keeps it."""
    bare = hop.outside_tunnel
    return bare[0].ttl != bare[-1].ttl


def _routes_of(loss_point: LossPoint, nodes: Sequence[str]) -> list[Note]:
    found: dict[str, Note] = {}
    for one in loss_point.evidence.lookups:
        if one.node in nodes and one.dst == loss_point.dst and one.route:
            found.setdefault(one.node, Note("route", f"{one.node}: {route_get_command(one)}  =>  {one.route}"))
    return list(found.values())


def _inside_machine(loss_point: LossPoint) -> Cause | None:
    """The packet comes back to the same machine without passing another: by a tunnel to itself, or by a cable of which
    it has both ends."""
    if not loss_point.hops:
        return None
    bare = [item for item in loss_point.hops[-1].observations if item.encap == "none"]
    last = next((item for item in reversed(bare) if item.direction == "in"), None)
    out = next((item for item in reversed(bare) if item.direction == "out"), None)
    turns = [item for item in bare if last is not None and (item.dev, item.direction) == (last.dev, "in")]
    if last is None or out is None or len(turns) < MIN_TURNS:
        return None
    node = loss_point.node
    sentence, facts = _way_back(loss_point, out, last)
    tries = [exec_command(loss_point.evidence, node, f"ip route get {loss_point.dst}")]
    link = loss_point.evidence.link(node, out.dev)
    if link is not None and link.kind == "vxlan":
        tries.insert(0, exec_command(loss_point.evidence, node, f"bridge fdb show dev {out.dev}"))
    routes = _routes_of(loss_point, [node])
    return Cause("loop", f"a loop inside {node}: {sentence}", (*facts, *routes), tuple(tries))


def _way_back(loss_point: LossPoint, out: PacketObservation, back: PacketObservation) -> tuple[str, tuple[Note, ...]]:
    """How the packet came back: the end of a sentence, and what proves it."""
    node = loss_point.node
    link = loss_point.evidence.link(node, out.dev)
    if link is not None and link.kind == "vxlan" and not is_flow_based(link) and out.mac is not None:
        sent = sending(loss_point.evidence, link, out.mac[1])
        here = loss_point.evidence.namespace(socket_namespace(link)).addresses
        own = next((one for one in sent.remotes if any(address.addr.ip == one for address in here)), None)
        if own is not None:
            text = f"the {sent.source} of {out.dev} sends frames for {sent.mac} to {own}, an address of {node} itself"
            return text, entry_notes(loss_point.evidence, link)
    if out.dev == back.dev:
        return f"what leaves by {out.dev} comes in there again", ()
    return f"what leaves by {out.dev} comes in by {back.dev}, and its route leads to {out.dev} again", ()
