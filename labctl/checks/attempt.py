"""Run one check: send probes until one passes or the timeout expires. Each probe is evaluated separately.

A probe that expects a reply is repeated with a new marker every 0.2 s until the deadline. This covers
neighbours that are still unresolved and servers that are still starting. A probe that expects no reply is
sent once, and the check waits until the deadline. A `see:` that is not met although replies arrive is final
after a few probes. A `not see:` fails at once when its packet is seen.
"""

from __future__ import annotations

import errno
import secrets
import select
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from labctl.checks.context import Bench, Ends, diagnose
from labctl.checks.drift import drift
from labctl.checks.drop_counters import felled
from labctl.checks.evidence import Evidence, Want
from labctl.checks.verdict import Judgement, hopeless, judge
from labctl.core.iptables_save import Counted
from labctl.core.resources import IP, Port
from labctl.core.scenario_types import ENDS, Check
from labctl.core.topology import INNER, Who
from labctl.errors import KernelError, LabError
from labctl.kernel.capture.tcpdump import Tcpdump
from labctl.kernel.firewall import chains
from labctl.kernel.host import paths
from labctl.kernel.probes.clients import Echo, Ping, Probe, TcpClient, UdpClient, no_way, ping_program
from labctl.kernel.probes.listener import Listener
from labctl.packets.decode import Frame, Packet
from labctl.packets.probe_id import MAGIC, Mark, Trail, decoded, follow, opening, unanswered

EVERY = 0.2  # seconds between two probes
STUBBORN = 0.6  # seconds after the first reply; then an unmet `see:` is final although more probes could be sent


