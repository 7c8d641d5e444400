"""What the report of a failed test says about its checks and traces."""

from __future__ import annotations

import labctl
from labctl.testing.results import MAX_CLAIMS, TestResults
from tests.support import samples


def test_claims_that_are_not_proven_are_shown_up_to_a_number() -> None:
    results = TestResults()
    results.add("kubenet", samples.report(samples.FAILED))
    results.add("kubenet", samples.report(samples.PASSED, samples.UNSURE, *[samples.FAILED] * 12))
    results.add("other", samples.report(samples.PASSED, samples.SKIPPED))

    ((heading, text),) = results.sections()

    assert heading == "labctl: claims of kubenet that are not proven"
    assert text.startswith("INCONCLUSIVE pods on different nodes see each other's own address\n    packets were lost")
    assert text.count("FAIL every pod") == MAX_CLAIMS - 1
    assert text.endswith("\nand 3 more")


def test_a_comparison_of_verdicts_names_what_has_the_verdict() -> None:
    results = TestResults()
    assert results.comparison("==", "fail", "pass") is None
    report = samples.report(samples.FAILED)
    results.add("kubenet", report)
    assert results.comparison("==", "fail", "pass") == ["'fail' == 'pass'", f"the last check: {report!r}"]
    assert results.comparison("==", "lost", "answered") is None
    assert results.comparison("!=", "fail", "fail") is None
    assert results.comparison("==", [], {}) is None
    traced = labctl.Traced(samples.STORY, samples.TRACE)
    results.add("kubenet", traced)
    assert results.comparison("==", "answered", "lost") == ["'answered' == 'lost'", f"the last trace: {traced!r}"]
