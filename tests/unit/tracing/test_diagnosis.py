"""Traces from recordings: no root, no kernel. tests/live/tracing/test_diagnosis.py made each recording on a real lab.

`pytest tests/unit/tracing/test_diagnosis.py --update-golden` renews the texts; read the difference then.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from labctl.core.observations import KernelEvent
from labctl.render import dataclass_json
from labctl.report.trace import lines
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence
from tests.support import (
    load_balancer_trace_cases,
    trace_end_cases,
    trace_policy_cases,
    trace_port_cases,
    trace_snat_cases,
)
from tests.support.golden import Golden
from tests.support.trace_cases import CASES as PATH_CASES
from tests.support.trace_cases import Case, routes_of, rules_of
from tests.support.traces import TRACES, recording

CASES = (
    *PATH_CASES,
    *trace_end_cases.CASES,
    *trace_policy_cases.CASES,
    *trace_port_cases.CASES,
    *trace_snat_cases.CASES,
    *load_balancer_trace_cases.CASES,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recording_is_told_as_written(case: Case, golden: Golden) -> None:
    golden(f"traces/{case.name}.txt").check("\n".join(lines(diagnose(recording(case.name)))) + "\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recording_names_what_was_broken(case: Case) -> None:
    story = diagnose(recording(case.name))

    assert story.verdict == case.verdict
    assert (story.why.kind if story.why is not None else None) == case.kind or case.kind is None
    assert case.says in (story.why.sentence if story.why is not None else "")
    assert not case.routes or routes_of(story) == case.routes
    assert not case.rules or rules_of(story) == case.rules


def test_every_recording_has_its_case() -> None:
    names = {case.name for case in CASES}
    assert {path.stem for path in TRACES.glob("*")} == names


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_evidence_survives_json(case: Case) -> None:
    found = recording(case.name)
    assert dataclass_json.from_json(TraceEvidence, json.loads(json.dumps(dataclass_json.to_json(found)))) == found


# What only the kernel's drop reasons or rule reports can show; else the taps, counters and routes are enough.
UNSURE = {"ebtables"}


@pytest.mark.parametrize("case", [case for case in CASES if case.kind], ids=lambda case: case.name)
def test_without_tracefs_the_cause_is_still_found(case: Case) -> None:
    blind = replace(recording(case.name), events=(), drops_traced=False, unknown=("no tracefs",))
    story = diagnose(blind)

    assert story.why is not None
    assert story.why.kind == case.kind
    assert "no tracefs" in story.unknown
    assert not any(note.label == "kernel" for note in story.facts)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "rule"], ids=lambda case: case.name)
def test_without_reports_of_rules_their_counters_are_probable_causes(case: Case) -> None:
    blind = replace(recording(case.name), rule_hits=(), events=(), drops_traced=False, rules_traced=False)
    why = diagnose(blind).why

    assert why is not None
    assert why.kind == "rule"
    assert why.sentence.startswith("probably ")


@pytest.mark.parametrize("case", [case for case in CASES if case.kind], ids=lambda case: case.name)
def test_a_kernel_without_reasons_gives_the_same_cause(case: Case) -> None:
    found = recording(case.name)
    plain = replace(found, events=tuple(replace(event, reason="") for event in found.events))
    story = diagnose(plain)

    assert story.why is not None
    assert story.why.kind == case.kind


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stranger_in_the_kernel_log_is_not_blamed(case: Case) -> None:
    """Another packet of the same length on the same devices, 150 us later, and dropped for a different reason."""
    found = recording(case.name)
    shadow = tuple(
        replace(
            event,
            skb=f"stranger {event.skb}",
            when=event.when + 150_000,
            reason="CPU_BACKLOG" if event.kind == "drop" else "",
        )
        for event in found.events
        if event.pid == found.pid
    )
    last = shadow[-1].skb if shadow else "stranger"  # a bridge that floods makes copies, each with its skb
    drop = KernelEvent("drop", 2_000_000, 1, last, protocol=0x0800, reason="CPU_BACKLOG", location="enqueue_to_backlog")
    crowd = tuple(sorted((*found.events, *shadow, drop), key=lambda event: event.when))
    told = [note.text for note in diagnose(replace(found, events=crowd)).facts]

    assert not any("CPU_BACKLOG" in text for text in told)
