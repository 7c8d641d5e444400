"""Try a trace against the catalogue of faults: break a lab, trace, and compare the answer with the catalogue's cause.

`judge` is pure. `Trial` needs root: it works on one running lab.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import labctl
from labctl.core.scenario_types import Lab
from labctl.errors import LabError
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import ProbeProtocol, Traffic
from labctl.lab import break_fix, lifecycle
from labctl.tracing.result import Cause, TraceResult

# right: the cause; incomplete: true, but the symptom; wrong: a false statement; unhit: no probe was lost;
# broken: the fault could not be made, or the lab was not as before after the fix
Judgement: TypeAlias = Literal["right", "incomplete", "wrong", "unhit", "broken"]
DEFAULT_PORT = 8080


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the fault, the probe, and how trace answered."""

    scenario: str
    fault: str
    on: str
    protocol: str
    probe: str
    judgement: Judgement
    cause: str
    sentence: str
    noticed: bool = True  # `status` named an object of the fault


def judge(story: TraceResult, fault: Fault) -> Judgement:
    """How good the answer to a lost probe is, by the causes of the catalogue."""
    if story.why is None:
        return "incomplete"
    if any(matches(story.why, one) for one in fault.causes):
        return "right"
    return "incomplete" if any(matches(story.why, one) for one in fault.symptoms) else "wrong"


def matches(cause: Cause, expected: ExpectedCause) -> bool:
    """Whether a cause is the expected one: its kind, and every name in its sentence."""
    return cause.kind in expected.kinds and all(name in cause.sentence for name in expected.names)


def complains(story: TraceResult) -> bool:
    """Whether a trace of a delivered packet names a cause."""
    return story.verdict == "answered" and story.why is not None


class Trial:
    """Faults and traces on one running lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._healthy: dict[tuple[Traffic, ProbeProtocol], bool] = {}

    def rows(
        self, kind: FaultKind, fault: Fault, protocols: tuple[ProbeProtocol, ...] = ("icmp", "tcp", "udp")
    ) -> Iterator[Row]:
        """Break, trace with each protocol, fix. The lab is as before at the end."""
        usable = {name: [one for one in fault.traffic if self.delivers(one, name)] for name in protocols}
        try:
            record = break_fix.break_lab(self.lab, fault)
        except LabError as error:
            yield self._row(fault, "", "", "broken", "", str(error))
            return
        try:
            drift = {change.subject.key for change in lifecycle.status(self.lab.name, self.lab)}
            noticed = bool(drift & record.keys)
            for name in protocols:
                if usable[name]:
                    yield replace(self._lost(fault, kind, name, usable[name]), noticed=noticed)
        finally:
            break_fix.fix(self.lab, (record,))
        if left := lifecycle.status(self.lab.name, self.lab):
            keys = ", ".join(str(change.subject.key) for change in left[:3])
            yield self._row(fault, "", "", "broken", "", f"after the fix, {len(left)} differences are left: {keys}")
            lifecycle.up(lifecycle.load_definition(self.lab.name))  # type: ignore[arg-type]

    def delivers(self, traffic: Traffic, protocol: ProbeProtocol) -> bool:
        """Whether the healthy lab delivers this probe; tried once."""
        if protocol not in traffic.protocols:
            return False
        key = (traffic, protocol)
        if key not in self._healthy:
            self._healthy[key] = self._trace(traffic, protocol).verdict == "answered"
        return self._healthy[key]

    def _lost(self, fault: Fault, kind: FaultKind, protocol: ProbeProtocol, probes: list[Traffic]) -> Row:
        for traffic in probes:
            story = self._trace(traffic, protocol)
            if story.verdict != "answered":
                cause = story.why.kind if story.why is not None else ""
                sentence = story.why.sentence if story.why is not None else story.sentence
                return self._row(fault, protocol, _probe_text(traffic), judge(story, fault), cause, sentence)
            if story.why is not None:
                return self._row(fault, protocol, _probe_text(traffic), "wrong", story.why.kind, story.why.sentence)
        return self._row(fault, protocol, _probe_text(probes[0]), "unhit", "", kind.unnoticed)

    def _trace(self, traffic: Traffic, protocol: ProbeProtocol) -> TraceResult:
        port = {} if protocol == "icmp" else {protocol: traffic.port or DEFAULT_PORT}
        options = {
            "size": traffic.size if protocol != "tcp" else None,
            "fragment": traffic.fragment and protocol != "tcp",
            "listen": _listen(traffic) if protocol != "icmp" else False,
        }
        if traffic.sport is not None and protocol != "icmp":
            options["sport"] = traffic.sport
        return labctl.trace(traffic.source, traffic.target, lab=self.lab, **port, **options).story  # type: ignore[arg-type]

    def _row(self, fault: Fault, protocol: str, probe: str, judgement: Judgement, cause: str, sentence: str) -> Row:
        return Row(self.lab.name, fault.kind, fault.on, protocol, probe, judgement, cause, sentence)


def _listen(traffic: Traffic) -> bool | str:
    """Where labctl answers: in the target, on the machine and port behind a translation, or nowhere."""
    return traffic.listen if traffic.server is None else f"{traffic.server[0]}:{traffic.server[1]}"


def _probe_text(traffic: Traffic) -> str:
    words = [traffic.source, traffic.target]
    words += [f"port {traffic.port}"] if traffic.port else []
    words += [f"size {traffic.size}"] if traffic.size else []
    words += ["fragment"] if traffic.fragment else []
    return " ".join(words)
