"""A packet that goes in a circle until its TTL expires: between routers, or inside one machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.core.sentence import Sentence, listed, sentence
from labctl.tracing.causes.tunnels import entry_notes, own_remote_text
from labctl.tracing.hops import Hop, PacketObservation
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command, route_get_command
from labctl.tracing.tunnel_path import is_flow_based, sending, socket_namespace

SOURCE_ERRORS = ("EINVAL", "EXDEV")  # of the routing, for a source that may not come in there
SOURCE_REASONS = ("IP_RPFILTER", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE")
MIN_TURNS = 3  # a packet that passes a machine that often goes in a circle


def loop(loss_point: LossPoint) -> Cause | None:
    """The TTL expired."""
    tip = loss_point.last_observation
    expired = any(one.role == "error" and "exceeded" in one.text for one in loss_point.evidence.observations)
    dying = tip is not None and loss_point.entering and tip.ttl <= 1 and not loss_point.delivered
    if not expired and not dying:
        return _comes_back(loss_point)
    inside = _inside_machine(loss_point)
    if inside is not None:
        return inside
    nodes = [hop.node for hop in loss_point.hops if _routes(hop) or hop is loss_point.hops[-1]]
    circle = [node for node in dict.fromkeys(nodes) if nodes.count(node) >= MIN_TURNS]
    if not circle:
        return Cause("ttl", sentence("its TTL expired in {node}", node=loss_point.node))
    return _circle(loss_point, circle, sentence("{loop} until its TTL expires", loop=_circle_text(circle)))


def _circle_text(circle: Sequence[str]) -> Sentence:
    """The sentence that these machines are a circle."""
    text = sentence("a routing loop: {nodes} send the packet around", nodes=listed(circle))
    if len(circle) == 1:
        text = sentence("a routing loop: {node} gets the packet back again and again", node=circle[0])
    if len(circle) == 2:
        text = sentence("a routing loop: {nodes} send the packet to each other", nodes=listed(circle))
    return text


def _circle(loss_point: LossPoint, circle: Sequence[str], text: Sentence) -> Cause:
    family = "ip -6" if loss_point.version == 6 else "ip"
    tries = tuple(
        exec_command(loss_point.evidence, node, f"{family} route get {loss_point.dst}") for node in circle[-6:]
    )
    return Cause("loop", text, tuple(_routes_of(loss_point, circle)), tries)


def _comes_back(loss_point: LossPoint) -> Cause | None:
    """The packet came back to a machine that had sent or routed it before, to the same address, and which rejects its
    source now: as its own, or by the reverse-path filter."""
    tip, lookup = loss_point.last_observation, loss_point.lookup
    if tip is None or not loss_point.entering or loss_point.delivered or tip.encap != "none":
        return None
    rejected = lookup is not None and lookup.error in SOURCE_ERRORS
    if not rejected and not (loss_point.drop is not None and loss_point.drop.reason in SOURCE_REASONS):
        return None
    for number, hop in enumerate(loss_point.hops[:-1]):
        left = hop.outside_tunnel[-1]
        same = hop.node == tip.node and (left.src, left.dst) == (tip.src, tip.dst)
        if same and left.direction == "out" and (_routes(hop) or not hop.ins):
            between = [one.node for one in loss_point.hops[number + 1 : -1] if _routes(one)]
            own = any(one.addr.ip == tip.src for one in loss_point.namespace.addresses)
            if not between:
                return None
            circle = list(dict.fromkeys((hop.node, *between)))
            text = sentence(
                "{loop}, until it comes back to {node}, which does not accept its source by that way",
                loop=_circle_text(circle),
                node=tip.node,
            )
            if own:
                text = sentence(
                    "{loop}, until it comes back to {node}, which has its source address",
                    loop=_circle_text(circle),
                    node=tip.node,
                )
            return _circle(loss_point, circle, text)
    return None


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
    text, facts = _way_back(loss_point, out, last)
    tries = [exec_command(loss_point.evidence, node, f"ip route get {loss_point.dst}")]
    link = loss_point.evidence.link(node, out.dev)
    if link is not None and link.kind == "vxlan":
        tries.insert(0, exec_command(loss_point.evidence, node, f"bridge fdb show dev {out.dev}"))
    routes = _routes_of(loss_point, [node])
    return Cause(
        "loop", sentence("a loop inside {node}: {text}", node=node, text=text), (*facts, *routes), tuple(tries)
    )


def _way_back(loss_point: LossPoint, out: PacketObservation, back: PacketObservation) -> tuple[str, tuple[Note, ...]]:
    """How the packet came back: the end of a sentence, and what proves it."""
    node = loss_point.node
    link = loss_point.evidence.link(node, out.dev)
    if link is not None and link.kind == "vxlan" and not is_flow_based(link) and out.mac is not None:
        sent = sending(loss_point.evidence, link, out.mac[1])
        here = loss_point.evidence.namespace(socket_namespace(link)).addresses
        own = next((one for one in sent.remotes if any(address.addr.ip == one for address in here)), None)
        if own is not None:
            return own_remote_text(sent, own, node), entry_notes(loss_point.evidence, link)
    if out.dev == back.dev:
        return sentence("what leaves by {dev} comes in there again", dev=out.dev), ()
    text = sentence(
        "what leaves by {dev} comes in by {back}, and its route leads to {dev} again", dev=out.dev, back=back.dev
    )
    return text, ()
