"""How one probe is told from all other packets, at every hop, whatever was rewritten on the way.

An echo or datagram carries eight bytes of its own. A TCP connection is known by its initial sequence
number, which address translation leaves alone; it says such bytes too, so that one that a proxy opens for it is
known as well. All are still there in tunnels and in the quotes of ICMP errors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from labctl.core.observations import Role
from labctl.core.resources import IP, Port
from labctl.core.results import Sighting
from labctl.packets.decode import ACK, RST, SYN, Frame, Packet, decode, sighting

MAGIC = b"\x6c\x61\x62\x63"  # the first half of every marker: what the kernel's filter looks for
MESH_MAGIC = b"\x6c\x61\x62\x6d"  # of all-pairs probes, which the taps shall not see
MARKER = 8  # bytes of a marker
STAMP = 16  # bytes of an echo's payload before the marker: `ping` writes the time there
ASKING, ANSWERING = b"?", b"!"  # follow the marker in a datagram


@dataclass(frozen=True, slots=True)
class Marker:
    """Eight bytes in the payload of an echo request or a datagram, and of its answer."""

    value: bytes

    def role(self, packet: Packet) -> Role | None:
        """What the packet is to this probe, if it belongs to it at all."""
        if self.value not in packet.payload:
            return None
        if packet.kind == "udp":
            return "reply" if self.value + ANSWERING in packet.payload else "request"
        return {"echo": "request", "echo-reply": "reply"}.get(packet.kind)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Opening:
    """The initial sequence numbers of a TCP connection, and of those that relays opened for it: the SYN of each
    and whatever answers that."""

    isns: frozenset[int]

    def role(self, packet: Packet) -> Role | None:
        """What the packet is to this probe, if it belongs to it at all."""
        if packet.kind != "tcp":
            return None
        if packet.flags & (SYN | ACK | RST) == SYN:
            return "request" if packet.seq in self.isns else None
        answers = packet.flags & (SYN | RST) and (packet.ack - 1) & 0xFFFFFFFF in self.isns
        return "reply" if answers else None


Mark: TypeAlias = Marker | Opening


@dataclass(frozen=True, slots=True)
class Complaint:
    """An ICMP error that quotes a probe: where it was seen, who sent it to whom, and what it says."""

    at: Port
    when: int
    sender: str
    to: str
    text: str
    about: Role

    def __str__(self) -> str:
        return f"{self.sender} told {self.to}: {self.text}"


@dataclass(frozen=True, slots=True)
class Trail:
    """Everything the taps saw of one probe, in the order of time, and who asked for a neighbour meanwhile."""

    requests: tuple[Sighting, ...] = ()
    replies: tuple[Sighting, ...] = ()
    complaints: tuple[Complaint, ...] = ()
    resets: bool = False  # among the replies is a TCP reset
    questions: tuple[Sighting, ...] = ()


def follow(mark: Mark | None, frames: Iterable[tuple[Frame, Packet]]) -> Trail:
    """Pick one probe's packets, and the questions for neighbours, out of all that was captured. No mark, no packets."""
    requests: list[Sighting] = []
    replies: list[Sighting] = []
    questions: list[Sighting] = []
    complaints: list[Complaint] = []
    resets = False
    for frame, packet in frames:
        if packet.kind == "arp" and packet.asking:
            questions.append(sighting(frame, packet, False))
        if mark is None:
            continue
        role = mark.role(packet)
        if role is not None:
            (requests if role == "request" else replies).append(sighting(frame, packet, role == "reply"))
            resets = resets or bool(role == "reply" and packet.kind == "tcp" and packet.flags & RST)
        elif packet.quote is not None and (about := mark.role(packet.quote)) is not None:
            complaints.append(Complaint(frame.at, frame.when, str(packet.src), str(packet.dst), packet.text, about))
    return Trail(_in_order(requests), _in_order(replies), tuple(complaints), resets, _in_order(questions))


def decoded(frames: Iterable[Frame]) -> Iterator[tuple[Frame, Packet]]:
    """Frames with their packets; what cannot be decoded is left out."""
    for frame in frames:
        packet = decode(frame)
        if packet is not None:
            yield frame, packet


def opening(
    frames: Sequence[tuple[Frame, Packet]],
    source: str,
    sport: int,
    dports: Collection[int],
    marker: bytes | None = None,
) -> Opening | None:
    """The identity of a connection: the SYN that left `source` from our own port. None if none left.

    `dports` are the ports it may go to: where the source itself translates, no packet ever has the one asked for.
    `marker` is what was said through the connection: where that was said again, a relay opened one for it, and
    where the source's own masquerading draws a port, it tells which of its connections this one is.
    """
    own = None
    for frame, packet in frames:
        ours = packet.kind == "tcp" and packet.sport == sport and packet.dport in dports
        if ours and frame.at.ns == source and packet.flags & (SYN | ACK) == SYN and packet.encap == "none":
            own = packet.seq
            break
    spoken = tuple(_spoken(frames, marker)) if marker else ()
    if own is None and not any(node == source for node, _ in spoken):
        return None
    return Opening(frozenset((*(() if own is None else (own,)), *(number for _, number in spoken))))


def _spoken(frames: Sequence[tuple[Frame, Packet]], marker: bytes) -> Iterator[tuple[str, int]]:
    """The connections through which the marker was asked: each SYN's namespace and initial sequence number."""
    asked = {
        (frame.at, *_ends(packet))
        for frame, packet in frames
        if packet.kind == "tcp" and packet.payload.startswith(marker + ASKING)
    }
    for frame, packet in frames:
        if packet.kind == "tcp" and packet.flags & (SYN | ACK) == SYN and (frame.at, *_ends(packet)) in asked:
            yield frame.at.ns, packet.seq


def _ends(packet: Packet) -> tuple[IP, int, IP, int]:
    return packet.src, packet.sport, packet.dst, packet.dport


def unanswered(frames: Iterable[tuple[Frame, Packet]]) -> tuple[tuple[Port, IP], ...]:
    """The neighbours that were asked for and never answered: at which device, for which address.

    A bridge repeats a question at its ports; the first to ask is who wants to know.
    """
    asked: dict[tuple[IP, IP], Port] = {}
    answered: set[tuple[str, IP]] = set()
    for frame, packet in sorted(frames, key=lambda pair: pair[0].when):
        if packet.kind != "arp":
            continue
        if packet.asking and frame.direction == "out" and not packet.src.is_unspecified and packet.src != packet.dst:
            asked.setdefault((packet.src, packet.dst), frame.at)
        elif not packet.asking and frame.direction == "in":
            answered.add((frame.at.ns, packet.src))
    return tuple((at, ip) for (_, ip), at in asked.items() if (at.ns, ip) not in answered)


def _in_order(found: list[Sighting]) -> tuple[Sighting, ...]:
    return tuple(sorted(found, key=lambda item: item.when))  # stable: within a namespace the tap's order holds


def role_of(mark: Mark, packet: Packet) -> Role | None:
    """What a packet is to the probe: itself, its answer, an ICMP error about either; None if it is not its own."""
    role = mark.role(packet)
    if role is not None:
        return role
    return "error" if packet.quote is not None and mark.role(packet.quote) is not None else None
