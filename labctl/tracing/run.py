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

from labctl.checks.context import Bench, settle_carriers
from labctl.core.observations import Role
from labctl.core.topology import INNER, Who
from labctl.errors import KernelError
from labctl.kernel.host import lab_state
from labctl.kernel.probes import trace_probes
from labctl.kernel.probes.listener import Listener
from labctl.packets.decode import RST, SYN, Frame, Packet
from labctl.packets.probe_id import MAGIC, Mark, Marker, Opening, decoded, role_of, unanswered
from labctl.tracing import collect, drop_attribution
from labctl.tracing.evidence import Asked, Crossing, Evidence, Question
from labctl.tracing.hops import road
from labctl.tracing.instruments import Armed

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab
    from labctl.kernel.probes.clients import Probe

SILENCE = 0.4  # seconds after which the wait ends, unless a neighbour request is open
PATIENCE = 3.5  # seconds that the kernel waits for a neighbour
LOOK = 0.03  # seconds between two looks at the evidence
SMALL = 64  # in labs with up to this many namespaces, each namespace is watched


def follow(
    lab: Lab,
    question: Question,
    *,
    listen: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Evidence, list[Frame]]:
    """Send the probe and follow it. Returns the evidence, and the frames that the taps saw. `progress` gets the current
    step, `say` the names of kernel modules that were loaded.

    A lab runs one trace at a time, and none while `up` or `down` changes it, because only one reader can get a
    namespace's reports of legacy rules.

    Raises KernelError if the source cannot be entered or no tap works, LockError if another labctl held the lab.
    """
    begun = time.monotonic()
    who = Who(lab)
    isn = secrets.randbits(32)
    marker = MAGIC + secrets.token_bytes(4)
    identity = isn.to_bytes(4, "big") if question.protocol == "tcp" else marker
    progress("setting up taps")
    with lab_state.lock(lab.name), Armed(lab.name, _watched(who, question), question, identity, say) as armed:
        assert armed.taps is not None
        settle_carriers(Bench(who, armed.inside, armed.taps, None))
        listener = _listen(armed, question) if listen else None
        try:
            armed.taps.forget()
            if armed.tracing is not None:
                armed.tracing.start()
            sent = time.time_ns()
            mark: Mark = Opening(frozenset((isn,))) if question.protocol == "tcp" else Marker(marker)
            pid, probe = _shoot(armed, question, marker, isn)
            progress(f"following the probe to {question.target}")
            try:
                evidence = _Watch(armed, who, question, mark, sent, pid, probe, listener).until_over()
            finally:
                probe.close()
        finally:
            if listener is not None:
                listener.close()
        frames = [
            frame for frame, packet in decoded(armed.taps.frames()) if role_of(mark, packet) or packet.kind == "arp"
        ]
    return replace(evidence, seconds=round(time.monotonic() - begun, 3)), frames


def _watched(who: Who, question: Question) -> tuple[str, ...]:
    """The namespaces that get taps: all of a small lab, else the ends, their hosts, and those between them."""
    if len(who.nodes) <= SMALL:
        return who.nodes
    ends = [end for end in (question.source, question.home) if end]
    hosts = [machine.on for end in ends if (machine := who.machines.get(end)) is not None and machine.on]
    between = [node for node in who.nodes if who.role(node) not in INNER]
    return tuple(dict.fromkeys((*ends, *hosts, *between)))


def _listen(armed: Armed, question: Question) -> Listener | None:
    if question.home is None or question.port is None:
        armed.unknown.append(f"no machine of the lab has {question.address}, so labctl started no listener")
        return None
    try:
        made: Listener = armed.run(question.home, Listener, question.protocol, question.address.version, question.port)
    except OSError as error:
        armed.unknown.append(f"labctl could not listen on port {question.port} of {question.home}: {error.strerror}")
        return None
    return made


def _shoot(armed: Armed, question: Question, marker: bytes, isn: int) -> tuple[int, Probe]:
    try:
        found: tuple[int, Probe] = armed.run(question.source, _shot, question, marker, isn)
    except OSError as error:
        raise KernelError(f"cannot send from {question.source}: {error.strerror}", errno=error.errno or 0) from None
    return found


def _shot(question: Question, marker: bytes, isn: int) -> tuple[int, Probe]:
    """Send the probe. Runs inside the source's namespace."""
    import threading

    address, port, size = question.address, question.port or 0, question.size or trace_probes.USUAL
    probe: Probe
    if question.protocol == "tcp":
        probe = trace_probes.ChosenSyn(address, port, isn)
    elif question.protocol == "udp":
        probe = trace_probes.SizedDatagram(address, port, marker, size, question.fragment)
    else:
        probe = trace_probes.SizedEcho(address, marker, size, question.fragment)
    return threading.get_native_id(), probe


