"""The lesson of a lab for the page: the list of lessons, the current step, and what happened in the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.lesson_types import Prediction
from labctl.errors import UsageError
from labctl.kernel.host import paths
from labctl.report.lesson_json import list_document, progress_document, session_document
from labctl.scenario import lesson_catalog
from labctl.training import lesson_session
from labctl.training.learner import learner_name
from labctl.translation.language import current_language, gettext

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.lessons.outcome import StepOutcome
    from labctl.training.lesson_session import LessonRun

Document: TypeAlias = dict[str, Any]


def lesson_document(lab: str) -> Document:
    """All lessons, and the one that this lab belongs to: `session` is null if the lab is not that of a lesson."""
    return {"lessons": _lessons(), "session": _session(lab)}


def _lessons() -> list[Document]:
    """The built-in lessons with their titles in the language in use, and how far the learner is."""
    entries, reached = lesson_catalog.entries(), lesson_session.progress_of(learner_name())
    titles = {one.name: one.lesson.in_language(current_language()).title for one in entries}
    return [
        {
            "name": one["name"],
            "title": titles[one["name"]],
            "minutes": one["minutes"],
            "progress": progress_document(reached[one["name"]]) if one["name"] in reached else None,
        }
        for one in list_document(entries, (), "")["lessons"]
    ]


def _session(lab: str) -> Document | None:
    try:
        run = lesson_session.current(lab, current_language())
    except UsageError:
        return None
    return _document(run, None)


def act(lab: str, action: str, answer: str, notify: Callable[[str], None]) -> tuple[Document, StepOutcome | None]:
    """Carry out the current step (`next`), `skip` it, or go `back` one. Returns where the learner is and what happened.

    Raises UsageError, KernelError.
    """
    run = lesson_session.current(lab, current_language())
    outcome = None
    with lesson_session.in_this_terminal(run.running.name):
        if action == "back":
            run = lesson_session.go_back(run)
        elif action == "skip":
            run = lesson_session.skip(run)
        else:
            variables = {"LABCTL_LANG": current_language()}
            run, outcome = lesson_session.carry_out(run, answer, notify, variables)
    return {"lessons": _lessons(), "session": _document(run, outcome)}, outcome


def _document(run: LessonRun, outcome: StepOutcome | None) -> Document:
    """That of `labctl learn --json`, with its sentences in the language in use."""
    found = session_document(run.session, paths.command_prefix(run.lab.name), outcome)
    step = run.session.step
    if step is not None and isinstance(step.action, Prediction):
        found["step"]["answer"] = gettext(found["step"]["answer"])
    if outcome is not None:
        done = found["outcome"]
        done["problems"] = [gettext(one) for one in outcome.problems]
        done["seen"] = [] if outcome.judgement is None else [gettext(one) for one in outcome.judgement.seen]
        outcomes = () if outcome.report is None else outcome.report.outcomes
        done["checks"] = [
            {
                "say": gettext(one.check.say),
                "verdict": one.verdict,
                "evidence": [gettext(text) for text in one.evidence],
            }
            for one in outcomes
        ]
    return found
