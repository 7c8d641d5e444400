"""The judge of traces: right, incomplete or wrong, by the causes of the catalogue."""

from __future__ import annotations

import pytest

from labctl.faults.fault import ExpectedCause, Fault
from labctl.tracing.result import Cause, TraceResult
from tests.support.trace_trial import has_names, judge

CAUSE = ExpectedCause(("no-route",), ("node1", "10.244.1.0/24"))
SYMPTOM = ExpectedCause(("neighbour",), ("node1",))
FAULT = Fault("route-missing", "node1/10.244.1.0/24", (), (CAUSE,), (), (SYMPTOM,))


def lost(kind: str, sentence: str) -> TraceResult:
    return TraceResult("probe", (), "lost", "lost there", Cause(kind, sentence))


@pytest.mark.parametrize(
    ("story", "judgement"),
    [
        (lost("no-route", "node1 has no route to 10.244.1.0/24"), "right"),
        (lost("no-route", "node2 has no route to 10.244.1.0/24"), "wrong"),
        (lost("rule", "node1 dropped it for 10.244.1.0/24"), "wrong"),
        (lost("neighbour", "node1/eth0 gets no answer"), "incomplete"),
        (TraceResult("probe", (), "lost", "lost there"), "incomplete"),
        (TraceResult("probe", (), "answered", "answered"), "unhit"),
        (TraceResult("probe", (), "answered", "answered", Cause("no-route", "node1 10.244.1.0/24")), "wrong"),
    ],
)
def test_an_answer_is_judged_by_its_kind_and_its_names(story: TraceResult, judgement: str) -> None:
    assert judge(story, FAULT) == judgement


def test_a_delivered_packet_shows_the_fault_only_if_the_healthy_lab_did_not() -> None:
    fault = Fault("masquerade-missing", "node1", (), (ExpectedCause(("answered",), ("10.0.0.2",)),), ())
    story = TraceResult("probe", (), "answered", "source rewritten: 10.0.0.1 > 10.0.0.2")
    sound = TraceResult("probe", (), "answered", "source unchanged end to end")
    assert judge(story, fault, sound) == "right"
    assert judge(story, fault, story) == "unhit"


@pytest.mark.parametrize(
    ("name", "sentence", "found"),
    [
        ("10.0.0.1", "to 10.0.0.1:80", True),
        ("10.0.0.1", "to 10.0.0.10", False),
        ("10.0.0.1", "to 10.0.0.1.", True),
        ("10.0.0", "to 10.0.0.1", False),
        ("node1", "node1/eth0 is down", True),
        ("node1", "node11 is down", False),
        ("eth0", "node1/eth0 is down", True),
    ],
)
def test_a_name_is_a_whole_word(name: str, sentence: str, found: bool) -> None:
    assert has_names(sentence, ExpectedCause(("x",), (name,))) is found
