"""The trail of a probe: its packets among all that the taps of a check saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labctl.core.observations import PacketRole
from labctl.core.resources import Interface
from labctl.core.results import Sighting
from labctl.core.sentence import Sentence, sentence
from labctl.packets.decode import RST, Frame, Packet
from labctl.packets.probe_id import ProbeId


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error that quotes a probe: where it was seen, its sender, its receiver, and its text."""

    at: Interface
    time_ns: int
    sender: str
    receiver: str
    text: str
    quoted_role: PacketRole

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Sentence:
        """The report, as a sentence."""
        return sentence(
            "{sender} reported to {receiver}: {text}", sender=self.sender, receiver=self.receiver, text=self.text
        )


@dataclass(frozen=True, slots=True)
class Trail:
    """All packets of one probe that the taps saw, in order of time, and the neighbour requests seen meanwhile."""

    requests: tuple[Sighting, ...] = ()
    replies: tuple[Sighting, ...] = ()
    icmp_errors: tuple[IcmpError, ...] = ()
    has_reset: bool = False  # among the replies is a TCP reset
    neighbour_requests: tuple[Sighting, ...] = ()


def find_trail(probe_id: ProbeId | None, frames: Iterable[tuple[Frame, Packet]]) -> Trail:
    """Select one probe's packets and the neighbour requests from all captured frames. If `probe_id` is None: no
    packets."""
    requests: list[Sighting] = []
    replies: list[Sighting] = []
    neighbour_requests: list[Sighting] = []
    icmp_errors: list[IcmpError] = []
    has_reset = False
    for frame, packet in frames:
        if packet.kind == "arp" and packet.is_request:
            neighbour_requests.append(sighting(frame, packet, False))
        if probe_id is None:
            continue
        role = probe_id.role(packet)
        if role is not None:
            (requests if role == "request" else replies).append(sighting(frame, packet, role == "reply"))
            has_reset = has_reset or bool(role == "reply" and packet.kind == "tcp" and packet.flags & RST)
        elif packet.quote is not None and (quoted_role := probe_id.role(packet.quote)) is not None:
            sender, receiver = str(packet.src), str(packet.dst)
            icmp_errors.append(IcmpError(frame.at, frame.time_ns, sender, receiver, packet.text, quoted_role))
    return Trail(_in_order(requests), _in_order(replies), tuple(icmp_errors), has_reset, _in_order(neighbour_requests))


def sighting(frame: Frame, packet: Packet, reply: bool) -> Sighting:
    """The sighting of a probe's packet."""
    return Sighting(
        at=frame.at,
        time_ns=frame.time_ns,
        direction=frame.direction,
        src=packet.src,
        dst=packet.dst,
        ttl=packet.ttl,
        proto=packet.proto,
        reply=reply,
        encap=packet.encap,
        outer=packet.outer,
        eth_src=packet.eth_src,
        eth_dst=packet.eth_dst,
        length=packet.length,
        otherhost=frame.for_other_host,
        sport=packet.sport if packet.kind in ("tcp", "udp") else None,
    )


def _in_order(found: list[Sighting]) -> tuple[Sighting, ...]:
    return tuple(sorted(found, key=lambda item: item.time_ns))  # stable sort: keeps the tap's order within a namespace
