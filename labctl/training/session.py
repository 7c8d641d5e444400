"""The verbs of exercises: start one, judge its tasks, give a hint, reset, solve, go on to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import TypeAlias

from labctl.core.exercise_types import Exercise, Hint, Task
from labctl.core.judgement import Judgement
from labctl.core.names import summarize_names
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.exercises import progress as progresses
from labctl.exercises.progress import Progress
from labctl.kernel.host import lab_owner, paths
from labctl.lab import exercise_record, lifecycle
from labctl.lab.exercise_record import RunningExercise
from labctl.lab.records import load_compiled_lab, load_definition
from labctl.scenario import exercise_catalog
from labctl.scenario.catalog import exercise_files
from labctl.scenario.definition import Definition, define
from labctl.training import progress_records
from labctl.training.judge import judge
from labctl.training.learner import label, learner_name

Step: TypeAlias = Callable[[str], None]
MAX_LAB_NAMES = 20


@dataclass(frozen=True, slots=True)
class ExerciseRun:
    """An exercise that runs in a lab: its record, the lab, and how far the learner is."""

    running: RunningExercise
    lab: Lab
    progress: Progress

    @property
    def exercise(self) -> Exercise:
        """The exercise in the learner's language."""
        assert self.lab.exercise is not None
        return self.lab.exercise.in_language(self.running.language)


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What happened to one task: its number from 0, and the judgement."""

    number: int
    judgement: Judgement


def now() -> str:
    """The time in UTC, as records have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_definition(name_or_file: str) -> tuple[str, Definition]:
    """The name of an exercise in records, which is that of its lab, and its definition. Raises UsageError,
    ScenarioError."""
    definition = _with_exercise(define(exercise_catalog.find(name_or_file)), name_or_file)
    return definition.name, definition


def random_definition(scenario: str | None, seed: int, level: int | None) -> tuple[str, Definition]:
    """The name and the definition of a random exercise. Raises UsageError, ScenarioError."""
    from labctl.exercises import random_fault

    chosen = random_fault.random_scenario(seed) if scenario is None else scenario
    lab = define(chosen).compiled
    fault = random_fault.choose_fault(lab, seed, level)
    definition = define(chosen, None, random_fault.overrides(fault, lab.name))
    return random_fault.exercise_name(lab.name, seed, level), definition


def _with_exercise(definition: Definition, name: str) -> Definition:
    if definition.compiled.exercise is None:
        hint = "labctl exercise start --random SCENARIO hides a fault in a scenario"
        raise UsageError(f"{name} has no section 'exercise'", hint)
    return definition


def start(
    name: str, definition: Definition, lab_name: str | None, language: str, step: Step
) -> tuple[ExerciseRun, bool]:
    """Build the lab of an exercise for this learner; returns it, and whether it was built now: an exercise that runs
    already is left as it is. Raises UsageError if another lab has the given name, and what `up` raises."""
    learner = learner_name()
    for running in exercise_record.load_all():
        if (running.learner, running.name) == (learner, name) and lab_name in (None, running.lab):
            return load(running), False
    definition = replace(definition, name=lab_name or free_lab_name(definition.name, learner), lab=None)
    if definition.name in paths.labs():
        hint = f"labctl down {definition.name} removes it; --name uses another name"
        raise UsageError(f"a lab {definition.name} runs already, and it is not this exercise", hint)
    try:
        result = lifecycle.up(definition, progress=step)
    except lab_owner.OwnerError:
        if lab_name is not None:
            raise
        definition = replace(definition, name=free_lab_name(definition.name, learner), lab=None)
        result = lifecycle.up(definition, progress=step)  # another user has built one with that name meanwhile
    assert result.lab.exercise is not None
    running = RunningExercise(result.lab.name, name, learner, language)
    fresh = progresses.begun(result.lab.exercise, name, learner, result.lab.name, now())
    progress = progress_records.FILES.update(learner, name, lambda old: progresses.continued(old, fresh))
    exercise_record.save(replace(running, finished=progress.is_finished))
    return ExerciseRun(running, result.lab, progress), True


