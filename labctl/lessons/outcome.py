"""What happened in one step, and what of it is not as the lesson says. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labctl.core.judgement import Judgement
from labctl.core.lesson_types import RunCommand, RunVerb
from labctl.core.results import Report
from labctl.core.sentence import Sentence, sentence
from labctl.tracing.result import TraceResult

_COLOUR = re.compile(r"\033\[[\d;]*m")


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """One step that was carried out: the output of a command, the trace of a prediction, or the report of a check.

    `answer` is what the learner said, `right` whether it was so. `problems` are what differs from the lesson: in a lab
    that somebody has changed, or in a lesson that is wrong.
    """

    number: int
    output: str = ""
    exit_code: int | None = None
    answer: str = ""
    judgement: Judgement | None = None
    trace: TraceResult | None = None
    report: Report | None = None
    problems: tuple[Sentence, ...] = ()

    @property
    def right(self) -> bool | None:
        """Whether the answer was right; None for a step that is no question, or a packet that could not be sent."""
        if self.judgement is None or not self.judgement.is_final:
            return None
        return self.judgement.state == "passed"


def command_problems(action: RunCommand | RunVerb, exit_code: int, output: str) -> tuple[Sentence, ...]:
    """What differs in the exit code and the output of a command."""
    problems = []
    if exit_code != action.exits:
        problems.append(sentence("the exit code is {seen}, not {wanted}", seen=exit_code, wanted=action.exits))
    plain = " ".join(_COLOUR.sub("", output).split())
    problems += [
        sentence("the output does not show {text}", text=repr(text)) for text in action.shows if text not in plain
    ]
    return tuple(problems)


def answer_problems(judgement: Judgement, expected: str, answer: str) -> tuple[Sentence, ...]:
    """What differs if the answer of the lesson itself is judged, or nothing could be measured."""
    if judgement.state == "unclear":
        return (sentence("nothing was measured: {seen}", seen="; ".join(judgement.seen)),)
    if answer == expected and judgement.state != "passed":
        return (sentence("the lesson says {answer}, and something else was measured", answer=repr(expected)),)
    return ()


def claim_problems(report: Report) -> tuple[Sentence, ...]:
    """What differs if the check of a claim does not pass."""
    if report.verdict == "pass":
        return ()
    return (sentence("the check is the evidence, and it does not pass: {verdict}", verdict=report.verdict),)
