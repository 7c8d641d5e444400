"""Lessons as text for 80 columns: the list, the introduction, a step before and after it was carried out, the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from labctl.core.lesson_types import Claim, Prediction
from labctl.core.sentence import Sentence, sentence, sentence_n
from labctl.core.text import duration
from labctl.exercises.predict import answer_form
from labctl.lessons.steps import minutes, typed_commands
from labctl.report.exercise_text import WIDTH, paragraphs
from labctl.report.table_section import TableSection
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.lesson_types import Lesson, LessonStep
    from labctl.lessons.outcome import StepOutcome
    from labctl.lessons.progress import LessonProgress
    from labctl.lessons.session import LessonSession
    from labctl.report.terminal import Terminal
    from labctl.scenario.lesson_catalog import LessonEntry


def list_table(entries: Iterable[LessonEntry], reached: dict[str, LessonProgress], language: str) -> TableSection:
    """The built-in lessons, how long each takes, and how far the learner is."""
    rows = []
    for entry in entries:
        lesson = entry.lesson.in_language(language)
        state = _state(reached.get(entry.name))
        rows.append((entry.name, str(minutes(entry.lesson)), state, lesson.title))
    header = (gettext("lesson"), gettext("minutes"), "", gettext("title"))
    return TableSection("", header, tuple(rows))


def _state(progress: LessonProgress | None) -> str:
    if progress is None:
        return ""
    if progress.finished:
        return gettext("done")
    return gettext(sentence("step {number} of {count}", number=progress.at + 1, count=len(progress.steps)))


def head_lines(session: LessonSession, terminal: Terminal) -> Iterator[str]:
    """The title and the introduction."""
    lesson, count = session.lesson, len(session.lesson.steps)
    yield from paragraphs(terminal.paint(lesson.title, "bold"), terminal)
    steps = gettext(sentence_n("{number} step", "{number} steps", count))
    time = gettext(sentence_n("about {number} minute", "about {number} minutes", minutes(lesson)))
    lab = gettext(sentence("lab {lab}", lab=session.progress.lab))
    facts = [*filter(None, [lesson.topic]), steps, time, lab]
    yield terminal.paint(", ".join(facts), "dim")
    yield ""
    yield from paragraphs(lesson.text, terminal)
    yield ""


def step_title(number: int, count: int, terminal: Terminal) -> str:
    """The line above a step."""
    from labctl.report.text_layout import text_width

    text = gettext(sentence("step {number} of {count}", number=number + 1, count=count))
    line = "─" if terminal.symbols else "-"
    rest = min(terminal.width or 40, WIDTH) - text_width(text) - 4
    return terminal.paint(f"{line * 2} {text} {line * max(0, rest)}", "dim")


def step_lines(step: LessonStep, number: int, count: int, lab: str, prefix: str, terminal: Terminal) -> Iterator[str]:
    """A step before it is carried out: what is said, and the command, the question or the claim."""
    yield step_title(number, count, terminal)
    yield ""
    if step.say:
        yield from paragraphs(step.say, terminal)
        yield ""
    if isinstance(step.action, Claim):
        yield from paragraphs(gettext("Often said:") + " " + terminal.paint(step.action.text, "bold"), terminal)
        yield ""
    first, *rest = typed_commands(step, lab, prefix) or ("",)
    if first:
        yield f"  {terminal.paint(first, 'green')}"
        yield from (f"    {line}" for line in rest)
        yield ""


def form_line(step: LessonStep) -> str:
    """What an answer to a question looks like."""
    assert isinstance(step.action, Prediction)
    return gettext(sentence("possible answers: {form}", form=answer_form(step.action.goal)))


def outcome_lines(step: LessonStep, outcome: StepOutcome, terminal: Terminal) -> Iterator[str]:
    """What happened in a step, and the text after it."""
    from labctl.report.text_layout import fold_line

    yield from _evidence_lines(step, outcome, terminal)
    width = min(terminal.width or WIDTH, WIDTH)
    for problem in outcome.problems:
        text = gettext(sentence("not as the lesson says: {problem}", problem=problem))
        yield from fold_line(terminal.paint(text, "yellow"), width, 4)
    if outcome.problems:
        yield ""
    if step.then:
        yield from paragraphs(step.then, terminal)
        yield ""


def _evidence_lines(step: LessonStep, outcome: StepOutcome, terminal: Terminal) -> Iterator[str]:
    if outcome.exit_code is not None:
        for line in outcome.output.rstrip().splitlines():
            yield from _output_line(line, terminal)
        if outcome.exit_code:
            yield terminal.paint("  " + gettext(sentence("exit code {code}", code=outcome.exit_code)), "dim")
        yield ""
    if outcome.judgement is not None:
        yield from _judgement_lines(outcome, terminal)
    if isinstance(step.action, Claim) and outcome.report is not None:
        yield from _claim_lines(step.action, outcome, terminal)


def _output_line(line: str, terminal: Terminal) -> Iterator[str]:
    """A line of output; on a terminal that is too narrow, broken between words."""
    from labctl.report.text_layout import fold_line

    if terminal.width is None:
        yield f"  {line}".rstrip()
    else:
        yield from (f"  {part}".rstrip() for part in fold_line(line.expandtabs(), terminal.width - 2, 8))


def _judgement_lines(outcome: StepOutcome, terminal: Terminal) -> Iterator[str]:
    from labctl.report import trace
    from labctl.report.text_layout import fold_line

    assert outcome.judgement is not None
    width = min(terminal.width or WIDTH, WIDTH)
    words = {True: (gettext("RIGHT"), "green"), False: (gettext("NOT SO"), "red"), None: (gettext("UNCLEAR"), "yellow")}
    word, colour = words[outcome.right]
    for number, seen in enumerate(outcome.judgement.seen):
        label = f"{terminal.paint(word, colour)}  " if number == 0 else "    "
        yield from fold_line(f"{label}{gettext(seen)}", width, 4)
    yield ""
    if outcome.trace is not None:
        for line in trace.lines(outcome.trace, terminal.paint, width - 2):
            yield from (f"  {part}".rstrip() for part in fold_line(line, width - 2, 12))
        yield ""


def _claim_lines(claim: Claim, outcome: StepOutcome, terminal: Terminal) -> Iterator[str]:
    from labctl.core import results
    from labctl.report import plain_text
    from labctl.report.text_layout import fold_line

    assert outcome.report is not None
    width = min(terminal.width or WIDTH, WIDTH)
    truth = gettext("True, and this check shows it:"), gettext("Not true, and this check shows it:")
    if outcome.report.verdict == "pass":
        yield terminal.paint(truth[not claim.holds], "green" if claim.holds else "red")
    for one in outcome.report.outcomes:
        symbol = plain_text.symbol(one.verdict, symbols=terminal.symbols)
        symbol = terminal.paint(symbol, plain_text.VERDICT_COLOURS[one.verdict])
        yield from fold_line(f"  {symbol} {gettext(one.check.say)}", width, 4)
        for line in results.evidence_lines(one, verbose=True):
            yield from fold_line(f"  {line}", width, 8)
    yield ""


def played_lines(count: int, seconds: float, problems: Sequence[Sentence], terminal: Terminal) -> Iterator[str]:
    """The last lines of a lesson that was played."""
    for problem in problems:
        yield terminal.paint(gettext(sentence("not as the lesson says: {problem}", problem=problem)), "red")
    if not problems:
        yield gettext(
            sentence_n(
                "played {number} step in {time}: all is as the lesson says",
                "played {number} steps in {time}: all is as the lesson says",
                count,
                time=duration(seconds),
            )
        )


def end_lines(session: LessonSession, command: str, next_lesson: str | None, terminal: Terminal) -> Iterator[str]:
    """What the learner reads at the end: the predictions, the exercise that follows, the next lesson."""
    lesson = session.lesson
    yield terminal.paint(gettext(sentence("{title}: this is the end of the lesson", title=lesson.title)), "bold")
    right, answered = session.progress.predictions
    if answered:
        yield gettext(sentence("{right} of {count} predictions were right", right=right, count=answered))
    yield ""
    yield from _followers(lesson, session.progress.lab, command, next_lesson)


def _followers(lesson: Lesson, lab: str, command: str, next_lesson: str | None) -> Iterator[str]:
    rows = [(gettext("remove this lab:"), f"{command} down {lab}")]
    if lesson.exercise:
        rows.append((gettext("do it yourself:"), f"{command} exercise start {lesson.exercise}"))
    if next_lesson is not None:
        rows.append((gettext("next lesson:"), f"{command} learn {next_lesson}"))
    from labctl.report.text_layout import text_width

    label = max(text_width(name) for name, _ in rows)
    for name, text in rows:
        yield f"{name}{' ' * (label - text_width(name))}  {text}"
