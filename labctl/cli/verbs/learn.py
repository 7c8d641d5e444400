"""labctl learn: lessons, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from labctl.cli.options import global_options
from labctl.cli.param_types import LESSON, NAME
from labctl.cli.session import Session
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.lessons.outcome import StepOutcome
    from labctl.scenario.definition import Definition
    from labctl.training.lesson_session import LessonRun


@click.command("learn", short_help="Lessons: run commands, predict packets, see what is true.")
@click.argument("lesson", required=False, metavar="[LESSON|FILE]", type=LESSON)
@click.option("--step", "only_step", is_flag=True, help="Print the current step, and exit; so it is in a pipe.")
@click.option("--next", "goes_on", is_flag=True, help="Carry out the current step, and print the next one.")
@click.option("--answer", metavar="TEXT", help="Answer the question of the current step, and print the next one.")
@click.option("--restart", is_flag=True, help="Build the lab again, and begin with the first step.")
@click.option("--play", is_flag=True, help="Carry out all steps in a separate lab, with the answers of the lesson.")
@click.option("--keep", is_flag=True, help="With --play: leave the lab.")
@click.option("--name", "lab_name", metavar="LAB", type=NAME, help="The name of the lab.")
@global_options("lab", "json", "lang")
@click.pass_obj
def learn(session: Session, /, lesson: str | None, **options: Any) -> int:
    """Go through a lesson: read, run a command, predict what a packet does, see what is true. Without LESSON, list the
    lessons, which needs no root.

    A lesson builds its lab, and goes on where you left it. On a terminal, Enter carries out each step; you can also
    type its command in another terminal. With --play, nothing is asked, no progress is recorded, and the exit code is 1
    if anything is not as the lesson says.

    \b
    Examples:
      labctl learn
      sudo labctl learn one-cable
      sudo labctl learn one-cable --lang ja
      sudo labctl learn one-cable --answer lost
      sudo labctl learn ./my-lesson.yaml --play
    """

    language = session.language
    _require_fitting(lesson, options)
    steps = options["only_step"] or options["goes_on"] or options["answer"] is not None
    if lesson is None and not steps:
        return _list(session, language)
    from labctl.training import lesson_session

    session.require_root()
    session.handle_termination()
    found = None if lesson is None else lesson_session.find_definition(lesson)
    if options["play"] and found is not None:
        return _play(session, *found, language, keep=options["keep"])
    if found is None:
        run = lesson_session.current(session.lab, language)
        with lesson_session.in_this_terminal(run.running.name):
            return _one_step(session, run, options)
    name, definition = found
    with lesson_session.in_this_terminal(name):
        lab_name = options["lab_name"] or session.lab
        notify = session.terminal.progress
        run = lesson_session.open_lesson(
            name, definition, lab_name, language, notify, restart=options["restart"], again=not steps
        )
        session.terminal.clear()
        if steps or session.json or not _can_ask(session):
            return _one_step(session, run, options)
        from labctl.cli.lesson_player import LessonPlayer

        return LessonPlayer(session, run).run()


def _require_fitting(lesson: str | None, options: dict[str, Any]) -> None:
    """Refuse options that do not go together. Raises UsageError."""
    names = {"only_step": "--step", "goes_on": "--next", "answer": "--answer", "restart": "--restart", "play": "--play"}
    given = [name for key, name in names.items() if options[key] not in (None, False)]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} cannot be used together")
    if options["keep"] and not options["play"]:
        raise UsageError("--keep is for --play", "a lesson that you go through leaves its lab")
    if lesson is None and given and given[0] in ("--restart", "--play"):
        raise UsageError(f"{given[0]} needs the name of a lesson", "labctl learn lists them")


def _can_ask(session: Session) -> bool:
    """Whether there is a terminal to read from, and one to write to."""
    import sys

    try:
        return session.terminal.tty and sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # standard input is closed
        return False


def _list(session: Session, language: str) -> int:
    from labctl.core.sentence import sentence
    from labctl.kernel.host import paths
    from labctl.report import lesson_text
    from labctl.report.lesson_json import list_document
    from labctl.scenario import lesson_catalog
    from labctl.training import lesson_session
    from labctl.training.learner import learner_name
    from labctl.translation.language import gettext

    entries = lesson_catalog.entries()
    learner = learner_name()
    reached = lesson_session.progress_of(learner)
    if session.json:
        session.print_document(list_document(entries, reached.values(), learner))
        return 0
    session.terminal.section(lesson_text.list_table(entries, reached, language))
    running = [one.name for one in lesson_session.running_lessons() if not one.finished]
    left = [one.name for one in entries if one.name not in reached or not reached[one.name].finished]
    session.terminal.line()
    for name in (*running, *left)[:1]:
        command = f"{paths.command_prefix()} learn {name}"
        session.terminal.commands([gettext(sentence("next: {command}", command=command))])
    return 0


def _one_step(session: Session, run: LessonRun, options: dict[str, Any]) -> int:
    """Carry out one step if that is wanted, and print where the learner is then."""
    from labctl.cli import lesson_player
    from labctl.kernel.host import paths
    from labctl.training import lesson_session

    outcome: StepOutcome | None = None
    if options["answer"] is not None and not run.session.is_question:
        hint = f"{paths.command_prefix()} learn {run.word} --next"
        raise UsageError("the current step is not a question", hint)
    if options["goes_on"] or options["answer"] is not None:
        answer, variables = options["answer"] or "", lesson_player.variables(session, run)
        run, outcome = lesson_session.carry_out(run, answer, session.terminal.progress, variables)
        session.terminal.clear()
    if session.json:
        from labctl.report.lesson_json import session_document

        session.print_document(session_document(run.session, paths.command_prefix(run.lab.name), outcome))
    else:
        lesson_player.print_step(session, run, outcome)
    return 1 if outcome is not None and (outcome.problems or outcome.right is False) else 0


def _play(session: Session, name: str, definition: Definition, language: str, *, keep: bool) -> int:
    """Play a lesson, and report what is not as it says."""
    from labctl.cli import lesson_player

    return lesson_player.play(session, name, definition, language, keep=keep)


COMMAND = learn
