"""Exercises as text for 80 columns: the list, the task sheet, judgements, hints, solutions, points."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from labctl.core.exercise_types import Task
from labctl.core.sentence import Sentence, in_a_row, joined, sentence
from labctl.core.text import count
from labctl.exercises.locate import ANSWER_FORM
from labctl.exercises.predict import answer_form
from labctl.report.table_section import TableSection
from labctl.report.text_layout import pad
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.exercise_types import Exercise
    from labctl.core.judgement import Judgement
    from labctl.exercises.progress import Progress, TaskProgress
    from labctl.report.terminal import Terminal
    from labctl.scenario.exercise_catalog import ExerciseEntry

WIDTH = 80  # of paragraphs in a pipe and on a wide terminal
LABEL = 8  # columns of `answer:` and the blank behind it
STATE_WORDS = {
    "open": sentence("open"),
    "passed": sentence("done"),
    "missed": sentence("missed"),
    "solved": sentence("solved by labctl"),
}
STATE_COLOURS = {"open": "yellow", "passed": "green", "missed": "red", "solved": "dim"}
JUDGEMENT_WORDS = {
    "passed": "PASS",
    "failed": sentence("NOT YET"),
    "missed": sentence("MISSED"),
    "unclear": sentence("UNCLEAR"),
}
COLUMNS = (sentence("exercise"), sentence("level"), sentence("points"), "", sentence("title"))
LEARNER_COLUMNS = (
    sentence("learner"),
    sentence("exercise"),
    sentence("points"),
    "",
    sentence("hints"),
    sentence("time (UTC)"),
)
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
    level: list[str] = [sentence("level {number}", number=exercise.level)]
    level += [exercise.topic] if exercise.topic else []
    facts = in_a_row((*level, count(exercise.points, "point"), sentence("lab {name}", name=progress.lab)))
    yield from paragraphs(terminal.paint(exercise.title, "bold"), terminal)
    yield terminal.paint(gettext(facts), "dim")
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
        state = "" if done.state == "open" else f" [{gettext(joined(', ', (STATE_WORDS[done.state], _points(done))))}]"
        worth = " (" + gettext(count(task.points, "point")) + ")" if done.state == "open" else ""
        first, *rest = fold_line(f"{number}. {task.say}{worth}{state}", width, 3)
        yield first
        yield from rest


def _points(done: TaskProgress | Progress) -> Sentence:
    return sentence("{points} of {possible}", points=done.points, possible=done.possible)


def _label(text: str) -> str:
    """A label before a command, as wide as the others."""
    return pad(text, LABEL)


def next_commands(exercise: Exercise, progress: Progress, command: str) -> Iterator[str]:
    """What can be typed now."""
    first = progress.first_open
    if first is None:
        yield gettext("next:") + f" {command.partition(' -l ')[0]} exercise next"
        return
    task = exercise.tasks[first]
    number = f" {first + 1}" if len(exercise.tasks) > 1 or task.takes_answer else ""
    if task.takes_answer:
        yield _label(gettext("answer:")) + f"{command} exercise check {first + 1} ANSWER"
        yield _label("") + gettext(sentence("an answer is {form}", form=form(task)))
    else:
        yield _label(gettext("check:")) + f"{command} exercise check{number}"
    if progress.hints < len(exercise.hints):
        yield _label(gettext("hint:")) + f"{command} exercise hint"


def form(task: Task) -> str:
    """What an answer to a question looks like."""
    from labctl.core.exercise_types import CompareGoal, LocateGoal, PredictGoal

    if isinstance(task.goal, PredictGoal):
        return answer_form(task.goal)
    if isinstance(task.goal, LocateGoal):
        return ANSWER_FORM
    assert isinstance(task.goal, CompareGoal)
    return sentence("some of {scenarios}; or none", scenarios=", ".join(task.goal.scenarios))


def outcome_lines(
    exercise: Exercise, progress: Progress, outcomes: Sequence[tuple[int, Judgement]], terminal: Terminal
) -> Iterator[str]:
    """The judgements on tasks, each with what was seen."""
    for number, judgement in outcomes:
        word = terminal.paint(gettext(JUDGEMENT_WORDS[judgement.state]), JUDGEMENT_COLOURS[judgement.state])
        points = ""
        if judgement.is_final:
            points = gettext(sentence(" ({points} points)", points=_points(progress.tasks[number])))
        yield f"{word} {number + 1}. {exercise.tasks[number].say}{points}"
        yield from (f"    {gettext(line)}" for line in judgement.seen)


def end_lines(exercise: Exercise, progress: Progress, terminal: Terminal) -> Iterator[str]:
    """What the learner reads when all tasks are done."""
    yield ""
    total = sentence("{points} of {possible}", points=progress.points, possible=count(progress.possible, "point"))
    parts = [total, count(progress.hints, "hint")] if progress.hints else [total]
    text = gettext(joined(": ", (exercise.title, in_a_row(parts))))
    yield from paragraphs(terminal.paint(text, "bold"), terminal)
    if exercise.explain:
        yield ""
        yield from paragraphs(exercise.explain, terminal)


def solution_lines(number: int, task: Task, lab: str, terminal: Terminal) -> Iterator[str]:
    """The solution of a task, with the name of the lab in its commands."""
    yield terminal.paint(gettext("solution"), "bold") + f" {number + 1}. {task.say}"
    if task.answer:
        yield f"    {task.answer}"
    for step in task.steps:
        for line in step.for_lab(lab).splitlines():
            yield f"    {step.machine}: {line}"
    if not task.answer and not task.steps:
        yield "    " + gettext("labctl undoes the faults, as `labctl fix` does")


def hint_lines(exercise: Exercise, number: int) -> Iterator[str]:
    """One hint, of how many, and its cost."""
    hint = exercise.hints[number]
    words = {"number": number + 1, "hints": len(exercise.hints)}
    title = sentence("hint {number} of {hints}:", **words)
    if hint.cost:
        title = sentence("hint {number} of {hints} (costs {points}):", points=count(hint.cost, "point"), **words)
    yield gettext(title)
    yield f"    {hint.say}"


def list_table(entries: Iterable[ExerciseEntry], reached: dict[str, Progress], language: str) -> TableSection:
    """The built-in exercises with what the learner has reached."""
    rows = []
    for entry in entries:
        done = reached.get(entry.name)
        points = f"{entry.exercise.points}" if done is None else _points(done)
        state = "" if done is None else _state(done)
        title = entry.exercise.in_language(language).title
        rows.append((entry.name, str(entry.exercise.level), points, state, title))
    return TableSection("", COLUMNS, tuple(rows))


def _state(done: Progress) -> Sentence:
    return sentence("done") if done.is_finished else sentence("begun")


def others_table(reached: Iterable[Progress]) -> TableSection:
    """Exercises that are not built in: random ones, and those of files."""
    rows = [
        (
            one.exercise,
            str(one.level),
            _points(one),
            _state(one),
            one.title,
        )
        for one in reached
    ]
    return TableSection("", COLUMNS, tuple(rows))


def learners_table(reached: Iterable[Progress]) -> TableSection:
    """All exercises of all learners."""
    rows = [
        (
            one.learner,
            one.exercise,
            _points(one),
            _state(one),
            str(one.hints),
            (one.finished or one.started).replace("T", " ").rstrip("Z"),
        )
        for one in reached
    ]
    return TableSection("", LEARNER_COLUMNS, tuple(rows))


def quoted(text: str) -> str:
    """A name as a word of a command line."""
    return shlex.quote(text)
