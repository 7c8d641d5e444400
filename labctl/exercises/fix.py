"""Judge a `fix` task: the checks of the scenario, and what differs from its plan without faults. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.core.diff import Change
from labctl.core.exercise_types import FixGoal
from labctl.core.judgement import Judgement
from labctl.core.resources import Plan
from labctl.core.results import Report, text_lines
from labctl.core.sentence import joined, sentence
from labctl.exercises.observed_state import describe, without_free_fields

MAX_CHECKS = 4  # checks that did not pass, of which the evidence is shown
MAX_EVIDENCE = 3


def judge_fix(goal: FixGoal, report: Report, changes: Iterable[Change], observed: Plan) -> Judgement:
    """The judgement: all checks must pass; with `lab`, nothing may differ from the plan."""
    bad = [one for one in report.outcomes if one.verdict in ("fail", "inconclusive")]
    left = without_free_fields(changes) if goal.grade == "lab" else ()
    seen: list[str] = []
    for outcome in bad[:MAX_CHECKS]:
        seen.append(sentence("the check does not pass: {claim}", claim=outcome.check.say))
        seen += [joined("", ("  ", line)) for text in outcome.evidence[:MAX_EVIDENCE] for line in text_lines(text)]
    if len(bad) > MAX_CHECKS:
        seen.append(sentence("and {number} more checks do not pass", number=len(bad) - MAX_CHECKS))
    if left and not bad:
        seen += [sentence("all checks pass, but the lab is not as it should be:"), *describe(left, observed)]
    return Judgement("failed" if bad or left else "passed", tuple(seen))