def free_lab_name(name: str, learner: str) -> str:
    """The name of the lab: that of the scenario, or one with the learner's name if it is in use."""
    labs = paths.labs()
    own = f"{name[: 60 - len(label(learner))]}-{label(learner)}"
    candidates = [name, own, *(f"{own}-{number}" for number in range(2, MAX_LAB_NAMES))]
    return next((one for one in candidates if one not in labs), name)


def current(lab_name: str | None) -> ExerciseRun:
    """The exercise that this learner runs, or that of the named lab. Raises UsageError if there is none, or several."""
    if lab_name is not None:
        found = exercise_record.load(lab_name)
        if found is None:
            raise UsageError(f"no exercise runs in a lab {lab_name}", "labctl exercise start NAME starts one")
        lab_owner.require_change(lab_name, "labctl exercise shows your own")
        return load(found)
    learner = learner_name()
    mine = [one for one in exercise_record.load_all() if one.learner == learner]
    if len(mine) > 1 and (chosen := [one for one in mine if one.lab == paths.given_lab()]):
        mine = chosen
    if not mine:
        raise UsageError(f"no exercise of {learner} runs", "labctl exercise list shows them, start NAME starts one")
    if len(mine) > 1:
        names = summarize_names([one.lab for one in mine])
        raise UsageError(f"several exercises of {learner} run: {names}", f"name one: -l {mine[0].lab}")
    return load(mine[0])


def load(running: RunningExercise) -> ExerciseRun:
    """The exercise of a record. Raises UsageError if the definition of its lab is lost."""
    lab = load_compiled_lab(running.lab)
    if lab.exercise is None:
        raise UsageError(f"the definition of lab {running.lab} has no exercise", f"labctl down {running.lab}")
    fresh = progresses.begun(lab.exercise, running.name, running.learner, lab.name, now())
    return ExerciseRun(running, lab, progresses.continued(progress_records.load(running.learner, running.name), fresh))


def check(
    run: ExerciseRun, number: int | None, answer: str | None, step: Step
) -> tuple[ExerciseRun, tuple[TaskOutcome, ...]]:
    """Judge one task, or without a number the open tasks in their order, up to the first that is not done. A question
    without an answer ends that. Raises UsageError for a task that does not exist, or that comes after an open one."""
    tasks = run.exercise.tasks
    if number is not None:
        _require_turn(run, number)
        return _check_one(run, number, answer, step)
    outcomes: list[TaskOutcome] = []
    for at, task in enumerate(tasks):
        if run.progress.tasks[at].state != "open":
            continue
        if task.takes_answer:
            break
        run, found = _check_one(run, at, None, step)
        outcomes += found
        if not found[0].judgement.is_final:
            break
    return run, tuple(outcomes)


def _require_turn(run: ExerciseRun, number: int) -> None:
    count = len(run.progress.tasks)
    if not 0 <= number < count:
        raise UsageError(f"there is no task {number + 1}", f"the tasks are 1 to {count}" if count > 1 else "it has one")
    first = run.progress.first_open
    if first is not None and first < number:
        raise UsageError(f"task {number + 1} comes after task {first + 1}", f"first labctl exercise check {first + 1}")


def _check_one(
    run: ExerciseRun, number: int, answer: str | None, step: Step
) -> tuple[ExerciseRun, tuple[TaskOutcome, ...]]:
    if run.progress.tasks[number].state in ("missed", "solved") and run.exercise.tasks[number].takes_answer:
        raise UsageError(f"task {number + 1} is closed: its answer was shown")
    judgement = judge(run.lab, number, answer, step)

    def after(progress: Progress) -> Progress:
        return progresses.judged(replace(progress, checks=progress.checks + 1), number, judgement, now())

    return _with_progress(run, after), (TaskOutcome(number, judgement),)


