"""The packets of one probe among all frames that the taps captured: each is looked at once, when it arrives. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.core.observations import PacketRole
from labctl.core.resources import IP, Interface
from labctl.packets.decode import RST, SYN, Frame, Packet
from labctl.packets.probe_id import ProbeId, role_of, unanswered_neighbours
from labctl.tracing.datagram_roles import DatagramRoles, End
from labctl.tracing.evidence import NeighbourObservation, UnansweredNeighbour
from labctl.tracing.hops import PacketObservation

MAX_NEIGHBOUR_OBSERVATIONS = 500  # questions and answers that are kept at most
MIN_REPEAT_NS = 300_000_000  # nanoseconds after which an equal question is a new one, and not a copy in a loop


class ProbePackets:
    """The probe's packets and the neighbour requests, as far as they were captured.

    `frames` are their frames, in the order of capture. `target` is the address and the port that the user asked for.
    """

    def __init__(self, probe_id: ProbeId, sent_ns: int, target: End) -> None:
        self.frames: list[Frame] = []
        self._probe_id, self._sent_ns, self._target = probe_id, sent_ns, target
        self._packets: list[tuple[Frame, Packet, PacketRole]] = []
        self._neighbour_packets: dict[tuple[object, ...], tuple[Frame, Packet]] = {}
        self._neighbour_sightings: dict[tuple[object, ...], tuple[Frame, Packet]] = {}
        self._question_times: dict[tuple[Interface, IP], list[int]] = {}
        self._seen_count = 0

    def update(self, captured: Sequence[tuple[Frame, Packet]]) -> bool:
        """Look at the frames that are new in `captured`, which has all frames so far. Returns whether the observations
        or the neighbours may have changed."""
        changed = False
        for frame, packet in captured[self._seen_count :]:
            role = role_of(self._probe_id, packet)
            if role is not None:
                self._packets.append((frame, packet, role))
            if role is not None or packet.kind == "arp":
                self.frames.append(frame)
            changed = changed or role is not None
            if packet.kind == "arp":
                changed = self._is_first_of_neighbour(frame, packet) or changed
                if packet.is_request and frame.direction == "out":
                    times = self._question_times.setdefault((frame.at, packet.dst), [])
                    if not times or frame.time_ns - times[-1] > MIN_REPEAT_NS:
                        times.append(frame.time_ns)
                sighting = (frame.at, frame.direction, packet.is_request, packet.src if packet.is_request else "",
                            packet.dst if packet.is_request else packet.src, packet.outer)  # fmt: skip
                self._neighbour_sightings.setdefault(sighting, (frame, packet))
        self._seen_count = len(captured)
        return changed

    def _is_first_of_neighbour(self, frame: Frame, packet: Packet) -> bool:
        """Keep the first of equal requests, and of equal answers in a namespace. A flood repeats them without end."""
        at = "" if packet.is_request else frame.at.ns
        key = (packet.is_request, frame.direction, at, packet.src, packet.dst)
        known = self._neighbour_packets.get(key)
        if known is not None and known[0].time_ns <= frame.time_ns:
            return False
        self._neighbour_packets[key] = (frame, packet)
        return True

    def observations(self) -> tuple[PacketObservation, ...]:
        """The probe's packets in order of time."""
        packets = _with_udp_replies(sorted(self._packets, key=lambda item: item[0].time_ns), self._target)
        return tuple(_observation(frame, packet, role, self._sent_ns) for frame, packet, role in packets)

    def unanswered_neighbours(self) -> tuple[UnansweredNeighbour, ...]:
        """The neighbours that have not answered so far."""
        found = unanswered_neighbours(self._neighbour_packets.values())
        return tuple(UnansweredNeighbour(at.ns, at.dev, ip) for at, ip in found)

    def question_times(self, missing: UnansweredNeighbour) -> tuple[int, ...]:
        """When the machine asked for a neighbour (ns since the epoch), each time that it did."""
        return tuple(self._question_times.get((Interface(missing.node, missing.dev), missing.ip), ()))

    def neighbour_observations(self) -> tuple[NeighbourObservation, ...]:
        """Where each question for a MAC address, and each answer, was first seen at a device."""
        found = sorted(self._neighbour_sightings.values(), key=lambda item: item[0].time_ns)
        return tuple(_neighbour_observation(*item, self._sent_ns) for item in found[:MAX_NEIGHBOUR_OBSERVATIONS])


def _neighbour_observation(frame: Frame, packet: Packet, sent_ns: int) -> NeighbourObservation:
    ip = packet.dst if packet.is_request else packet.src
    macs = (packet.eth_src, packet.eth_dst) if packet.eth_dst else None
    return NeighbourObservation(
        frame.at.ns,
        frame.at.dev,
        frame.direction,
        frame.time_ns - sent_ns,
        ip,
        packet.is_request,
        packet.src,
        macs,
        packet.outer,
    )


def _with_udp_replies(
    found: list[tuple[Frame, Packet, PacketRole]], target: End
) -> list[tuple[Frame, Packet, PacketRole]]:
    """Correct the roles of UDP datagrams: those that return to an earlier source are replies."""
    roles = DatagramRoles(target)
    turned: list[tuple[Frame, Packet, PacketRole]] = []
    for frame, packet, role in found:
        if packet.kind == "udp":
            ends = (packet.src, packet.sport), (packet.dst, packet.dport)
            role = roles.role(*ends) if role == "request" else role
            roles.add(*ends, role)
        turned.append((frame, packet, role))
    return turned


def _observation(frame: Frame, packet: Packet, role: PacketRole, sent_ns: int) -> PacketObservation:
    ports = packet.kind in ("tcp", "udp")
    text = packet.text
    if packet.kind == "tcp" and role == "reply":
        text = "reset" if packet.flags & RST else "syn-ack" if packet.flags & SYN else ""
    return PacketObservation(
        frame.at.ns, frame.at.dev, frame.direction, frame.time_ns - sent_ns, role, packet.src, packet.dst, packet.ttl,
        packet.length, packet.sport if ports else None, packet.dport if ports else None, packet.encap, packet.outer,
        (packet.eth_src, packet.eth_dst) if packet.eth_dst else None, text, not frame.for_other_host,
        packet.seq if packet.kind in ("echo", "echo-reply") else 0,
    )  # fmt: skip
