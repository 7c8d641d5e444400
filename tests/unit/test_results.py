"""`repr` and `str` of what the Python API returns: one short line, and what the command line prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

import labctl
from labctl.report import trace
from labctl.tracing.diagnosis import diagnose
from tests.support import samples
from tests.support.traces import TRACES, recording

LONG = "x y\n" * 400
LAB = labctl.load("kubenet").compiled
CHECK = replace(samples.PING, say=LONG)
RESULTS = {
    "Traced lost": labctl.Traced(samples.STORY, samples.TRACE),
    "TraceResult lost": samples.STORY,
    "TraceEvidence kubenet": samples.TRACE,
    "Report fail": samples.report(samples.PASSED, samples.FAILED),
    "Report inconclusive": samples.report(labctl.Outcome(CHECK, "inconclusive")),
    "Report skip": samples.report(),
    "Outcome fail": samples.FAILED,
    "Outcome pass": labctl.Outcome(CHECK, "pass"),
    "UpResult kubenet: created": samples.result(),
    "UpResult kubenet: as defined": samples.result(created=False, changes=()),
    "UpResult kubenet: dry run, repaired": samples.result(created=False, dry=True),
    "Lab kubenet": LAB,
    "Definition kubenet": labctl.load("kubenet", set={"routing": "host"}),
    "Change missing": samples.DRIFT[1],
    "Change extra": samples.DRIFT[0],
    "Change changed": samples.DRIFT[2],
    "Completed a: exit code 7": labctl.Completed("a", ("sh", "-c", LONG), 7, LONG, LONG),
}


@pytest.mark.parametrize("start", RESULTS)
def test_a_repr_is_one_short_line_that_begins_with_the_verdict(start: str) -> None:
    text = repr(RESULTS[start])

    assert text.startswith(f"<{start}"), text
    assert text.endswith(">")
    assert len(text) <= 200
    assert "\n" not in text


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.json")), ids=lambda path: path.stem)
def test_a_trace_is_told_as_the_command_line_tells_it(path: object) -> None:
    name = str(getattr(path, "stem", ""))
    evidence = recording(name)
    traced = labctl.Traced(diagnose(evidence), evidence)

    assert repr(traced).startswith(f"<Traced {traced.verdict}: ")
    assert len(repr(traced)) <= 200
    assert str(traced).splitlines() == list(trace.lines(traced.story))


def test_a_lost_trace_says_why_in_its_repr() -> None:
    story = samples.STORY
    assert story.why is not None

    assert f"because {story.why.sentence[:40]}" in repr(story)


def test_a_report_is_told_as_check_prints_it() -> None:
    report = samples.report(samples.PASSED, samples.FAILED, samples.UNSURE)

    assert str(report) == (
        "PASS pods on different nodes see each other's own address\n"
        "FAIL every pod reaches every pod\n"
        "    expected a reply\n"
        "    seen: nothing, at node1/eth0\n"
        "    run manually: ping -c 1 c\n"
        "INCONCLUSIVE pods on different nodes see each other's own address\n"
        "    packets were lost on the way to the tap\n"
        "kubenet: 3 checks, 1 passed, 1 failed, 1 inconclusive"
    )
    assert repr(report) == (
        "<Report fail, kubenet: 3 checks, 1 passed, 1 failed, 1 inconclusive; fail: every pod reaches every pod>"
    )
    assert str(samples.FAILED) == "\n".join(str(report).splitlines()[1:5])


def test_a_command_is_told_with_what_it_printed() -> None:
    done = labctl.Completed("a", ("ping", "-c1", "c"), 1, "sent\n", "lost\nno answer\n")

    assert str(done) == "a$ ping -c1 c\nsent\nlost\nno answer\nexit code 1"
    assert repr(done) == "<Completed a: exit code 1: ping -c1 c: no answer>"


def test_equal_results_are_equal() -> None:
    assert samples.report(samples.PASSED) == samples.report(samples.PASSED)
    assert samples.report(samples.PASSED) != samples.report(samples.FAILED)
    assert labctl.load("kubenet") == labctl.load("kubenet")
