"""From sightings to the packet's path: one hop per visit to a namespace. Pure.

A bridge that does not know a MAC address floods, so the taps see a tree of copies. A frame that enters a device left
the device at the other end of the cable before; a frame that leaves came in before. The branch that got furthest is
the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from labctl.core.observations import PacketRole
from labctl.core.resources import IP, Interface, Link

PacketDirection: TypeAlias = Literal["in", "out"]
FindLink: TypeAlias = Callable[[str, str], Link | None]  # a device by its namespace and name; None if it is not known


@dataclass(frozen=True, slots=True)
class PacketObservation:
    """The probe, its reply, or an ICMP error about it, seen once at a device.

    `addressed_here` is False for an Ethernet frame that is addressed to another machine (a flooded copy, a promiscuous
    port). `sport` and `dport` are None for ICMP, where `ident` is the echo's identifier. `outer` are the addresses of
    the tunnel that carries it.
    """

    JSON_KEYS: ClassVar[Mapping[str, str]] = {"direction": "way", "addressed_here": "ours"}

    node: str
    dev: str
    direction: PacketDirection
    when: int
    role: PacketRole
    src: IP
    dst: IP
    ttl: int
    length: int
    sport: int | None = None
    dport: int | None = None
    encap: str = "none"
    outer: tuple[IP, IP] | None = None
    mac: tuple[str, str] | None = None  # source, destination
    text: str = ""  # of an ICMP error; `reset` or `syn-ack` of TCP
    addressed_here: bool = True
    ident: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """One visit of the packet to a namespace. `flooded` counts the copies that left for elsewhere."""

    node: str
    observations: tuple[PacketObservation, ...]
    flooded: int = 0

    @property
    def ins(self) -> tuple[PacketObservation, ...]:
        """The sightings of the packet coming in."""
        return tuple(item for item in self.observations if item.direction == "in")

    @property
    def outs(self) -> tuple[PacketObservation, ...]:
        """The sightings of the packet going out."""
        return tuple(item for item in self.observations if item.direction == "out")

    @property
    def outside_tunnel(self) -> tuple[PacketObservation, ...]:
        """The sightings outside a tunnel; all sightings, if it is inside a tunnel at each of them."""
        return tuple(item for item in self.observations if item.encap == "none") or self.observations


def path(
    observations: Iterable[PacketObservation], role: PacketRole, end: str | None, find_link: FindLink
) -> tuple[Hop, ...]:
    """The hops of the request, of its reply, or of the first ICMP error. `end` is the namespace that it goes to."""
    observations = _without_retransmits([item for item in observations if item.role == role])
    if role == "error":  # keep the first of several errors: a probe that is sent again causes another error
        observations = list({(item.node, item.dev, item.direction): item for item in reversed(observations)}.values())[
            ::-1
        ]
    if not observations:
        return ()
    parents = [_parent(find_link, observations, number) for number in range(len(observations))]
    leaves = sorted(set(range(len(observations))) - {parent for parent in parents if parent is not None})
    chain: list[int] = []
    index: int | None
    index = max(leaves, key=lambda leaf: _branch_rank(find_link, observations, leaf, end))
    while index is not None:
        chain.insert(0, index)
        index = parents[index]
    return tuple(_hops([observations[number] for number in chain], _flooded_copies(observations, chain, parents)))


def _branch_rank(
    find_link: FindLink, observations: Sequence[PacketObservation], leaf: int, end: str | None
) -> tuple[bool, bool, int]:
    """The rank of a branch's end: first arrival at the target, then a frame that is not a copy, then the latest."""
    last = observations[leaf]
    link = find_link(last.node, last.dev)
    wanted = last.addressed_here or (link is not None and link.master is not None)
    return last.node == end and last.direction == "in" and wanted, wanted, leaf


def _without_retransmits(observations: list[PacketObservation]) -> list[PacketObservation]:
    """The sightings without retransmissions (a TCP SYN is sent again after a second)."""
    if not observations or observations[0].direction != "out":
        return observations
    first = observations[0]
    for number, item in enumerate(observations[1:], 1):
        again = (item.node, item.dev, item.direction, item.ttl) == (first.node, first.dev, first.direction, first.ttl)
        if again and item.when - first.when > 100_000_000:
            return observations[:number]
    return observations


