"""Run a trace on a live lab: set up the instruments, send one probe, wait, and record all that was seen.

The wait ends when the reply arrives, when the kernel's drop of the probe is found, or when the time is up. The time
is short, except if a neighbour does not answer: then it lasts as long as the kernel's own retries.
"""

from __future__ import annotations

import secrets
import select
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.checks.context import CheckContext, refresh_carriers
from labctl.core.observations import PacketRole
from labctl.core.topology import LEAF_ROLES, Topology
from labctl.errors import KernelError
from labctl.kernel.host import lab_state
from labctl.kernel.probes import trace_probes
from labctl.kernel.probes.listener import Listener
from labctl.packets.decode import RST, SYN, Frame, Packet
from labctl.packets.probe_id import (
    MAGIC,
    PayloadMarker,
    ProbeId,
    TcpProbeId,
    decode_frames,
    role_of,
    unanswered_neighbours,
)
from labctl.tracing import collect, drop_attribution
from labctl.tracing.evidence import Evidence, PacketObservation, Question, UnansweredNeighbour
from labctl.tracing.hops import path
from labctl.tracing.instruments import Instruments

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab
    from labctl.kernel.probes.clients import Probe

QUIET_TIMEOUT_S = 0.4  # seconds after which the wait ends, unless a neighbour request is open
NEIGHBOUR_TIMEOUT_S = 3.5  # seconds that the kernel waits for a neighbour
POLL_INTERVAL_S = 0.03  # seconds between two looks at the evidence
FULL_TAP_LIMIT = 64  # in labs with up to this many namespaces, each namespace is watched


def trace_packet(
    lab: Lab,
    question: Question,
    *,
    listen: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Evidence, list[Frame]]:
    """Send the probe and follow it. Returns the evidence, and the frames that the taps saw. `progress` gets the current
    step, `say` the names of kernel modules that were loaded.

    A lab runs one trace at a time, and none while `up` or `down` changes it, because only one reader can get a
    namespace's reports of legacy rules.

    Raises KernelError if the source cannot be entered or no tap works, LockError if another labctl held the lab.
    """
    begun = time.monotonic()
    topology = Topology(lab)
    isn = secrets.randbits(32)
    marker = MAGIC + secrets.token_bytes(4)
    identity = isn.to_bytes(4, "big") if question.protocol == "tcp" else marker
    progress("setting up taps")
    with (
        lab_state.lock(lab.name),
        Instruments(lab.name, _namespaces_to_tap(topology, question), question, identity, warn) as instruments,
    ):
        assert instruments.taps is not None
        refresh_carriers(CheckContext(topology, instruments.thread, instruments.taps, None))
        listener = _start_listener(instruments, question) if listen else None
        try:
            instruments.taps.discard()
            if instruments.tracing is not None:
                instruments.tracing.start()
            sent = time.time_ns()
            probe_id: ProbeId = TcpProbeId(frozenset((isn,))) if question.protocol == "tcp" else PayloadMarker(marker)
            pid, probe = _send_probe(instruments, question, marker, isn)
            progress(f"following the probe to {question.target}")
            try:
                evidence = _ProbeWait(
                    instruments, topology, question, probe_id, sent, pid, probe, listener
                ).wait_and_collect()
            finally:
                probe.close()
        finally:
            if listener is not None:
                listener.close()
        frames = [
            frame
            for frame, packet in decode_frames(instruments.taps.frames())
            if role_of(probe_id, packet) or packet.kind == "arp"
        ]
    return replace(evidence, seconds=round(time.monotonic() - begun, 3)), frames


def _namespaces_to_tap(topology: Topology, question: Question) -> tuple[str, ...]:
    """The namespaces that get taps: all of a small lab, else the ends, their hosts, and those between them."""
    if len(topology.namespaces) <= FULL_TAP_LIMIT:
        return topology.namespaces
    ends = [end for end in (question.source, question.target_ns) if end]
    hosts = [machine.on for end in ends if (machine := topology.machines.get(end)) is not None and machine.on]
    between = [node for node in topology.namespaces if topology.role(node) not in LEAF_ROLES]
    return tuple(dict.fromkeys((*ends, *hosts, *between)))


def _start_listener(instruments: Instruments, question: Question) -> Listener | None:
    if question.target_ns is None or question.port is None:
        instruments.unknown.append(f"no machine of the lab has {question.address}, so labctl started no listener")
        return None
    try:
        made: Listener = instruments.run(
            question.target_ns, Listener, question.protocol, question.address.version, question.port
        )
    except OSError as error:
        instruments.unknown.append(
            f"labctl could not listen on port {question.port} of {question.target_ns}: {error.strerror}"
        )
        return None
    return made


def _send_probe(instruments: Instruments, question: Question, marker: bytes, isn: int) -> tuple[int, Probe]:
    try:
        found: tuple[int, Probe] = instruments.run(question.source, _create_probe, question, marker, isn)
    except OSError as error:
        raise KernelError(f"cannot send from {question.source}: {error.strerror}", errno=error.errno or 0) from None
    return found


def _create_probe(question: Question, marker: bytes, isn: int) -> tuple[int, Probe]:
    """Send the probe. Runs inside the source's namespace."""
    import threading

    address, port, size = question.address, question.port or 0, question.size or trace_probes.DEFAULT_PAYLOAD_BYTES
    probe: Probe
    if question.protocol == "tcp":
        probe = trace_probes.SynProbe(address, port, isn)
    elif question.protocol == "udp":
        probe = trace_probes.SizedDatagram(address, port, marker, size, question.fragment)
    else:
        probe = trace_probes.SizedEcho(address, marker, size, question.fragment)
    return threading.get_native_id(), probe


