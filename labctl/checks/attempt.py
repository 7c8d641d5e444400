"""Run one check: send probes until one passes or the timeout expires. Each probe is evaluated separately.

A probe that expects a reply is repeated with a new marker every 0.2 s until the deadline. This covers
neighbours that are still unresolved and servers that are still starting. A probe that expects no reply is
sent once, and the check waits until the deadline; `attempt` says when this is repeated. A `see:` that is not met
although replies arrive is final after a few probes. A `not see:` fails at once when its packet is seen.
"""

from __future__ import annotations

import secrets
import select
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from labctl.checks.context import CheckContext, ProbeEndpoints, find_faults, open_listener, source_port_error
from labctl.checks.drift import drift
from labctl.checks.drop_counters import drops_since, rejects_since
from labctl.checks.evidence import CheckEvidence, Expectation, HttpAnswer
from labctl.checks.held_connections import HeldConnections
from labctl.checks.nft_watch import NftWatch
from labctl.checks.port_uses import exhausted_ports
from labctl.checks.verdict import Evaluation, cannot_change, evaluate
from labctl.core.iptables_save import ChainCounters
from labctl.core.neighbour_tables import NeighbourTables, full_tables
from labctl.core.probe_kinds import http_host, probe_kind
from labctl.core.resources import IP, Interface
from labctl.core.scenario_types import ENDPOINT_FIELDS, Check
from labctl.core.sentence import sentence
from labctl.core.topology import LEAF_ROLES, Topology
from labctl.errors import KernelError, MissingError
from labctl.kernel.capture.tcpdump import Tcpdump
from labctl.kernel.firewall import chains
from labctl.kernel.host import paths
from labctl.kernel.netlink import neighbour_tables
from labctl.kernel.probes.clients import Echo, Ping, Probe, TcpClient, UdpClient, ping_program, route_problem
from labctl.kernel.probes.http_client import HttpClient
from labctl.kernel.probes.listener import Listener
from labctl.packets.decode import Frame, Packet
from labctl.packets.probe_id import MAGIC, ProbeId, decode_frames, tcp_probe_id, unanswered_neighbours
from labctl.packets.trail import Trail, find_trail

PROBE_INTERVAL_S = 0.2  # seconds between two probes
SAME_PORT_INTERVAL_S = 1.0  # seconds between two probes from one source port: the first one is closed then
UNMET_SEE_TIMEOUT_S = (
    0.6  # seconds after the first reply; then an unmet `see:` is final although more probes could be sent
)

MAX_ATTEMPTS = 3  # at a check that expects silence, while its silence proves nothing
NEIGHBOUR_RETRY_S = 1.0  # seconds until the kernel asks a neighbour again, by default (retrans_time_ms)
NEIGHBOUR_ANSWER_S = 0.25  # seconds for the answer of a kernel, which needs microseconds unless the machine is busy


def attempt(context: CheckContext, check: Check, address: IP) -> tuple[CheckEvidence, Evaluation]:
    """The deciding evidence about a check, and its evaluation.

    A check that expects silence sends a single probe. It is repeated while its silence proves nothing: the machine's
    neighbour table is full, or a neighbour answers only the second question for its MAC address. The first one, or its
    answer, was lost then, and the probe was late.
    """
    for _ in range(MAX_ATTEMPTS):
        evidence, evaluation = CheckAttempt(context, check, address).run()
        if not check.expects_no_answer or cannot_change(evidence):
            break
        is_full = evidence.full_tables and evaluation[0] == "inconclusive"
        if not is_full and not (evidence.answer == "timeout" and _answers_later(context, evidence)):
            break
    return evidence, evaluation


def _answers_later(context: CheckContext, evidence: CheckEvidence) -> bool:
    """Whether a neighbour did not answer the first question for its MAC address, but answers a later one. Waits for the
    second one."""
    if evidence.neighbours_answered_late:
        return True
    asked = {*evidence.neighbours_asked_once}
    deadline = time.monotonic() + NEIGHBOUR_RETRY_S + NEIGHBOUR_ANSWER_S
    while asked and time.monotonic() < deadline:
        now_ns = time.time_ns()  # before the taps are read
        frames = context.taps.packets()
        missing = {*unanswered_neighbours(frames)}
        if asked - missing:
            return True
        questions = find_trail(None, frames).neighbour_requests
        times = {one: [seen.time_ns for seen in questions if (seen.at, seen.dst) == one] for one in asked}
        if all(len(seen) > 1 and now_ns - seen[-1] > NEIGHBOUR_ANSWER_S * 1e9 for seen in times.values()):
            return False
        time.sleep(0.02)
    return False


