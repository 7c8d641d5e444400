"""From sightings to the packet's path: one hop per visit to a namespace. Pure.

A bridge that does not know a MAC address floods, so the taps see a tree of copies. A frame that enters a device left
the device at the other end of the cable before; a frame that leaves came in before. The branch that got furthest is
the path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.core.observations import Lookup, Role, RouteInput
from labctl.core.resources import IP
from labctl.tracing.evidence import Crossing, Evidence


@dataclass(frozen=True, slots=True)
class Hop:
    """One visit of the packet to a namespace. `flooded` counts the copies that left for elsewhere."""

    node: str
    crossings: tuple[Crossing, ...]
    flooded: int = 0

    @property
    def ins(self) -> tuple[Crossing, ...]:
        """The sightings of the packet coming in."""
        return tuple(item for item in self.crossings if item.way == "in")

    @property
    def outs(self) -> tuple[Crossing, ...]:
        """The sightings of the packet going out."""
        return tuple(item for item in self.crossings if item.way == "out")

    @property
    def bare(self) -> tuple[Crossing, ...]:
        """The sightings outside a tunnel; all sightings, if it is inside a tunnel at each of them."""
        return tuple(item for item in self.crossings if item.encap == "none") or self.crossings


def road(evidence: Evidence, role: Role) -> tuple[Hop, ...]:
    """The hops of the request, of its reply, or of the first ICMP error."""
    seen = _first_try([item for item in evidence.crossings if item.role == role])
    if role == "error":  # keep the first of several errors: a probe that is sent again causes another error
        seen = list({(item.node, item.dev, item.way): item for item in reversed(seen)}.values())[::-1]
    if not seen:
        return ()
    parents = [_parent(evidence, seen, number) for number in range(len(seen))]
    leaves = sorted(set(range(len(seen))) - {parent for parent in parents if parent is not None})
    end = evidence.question.source if role != "request" else evidence.question.home
    chain: list[int] = []
    at: int | None
    at = max(leaves, key=lambda leaf: _worth(evidence, seen, leaf, end))
    while at is not None:
        chain.insert(0, at)
        at = parents[at]
    return tuple(_hops([seen[number] for number in chain], _floods(seen, chain, parents)))


def _worth(evidence: Evidence, seen: Sequence[Crossing], leaf: int, end: str | None) -> tuple[bool, bool, int]:
    """The rank of a branch's end: first arrival at the target, then a frame that is no stray copy, then the latest."""
    last = seen[leaf]
    link = evidence.link(last.node, last.dev)
    wanted = last.ours or (link is not None and link.master is not None)
    return last.node == end and last.way == "in" and wanted, wanted, leaf


def _first_try(seen: list[Crossing]) -> list[Crossing]:
    """The sightings without retransmissions (a TCP SYN is sent again after a second)."""
    if not seen or seen[0].way != "out":
        return seen
    first = seen[0]
    for number, item in enumerate(seen[1:], 1):
        again = (item.node, item.dev, item.way, item.ttl) == (first.node, first.dev, first.way, first.ttl)
        if again and item.when - first.when > 100_000_000:
            return seen[:number]
    return seen


def _parent(evidence: Evidence, seen: Sequence[Crossing], number: int) -> int | None:
    item, before = seen[number], range(number - 1, -1, -1)
    same: int | None = next((at for at in before if seen[at].node == item.node), None)
    if item.way == "out":
        while same is not None and _last_out(evidence, seen[same]):
            same = next((at for at in range(same - 1, -1, -1) if seen[at].node == item.node), None)
        return same if same is not None else (number - 1 if number else None)
    link = evidence.link(item.node, item.dev)
    if item.dev == "lo" or (link is not None and link.kind in ("bridge", "vxlan", "vlan")):
        return same
    peer = link.peer if link is not None else None
    for at in before:
        other = seen[at]
        if peer is not None and (other.node, other.dev, other.way) == (peer.ns, peer.dev, "out"):
            return at
    if peer is not None:
        return same
    return number - 1 if number else None


def _last_out(evidence: Evidence, item: Crossing) -> bool:
    """Whether the packet left by a cable. What leaves after that is another copy."""
    link = evidence.link(item.node, item.dev)
    return item.way == "out" and link is not None and link.kind == "veth"


def _floods(seen: Sequence[Crossing], chain: Sequence[int], parents: Sequence[int | None]) -> dict[int, int]:
    """The number of copies that left the path, by the time of the sighting where they left."""
    floods: dict[int, int] = {}
    for number, parent in enumerate(parents):
        if parent is not None and number not in chain and parent in chain and seen[number].way == "out":
            floods[seen[parent].when] = floods.get(seen[parent].when, 0) + 1
    return floods


def _hops(chain: Iterable[Crossing], floods: dict[int, int]) -> Iterable[Hop]:
    visit: list[Crossing] = []
    for item in chain:
        if visit and visit[-1].node != item.node:
            yield Hop(visit[0].node, tuple(visit), sum(floods.get(one.when, 0) for one in visit))
            visit = []
        visit.append(item)
    if visit:
        yield Hop(visit[0].node, tuple(visit), sum(floods.get(one.when, 0) for one in visit))