class _ProbeWait:
    """Waits for the end of a probe."""

    def __init__(
        self,
        instruments: Instruments,
        topology: Topology,
        question: Question,
        probe_id: ProbeId,
        sent_ns: int,
        pid: int,
        probe: Probe,
        listener: Listener | None,
    ) -> None:
        self.instruments, self.topology, self.question, self.probe_id = instruments, topology, question, probe_id
        self.sent_ns, self.pid, self.probe, self.listener = sent_ns, pid, probe, listener
        self.machines = {one.name: one.addresses for one in topology.lab.machines if one.netns_of is None}

    def wait_and_collect(self) -> Evidence:
        """Wait for the end, then collect the evidence."""
        begun = time.monotonic()
        patience = NEIGHBOUR_TIMEOUT_S if self.probe.answer is None else 0.0
        while time.monotonic() - begun < patience and not self._step():
            if time.monotonic() - begun > QUIET_TIMEOUT_S and not self._observed_so_far().unanswered_neighbours:
                break
            if self._is_dropped():
                self._step(0.01)  # an ICMP error may still be under way
                break
        return self._finish()

    def _step(self, seconds: float = POLL_INTERVAL_S) -> bool:
        """Serve the probe and the listener for some seconds; True when the probe has an answer."""
        deadline = time.monotonic() + seconds
        while self.probe.answer is None and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            served = self.listener.fds() if self.listener is not None else []
            for fd, events in (*self.probe.fds(), *served):
                poll.register(fd, events)
            poll.poll(left * 1000)
            if self.listener is not None:
                self.listener.step()
            self.probe.step()
        return self.probe.answer is not None

    def _is_dropped(self) -> bool:
        """Whether the kernel has reported a drop of this probe."""
        if self.instruments.tracing is None:
            return False
        events = self.instruments.tracing.read_events()
        if not any(event.kind == "drop" for event in events):
            return False
        evidence = self._observed_so_far()
        evidence = replace(evidence, events=collect.probe_events(events, self.sent_ns, self.pid))
        roles: tuple[PacketRole, ...] = ("reply", "request")
        for role in roles:
            if hops := path(evidence, role):
                found = drop_attribution.find_drop_event(evidence, hops)
                return found is not None and not evidence.unanswered_neighbours
        return False

    def _observed_so_far(self) -> Evidence:
        """The evidence so far from the taps, with the namespaces as planned."""
        assert self.instruments.taps is not None
        frames = list(decode_frames(self.instruments.taps.frames()))
        planned = collect.planned_namespaces(self.topology)
        crossings = tuple(
            _observation(frame, packet, role, self.sent_ns) for frame, packet, role in self._probe_packets(frames)
        )
        asked = tuple(UnansweredNeighbour(at.ns, at.dev, ip) for at, ip in unanswered_neighbours(frames))
        return Evidence(
            self.question, "timeout", "", self.pid, planned, crossings, unanswered_neighbours=asked,
            machines=self.machines,
        )  # fmt: skip

    def _probe_packets(self, frames: list[tuple[Frame, Packet]]) -> list[tuple[Frame, Packet, PacketRole]]:
        found = [
            (frame, packet, role) for frame, packet in frames if (role := role_of(self.probe_id, packet)) is not None
        ]
        return _with_udp_replies(sorted(found, key=lambda item: item[0].time_ns))

    def _finish(self) -> Evidence:
        assert self.instruments.taps is not None
        if self.probe.answer is None:
            self.probe.time_out()
        events, missed = self.instruments.tracing.stop() if self.instruments.tracing is not None else ([], 0)
        deaf = self.instruments.taps.verify_receiving()
        lost = self.instruments.taps.losses()
        unknown = [
            f"the tap in {node} cannot be trusted: {why}"
            for node, why in {**self.instruments.taps.not_receiving, **deaf}.items()
        ]
        unknown += [f"the tap in {node} lost {count} frames" for node, count in lost.items()]
        seen = replace(
            self._observed_so_far(),
            answer=self.probe.answer or "timeout",
            detail=self.probe.detail,
            events=collect.probe_events(events, self.sent_ns, self.pid),
            lost_events=missed,
            unknown=(*self.instruments.unknown, *unknown),
            looping=self.instruments.taps.looping(),
            drops_traced=self.instruments.tracing is not None,
            rules_traced=len(self.instruments.nft_tables) == len(self.instruments.chains_before),
        )
        return collect.add_namespace_state(self.instruments, self.topology, seen, self.probe_id)


def _with_udp_replies(found: list[tuple[Frame, Packet, PacketRole]]) -> list[tuple[Frame, Packet, PacketRole]]:
    """Correct the roles of UDP datagrams: one with exchanged ports is a reply. A server that echoes its input returns
    the marker of the request."""
    ports = {(packet.sport, packet.dport) for _, packet, role in found[:1] if role == "request"}
    turned: list[tuple[Frame, Packet, PacketRole]] = []
    for frame, packet, role in found:
        if packet.kind == "udp" and role == "request":
            if (packet.dport, packet.sport) in ports and packet.sport != packet.dport:
                role = "reply"
            else:
                ports.add((packet.sport, packet.dport))
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
