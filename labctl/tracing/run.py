"""Run a trace on a live lab: set up the instruments, send one probe, wait, and record all that was seen.

The wait ends when the reply arrives, when the kernel's drop of the probe is found, or when the time is up. The time
is short, except if a neighbour does not answer: then it lasts until the kernel has asked twice (see `silence`).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.checks.context import (
    CheckContext,
    namespaces_to_tap,
    open_listener,
    refresh_carriers,
    source_port_error,
)
from labctl.core.neighbour_tables import NeighbourTables, full_tables
from labctl.core.sentence import sentence
from labctl.core.topology import Topology
from labctl.kernel.host import lab_state, paths
from labctl.kernel.netlink import neighbour_tables, neighbours
from labctl.kernel.probes import trace_probes
from labctl.kernel.rule_trace.trace_setup import TraceSetup
from labctl.packets.decode import Frame
from labctl.packets.probe_id import MAGIC, PayloadMarker, ProbeId, TcpProbeId
from labctl.tracing.evidence import NamespaceState, Question, TraceEvidence
from labctl.tracing.instruments import Instruments, import_what_follows
from labctl.tracing.probe_packets import ProbePackets

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab
    from labctl.kernel.probes.clients import Probe
    from labctl.kernel.probes.listener import Listener

QUIET_TIMEOUT_S = 0.4  # seconds after which the wait ends, unless a neighbour request is open
NEIGHBOUR_TIMEOUT_S = 3.5  # seconds that the kernel waits for a neighbour: three questions
RETRY_S = 1.2  # the same, if the kernel has asked for a neighbour before the probe: it asks again after a second
GIVE_UP_S = 0.1  # seconds to wait for the ICMP error about a neighbour that was given up
POLL_INTERVAL_S = 0.03  # seconds between two looks at the evidence


def trace_packet(
    lab: Lab,
    question: Question,
    *,
    setup: TraceSetup | None = None,
    progress: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[TraceEvidence, list[Frame]]:
    """Send the probe and follow it. Returns the evidence, and the frames that the taps saw. `progress` gets the current
    step, `warn` the names of kernel modules that were loaded.

    With a `setup` of the caller, the removal of the instruments has only begun when this function returns; leaving the
    setup waits for its end.

    A lab runs one trace at a time, and none while `up` or `down` changes it, because only one reader can get a
    namespace's reports of legacy rules.

    Raises KernelError if the source cannot be entered or no tap works, LockError if another labctl held the lab.
    """
    if setup is None:
        with TraceSetup(lab.name) as own_setup:
            return trace_packet(lab, question, setup=own_setup, progress=progress, warn=warn)
    begun = time.monotonic()
    topology = Topology(lab)
    isn = int.from_bytes(os.urandom(4), "big")
    marker = MAGIC + os.urandom(4)
    identity = isn.to_bytes(4, "big") if question.protocol == "tcp" else marker
    nodes = namespaces_to_tap(topology, _ends_and_hosts(topology, question))
    progress(sentence("setting up taps"))
    setup.hold(lab_state.lock(lab.name))
    with Instruments(setup, lab.name, nodes, question, identity, warn) as instruments:
        assert instruments.taps is not None
        context = CheckContext(topology, instruments.thread, instruments.taps, None)
        refresh_carriers(context)
        listener = None
        if (at := question.listener) is not None:
            listener, problem = open_listener(context, at.node, question.protocol, question.address, at.port)
            instruments.unknown += [problem] if problem else []
        try:
            instruments.read_flows()
            instruments.taps.discard()
            if instruments.tracing is not None:
                instruments.tracing.start()
            tables = neighbour_tables.read()
            sent = time.time_ns()
            probe_id: ProbeId = TcpProbeId(frozenset((isn,))) if question.protocol == "tcp" else PayloadMarker(marker)
            pid, probe = _send_probe(context, question, marker, isn)
            progress(sentence("following the probe to {target}", target=question.target))
            wait = _ProbeWait(instruments, topology, question, probe_id, sent, pid, probe, listener, tables)
            try:
                evidence = wait.wait_and_collect()
            finally:
                probe.close()
        finally:
            if listener is not None:
                listener.close()
    missing = evidence.unanswered_neighbours
    late: tuple[str, ...] = ()
    if missing:
        from labctl.tracing import silence

        late = silence.late_answers(missing, wait.packets.unanswered_neighbours())
    seconds = round(time.monotonic() - begun, 3)
    return evidence.with_details(seconds=seconds, unknown=(*evidence.unknown, *late)), wait.packets.frames


def _ends_and_hosts(topology: Topology, question: Question) -> tuple[str, ...]:
    """The two ends of the probe, and the machines that they are on."""
    listening = question.listener.node if question.listener is not None else None
    ends = [end for end in (question.source, question.target_ns, listening) if end]
    hosts = [machine.on for end in ends if (machine := topology.machines.get(end)) is not None and machine.on]
    return (*ends, *hosts)


def _send_probe(context: CheckContext, question: Question, marker: bytes, isn: int) -> tuple[int, Probe]:
    path = paths.netns_path(context.lab, question.source)
    try:
        return context.thread.run(path, _create_probe, question, marker, isn)
    except OSError as error:
        raise source_port_error(context, question.source, question.protocol, question.sport, error) from None


def _create_probe(question: Question, marker: bytes, isn: int) -> tuple[int, Probe]:
    """Send the probe. Runs inside the source's namespace."""
    import threading

    address, port, size = question.address, question.port or 0, question.size or trace_probes.DEFAULT_PAYLOAD_BYTES
    probe: Probe
    if question.protocol == "tcp":
        probe = trace_probes.SynProbe(address, port, isn, question.sport)
    elif question.protocol == "udp":
        probe = trace_probes.SizedDatagram(address, port, marker, size, question.fragment, question.sport)
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
        tables: NeighbourTables,
    ) -> None:
        self.instruments, self.topology, self.question, self.probe_id = instruments, topology, question, probe_id
        self.sent_ns, self.pid, self.probe, self.listener = sent_ns, pid, probe, listener
        self.tables = tables
        self.packets = ProbePackets(probe_id, sent_ns, (question.address, question.port))
        # the namespaces with their planned devices, used while the probe is still under way
        self.planned = tuple(NamespaceState(node, tuple(topology.links.get(node, ()))) for node in topology.namespaces)
        self._evidence: TraceEvidence | None = None
        self.machines = {one.name: one.addresses for one in topology.lab.machines if one.netns_of is None}

    def wait_and_collect(self) -> TraceEvidence:
        """Wait for the end, then collect the evidence."""
        assert self.instruments.taps is not None
        begun = time.monotonic()
        timeout_s = NEIGHBOUR_TIMEOUT_S if self.probe.answer is None else 0.0
        quiet_s = QUIET_TIMEOUT_S
        while time.monotonic() - begun < timeout_s and not self._step():
            if time.monotonic() - begun > quiet_s and not self._observed_so_far().unanswered_neighbours:
                if quiet_s > QUIET_TIMEOUT_S or not self._waits_for_neighbour():
                    break
                quiet_s = RETRY_S
            if self._is_silent() and not self.instruments.taps.verify_receiving() and self._is_silent():
                self._give_up_neighbours()  # the taps have delivered everything that arrived by now
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

    def _is_silent(self) -> bool:
        """Whether every neighbour that has not answered so far will not answer any more."""
        now_ns = time.time_ns()  # before the taps are read
        evidence = self._observed_so_far()
        if not evidence.unanswered_neighbours:
            return False
        from labctl.tracing import collect, silence

        asked = [self.packets.question_times(one) for one in evidence.unanswered_neighbours]
        if not all(silence.is_silent(times, now_ns, silence.AnswerTimes(0, 0)) for times in asked):
            return False
        times = collect.answer_times(self.instruments, self.topology, evidence)
        return times is not None and all(silence.is_silent(one, now_ns, times) for one in asked)

    def _give_up_neighbours(self) -> None:
        """Let the kernels on the probe's way give up the neighbours now. They drop the probe and report it, as they do
        after the third question, and nothing of this trace is left for the next one to see."""
        evidence = self._observed_so_far()
        passed = self._passed_namespaces()
        missing = {one.ip for one in evidence.unanswered_neighbours if one.node in passed}
        passed |= self._with_sockets(
            {one.node for one in evidence.neighbour_observations if one.is_request and one.ip in missing}
        )
        given_up = False
        for one in evidence.unanswered_neighbours:
            if one.node in passed:
                with suppress(OSError):
                    given_up = self.instruments.run(one.node, neighbours.give_up, one.dev, one.ip) or given_up
        if given_up:
            self._step(GIVE_UP_S)

    def _passed_namespaces(self) -> set[str]:
        """The namespaces on the probe's way, with those where its tunnels send their packets."""
        return self._with_sockets({self.question.source, *(one.node for one in self._observed_so_far().observations)})

    def _with_sockets(self, nodes: set[str]) -> set[str]:
        links = (link for node in nodes for link in self.topology.links.get(node, ()))
        return nodes | {link.link_netns for link in links if link.link_netns is not None}

    def _waits_for_neighbour(self) -> bool:
        """Whether the kernel has asked for a neighbour on the probe's way before the probe came, and waits."""
        for node in self._passed_namespaces():
            with suppress(OSError):
                if self.instruments.run(node, neighbours.is_asking):
                    return True
        return False

    def _is_dropped(self) -> bool:
        """Whether the kernel has reported a drop of this probe."""
        if self.instruments.tracing is None:
            return False
        events = self.instruments.tracing.read_events()
        if not any(event.kind == "drop" for event in events):
            return False
        from labctl.tracing import collect, drop_attribution

        evidence = self._observed_so_far().with_details(events=collect.probe_events(events, self.sent_ns, self.pid))
        hops = evidence.hops["reply"] or evidence.hops["request"]
        if not hops or evidence.unanswered_neighbours:
            return False
        return drop_attribution.find_drop_event(evidence, hops) is not None

    def _observed_so_far(self) -> TraceEvidence:
        """The evidence so far from the taps, with the namespaces as planned. New only if the taps saw more of it."""
        assert self.instruments.taps is not None
        if self.packets.update(self.instruments.taps.packets()) or self._evidence is None:
            self._evidence = TraceEvidence(
                self.question, "timeout", "", self.pid, self.planned, self.packets.observations(),
                unanswered_neighbours=self.packets.unanswered_neighbours(),
                neighbour_observations=self.packets.neighbour_observations(), machines=self.machines,
            )  # fmt: skip
        return self._evidence

    def _finish(self) -> TraceEvidence:
        assert self.instruments.taps is not None
        if self.probe.answer is None:
            self.probe.time_out()
        drops_traced = self.instruments.tracing is not None
        events, missed = self.instruments.tracing.stop() if self.instruments.tracing is not None else ([], 0)
        self.instruments.setup.remove_tracing()
        imports = self.instruments.setup.beside(import_what_follows)
        from labctl.tracing import collect  # while the kernel removes the tracing instance

        not_receiving = self.instruments.taps.verify_receiving()
        lost = self.instruments.taps.losses()
        unknown = [
            sentence("the tap in {node} cannot be trusted: {reason}", node=node, reason=why)
            for node, why in {**self.instruments.taps.not_receiving, **not_receiving}.items()
        ]
        unknown += [sentence("the tap in {node} lost {number} frames", node=node, number=lost[node]) for node in lost]
        seen = replace(
            self._observed_so_far(),
            answer=self.probe.answer or "timeout",
            detail=self.probe.detail,
            events=collect.probe_events(events, self.sent_ns, self.pid),
            lost_events=missed,
            unknown=(*self.instruments.unknown, *unknown),
            looping=self.instruments.taps.looping(),
            full_tables=full_tables(self.tables, neighbour_tables.read()),
            drops_traced=drops_traced,
            rules_traced=self.instruments.rules_traced,
        )
        evidence = collect.add_rules_and_flows(self.instruments, self.topology, seen, self.probe_id)
        self.probe.close()  # a TCP connection ends with a reset, which belongs to the frames
        self.packets.update(self.instruments.taps.packets())
        self.instruments.remove_taps()
        evidence = collect.add_namespace_state(self.instruments, self.topology, evidence)
        if self.topology.lab.kubernetes is not None:
            from labctl.tracing.policy_denials import with_policy_denials

            evidence = with_policy_denials(evidence, self.topology.lab.kubernetes)
        imports.result()  # if memory was too little for one, the next import of it would not say so
        return evidence