def _parent(find_link: FindLink, observations: Sequence[PacketObservation], number: int) -> int | None:
    item, before = observations[number], range(number - 1, -1, -1)
    earlier: int | None = next((at for at in before if observations[at].node == item.node), None)
    tunnel = next((at for at in before if _changes_tunnel(find_link, observations[at], item)), None)
    if tunnel is not None and (earlier is None or tunnel > earlier):
        return tunnel
    if item.direction == "out":
        while earlier is not None and _leaves_by_veth(find_link, observations[earlier]):
            earlier = next((at for at in range(earlier - 1, -1, -1) if observations[at].node == item.node), None)
        return earlier if earlier is not None else (number - 1 if number else None)
    link = find_link(item.node, item.dev)
    if item.dev == "lo" or (link is not None and link.kind in ("bridge", "vxlan", "vlan")):
        return earlier
    peer = link.peer if link is not None else None
    for at in before:
        other = observations[at]
        if peer is not None and (other.node, other.dev, other.direction) == (peer.ns, peer.dev, "out"):
            return at
    for at in before:
        if _are_stacked(find_link, observations[at], item):
            return at
    if peer is not None:
        return earlier
    return number - 1 if number else None


def _changes_tunnel(find_link: FindLink, before: PacketObservation, item: PacketObservation) -> bool:
    """Whether a packet entered or left a VXLAN of which the socket is in another namespace than the device: it left
    by the device before it was in the tunnel, or came in by the device after it was in the tunnel."""
    if (before.encap == "none") == (item.encap == "none") or before.direction != item.direction:
        return False
    inner, outer = (item, before) if item.direction == "in" else (before, item)
    link = find_link(inner.node, inner.dev)
    return inner.encap == "none" and link is not None and link.kind == "vxlan" and link.link_netns == outer.node


def _are_stacked(find_link: FindLink, before: PacketObservation, item: PacketObservation) -> bool:
    """Whether a frame came in at the second device because it was at the first: one of them is the lower device of
    the other, a macvlan, which may be in another namespace."""
    link, other = find_link(item.node, item.dev), find_link(before.node, before.dev)
    if link is None or other is None:
        return False
    if before.direction == "in":
        return lower_interface(link) == other.at
    return lower_interface(other) in (link.at, lower_interface(link) or link.at)


def lower_interface(link: Link) -> Interface | None:
    """The device below a macvlan or ipvlan; None for other kinds of devices."""
    dev = dict(link.options).get("dev")
    if link.kind not in ("macvlan", "ipvlan") or dev is None:
        return None
    return Interface(link.link_netns or link.at.ns, dev)


def _leaves_by_veth(find_link: FindLink, item: PacketObservation) -> bool:
    """Whether the packet left by a cable. What leaves after that is another copy."""
    link = find_link(item.node, item.dev)
    return item.direction == "out" and link is not None and link.kind == "veth"


def _flooded_copies(
    observations: Sequence[PacketObservation], chain: Sequence[int], parents: Sequence[int | None]
) -> dict[int, int]:
    """The number of copies that left the path, by the time of the sighting where they left."""
    floods: dict[int, int] = {}
    for number, parent in enumerate(parents):
        if parent is not None and number not in chain and parent in chain and observations[number].direction == "out":
            floods[observations[parent].when] = floods.get(observations[parent].when, 0) + 1
    return floods


def _hops(chain: Iterable[PacketObservation], floods: dict[int, int]) -> Iterable[Hop]:
    visit: list[PacketObservation] = []
    for item in chain:
        if visit and visit[-1].node != item.node:
            yield Hop(visit[0].node, tuple(visit), sum(floods.get(one.when, 0) for one in visit))
            visit = []
        visit.append(item)
    if visit:
        yield Hop(visit[0].node, tuple(visit), sum(floods.get(one.when, 0) for one in visit))