class CheckAttempt:
    """One attempt at one check. Call `run` once."""

    def __init__(self, context: CheckContext, check: Check, address: IP) -> None:
        self.context, self.check, self.address = context, check, address
        self.target_ns = context.topology.namespace_of(check.target)
        self.server = (self.target_ns, check.port) if check.server is None else check.server
        self.expectations = tuple(_expectations(context.topology, check, address.version))
        # labctl's servers in the machines behind a Service echo what they receive
        self._served = bool(context.topology.machines_behind(check.target)) and check.server is None
        self.notes: list[str] = []
        self._listener: Listener | None = None
        self._held = HeldConnections()
        self._tcpdumps: dict[Interface, Tcpdump] = {}
        self._probes: list[Probe] = []
        self._reported: list[Probe] = []
        self._losses_before: Mapping[str, int] = {}
        self._counters_before: tuple[ChainCounters, ...] = ()
        self._own_counters: tuple[ChainCounters, ...] = ()  # of the source, after its first refused probe
        self._tables_before: NeighbourTables = ()
        self._nft: NftWatch | None = None

    def run(self) -> tuple[CheckEvidence, Evaluation]:
        """Send probes until the check passes or the time is up. Returns the deciding evidence and its evaluation."""
        with ExitStack() as stack:
            stack.callback(self._close)
            try:
                self._prepare()
                self._counters_before = self._read_counters(self.target_ns) if self.check.expects_no_answer else ()
                self.context.taps.discard()
                self._losses_before = self.context.taps.losses()
                self._tables_before = neighbour_tables.read()
                return self._probe_until_decided()
            except KernelError as error:  # tcpdump or the listener did not start
                evidence = self._evidence(None)
                return evidence, ("inconclusive", (error.message,))

    def _prepare(self) -> None:
        check = self.check
        if "listen" in probe_kind(check).check_keys and check.listen and check.expect != "refused" and not self._served:
            machine, port = self.server
            self._listener, problem = open_listener(self.context, machine, check.probe, self.address, port or 0)
            self.notes += [problem] if problem else []
        if check.expects_no_answer or check.expect == "refused":
            nodes = [check.source, *([self.target_ns] if self.target_ns is not None else [])]
            self._nft = NftWatch(self.context, check, self.address.version, nodes)
        if check.while_open is not None:
            self._held.open(self.context, check.while_open, check, self._listener)
        if check.via == "tcpdump" and self.context.tcpdump_path is not None:
            for at in dict.fromkeys(want.see.at for want in self.expectations):
                path = paths.netns_path(self.context.lab, at.ns)
                try:
                    self._tcpdumps[at] = self.context.thread.run(path, Tcpdump, self.context.tcpdump_path, at)
                except OSError as error:
                    raise KernelError(sentence("cannot start tcpdump at {at}: {error}", at=at, error=error)) from None
            for dump in self._tcpdumps.values():
                dump.wait_ready()

    def _probe_until_decided(self) -> tuple[CheckEvidence, Evaluation]:
        repeat_probes = not self.check.expects_no_answer
        interval_s = PROBE_INTERVAL_S if self.check.sport is None else SAME_PORT_INTERVAL_S
        begun = time.monotonic()
        deadline = begun + self.check.timeout_s
        next_probe_time, first_answer = begun, 0.0
        best: tuple[CheckEvidence, Evaluation] | None = None
        while (now := time.monotonic()) < deadline:
            if now >= next_probe_time and (repeat_probes or not self._probes):
                failed = self._send_probe()
                if failed is not None:
                    return failed, evaluate(failed)
                next_probe_time = now + interval_s
            for probe in self._wait(min(next_probe_time, deadline) - now if repeat_probes else deadline - now):
                evidence, evaluation = self._evaluate(self._evidence(probe))
                if evaluation[0] == "pass" or cannot_change(evidence) or not repeat_probes:
                    return evidence, evaluation
                best = _more_informative(best, evidence, evaluation)
                first_answer = first_answer or (time.monotonic() if evidence.answer == "reply" else 0.0)
                if first_answer and time.monotonic() - first_answer > UNMET_SEE_TIMEOUT_S:
                    return best
        for probe in self._probes:
            if probe.answer is None:
                probe.time_out()
                evidence = self._evidence(probe)
                best = _more_informative(best, evidence, evaluate(evidence))
        assert best is not None
        return self._evaluate(replace(best[0], probe_count=len(self._probes)))

    def _evaluate(self, evidence: CheckEvidence) -> tuple[CheckEvidence, Evaluation]:
        """The evidence and its judgement. Before a missing reply passes, this looks for the reason why the target did
        not answer, and compares the path with the plan."""
        if evidence.answer == "timeout" and self.check.port is not None and evidence.trail.requests:
            last = evidence.trail.requests[-1]
            uses = exhausted_ports(self.context, last, self.check.port) if last.direction == "in" else ()
            evidence = replace(evidence, port_uses=uses)
        if self.check.expects_no_answer and evidence.silent_ns is not None:
            evidence = replace(evidence, silence_reasons=self._silence_reasons(evidence.silent_ns, evidence.trail))
        elif evidence.answer == self.check.expect == "refused" and evidence.departure is None:
            evidence = replace(evidence, own_rejects=self._own_rejects())
        elif self.check.expects_no_answer and evidence.departure is None and self._nft is not None:
            evidence = replace(evidence, own_drops=self._nft.drops(self.check.source))
        evaluation = evaluate(evidence)
        if evaluation[0] == "pass" and self.check.expects_no_answer:
            self._end_watch()  # its tables are not the lab's
            evidence = replace(evidence, drift=drift(self.context.topology, self._path(evidence.trail)))
            evaluation = evaluate(evidence)
        return evidence, evaluation

    def _end_watch(self) -> None:
        watch, self._nft = self._nft, None
        if watch is not None:
            watch.close()

    def _own_rejects(self) -> tuple[str, ...]:
        """The rules of the source that rejected a probe since the last reading; nothing after the first reading."""
        before, self._own_counters = self._own_counters, self._read_counters(self.check.source)
        found = rejects_since(before, self._own_counters, self.check, self.address.version)
        return found if self._nft is None else (*found, *self._nft.rejects(self.check.source))

    def _silence_reasons(self, node: str, trail: Trail) -> tuple[str, ...]:
        """The reasons, found in the namespace that the probe entered, why it does not answer."""
        after = self._read_counters(node) if node == self.target_ns else ()
        reasons = drops_since(self._counters_before, after, self.check, self.address.version)
        reasons += self._nft.drops(node) if self._nft is not None else ()
        last = next(item for item in reversed(trail.requests) if item.at.ns == node and item.direction == "in")
        try:
            path = paths.netns_path(self.context.lab, node)
            why = self.context.thread.run(path, route_problem, last.src, last.dst)
        except OSError:
            return reasons
        return (
            (*reasons, sentence("{node} has no route back to {src}: {why}", node=node, src=last.src, why=why))
            if why
            else reasons
        )

    def _read_counters(self, ns: str | None) -> tuple[ChainCounters, ...]:
        """The current counters of a namespace's firewall. Empty if they cannot be read: then they prove nothing."""
        if ns is None:
            return ()
        try:
            netns = paths.netns_path(self.context.lab, ns)
            return self.context.thread.run(netns, chains.read_chain_counters, ns, self.context.topology.lab.firewall)
        except (KernelError, MissingError) as error:
            self.notes.append(
                sentence("the firewall of {node} could not be read: {message}", node=ns, message=error.message)
            )
        except OSError:  # the namespace does not exist: `CheckEvidence.faults` reports it
            pass
        return ()

    def _forwarded_to(self, trail: Trail) -> str | None:
        """The namespace that the request entered last, if it is not the target's and has the request's destination."""
        last = trail.requests[-1] if trail.requests else None
        if last is None or last.direction == "out" or last.at.ns == self.target_ns:
            return None
        return last.at.ns if last.dst in self.context.topology.possible_addresses(last.at.ns) else None

    def _path(self, trail: Trail) -> tuple[str, ...]:
        """Every namespace that the probe passed or could have passed."""
        topology = self.context.topology
        passed = (item.at.ns for item in (*trail.requests, *trail.replies))
        gates = (name for name in topology.peer_namespaces(self.check.source) if topology.role(name) not in LEAF_ROLES)
        behind = topology.machines_behind(self.check.target)
        way = topology.path(self.check.source, self.target_ns)
        return tuple(dict.fromkeys((*passed, *gates, *way, *behind)))

    def _send_probe(self) -> CheckEvidence | None:
        """Send one more probe. Returns evidence only if the source's namespace does not exist. Raises KernelError if
        another socket has the source port."""
        path = paths.netns_path(self.context.lab, self.check.source)
        if self.check.sport is not None:
            if self.check.sport == self.check.port and self.context.topology.is_own(self.check.source, self.address):
                raise KernelError(
                    sentence("{source} cannot send from a port to the same port of itself", source=self.check.source)
                )
            self._end_probes()
        try:
            self._probes.append(self.context.thread.run(path, self._create_probe, MAGIC + secrets.token_bytes(4)))
        except FileNotFoundError:
            gone = (sentence("there is no namespace {name}", name=path.name),)
            return replace(self._evidence(None), faults={self.check.source: gone})
        except OSError as error:
            raise source_port_error(
                self.context, self.check.source, self.check.probe, self.check.sport, error
            ) from None
        return None

    def _end_probes(self) -> None:
        """End the probes that still wait: only one socket at a time can have the source port."""
        for probe in self._probes:
            if probe.answer is None:
                probe.time_out()
            probe.close()

    def _create_probe(self, marker: bytes) -> Probe:
        """Create the probe. Runs inside the source's namespace."""
        check, port = self.check, self.check.port or 0
        if check.probe == "tcp":
            return TcpClient(self.address, port, marker if self._listener or self._served else None, check.sport)
        if check.probe == "http":
            return HttpClient(self.address, port, marker, http_host(check), check.path)
        if check.probe == "udp":
            return UdpClient(self.address, port, marker, check.sport)
        program = ping_program()
        if program is not None:
            return Ping(program, self.address, marker, check.timeout_s if check.expects_no_answer else 1, check.size)
        if not self.notes:
            self.notes.append(sentence("iputils' ping is not installed: labctl sent its own echo request"))
        return Echo(self.address, marker, check.size)

    def _wait(self, seconds: float) -> list[Probe]:
        """Wait until a probe is done or the time is up; serve the listener meanwhile. Returns the done probes."""
        deadline = time.monotonic() + seconds
        while True:
            waiting = [probe for probe in self._probes if probe.answer is None]
            done = self._step(waiting)
            left = deadline - time.monotonic()
            if done or left <= 0:
                return done
            poll = select.poll()
            for fd, events in (*(pair for probe in waiting for pair in probe.fds()), *self._listener_fds()):
                poll.register(fd, events)
            poll.poll(max(1, left * 1000))

    def _step(self, waiting: list[Probe]) -> list[Probe]:
        if self._listener is not None:
            self._listener.step()
        for probe in waiting:
            probe.step()
        new = [probe for probe in self._probes if probe.answer is not None and probe not in self._reported]
        self._reported += new
        return new

    def _listener_fds(self) -> list[tuple[int, int]]:
        return self._listener.fds() if self._listener is not None else []

    def _evidence(self, probe: Probe | None) -> CheckEvidence:
        """Collect all that is known at this moment about one probe."""
        taps = self.context.taps
        troubles = {at: dump.wait_until_complete() for at, dump in self._tcpdumps.items()} if probe is not None else {}
        ended = taps.verify_receiving()
        frames = taps.packets()
        tapped = [frame for frame, _ in frames]
        probe_id = self._probe_id(probe, frames)
        trail = find_trail(probe_id, frames)
        lost = {node: now - self._losses_before.get(node, 0) for node, now in taps.losses().items()}
        return CheckEvidence(
            check=self.check,
            source=self.check.source,
            target_ns=self.server[0],
            answer=probe.answer or "timeout" if probe is not None else "broken",
            detail=probe.detail if probe is not None else sentence("it was never sent"),
            trail=trail,
            expectations=self.expectations,
            not_receiving={**ended, **taps.not_receiving},
            lost_frames={node: count for node, count in lost.items() if count},
            looping=taps.looping(),
            faults=find_faults(
                self.context,
                self._fault_locations(trail),
                ProbeEndpoints(self.check.source, self.target_ns, self.address),
            ),
            tcpdump_trails={
                at: find_trail(probe_id, decode_frames(self._tcpdumps[at].frames(tapped)))
                for at in troubles
                if troubles[at] is None
            },
            unanswered_neighbours=unanswered_neighbours(frames),
            forwarded_to=self._forwarded_to(trail),
            reply_has_probe_id=self.check.probe != "udp" or self._listener is not None,
            notes=(
                *self.notes,
                *(
                    sentence("tcpdump at {at}: {trouble}", at=at, trouble=trouble)
                    for at, trouble in troubles.items()
                    if trouble
                ),
            ),
            http=self._http_answer(probe) if isinstance(probe, HttpClient) else None,
            probe_count=len(self._probes),
            full_tables=full_tables(self._tables_before, neighbour_tables.read()),
        )

    def _http_answer(self, probe: HttpClient) -> HttpAnswer:
        """What came back for an HTTP request, with what the check claims, by address."""

        def addresses(*names: str) -> frozenset[IP]:
            found = (self.context.topology.address_of(name, self.address.version) for name in names)
            return frozenset(ip for ip in found if ip is not None)

        forwarded_for = addresses(self.check.forwarded_for) if self.check.forwarded_for else frozenset()
        return HttpAnswer(probe.status, probe.backend, addresses(*self.check.saw), forwarded_for)

    def _probe_id(self, probe: Probe | None, frames: list[tuple[Frame, Packet]]) -> ProbeId | None:
        ports = {port for port in (self.check.port, self.server[1]) if port is not None}
        if probe is not None and self.check.probe in ("tcp", "http"):
            return tcp_probe_id(frames, self.check.source, probe.sport, ports, probe.marker)
        return probe.probe_id if probe is not None else None

    def _fault_locations(self, trail: Trail) -> tuple[str | Interface, ...]:
        """Where a fault matters: the namespaces that the probe passed, those connected to its ends, and
        the points of `see:`."""
        passed = (item.at.ns for item in (*trail.requests, *trail.replies))
        ends = [end for end in (self.check.source, self.target_ns, self.server[0]) if end]
        beside = (name for end in ends for name in self.context.topology.peer_namespaces(end))
        return tuple(dict.fromkeys((*ends, *passed, *beside, *(want.see.at for want in self.expectations))))

    def _close(self) -> None:
        for probe in self._probes:
            probe.close()
        for dump in self._tcpdumps.values():
            dump.close()
        self._held.close()
        self._end_watch()
        if self._listener is not None:
            self._listener.close()


def _more_informative(
    best: tuple[CheckEvidence, Evaluation] | None, evidence: CheckEvidence, evaluation: Evaluation
) -> tuple[CheckEvidence, Evaluation]:
    """The failure that shows more: the one with a reply, else the one with the longer trail, else the first."""

    def telling(item: CheckEvidence) -> tuple[bool, int]:
        return item.answer == "reply", len(item.trail.requests) + len(item.trail.icmp_errors)

    if best is not None and telling(best[0]) >= telling(evidence):
        return best
    return evidence, evaluation


def _expectations(topology: Topology, check: Check, version: int) -> list[Expectation]:
    wants = []
    for see in check.sees:
        words = {name: word for name in ENDPOINT_FIELDS if (word := getattr(see, name)) is not None}
        ends = {name: topology.address_of(word, version) for name, word in words.items()}
        missing = [words[name] for name, ip in ends.items() if ip is None]
        problem = (
            sentence(
                "{name} has no IPv{version} address, so it cannot be seen at {at}",
                name=missing[0],
                version=version,
                at=see.at,
            )
            if missing
            else ""
        )
        wants.append(Expectation(see, problem=problem, **ends))
    return wants