class _Watch:
    """Waits for the end of a probe."""

    def __init__(
        self,
        armed: Armed,
        who: Who,
        question: Question,
        mark: Mark,
        sent: int,
        pid: int,
        probe: Probe,
        listener: Listener | None,
    ) -> None:
        self.armed, self.who, self.question, self.mark = armed, who, question, mark
        self.sent, self.pid, self.probe, self.listener = sent, pid, probe, listener
        self.machines = {one.name: one.addresses for one in who.lab.machines if one.within is None}

    def until_over(self) -> Evidence:
        """Wait for the end, then collect the evidence."""
        begun = time.monotonic()
        patience = PATIENCE if self.probe.answer is None else 0.0
        while time.monotonic() - begun < patience and not self._step():
            if time.monotonic() - begun > SILENCE and not self._seen().asked:
                break
            if self._dropped():
                self._step(0.01)  # an ICMP error may still be under way
                break
        return self._finish()

    def _step(self, seconds: float = LOOK) -> bool:
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

    def _dropped(self) -> bool:
        """Whether the kernel has reported a drop of this probe."""
        if self.armed.tracing is None:
            return False
        events = self.armed.tracing.peek()
        if not any(event.kind == "drop" for event in events):
            return False
        seen = self._seen()
        seen = replace(seen, events=collect.ours(events, self.sent, self.pid))
        roles: tuple[Role, ...] = ("reply", "request")
        for role in roles:
            if hops := road(seen, role):
                found = drop_attribution.drop(seen, hops)
                return found is not None and not seen.asked
        return False

    def _seen(self) -> Evidence:
        """The evidence so far from the taps, with the namespaces as planned."""
        assert self.armed.taps is not None
        frames = list(decoded(self.armed.taps.frames()))
        planned = collect.planned(self.who)
        crossings = tuple(_crossing(frame, packet, role, self.sent) for frame, packet, role in self._own(frames))
        asked = tuple(Asked(at.ns, at.dev, ip) for at, ip in unanswered(frames))
        return Evidence(
            self.question, "timeout", "", self.pid, planned, crossings, asked=asked, machines=self.machines
        )  # fmt: skip

    def _own(self, frames: list[tuple[Frame, Packet]]) -> list[tuple[Frame, Packet, Role]]:
        found = [(frame, packet, role) for frame, packet in frames if (role := role_of(self.mark, packet)) is not None]
        return _turned(sorted(found, key=lambda item: item[0].when))

    def _finish(self) -> Evidence:
        assert self.armed.taps is not None
        if self.probe.answer is None:
            self.probe.give_up()
        events, missed = self.armed.tracing.stop() if self.armed.tracing is not None else ([], 0)
        deaf = self.armed.taps.prove()
        lost = self.armed.taps.losses()
        unknown = [
            f"the tap in {node} cannot be trusted: {why}" for node, why in {**self.armed.taps.deaf, **deaf}.items()
        ]
        unknown += [f"the tap in {node} lost {count} frames" for node, count in lost.items()]
        seen = replace(
            self._seen(),
            answer=self.probe.answer or "timeout",
            said=self.probe.said,
            events=collect.ours(events, self.sent, self.pid),
            missed=missed,
            unknown=(*self.armed.unknown, *unknown),
            circling=self.armed.taps.circling(),
            traced=self.armed.tracing is not None,
            ruled=len(self.armed.tables) == len(self.armed.counted),
        )
        return collect.complete(self.armed, self.who, seen, self.mark)


def _turned(found: list[tuple[Frame, Packet, Role]]) -> list[tuple[Frame, Packet, Role]]:
    """Correct the roles of UDP datagrams: one with exchanged ports is a reply. A server that echoes its input returns
    the marker of the request."""
    ports = {(packet.sport, packet.dport) for _, packet, role in found[:1] if role == "request"}
    turned: list[tuple[Frame, Packet, Role]] = []
    for frame, packet, role in found:
        if packet.kind == "udp" and role == "request":
            if (packet.dport, packet.sport) in ports and packet.sport != packet.dport:
                role = "reply"
            else:
                ports.add((packet.sport, packet.dport))
        turned.append((frame, packet, role))
    return turned


def _crossing(frame: Frame, packet: Packet, role: Role, sent: int) -> Crossing:
    ports = packet.kind in ("tcp", "udp")
    text = packet.text
    if packet.kind == "tcp" and role == "reply":
        text = "reset" if packet.flags & RST else "syn-ack" if packet.flags & SYN else ""
    return Crossing(
        frame.at.ns, frame.at.dev, frame.direction, frame.when - sent, role, packet.src, packet.dst, packet.ttl,
        packet.length, packet.sport if ports else None, packet.dport if ports else None, packet.encap, packet.outer,
        (packet.eth_src, packet.eth_dst) if packet.eth_dst else None, text, not frame.other,
        packet.seq if packet.kind in ("echo", "echo-reply") else 0,
    )  # fmt: skip
