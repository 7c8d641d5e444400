"""How a probe's packets are recognised at every hop, also after address translation.

An echo request or a datagram has a marker of eight bytes in its payload. A TCP connection is recognised by its
initial sequence number, which address translation does not change. It also sends a marker, so that a connection
that a proxy opens for it is recognised as well. All of these are visible in tunnels and in the quotes of ICMP errors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from labctl.core.observations import PacketRole
from labctl.core.resources import IP, Interface
from labctl.packets.decode import ACK, RST, SYN, Frame, Packet, decode

MAGIC = b"\x6c\x61\x62\x63"  # the first half of every marker, for the kernel's packet filter
MESH_MAGIC = b"\x6c\x61\x62\x6d"  # the same for all-pairs probes, which the taps must not capture
MARKER_BYTES = 8  # bytes of a marker
HTTP_GET = b"GET "  # how the segment begins that has the marker of an HTTP request, in a header
TIMESTAMP_BYTES = 16  # bytes of an echo's payload before the marker; `ping` writes a timestamp there
REQUEST_SUFFIX, REPLY_SUFFIX = b"?", b"!"  # the byte after the marker in a datagram


@dataclass(frozen=True, slots=True)
class PayloadMarker:
    """Eight bytes in the payload of an echo request or a datagram, and of its answer."""

    value: bytes

    def role(self, packet: Packet) -> PacketRole | None:
        """The packet's role in this probe; None if it does not belong to the probe."""
        if self.value not in packet.payload:
            return None
        if packet.kind == "udp":
            return "reply" if self.value + REPLY_SUFFIX in packet.payload else "request"
        return {"echo": "request", "echo-reply": "reply"}.get(packet.kind)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class TcpProbeId:
    """The initial sequence numbers of a TCP connection and of those that proxies opened for it. They identify the
    SYN of each connection, and the SYN-ACK or RST that answers it."""

    isns: frozenset[int]

    def role(self, packet: Packet) -> PacketRole | None:
        """The packet's role in this probe; None if it does not belong to the probe."""
        if packet.kind != "tcp":
            return None
        if packet.flags & (SYN | ACK | RST) == SYN:
            return "request" if packet.seq in self.isns else None
        answers = packet.flags & (SYN | RST) and (packet.ack - 1) & 0xFFFFFFFF in self.isns
        return "reply" if answers else None


ProbeId: TypeAlias = PayloadMarker | TcpProbeId


def decode_frames(frames: Iterable[Frame]) -> Iterator[tuple[Frame, Packet]]:
    """The frames with their packets; frames that cannot be decoded are left out."""
    for frame in frames:
        packet = decode(frame)
        if packet is not None:
            yield frame, packet


def tcp_probe_id(
    frames: Sequence[tuple[Frame, Packet]],
    source: str,
    sport: int,
    dports: Collection[int],
    marker: bytes | None = None,
) -> TcpProbeId | None:
    """The identity of a connection: the SYN that left `source` from the probe's port. None if no SYN left.

    `dports` are the possible destination ports: if the source itself translates the destination, no packet has the
    requested one. `marker` is the payload that the probe sent through the connection. If another connection carries
    it as well, a proxy opened that one. If the source's masquerading changed the source port, the marker identifies
    the connection.
    """
    isn = None
    for frame, packet in frames:
        is_probe = packet.kind == "tcp" and packet.sport == sport and packet.dport in dports
        if is_probe and frame.at.ns == source and packet.flags & (SYN | ACK) == SYN and packet.encap == "none":
            isn = packet.seq
            break
    marked_connections = tuple(_marked_connections(frames, marker)) if marker else ()
    if isn is None and not any(node == source for node, _ in marked_connections):
        return None
    return TcpProbeId(frozenset((*(() if isn is None else (isn,)), *(number for _, number in marked_connections))))


def _marked_connections(frames: Sequence[tuple[Frame, Packet]], marker: bytes) -> Iterator[tuple[str, int]]:
    """The connections that carried the marker: the namespace and the initial sequence number of each SYN."""
    connections = {
        (frame.at, *_four_tuple(packet))
        for frame, packet in frames
        if packet.kind == "tcp" and _carries(packet.payload, marker + REQUEST_SUFFIX)
    }
    for frame, packet in frames:
        if (
            packet.kind == "tcp"
            and packet.flags & (SYN | ACK) == SYN
            and (frame.at, *_four_tuple(packet)) in connections
        ):
            yield frame.at.ns, packet.seq


def _carries(payload: bytes, marker: bytes) -> bool:
    """Whether the data of a segment begin with a marker, or are an HTTP request with the marker in a header."""
    return payload.startswith(marker) or (payload.startswith(HTTP_GET) and marker in payload)


def _four_tuple(packet: Packet) -> tuple[IP, int, IP, int]:
    return packet.src, packet.sport, packet.dst, packet.dport


def unanswered_neighbours(frames: Iterable[tuple[Frame, Packet]]) -> tuple[tuple[Interface, IP], ...]:
    """The neighbours that did not answer: the device that asked, and the address asked for.

    A bridge repeats a request at its ports; the device that sent it first is the one that needs the answer.
    """
    requests: dict[tuple[IP, IP], Interface] = {}
    answered: set[tuple[str, IP]] = set()
    for frame, packet in sorted(frames, key=lambda pair: pair[0].time_ns):
        if packet.kind != "arp":
            continue
        if (
            packet.is_request
            and frame.direction == "out"
            and not packet.src.is_unspecified
            and packet.src != packet.dst
        ):
            requests.setdefault((packet.src, packet.dst), frame.at)
        elif not packet.is_request and frame.direction == "in":
            answered.add((frame.at.ns, packet.src))
    return tuple((at, ip) for (_, ip), at in requests.items() if (at.ns, ip) not in answered)


def role_of(probe_id: ProbeId, packet: Packet) -> PacketRole | None:
    """The packet's role in the probe: request, reply, or an ICMP error about one of them; None for other packets."""
    role = probe_id.role(packet)
    if role is not None:
        return role
    return "error" if packet.quote is not None and probe_id.role(packet.quote) is not None else None