def devices(evidence: Evidence, hop: Hop) -> tuple[str, ...]:
    """The devices on the hop, in order. A bridge that only forwarded the frame is in brackets."""
    names: list[str] = []
    for number, item in enumerate(hop.crossings):
        if number and hop.crossings[number - 1].dev != item.dev:
            between = bridge_between(evidence, hop.crossings[number - 1], item)
            names += [f"({between})"] if between else []
        if not names or names[-1] != item.dev:
            names.append(item.dev)
    return tuple(names)


def bridge_between(evidence: Evidence, one: Crossing, other: Crossing) -> str | None:
    """The bridge that forwarded a frame from one of its ports to another; None if no bridge did."""
    first, second = evidence.link(one.node, one.dev), evidence.link(other.node, other.dev)
    if first is None or second is None or first.master is None or (one.way, other.way) != ("in", "out"):
        return None
    return first.master if first.master == second.master else None


def translated(evidence: Evidence, item: Crossing) -> IP:
    """The packet's destination after this namespace's DNAT or reversed SNAT, according to conntrack."""
    for flow in evidence.flows:
        if flow.node != item.node:
            continue
        if (flow.src, flow.dst) == (item.src, item.dst) and _ports(item, flow.sport, flow.dport):
            return flow.reply_src
        if (flow.reply_src, flow.reply_dst) == (item.src, item.dst) and _ports(
            item, flow.reply_sport, flow.reply_dport
        ):
            return flow.src
    return item.dst


def _ports(item: Crossing, sport: int, dport: int) -> bool:
    return item.ident == sport if item.sport is None else (item.sport, item.dport) == (sport, dport)


def turns(evidence: Evidence, hop: Hop, role: Role) -> tuple[RouteInput, ...]:
    """The questions to the namespace's routing for this packet, one for each time that it was routed, in order.

    A packet is routed where it first leaves, or where it leaves after it came in, unless a bridge forwarded it from
    one port to another. A namespace may do both with one packet: bridge it to a port, and route what comes out there.
    """
    found: list[RouteInput | None] = []
    for number, left in enumerate(hop.bare):
        if left.way != "out":
            continue
        if not number:
            own = left.src if role != "request" and left.dev != "lo" else None
            found.append(RouteInput(hop.node, _end(left, left.dst), own))
        elif (came := hop.bare[number - 1]).way == "in" and bridge_between(evidence, came, left) is None:
            found.append(_input(evidence, came, left.dst))
    return tuple(one for one in found if one is not None)


def route_input(evidence: Evidence, hop: Hop, role: Role) -> RouteInput | None:
    """The last question to the namespace's routing: for the packet that is still in it, else for the packet that left.
    None if it was only bridged."""
    last = hop.bare[-1]
    if last.way == "in" and not (last.dev == "lo" and hop.outs):
        return _input(evidence, last, translated(evidence, last))
    asked = turns(evidence, hop, role)
    return asked[-1] if asked else None


def _input(evidence: Evidence, came: Crossing, dst: IP) -> RouteInput | None:
    """The question for a packet that came in and goes to `dst`; None if the frame is not for this machine."""
    if came.dev == "lo":  # a packet to the machine itself is routed once, when it leaves
        return RouteInput(came.node, _end(came, dst))
    iif = came.dev
    link = evidence.link(came.node, iif)
    if link is not None and link.master is not None:
        iif = link.master
        bridge = evidence.link(came.node, iif)
        if bridge is not None and bridge.mac and came.mac is not None and came.mac[1] != bridge.mac:
            return None  # not for the host of the bridge
    src = came.outer[0] if came.outer is not None else came.src
    return RouteInput(came.node, _end(came, dst), src, iif)


def _end(item: Crossing, dst: IP) -> IP:
    return item.outer[1] if item.outer is not None else dst


def mark_for(evidence: Evidence, wanted: RouteInput, role: Role) -> int:
    """The fwmark of the packet when it was routed, 0 for none. For a packet that came in, this is its mark after
    PREROUTING. A packet of the machine itself is routed again if the mangle table changes its mark. Marks that are
    set later do not affect the route."""
    met = [one for one in evidence.met if (one.node, one.role) == (wanted.node, role)]
    if wanted.iif is not None:
        return next((one.mark for one in reversed(met) if (one.hook, one.iif) == (0, wanted.iif)), 0)
    first, second = (
        next((one.mark for one in reversed(met) if (one.hook, one.table) == (3, table)), 0)
        for table in ("raw", "mangle")
    )
    return second if second != first else 0


def back_input(evidence: Evidence, hop: Hop) -> RouteInput | None:
    """The question for the route back from a namespace to the packet's source."""
    last = hop.bare[-1]
    own = translated(evidence, last)
    return RouteInput(hop.node, last.src, own) if last.way == "in" else None


def answered(evidence: Evidence, wanted: RouteInput | None) -> Lookup | None:
    """The kernel's answer to that question."""
    if wanted is None:
        return None
    for found in evidence.lookups:
        if (found.node, found.dst, found.src, found.iif) == (wanted.node, wanted.dst, wanted.src, wanted.iif):
            return found
    return None
