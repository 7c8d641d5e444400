"""A lesson on a terminal: step by step with its learner, one step in a pipe, or all of it with the lesson's answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labctl.core.lesson_types import Prediction
from labctl.core.sentence import sentence
from labctl.errors import LabError, UsageError
from labctl.kernel.host import paths
from labctl.lessons.outcome import StepOutcome
from labctl.report import lesson_text as texts
from labctl.report.exercise_text import paragraphs
from labctl.scenario.catalog import lesson_files
from labctl.training import lesson_session
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.cli.session import Session
    from labctl.core.lesson_types import LessonStep
    from labctl.scenario.definition import Definition
    from labctl.training.lesson_session import LessonRun


def variables(session: Session, run: LessonRun) -> dict[str, str]:
    """What a verb of a step gets in its environment: the learner's language, and the colours of the terminal."""
    return _variables(session, run.running.language)


def _variables(session: Session, language: str) -> dict[str, str]:
    return {"LABCTL_LANG": language, **({"FORCE_COLOR": "1"} if session.terminal.colour else {})}


def print_step(session: Session, run: LessonRun, outcome: StepOutcome | None) -> None:
    """Print what happened, the current step, and the command that goes on: for a pipe."""
    terminal, command = session.terminal, f"{paths.command_prefix()} learn {run.word}"
    lesson = run.session.lesson
    if outcome is not None:
        terminal.lines(texts.outcome_lines(lesson.steps[outcome.number], outcome, terminal))
    elif run.session.number == 0:
        terminal.lines(texts.head_lines(run.session, terminal))
    _print_opening(session, run)
    step = run.session.step
    if step is None:
        _print_end(session, run)
        return
    prefix = paths.command_prefix(run.lab.name)
    terminal.lines(texts.step_lines(step, run.session.number, len(lesson.steps), run.lab.name, prefix, terminal))
    if run.session.waits_for_answer:
        terminal.lines([texts.form_line(step)], fold=4)
        terminal.lines([gettext(sentence("answer: {command}", command=f"{command} --answer ANSWER"))])
    else:
        terminal.lines([gettext(sentence("next: {command}", command=f"{command} --next"))])


def _print_opening(session: Session, run: LessonRun) -> None:
    """What the learner should know about a lesson that does not begin now."""
    number, name = run.session.number + 1, run.word
    notes = {
        "begun": "",
        "continued": "",
        "rebuilt": gettext(
            sentence("the lab was built again; the commands before step {number} ran again", number=number)
        ),
        "outdated": gettext(sentence("the file of {name} has changed; --restart begins with the new one", name=name)),
    }
    if notes[run.opening]:
        session.terminal.lines([session.terminal.paint(notes[run.opening], "yellow"), ""], fold=4)


def _print_end(session: Session, run: LessonRun) -> None:
    names = list(lesson_files())
    at = names.index(run.running.name) + 1 if run.running.name in names else len(names)
    following = names[at] if at < len(names) else None
    session.terminal.lines(texts.end_lines(run.session, paths.command_prefix(), following, session.terminal), fold=4)


