"""The JSON documents of `labctl learn`. No document has the answer to a question before it was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labctl.core.lesson_types import Claim, Prediction
from labctl.exercises.predict import answer_form
from labctl.lessons.steps import minutes, typed_commands

if TYPE_CHECKING:
    from labctl.core.lesson_types import Lesson, LessonStep
    from labctl.core.results import Outcome
    from labctl.lessons.outcome import StepOutcome
    from labctl.lessons.progress import LessonProgress
    from labctl.lessons.session import LessonSession
    from labctl.scenario.lesson_catalog import LessonEntry

Document = dict[str, Any]


def progress_document(progress: LessonProgress) -> Document:
    """How far a learner is. `step` is the number of the current step from 1; null at the end."""
    right, answered = progress.predictions
    return {
        "learner": progress.learner,
        "lesson": progress.lesson,
        "title": progress.title,
        "topic": progress.topic,
        "lab": progress.lab,
        "started": progress.started,
        "finished": progress.finished or None,
        "step": None if progress.is_at_end else progress.at + 1,
        "steps": len(progress.steps),
        "predictions": {"right": right, "answered": answered},
    }


def list_document(entries: Iterable[LessonEntry], reached: Iterable[LessonProgress], learner: str) -> Document:
    """`learn --json`."""
    return {
        "learner": learner,
        "lessons": [
            {
                "name": entry.name,
                "title": entry.lesson.title,
                "topic": entry.lesson.topic,
                "minutes": minutes(entry.lesson),
                "steps": [step.kind for step in entry.lesson.steps],
                "exercise": entry.lesson.exercise or None,
                "languages": ["en", *(language for language, _ in entry.lesson.texts)],
            }
            for entry in entries
        ],
        "progress": [progress_document(one) for one in reached],
    }


def session_document(session: LessonSession, prefix: str, outcome: StepOutcome | None = None) -> Document:
    """`learn LESSON --json`, also with --step, --next and --answer: what was carried out, and the step that is next.

    `step` is null at the end, `outcome` if nothing was carried out."""
    lesson, number, step = session.lesson, session.number, session.step
    lab = session.progress.lab
    done = None if outcome is None else _outcome(lesson.steps[outcome.number], outcome)
    return {
        "title": lesson.title,
        "text": lesson.text,
        "outcome": done,
        "step": None if step is None else _step(step, number, lab, prefix),
        "exercise": lesson.exercise or None,
        "progress": progress_document(session.progress),
    }


def _step(step: LessonStep, number: int, lab: str, prefix: str) -> Document:
    action = step.action
    return {
        "number": number + 1,
        "kind": step.kind,
        "say": step.say or None,
        "commands": list(typed_commands(step, lab, prefix)),
        "claim": action.text if isinstance(action, Claim) else None,
        "answer": answer_form(action.goal) if isinstance(action, Prediction) else None,
    }


def _outcome(step: LessonStep, outcome: StepOutcome) -> Document:
    from labctl.report.trace import lines

    report, claim = outcome.report, step.action
    return {
        "number": outcome.number + 1,
        "kind": step.kind,
        "output": outcome.output if outcome.exit_code is not None else None,
        "exit_code": outcome.exit_code,
        "answer": outcome.answer or None,
        "right": outcome.right,
        "seen": [] if outcome.judgement is None else [str(one) for one in outcome.judgement.seen],
        "trace": None if outcome.trace is None else list(lines(outcome.trace)),
        "holds": claim.holds if isinstance(claim, Claim) else None,
        "checks": [] if report is None else [_check(one) for one in report.outcomes],
        "problems": [str(one) for one in outcome.problems],
        "then": step.then or None,
    }


def _check(outcome: Outcome) -> Document:
    return {"say": outcome.check.say, "verdict": outcome.verdict, "evidence": [str(one) for one in outcome.evidence]}


def played_document(lesson: Lesson, name: str, lab: str, outcomes: Iterable[StepOutcome], problems: Any) -> Document:
    """`learn LESSON --play --json`."""
    return {
        "lesson": name,
        "title": lesson.title,
        "lab": lab,
        "steps": [_outcome(lesson.steps[one.number], one) for one in outcomes],
        "problems": [str(one) for one in problems],
    }
