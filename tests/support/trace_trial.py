"""Try a trace against the catalogue of faults: break a lab, trace, and compare the answer with the catalogue's cause.

`judge` is pure. `Trial` needs root: it works on one running lab.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import labctl
from labctl.core.scenario_types import Lab
from labctl.errors import LabError
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import PROTOCOLS, LabObjects, ProbeProtocol, Traffic
from labctl.lab import break_fix, lifecycle
from labctl.tracing.result import Cause, TraceResult

# right: the cause; incomplete: true, but the symptom; wrong: a false statement; unhit: no probe was lost;
# broken: the fault could not be made, or the lab was not as before after the fix
Judgement: TypeAlias = Literal["right", "incomplete", "wrong", "unhit", "broken"]
DEFAULT_PORT = 8080
MAX_HEALTHY_PAIRS = 8  # pairs of machines that are traced in a lab without a fault
NO_FAULT = "none"
DELIVERED = "answered"  # the kind of an expected cause if the fault changes a packet, but does not lose it


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
    checked: str = ""  # the verdict of all checks of the lab, if they were run


def judge(story: TraceResult, fault: Fault, healthy: TraceResult | None = None) -> Judgement:
    """How good the answer to a probe is, by the causes of the catalogue.

    A delivered probe counts only if the catalogue says what its trace shows, and the healthy lab did not show that.
    """
    if story.verdict == "answered":
        if story.why is not None:
            return "wrong"
        expected = [one for one in fault.causes if DELIVERED in one.kinds]
        told = any(has_names(story.sentence, one) for one in expected)
        before = healthy is not None and any(has_names(healthy.sentence, one) for one in expected)
        return "right" if told and not before else "unhit"
    if story.why is None:
        return "incomplete"
    if any(matches(story.why, one) for one in fault.causes):
        return "right"
    return "incomplete" if any(matches(story.why, one) for one in fault.symptoms) else "wrong"


def matches(cause: Cause, expected: ExpectedCause) -> bool:
    """Whether a cause is the expected one: its kind, and every name in its sentence."""
    return cause.kind in expected.kinds and has_names(cause.sentence, expected)


def has_names(sentence: str, expected: ExpectedCause) -> bool:
    """Whether every name is in a sentence, as a whole word: 10.0.0.1 is not in 10.0.0.10, but in 10.0.0.1:80."""
    return all(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\d)", sentence) for name in expected.names)


class Trial:
    """Faults and traces on one running lab."""

    def __init__(self, lab: Lab, *, run_checks: bool = False) -> None:
        self.lab, self.run_checks = lab, run_checks
        self._healthy: dict[tuple[Traffic, ProbeProtocol], TraceResult] = {}

    def healthy_rows(self, protocols: tuple[ProbeProtocol, ...] = PROTOCOLS) -> Iterator[Row]:
        """A lab without a fault: a trace of a delivered packet names no cause. Other packets are not judged."""
        objects = LabObjects(self.lab)
        pairs = dict.fromkeys(pair for machine in objects.machines[:6] for pair in objects.pairs(machine.name))
        for source, target in list(pairs)[:MAX_HEALTHY_PAIRS]:
            for name in protocols:
                story = self._trace(Traffic(source, target), name)
                if story.verdict == "answered":
                    cause = story.why.kind if story.why is not None else ""
                    judged: Judgement = "wrong" if story.why is not None else "right"
                    yield Row(self.lab.name, NO_FAULT, "", name, f"{source} {target}", judged, cause, story.sentence)

    def rows(self, kind: FaultKind, fault: Fault, protocols: tuple[ProbeProtocol, ...] = PROTOCOLS) -> Iterator[Row]:
        """Break, trace with each protocol, fix. The lab is as before at the end."""
        usable = {name: [one for one in fault.traffic if self.delivers(one, name)] for name in protocols}
        if not any(usable.values()):
            return
        try:
            record = break_fix.break_lab(self.lab, fault)
        except LabError as error:
            yield self._row(fault, "", "", "broken", "", str(error))
            return
        try:
            drift = {change.subject.key for change in lifecycle.status(self.lab.name, self.lab)}
            noticed = bool(drift & record.keys) or not record.keys  # connections are no objects of a lab
            checked = labctl.check(self.lab).verdict if self.run_checks else ""
            for name in protocols:
                if usable[name]:
                    yield replace(self._judged(fault, kind, name, usable[name]), noticed=noticed, checked=checked)
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
            self._healthy[key] = self._trace(traffic, protocol)
        return self._healthy[key].verdict == "answered"

    def _judged(self, fault: Fault, kind: FaultKind, protocol: ProbeProtocol, probes: list[Traffic]) -> Row:
        """The row of the first probe that the fault hits."""
        for traffic in probes:
            story = self._trace(traffic, protocol)
            judgement = judge(story, fault, self._healthy[traffic, protocol])
            if judgement != "unhit":
                cause = story.why.kind if story.why is not None else ""
                sentence = story.why.sentence if story.why is not None else story.sentence
                return self._row(fault, protocol, _probe_text(traffic), judgement, cause, sentence)
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