class LessonPlayer:
    """A lesson with a learner at a terminal."""

    def __init__(self, session: Session, run: LessonRun) -> None:
        self.session, self.terminal, self.run_ = session, session.terminal, run
        self.machines = {machine.name for machine in run.lab.machines}
        session.interruption_text = self._where

    def run(self) -> int:
        """Go through the steps until the end, or until the learner leaves. Returns the exit code."""
        run = self.run_
        self.terminal.lines(texts.head_lines(run.session, self.terminal))
        _print_opening(self.session, run)
        if run.session.number == 0 and self._ask(gettext("Enter begins, q leaves:")) in ("q", "quit", None):
            return self._leave()
        while (step := self.run_.session.step) is not None:
            self._show(step)
            if not self._step(step):
                return self._leave()
        _print_end(self.session, self.run_)
        return 0

    def _show(self, step: LessonStep) -> None:
        run = self.run_
        prefix, count = paths.command_prefix(run.lab.name), len(run.session.lesson.steps)
        lines = texts.step_lines(step, run.session.number, count, run.lab.name, prefix, self.terminal)
        self.terminal.lines(lines)

    def _step(self, step: LessonStep) -> bool:
        """One step: ask until it is carried out, or the learner goes elsewhere. False if the learner leaves."""
        while True:
            word = self._ask(self._prompt(step))
            if word is None or (word in ("q", "quit") and not self._is_answer(word)):
                return False
            if word in ("b", "back") and not self._is_answer(word):
                self.run_ = lesson_session.go_back(self.run_)
                return True
            waits = self.run_.session.waits_for_answer
            if waits and not word:
                self.terminal.lines([texts.form_line(step)], fold=4)
                continue
            if word in ("n", "next") and not waits:
                self.run_ = lesson_session.skip(self.run_)
                return True
            if word and not self.run_.session.is_question:
                self.terminal.lines([gettext("to type a command, use another terminal; here, Enter runs it")], fold=4)
                continue
            if self.run_.session.is_question and not word:  # it was answered before
                self.run_ = lesson_session.skip(self.run_)
                return True
            if self._carry_out(step, word):
                return True

    def _carry_out(self, step: LessonStep, answer: str) -> bool:
        """Carry the step out, and show what happened. False if the answer cannot be one."""
        try:
            environment = variables(self.session, self.run_)
            run, outcome = lesson_session.carry_out(self.run_, answer, self.terminal.progress, environment)
        except UsageError as error:
            self.terminal.clear()
            if not answer:
                raise
            self.terminal.lines(str(error).splitlines(), fold=4)
            return False
        self.terminal.clear()
        self.terminal.lines(texts.outcome_lines(step, outcome, self.terminal))
        moved = run.session.number != self.run_.session.number
        self.run_ = run
        return moved

    def _is_answer(self, word: str) -> bool:
        """Whether a word that goes elsewhere is an answer here: a machine can be called b."""
        return self.run_.session.is_question and word in self.machines

    def _prompt(self, step: LessonStep) -> str:
        session = self.run_.session
        if isinstance(step.action, Prediction):
            if not session.waits_for_answer:
                return gettext("Enter goes on, an answer asks again, back, quit:")
            return gettext("your answer (or back, quit):")
        if step.kind == "text":
            return gettext("Enter goes on, b goes back, q leaves:")
        if step.kind == "claim":
            return gettext("true or not? Enter proves it, b goes back, q leaves:")
        return gettext("Enter runs it, n goes on without it, b goes back, q leaves:")

    def _ask(self, prompt: str) -> str | None:
        """What the learner types; None if the input has ended."""
        try:
            word = input(self.terminal.paint(prompt, "dim") + " ").strip()
            self.terminal.line()
            return word
        except EOFError:
            self.terminal.line()
            return None
        except KeyboardInterrupt:
            self.terminal.line()
            raise
        except UnicodeDecodeError:
            return "?"

    def _leave(self) -> int:
        self.terminal.lines([self._where()], fold=4)
        return 0

    def _where(self) -> str:
        command = f"{paths.command_prefix()} learn {self.run_.word}"
        number = self.run_.session.number + 1
        return gettext(sentence("the lab stays; {command} goes on at step {number}", command=command, number=number))


def play(session: Session, name: str, definition: Definition, language: str, *, keep: bool) -> int:
    """Play a lesson, and say what is not as it says. Returns the exit code."""
    terminal, outcomes, started = session.terminal, list[StepOutcome](), time.monotonic()
    lab = lesson_session.build(definition, terminal.progress)
    terminal.clear()
    assert lab.lesson is not None
    lesson, prefix = lab.lesson.in_language(language), paths.command_prefix(lab.name)
    if not session.json:
        note = gettext("labctl plays this lesson, with its own answers; your progress does not change")
        terminal.lines([terminal.paint(lesson.title, "bold"), *paragraphs(note, terminal), ""])
        terminal.lines([*paragraphs(lesson.text, terminal), ""])

    def begun(number: int, step: LessonStep) -> None:
        if session.json:
            return
        terminal.lines(texts.step_lines(step, number, len(lesson.steps), lab.name, prefix, terminal))
        if isinstance(step.action, Prediction):
            terminal.lines([gettext(sentence("answer: {answer}", answer=step.action.answer)), ""])

    def ended(step: LessonStep, outcome: StepOutcome) -> None:
        outcomes.append(outcome)
        terminal.clear()
        if not session.json:
            terminal.lines(texts.outcome_lines(step, outcome, terminal))

    try:
        environment = _variables(session, language)
        problems = lesson_session.play(lab, language, terminal.progress, environment, begun, ended)
    finally:
        if not keep:
            terminal.progress(f"removing {lab.name}")
            _remove(session, lab.name)
        terminal.clear()
    if session.json:
        from labctl.report.lesson_json import played_document

        session.print_document(played_document(lesson, name, lab.name, outcomes, problems))
    else:
        terminal.lines(texts.played_lines(len(outcomes), time.monotonic() - started, problems, terminal), fold=4)
    return 1 if problems else 0


def _remove(session: Session, lab: str) -> None:
    import labctl

    try:
        labctl.down(lab)
    except LabError as error:
        session.terminal.print_stderr(f"labctl: {error}")