def hint(run: ExerciseRun) -> tuple[ExerciseRun, Hint | None]:
    """The next hint; its cost is counted. None if all were given."""
    hints = run.exercise.hints
    given: list[Hint] = []

    def after(progress: Progress) -> Progress:
        given.extend(hints[progress.hints : progress.hints + 1])
        cost = 0 if progress.is_finished else sum(one.cost for one in given)
        return replace(progress, hints=progress.hints + len(given), hint_cost=progress.hint_cost + cost)

    run = _with_progress(run, after)
    return run, given[0] if given else None


def reset(run: ExerciseRun, *, forget: bool, step: Step) -> ExerciseRun:
    """Build the lab again as it was at the start. The learner's progress stays; with `forget`, it begins again."""
    definition = load_definition(run.running.lab)
    if definition is None:
        raise UsageError(f"the definition of lab {run.running.lab} is lost", f"labctl down {run.running.lab}")
    lab = lifecycle.up(definition, replace=True, progress=step).lab
    assert lab.exercise is not None
    fresh = progresses.begun(lab.exercise, run.running.name, run.running.learner, lab.name, now())
    run = replace(run, lab=lab)
    return _with_progress(run, lambda old: fresh if forget else replace(old, resets=old.resets + 1))


def solve(
    run: ExerciseRun, number: int | None, step: Step, report: Callable[[int, Task], None]
) -> tuple[ExerciseRun, tuple[TaskOutcome, ...]]:
    """Do what the solution of the open tasks says, in their order, or that of one; `report` is called before each. The
    tasks are then worth nothing. Raises UsageError if a command of the solution fails."""
    from labctl.training.solution import carry_out

    if number is not None:
        _require_turn(run, number)
    outcomes = []
    for at, task in enumerate(run.exercise.tasks):
        is_chosen = run.progress.tasks[at].state == "open" if number is None else at == number
        if not is_chosen:
            continue
        report(at, task)
        carry_out(run.lab, task, step)
        judgement = judge(run.lab, at, task.answer or None, step)
        outcomes.append(TaskOutcome(at, judgement))
        if judgement.state != "passed":
            break
        run = _with_progress(run, partial(_shown, (at,), lambda _: True))
    return run, tuple(outcomes)


def show_solutions(run: ExerciseRun, number: int | None) -> tuple[ExerciseRun, tuple[int, ...]]:
    """Count the solutions of the open tasks, or of one task, as shown; returns their numbers. A question is closed by
    that; work can still be done, for no points."""
    if number is not None:
        _require_turn(run, number)
    chosen = [
        at for at, one in enumerate(run.progress.tasks) if (one.state == "open" if number is None else at == number)
    ]
    after = partial(_shown, tuple(chosen), lambda at: run.exercise.tasks[at].takes_answer)
    return _with_progress(run, after), tuple(chosen)


def _shown(numbers: Iterable[int], closes: Callable[[int], bool], progress: Progress) -> Progress:
    for at in numbers:
        progress = progresses.shown(progress, at, now(), closes=closes(at))
    return progress


def next_name(run: ExerciseRun | None) -> str | None:
    """The name of the built-in exercise that follows: the first one after the current that is not finished; None if
    all are."""
    names = list(exercise_files())
    learner = learner_name() if run is None else run.running.learner
    at = names.index(run.running.name) + 1 if run is not None and run.running.name in names else 0
    for name in (*names[at:], *names[:at]):
        found = progress_records.load(learner, name)
        if (found is None or not found.is_finished) and (run is None or name != run.running.name):
            return name
    return None


def _with_progress(run: ExerciseRun, change: Callable[[Progress], Progress]) -> ExerciseRun:
    """Change the recorded progress."""
    progress = progress_records.update(run.progress, change)
    running = replace(run.running, finished=progress.is_finished)
    exercise_record.save(running)
    return replace(run, running=running, progress=progress)
