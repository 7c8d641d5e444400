"""Lessons in running labs: open one, or go on where the learner was; carry out its steps; play all of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.core.lesson_types import Lesson, LessonStep, Prediction
from labctl.core.names import summarize_names
from labctl.core.scenario_types import Lab
from labctl.core.sentence import Sentence, sentence, sentence_n
from labctl.errors import UsageError
from labctl.kernel.host import lab_owner, paths, state_files
from labctl.lab import learner_lab, lifecycle
from labctl.lab.learner_lab import LearnerLab
from labctl.lab.records import load_compiled_lab, load_definition
from labctl.lessons import progress as progresses
from labctl.lessons.outcome import StepOutcome
from labctl.lessons.progress import LessonProgress
from labctl.lessons.session import LessonSession
from labctl.lessons.steps import changes_lab
from labctl.scenario import lesson_catalog
from labctl.scenario.catalog import lesson_files
from labctl.scenario.definition import Definition, define
from labctl.training import lesson_steps
from labctl.training.learner import learner_name
from labctl.training.progress_files import ProgressFiles
from labctl.training.session import free_lab_name, now

Notify: TypeAlias = Callable[[str], None]
Variables: TypeAlias = dict[str, str]
FILES: ProgressFiles[LessonProgress] = ProgressFiles(
    ".lessons", progresses.SHAPE, progresses.from_json, progresses.to_json
)
# begun: from the first step; continued: in the lab that runs; rebuilt: at a later step, in a lab that was built again;
# outdated: in the lab that runs, but its file has other steps now
Opening: TypeAlias = Literal["begun", "continued", "rebuilt", "outdated"]


@dataclass(frozen=True, slots=True)
class LessonRun:
    """A lesson in its running lab, how far the learner is, and how it was opened."""

    running: LearnerLab
    lab: Lab
    session: LessonSession
    opening: Opening = "continued"
    word: str = ""  # what a learner types after `labctl learn`: its built-in name, or its file


def find_definition(name_or_file: str) -> tuple[str, Definition]:
    """The name of a lesson in records, which is that of its lab, and its definition. Raises UsageError,
    ScenarioError."""
    definition = define(lesson_catalog.find(name_or_file))
    if definition.compiled.lesson is None:
        raise UsageError(f"{name_or_file} has no section 'lesson'", "docs/lessons.md says how to write one")
    return definition.name, definition


def progress_of(learner: str) -> dict[str, LessonProgress]:
    """What a learner has reached in all lessons, by name."""
    return {one.lesson: one for one in FILES.load_all(learner, lambda one: one.started)}


def running_lessons() -> tuple[LearnerLab, ...]:
    """The lessons of this learner that have a lab now."""
    return tuple(one for one in learner_lab.LESSON.load_all() if one.learner == learner_name())


def current(lab_name: str | None, language: str) -> LessonRun:
    """The lesson that this learner has open, or that of the named lab. Raises UsageError if there is none, or
    several."""
    if lab_name is not None:
        lab_owner.require_change(lab_name, "labctl learn shows your own")
    mine = [one for one in running_lessons() if lab_name in (None, one.lab)]
    if len(mine) > 1 and (chosen := [one for one in mine if one.lab == paths.given_lab()]):
        mine = chosen
    if not mine:
        where = "" if lab_name is None else f" in a lab {lab_name}"
        raise UsageError(f"no lesson of {learner_name()} runs{where}", "name one; labctl learn lists them")
    if len(mine) > 1:
        names = summarize_names([one.name for one in mine])
        raise UsageError(f"several lessons of {learner_name()} run: {names}", f"name one: labctl learn {mine[0].name}")
    return _continued(mine[0], language, None)


@contextmanager
def in_this_terminal(name: str) -> Iterator[None]:
    """Keep other terminals of the learner out of a lesson. Raises UsageError if it is open in one."""
    try:
        with state_files.lock(FILES.folder, f"{learner_name()}/.{name}.open", 0.0):
            yield
    except state_files.LockedError:
        hint = "q leaves it there; to type its commands here, use labctl exec and labctl shell"
        raise UsageError(f"the lesson {name} is open in another terminal", hint) from None


def open_lesson(
    name: str,
    definition: Definition,
    lab_name: str | None,
    language: str,
    notify: Notify,
    *,
    restart: bool = False,
    again: bool = False,
) -> LessonRun:
    """Go on with a lesson in the lab that runs, or build its lab. If the learner was at a later step, what the steps
    before it do to the lab is done again. `restart` builds a new lab, and begins with the first step; so
    does `again` for a lesson that is at its end, without forgetting that it was finished.

    Raises UsageError if another lab has the given name, and what `up` raises.
    """
    learner = learner_name()
    found = next((one for one in running_lessons() if one.name == name and lab_name in (None, one.lab)), None)
    if found is not None and not restart:
        run = _continued(found, language, definition.compiled.lesson)
        if not (again and run.session.step is None):
            return run
    if found is not None:
        lab = lifecycle.up(replace(definition, name=found.lab, lab=None), replace=True, progress=notify).lab
    else:
        lab = _build(definition, lab_name, notify)
    lab_name, fresh = lab.name, _fresh(lab, name)
    learner_lab.LESSON.save(LearnerLab(lab_name, name, learner, language))

    def after(old: LessonProgress | None) -> LessonProgress:
        progress = fresh if restart else progresses.continued(old, fresh)
        return progresses.moved(progress, 0, now()) if progress.is_at_end else progress

    progress = FILES.update(learner, name, after)
    run = _run(LearnerLab(lab_name, name, learner, language), lab, progress, "rebuilt" if progress.at else "begun")
    run = replace(run, word=_word(name, definition))
    for number, step in enumerate(run.session.lesson.steps[: progress.at]):
        if changes_lab(step):
            notify(f"step {number + 1} of {len(progress.steps)} again")
            lesson_steps.carry_out(lab, number, step, "", notify, {})
    return run


def _build(definition: Definition, lab_name: str | None, notify: Notify) -> Lab:
    """Build the lab with the given name, or with one that is free for this learner."""
    for last in (False, True):
        name = lab_name or free_lab_name(definition.name, learner_name())
        if name in paths.labs():
            hint = f"labctl down {name} removes it; --name uses another name"
            raise UsageError(f"a lab {name} runs already, and it is not this lesson", hint)
        try:
            return lifecycle.up(replace(definition, name=name, lab=None), progress=notify).lab
        except lab_owner.OwnerError:  # another user has built one with that name meanwhile
            if last or lab_name is not None:
                raise
    raise AssertionError("the second attempt returns or raises")


def _continued(running: LearnerLab, language: str, wanted: Lesson | None) -> LessonRun:
    """The lesson in its lab. The record of the lab has its texts, so a file that has changed does not change it."""
    lab = load_compiled_lab(running.lab)
    if lab.lesson is None:
        raise UsageError(f"the lab {running.lab} is no longer that of the lesson", f"labctl down {running.lab}")
    fresh = _fresh(lab, running.name)
    progress = progresses.continued(FILES.load(running.learner, running.name), fresh)
    is_outdated = wanted is not None and progresses.outline(wanted) != fresh.outline
    running = replace(running, language=language)
    run = _run(running, lab, progress, "outdated" if is_outdated else "continued")
    return replace(run, word=_word(running.name, load_definition(running.lab)))


def _word(name: str, definition: Definition | None) -> str:
    if definition is None or lesson_files().get(name) == definition.file:
        return name
    return shlex.quote(definition.file)


def _fresh(lab: Lab, name: str) -> LessonProgress:
    assert lab.lesson is not None
    return progresses.begun(lab.lesson, name, learner_name(), lab.name, now())


def _run(running: LearnerLab, lab: Lab, progress: LessonProgress, opening: Opening) -> LessonRun:
    assert lab.lesson is not None
    return LessonRun(running, lab, LessonSession(lab.lesson.in_language(running.language), progress), opening)


def carry_out(run: LessonRun, answer: str, notify: Notify, variables: Variables) -> tuple[LessonRun, StepOutcome]:
    """Carry out the current step, and record it. Raises UsageError for an answer that cannot be one, or if the lab is
    gone; and at the end, when there is no step."""
    step = run.session.step
    if step is None:
        raise UsageError("the lesson is at its end", f"labctl learn {run.running.name} --restart begins again")
    if isinstance(step.action, Prediction) and not answer:
        raise UsageError(f"step {run.session.number + 1} is a question", "labctl learn --answer ANSWER")
    lesson_steps.require_lab(run.lab)
    outcome = lesson_steps.carry_out(run.lab, run.session.number, step, answer, notify, variables)
    return _recorded(run, run.session.after(outcome, now())), outcome


def skip(run: LessonRun) -> LessonRun:
    """Go on without carrying out the current step. Raises UsageError for a question without an answer."""
    return _recorded(run, run.session.skipped(now()))


def go_back(run: LessonRun) -> LessonRun:
    """Go back one step. What it did in the lab is not undone."""
    return _recorded(run, run.session.back(now()))


def _recorded(run: LessonRun, session: LessonSession) -> LessonRun:
    progress = session.progress
    FILES.update(progress.learner, progress.lesson, lambda _: progress)
    running = replace(run.running, finished=bool(progress.finished))
    learner_lab.LESSON.save(running)
    return replace(run, running=running, session=session)


def build(definition: Definition, notify: Notify) -> Lab:
    """Build the lab of a lesson to play it; the labs of learners stay as they are."""
    return _build(definition, None, notify)


def play(
    lab: Lab,
    language: str,
    notify: Notify,
    variables: Variables,
    begun: Callable[[int, LessonStep], None],
    ended: Callable[[LessonStep, StepOutcome], None],
) -> tuple[Sentence, ...]:
    """Carry out all steps in a lab as it was built, with the answers of the lesson; no progress is recorded. `begun`
    and `ended` are called before and after each step.

    Returns what is not as the lesson says: also the lab, if it differs from its definition at the end.
    """
    assert lab.lesson is not None
    problems: list[Sentence] = []
    for number, step in enumerate(lab.lesson.in_language(language).steps):
        begun(number, step)
        answer = step.action.answer if isinstance(step.action, Prediction) else ""
        outcome = lesson_steps.carry_out(lab, number, step, answer, notify, variables)
        problems += [sentence("step {number}: {problem}", number=number + 1, problem=one) for one in outcome.problems]
        ended(step, outcome)
    notify("comparing the lab with its definition")
    changes = lifecycle.status(lab.name, lab)
    if changes:
        problems.append(
            sentence_n(
                "at the end, the lab differs from its definition in one place",
                "at the end, the lab differs from its definition in {number} places",
                len(changes),
            )
        )
    return tuple(problems)