class Trial:
    """One attempt at one check. Call `run` once."""

    def __init__(self, bench: Bench, check: Check, address: IP) -> None:
        self.bench, self.check, self.address = bench, check, address
        self.home = bench.who.home(check.target)
        self.server = (self.home, check.port) if check.server is None else check.server
        self.wants = tuple(_wants(bench.who, check, address.version))
        self.notes: list[str] = []
        self._listener: Listener | None = None
        self._dumps: dict[Port, Tcpdump] = {}
        self._probes: list[Probe] = []
        self._told: list[Probe] = []
        self._lost_before: Mapping[str, int] = {}
        self._counted: tuple[Counted, ...] = ()

    def run(self) -> tuple[Evidence, Judgement]:
        """Send probes until the check passes or the time is up. Returns the deciding evidence and its judgement."""
        with ExitStack() as stack:
            stack.callback(self._close)
            try:
                self._prepare()
                self._counted = self._count() if self.check.silent else ()
                self.bench.taps.forget()
                self._lost_before = self.bench.taps.losses()
                return self._pursue()
            except KernelError as error:  # tcpdump or the listener did not start
                evidence = self._evidence(None)
                return evidence, ("inconclusive", (error.message,))

    def _prepare(self) -> None:
        check = self.check
        if check.probe in ("tcp", "udp") and check.listen and check.expect != "refused":
            self._listen()
        if check.via == "tcpdump" and self.bench.tcpdump is not None:
            for at in dict.fromkeys(want.see.at for want in self.wants):
                path = paths.netns_path(self.bench.lab, at.ns)
                try:
                    self._dumps[at] = self.bench.inside.run(path, Tcpdump, self.bench.tcpdump, at)
                except OSError as error:
                    raise KernelError(f"cannot start tcpdump at {at}: {error}") from None
            for dump in self._dumps.values():
                dump.wait_ready()

    def _listen(self) -> None:
        check, (machine, port) = self.check, self.server
        if machine is None:
            self.notes.append(f"no machine of the lab has {self.address}, so labctl started no listener")
            return
        path = paths.netns_path(self.bench.lab, machine)
        try:
            self._listener = self.bench.inside.run(path, Listener, check.probe, self.address.version, port)
        except OSError as error:
            why = "a process listens there already" if error.errno == errno.EADDRINUSE else str(error)
            self.notes.append(f"labctl could not listen on {check.probe} port {port} of {machine}: {why}")
        if self._listener is not None and not self._listener.ready:
            raise KernelError(f"labctl's listener on {check.probe} port {port} of {machine} is not listening")

    def _pursue(self) -> tuple[Evidence, Judgement]:
        patient = not self.check.silent
        begun = time.monotonic()
        deadline = begun + self.check.deadline
        next_one, first_answer = begun, 0.0
        best: tuple[Evidence, Judgement] | None = None
        while (now := time.monotonic()) < deadline:
            if now >= next_one and (patient or not self._probes):
                failed = self._launch()
                if failed is not None:
                    return failed, judge(failed)
                next_one = now + EVERY
            for probe in self._wait(min(next_one, deadline) - now if patient else deadline - now):
                evidence, judgement = self._judged(self._evidence(probe))
                if judgement[0] == "pass" or hopeless(evidence) or not patient:
                    return evidence, judgement
                best = _better(best, evidence, judgement)
                first_answer = first_answer or (time.monotonic() if evidence.answer == "reply" else 0.0)
                if first_answer and time.monotonic() - first_answer > STUBBORN:
                    return best
        for probe in self._probes:
            if probe.answer is None:
                probe.give_up()
                evidence = self._evidence(probe)
                best = _better(best, evidence, judge(evidence))
        assert best is not None
        return self._judged(replace(best[0], probes=len(self._probes)))

    def _judged(self, evidence: Evidence) -> tuple[Evidence, Judgement]:
        """The evidence and its judgement. Before a missing reply passes, this looks for the reason why the target did
        not answer, and compares the path with the plan."""
        if self.check.silent and evidence.mute is not None:
            evidence = replace(evidence, felled=self._reasons(evidence.mute, evidence.trail))
        judgement = judge(evidence)
        if judgement[0] == "pass" and self.check.silent:
            evidence = replace(evidence, drift=drift(self.bench.who, self._road(evidence.trail)))
            judgement = judge(evidence)
        return evidence, judgement

    def _reasons(self, mute: str, trail: Trail) -> tuple[str, ...]:
        """The reasons, found in the namespace that the probe entered, why it does not answer."""
        after = self._count() if mute == self.home else ()
        reasons = felled(self._counted, after, self.check, self.address.version)
        last = next(item for item in reversed(trail.requests) if item.at.ns == mute and item.direction == "in")
        try:
            path = paths.netns_path(self.bench.lab, mute)
            why = self.bench.inside.run(path, no_way, last.src, last.dst)
        except OSError:
            return reasons
        return (*reasons, f"{mute} has no route back to {last.src}: {why}") if why else reasons

    def _count(self) -> tuple[Counted, ...]:
        """The current counters of the target's firewall. Empty if they cannot be read: then they prove nothing."""
        if self.home is None:
            return ()
        try:
            where = paths.netns_path(self.bench.lab, self.home)
            return self.bench.inside.run(where, chains.counted, self.home, self.bench.who.lab.firewall)
        except LabError as error:
            self.notes.append(f"the firewall of {self.home} could not be read: {error.message}")
        except OSError:  # the namespace does not exist: `Evidence.dead` reports it
            pass
        return ()

    def _beyond(self, trail: Trail) -> str | None:
        """The namespace that the request entered last, if it is not the target's and has the request's destination."""
        last = trail.requests[-1] if trail.requests else None
        if last is None or last.direction == "out" or last.at.ns == self.home:
            return None
        return last.at.ns if last.dst in self.bench.who.held(last.at.ns) else None

    def _road(self, trail: Trail) -> tuple[str, ...]:
        """Every namespace that the probe passed or could have passed."""
        who = self.bench.who
        passed = (item.at.ns for item in (*trail.requests, *trail.replies))
        gates = (name for name in who.beside(self.check.source) if who.role(name) not in INNER)
        return tuple(dict.fromkeys((*passed, *gates, *who.road(self.check.source, self.home))))

    def _launch(self) -> Evidence | None:
        """Send one more probe. Returns evidence only if the source's namespace does not exist."""
        path = paths.netns_path(self.bench.lab, self.check.source)
        try:
            self._probes.append(self.bench.inside.run(path, self._make, MAGIC + secrets.token_bytes(4)))
        except FileNotFoundError:
            gone = (f"there is no namespace {path.name}",)
            return replace(self._evidence(None), dead={self.check.source: gone})
        return None

    def _make(self, marker: bytes) -> Probe:
        """Create the probe. Runs inside the source's namespace."""
        check, port = self.check, self.check.port or 0
        if check.probe == "tcp":
            return TcpClient(self.address, port, marker if self._listener else None)
        if check.probe == "udp":
            return UdpClient(self.address, port, marker)
        program = ping_program()
        if program is not None:
            return Ping(program, self.address, marker, check.deadline if check.silent else 1, check.size)
        if not self.notes:
            self.notes.append("iputils' ping is not installed: labctl sent its own echo request")
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
            for fd, events in (*(pair for probe in waiting for pair in probe.fds()), *self._served()):
                poll.register(fd, events)
            poll.poll(max(1, left * 1000))

    def _step(self, waiting: list[Probe]) -> list[Probe]:
        if self._listener is not None:
            self._listener.step()
        for probe in waiting:
            probe.step()
        new = [probe for probe in self._probes if probe.answer is not None and probe not in self._told]
        self._told += new
        return new

    def _served(self) -> list[tuple[int, int]]:
        return self._listener.fds() if self._listener is not None else []

    def _evidence(self, probe: Probe | None) -> Evidence:
        """Collect all that is known at this moment about one probe."""
        taps = self.bench.taps
        troubles = {at: dump.settle() for at, dump in self._dumps.items()} if probe is not None else {}
        ended = taps.prove()
        raw = taps.frames()
        frames = list(decoded(raw))
        mark = self._mark(probe, frames)
        trail = follow(mark, frames)
        lost = {node: now - self._lost_before.get(node, 0) for node, now in taps.losses().items()}
        return Evidence(
            check=self.check,
            source=self.check.source,
            home=self.server[0],
            answer=probe.answer or "timeout" if probe is not None else "broken",
            said=probe.said if probe is not None else "it was never sent",
            trail=trail,
            wants=self.wants,
            deaf={**ended, **taps.deaf},
            lost={node: count for node, count in lost.items() if count},
            circling=taps.circling(),
            dead=diagnose(self.bench, self._places(trail), Ends(self.check.source, self.home, self.address)),
            dumped={at: follow(mark, decoded(self._dumps[at].frames(raw))) for at in troubles if troubles[at] is None},
            unanswered=unanswered(frames),
            beyond=self._beyond(trail),
            marked_reply=self.check.probe != "udp" or self._listener is not None,
            notes=(*self.notes, *(f"tcpdump at {at}: {trouble}" for at, trouble in troubles.items() if trouble)),
            probes=len(self._probes),
        )

    def _mark(self, probe: Probe | None, frames: list[tuple[Frame, Packet]]) -> Mark | None:
        ports = {port for port in (self.check.port, self.server[1]) if port is not None}
        if probe is not None and self.check.probe == "tcp":
            return opening(frames, self.check.source, probe.sport, ports, probe.marker)
        return probe.mark if probe is not None else None

    def _places(self, trail: Trail) -> tuple[str | Port, ...]:
        """Where a fault matters: the namespaces that the probe passed, those connected to its ends, and
        the points of `see:`."""
        passed = (item.at.ns for item in (*trail.requests, *trail.replies))
        ends = [end for end in (self.check.source, self.home, self.server[0]) if end]
        beside = (name for end in ends for name in self.bench.who.beside(end))
        return tuple(dict.fromkeys((*ends, *passed, *beside, *(want.see.at for want in self.wants))))

    def _close(self) -> None:
        for probe in self._probes:
            probe.close()
        for dump in self._dumps.values():
            dump.close()
        if self._listener is not None:
            self._listener.close()


def _better(
    best: tuple[Evidence, Judgement] | None, evidence: Evidence, judgement: Judgement
) -> tuple[Evidence, Judgement]:
    """The failure that shows more: the one with a reply, else the one with the longer trail, else the first."""

    def telling(item: Evidence) -> tuple[bool, int]:
        return item.answer == "reply", len(item.trail.requests) + len(item.trail.complaints)

    if best is not None and telling(best[0]) >= telling(evidence):
        return best
    return evidence, judgement


def _wants(who: Who, check: Check, version: int) -> list[Want]:
    wants = []
    for see in check.sees:
        words = {name: word for name in ENDS if (word := getattr(see, name)) is not None}
        ends = {name: who.own(word, version) for name, word in words.items()}
        missing = [words[name] for name, ip in ends.items() if ip is None]
        problem = f"{missing[0]} has no IPv{version} address, so it cannot be seen at {see.at}" if missing else ""
        wants.append(Want(see, problem=problem, **ends))
    return wants
