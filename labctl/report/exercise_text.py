"""Exercises as text for 80 columns: the list, the task sheet, judgements, hints, solutions, points."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from labctl.core.exercise_types import Task
from labctl.core.text import count
from labctl.exercises.locate import ANSWER_FORM
from labctl.exercises.predict import answer_form
from labctl.report.node_view import TableSection

if TYPE_CHECKING:
    from labctl.core.exercise_types import Exercise
    from labctl.core.judgement import Judgement
    from labctl.exercises.progress import Progress, TaskProgress
    from labctl.report.terminal import Terminal
    from labctl.scenario.exercise_catalog import ExerciseEntry

WIDTH = 80  # of paragraphs in a pipe and on a wide terminal
LABEL = 8  # columns of `answer:` and the blank behind it
STATE_WORDS = {"open": "open", "passed": "done", "missed": "missed", "solved": "solved by labctl"}
STATE_COLOURS = {"open": "yellow", "passed": "green", "missed": "red", "solved": "dim"}
JUDGEMENT_WORDS = {"passed": "PASS", "failed": "NOT YET", "missed": "MISSED", "unclear": "UNCLEAR"}
JUDGEMENT_COLOURS = {"passed": "green", "failed": "red", "missed": "red", "unclear": "yellow"}


def paragraphs(text: str, terminal: Terminal) -> Iterator[str]:
    """A text with paragraphs, folded; lines that begin with two spaces are commands, and stay as they are."""
    from labctl.report.text_layout import fold_line

    width = min(terminal.width or WIDTH, WIDTH)
    for line in text.split("\n"):
        if line.startswith("  ") or not line:
            yield line
        else:
            yield from fold_line(line, width, 2 if line.startswith("- ") else 0)


def sheet(exercise: Exercise, progress: Progress, terminal: Terminal) -> Iterator[str]:
    """What the learner reads at the start, and whenever it is asked for again."""
    level = f"level {exercise.level}" + (f", {exercise.topic}" if exercise.topic else "")
    yield from paragraphs(terminal.paint(exercise.title, "bold"), terminal)
    yield terminal.paint(f"{level}, {count(exercise.points, 'point')}, lab {progress.lab}", "dim")
    yield ""
    yield from paragraphs(exercise.text, terminal)
    yield ""
    yield from task_lines(exercise, progress, terminal)
    yield ""


def task_lines(exercise: Exercise, progress: Progress, terminal: Terminal) -> Iterator[str]:
    """The tasks with their states and points."""
    from labctl.report.text_layout import fold_line

    width = min(terminal.width or WIDTH, WIDTH)
    for number, (task, done) in enumerate(zip(exercise.tasks, progress.tasks, strict=True), 1):
        state = "" if done.state == "open" else f" [{STATE_WORDS[done.state]}, {_points(done)}]"
        worth = f" ({count(task.points, 'point')})" if done.state == "open" else ""
        first, *rest = fold_line(f"{number}. {task.say}{worth}{state}", width, 3)
        yield first
        yield from rest


def _points(done: TaskProgress) -> str:
    return f"{done.points} of {done.possible}"


def next_commands(exercise: Exercise, progress: Progress, command: str) -> Iterator[str]:
    """What can be typed now."""
    first = progress.first_open
    if first is None:
        yield f"next: {command.partition(' -l ')[0]} exercise next"
        return
    task = exercise.tasks[first]
    number = f" {first + 1}" if len(exercise.tasks) > 1 or task.takes_answer else ""
    if task.takes_answer:
        yield f"{'answer:':{LABEL}}{command} exercise check {first + 1} ANSWER"
        yield f"{'':{LABEL}}an answer is {form(task)}"
    else:
        yield f"{'check:':{LABEL}}{command} exercise check{number}"
    if progress.hints < len(exercise.hints):
        yield f"{'hint:':{LABEL}}{command} exercise hint"


def form(task: Task) -> str:
    """What an answer to a question looks like."""
    from labctl.core.exercise_types import CompareGoal, LocateGoal, PredictGoal

    if isinstance(task.goal, PredictGoal):
        return answer_form(task.goal)
    if isinstance(task.goal, LocateGoal):
        return ANSWER_FORM
    assert isinstance(task.goal, CompareGoal)
    return f"some of {', '.join(task.goal.scenarios)}; or none"


def outcome_lines(
    exercise: Exercise, progress: Progress, outcomes: Sequence[tuple[int, Judgement]], terminal: Terminal
) -> Iterator[str]:
    """The judgements on tasks, each with what was seen."""
    for number, judgement in outcomes:
        word = terminal.paint(JUDGEMENT_WORDS[judgement.state], JUDGEMENT_COLOURS[judgement.state])
        points = f" ({_points(progress.tasks[number])} points)" if judgement.is_final else ""
        yield f"{word} {number + 1}. {exercise.tasks[number].say}{points}"
        yield from (f"    {line}" for line in judgement.seen)


def end_lines(exercise: Exercise, progress: Progress, terminal: Terminal) -> Iterator[str]:
    """What the learner reads when all tasks are done."""
    yield ""
    hints = f", {count(progress.hints, 'hint')}" if progress.hints else ""
    total = f"{exercise.title}: {progress.points} of {count(progress.possible, 'point')}{hints}"
    yield from paragraphs(terminal.paint(total, "bold"), terminal)
    if exercise.explain:
        yield ""
        yield from paragraphs(exercise.explain, terminal)


def solution_lines(number: int, task: Task, lab: str, terminal: Terminal) -> Iterator[str]:
    """The solution of a task, with the name of the lab in its commands."""
    yield f"{terminal.paint('solution', 'bold')} {number + 1}. {task.say}"
    if task.answer:
        yield f"    {task.answer}"
    for step in task.steps:
        for line in step.for_lab(lab).splitlines():
            yield f"    {step.machine}: {line}"
    if not task.answer and not task.steps:
        yield "    labctl undoes the faults, as `labctl fix` does"


def hint_lines(exercise: Exercise, number: int) -> Iterator[str]:
    """One hint, of how many, and its cost."""
    hint = exercise.hints[number]
    cost = f" (costs {count(hint.cost, 'point')})" if hint.cost else ""
    yield f"hint {number + 1} of {len(exercise.hints)}{cost}:"
    yield f"    {hint.say}"


def list_table(entries: Iterable[ExerciseEntry], reached: dict[str, Progress], language: str) -> TableSection:
    """The built-in exercises with what the learner has reached."""
    rows = []
    for entry in entries:
        done = reached.get(entry.name)
        points = f"{entry.exercise.points}" if done is None else f"{done.points} of {done.possible}"
        state = "" if done is None else "done" if done.is_finished else "begun"
        title = entry.exercise.in_language(language).title
        rows.append((entry.name, str(entry.exercise.level), points, state, title))
    return TableSection("", ("exercise", "level", "points", "", "title"), tuple(rows))


def others_table(reached: Iterable[Progress]) -> TableSection:
    """Exercises that are not built in: random ones, and those of files."""
    rows = [
        (
            one.exercise,
            str(one.level),
            f"{one.points} of {one.possible}",
            "done" if one.is_finished else "begun",
            one.title,
        )
        for one in reached
    ]
    return TableSection("", ("exercise", "level", "points", "", "title"), tuple(rows))


def learners_table(reached: Iterable[Progress]) -> TableSection:
    """All exercises of all learners."""
    rows = [
        (
            one.learner,
            one.exercise,
            f"{one.points} of {one.possible}",
            "done" if one.is_finished else "begun",
            str(one.hints),
            (one.finished or one.started).replace("T", " ").rstrip("Z"),
        )
        for one in reached
    ]
    return TableSection("", ("learner", "exercise", "points", "", "hints", "time (UTC)"), tuple(rows))


def quoted(text: str) -> str:
    """A name as a word of a command line."""
    return shlex.quote(text)
