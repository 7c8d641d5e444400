"""The questions of a handout: the tasks of an exercise, and what a lesson asks, each with lines to write. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING

from labctl.core.lesson_types import Claim, Prediction, RunCommand, RunVerb
from labctl.core.sentence import sentence, sentence_n
from labctl.exercises.predict import answer_form
from labctl.report import handout_layout as paper
from labctl.report.exercise_text import form
from labctl.report.handout_layout import Block
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.exercise_types import Exercise, Task
    from labctl.core.lesson_types import Lesson, LessonStep

ANSWER_LINE = 8.5  # millimetres
LINES_TO_WRITE = {"predict": 1, "locate": 1, "compare": 1, "build": 2, "fix": 2}


def tasks(exercise: Exercise, lab: str, *, answers: bool) -> Block:
    """The tasks of an exercise."""
    return _numbered(gettext("Tasks"), [_task(one, lab, answers) for one in exercise.tasks])


def lesson_questions(lesson: Lesson, *, answers: bool) -> Iterator[Block]:
    """What the steps of a lesson ask: predictions, and claims that are true or not."""
    found = [
        _question(number, step, answers)
        for number, step in enumerate(lesson.steps, 1)
        if isinstance(step.action, (Prediction, Claim))
    ]
    if found:
        yield _numbered(gettext("Questions"), found)


def lesson_commands(lesson: Lesson, lab: str, rest: Callable[[int], str]) -> Iterator[Block]:
    """The commands of a lesson, as they are typed in its lab."""
    rows = []
    for number, step in enumerate(lesson.steps, 1):
        if isinstance(step.action, RunCommand):
            rows.append((str(number), step.action.machine, step.action.for_lab(lab)))
        elif isinstance(step.action, RunVerb):
            rows.append((str(number), "labctl", " ".join(step.action.for_lab(lab))))
    if rows:
        heads = (gettext("step"), gettext("where"), gettext("command"))
        yield paper.table(gettext("Commands of the lesson"), heads, rows, (8, 12, 80), rest)


def _numbered(title: str, items: list[Block]) -> Block:
    lines = [line for one in items for line in ("<li>", *one.lines, "</li>")]
    return paper.section(title, ['<ol class="tasks">', *lines, "</ol>"], paper.total(items) + paper.GAP)


def _task(task: Task, lab: str, answers: bool) -> Block:
    points = gettext(sentence_n("{number} point", "{number} points", task.points))
    asked = _asked(f"{task.say}", points, gettext(form(task)) if task.takes_answer else "")
    steps = [line for step in task.steps for line in f"{step.machine}: {step.for_lab(lab)}".split("\n")]
    told = [task.answer] if task.answer else steps or [gettext("labctl undoes the faults: `labctl fix`")]
    return _joined(asked, _told(told) if answers else _to_write(LINES_TO_WRITE[task.kind]))


def _question(number: int, step: LessonStep, answers: bool) -> Block:
    place = gettext(sentence("step {number}", number=number))
    if isinstance(step.action, Prediction):
        asked = _asked(step.say, place, gettext(answer_form(step.action.goal)))
        right = step.action.answer
    else:
        assert isinstance(step.action, Claim)
        text = gettext(sentence("Often said: {claim}", claim=step.action.text))
        asked = _asked(text, place, gettext("true or false, and what shows it"))
        right = gettext("true") if step.action.holds else gettext("false")
    return _joined(asked, _told([right]), paper.paragraphs(step.then)) if answers else _joined(asked, _to_write(1))


def _asked(text: str, place: str, form_of_answer: str) -> Block:
    """A question, with its points or its step behind it, and what an answer looks like."""
    *before, last = text.split("\n")
    block = paper.paragraphs("\n".join(before)) if before else Block((), 0.0)
    lines = [*block.lines, f'<p>{paper.inline(last)} <span class="soft">({escape(place)})</span></p>']
    height = block.height + paper.text_lines(f"{last} ({place})", paper.COLUMNS - 4) * paper.LINE + 1.5
    if form_of_answer:
        hint = gettext(sentence("Answer: {form}", form=form_of_answer))
        lines.append(f'<p class="soft">{paper.inline(hint)}</p>')
        height += paper.text_lines(hint) * paper.LINE
    return Block(tuple(lines), height)


def _to_write(number: int) -> Block:
    label = escape(gettext("space for the answer"))
    line = f'<div class="write" role="img" aria-label="{label}">{"<i></i>" * number}</div>'
    return Block((line,), number * ANSWER_LINE)


def _told(told: list[str]) -> Block:
    """An answer, or the commands of a solution."""
    lines = escape("\n".join(told))
    height = sum(paper.text_lines(one, 80) for one in told) * paper.LINE + 2.0
    return Block((f'<pre class="answer">{lines}</pre>',), height)


def _joined(*blocks: Block) -> Block:
    return Block(tuple(line for one in blocks for line in one.lines), paper.total(blocks))
