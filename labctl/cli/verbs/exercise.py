"""labctl exercise: learn by doing, in labs that judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.failure import has_json_flag
from labctl.cli.options import global_options
from labctl.cli.param_types import EXERCISE, NAME, NumberParam
from labctl.cli.session import Session
from labctl.core.sentence import sentence
from labctl.errors import UsageError
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.exercise_types import Task
    from labctl.training.session import ExerciseRun, TaskOutcome

MAX_SEED = 999_999  # seeds that labctl chooses itself, short enough to be typed
TASK_NUMBER = NumberParam(1, 100)


class ExerciseGroup(click.Group):
    """The group of the verbs, with a suggestion for a mistyped one. Without a verb, the current task sheet."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            from labctl.core.names import did_you_mean

            known = tuple(self.commands)
            ctx.obj.json = ctx.obj.json or has_json_flag(args)
            hint = did_you_mean(args[0], known, 0.5, lambda verb: f"`labctl exercise {verb}`")
            raise UsageError(f"exercise: there is no {args[0]!r}", hint or f"the verbs are {', '.join(known)}")
        return super().resolve_command(ctx, args)


@click.group(
    "exercise",
    cls=ExerciseGroup,
    invoke_without_command=True,
    no_args_is_help=False,
    short_help="Learn by doing: build, repair, predict, and be judged.",
)
@global_options("lab", "json", "lang")
@click.pass_context
def exercise(ctx: click.Context) -> int:
    """Exercises in running labs: build a network, repair one, predict a packet, find the rule that drops it.

    Each task is judged by labctl's own measurements, and a check that does not pass says what was seen. Without a verb,
    show the exercise that runs, and what is still to do.

    \b
    Examples:
      labctl exercise list
      sudo labctl exercise start first-cable
      sudo labctl exercise check
      sudo labctl exercise check 2 node1/eth0
      sudo labctl exercise start --random kubenet --level 1
    """
    if ctx.invoked_subcommand is not None:
        return 0

    session: Session = ctx.obj
    _print_sheet(session, _current(session))
    return 0


@exercise.command("list", short_help="List the exercises, and what you have reached.")
@click.option("--learners", is_flag=True, help="List what all learners of this machine have reached.")
@global_options("json", "lang")
@click.pass_obj
def list_exercises(session: Session, learners: bool) -> int:
    """List the built-in exercises in the order of the course, with the points that you have; needs no root.

    \b
    Examples:
      labctl exercise list
      labctl exercise list --learners
    """
    from labctl.kernel.host import paths
    from labctl.report import exercise_text as texts
    from labctl.report.exercise_json import list_document
    from labctl.scenario import exercise_catalog
    from labctl.training import learner, progress_records

    entries = exercise_catalog.entries()
    name = learner.learner_name()
    names = progress_records.learners() if learners else (name,)
    reached = [one for who in names for one in progress_records.load_all(who)]
    if session.json:
        session.print_document(list_document(entries, reached, name))
    elif learners:
        session.terminal.section(texts.learners_table(reached))
    else:
        known = {entry.name for entry in entries}
        by_name = {one.exercise: one for one in reached}
        session.terminal.section(texts.list_table(entries, by_name, session.language))
        if others := [one for one in reached if one.exercise not in known]:
            session.terminal.line()
            session.terminal.section(texts.others_table(others))
        open_names = [one.name for one in entries if one.name not in by_name or not by_name[one.name].is_finished]
        if open_names:
            session.terminal.line()
            session.terminal.commands([gettext("next:") + f" {paths.command_prefix()} exercise start {open_names[0]}"])
    return 0


@exercise.command("start", short_help="Build the lab of an exercise, and show its tasks.")
@click.argument("name", required=False, metavar="[NAME|FILE]", type=EXERCISE)
@click.option("--random", "at_random", is_flag=True, help="Hide a fault in a scenario; NAME is the scenario then.")
@click.option("--level", metavar="N", type=NumberParam(1, 3), help="With --random: how hard, from 1 to 3.")
@click.option("--seed", metavar="N", type=NumberParam(min=0), help="With --random: the same number, the same exercise.")
@click.option("--name", "lab_name", metavar="LAB", type=NAME, help="The name of the lab.")
@global_options("json", "lang")
@click.pass_obj
def start(
    session: Session,
    name: str | None,
    at_random: bool,
    level: int | None,
    seed: int | None,
    lab_name: str | None,
) -> int:
    """Build the lab of an exercise, and show what is to do. An exercise that runs already is left as it is.

    With --random, a fault of the catalogue is hidden in a scenario (by default in one that the seed decides). It is not
    named before the exercise is done. The same seed, scenario and level give the same exercise.

    \b
    Examples:
      sudo labctl exercise start first-cable
      sudo labctl exercise start ./my-exercise.yaml
      sudo labctl exercise start --random kubenet --level 2 --seed 7
    """
    from labctl.report.exercise_text import LABEL
    from labctl.report.text_layout import pad
    from labctl.training import session as training

    if not at_random and (level is not None or seed is not None):
        raise UsageError(f"--{'level' if level is not None else 'seed'} is for --random", "exercise start --random")
    if not at_random and name is None:
        raise UsageError("no exercise is named", "labctl exercise list shows them; --random makes one")
    session.require_root()
    session.handle_termination()
    if at_random:
        seed = _new_seed() if seed is None else seed
        record_name, definition = training.random_definition(name, seed, level)
    else:
        record_name, definition = training.find_definition(str(name))
    run, is_new = training.start(
        record_name, definition, lab_name or session.lab, session.language, session.terminal.progress
    )
    session.terminal.clear()
    run = _in_its_language(session, run)
    if not session.json and (note := _start_note(run, is_new)):
        session.terminal.lines([note, ""], fold=4)
    _print_sheet(session, run)
    if at_random and is_new and not session.json:
        session.terminal.lines(
            [pad(gettext("seed:"), LABEL) + gettext(sentence("{seed}, for the same exercise again", seed=seed))]
        )
    return 0


def _start_note(run: ExerciseRun, is_new: bool) -> str:
    """What the learner should know about an exercise that is not new."""
    if not is_new:
        return sentence("{exercise} runs already; `exercise reset` builds its lab again", exercise=run.running.name)
    if run.progress.is_finished:
        return sentence("you have finished this exercise; `exercise reset --forget` begins again, with all points")
    return ""


def _new_seed() -> int:
    import secrets

    return secrets.randbelow(MAX_SEED) + 1


@exercise.command("check", short_help="Judge what you have done, or an answer.")
@click.argument("task", required=False, metavar="[TASK]", type=TASK_NUMBER)
@click.argument("answer", nargs=-1, metavar="[ANSWER]...")
@global_options("lab", "json", "lang")
@click.pass_obj
def check(session: Session, task: int | None, answer: tuple[str, ...]) -> int:
    """Judge the tasks of the exercise that runs: all that are open, in their order, or TASK. A question needs ANSWER.

    A task that is not done says what was seen. Exits 0 if all that was judged is done, else 1.

    \b
    Examples:
      sudo labctl exercise check
      sudo labctl exercise check 1 node1
      sudo labctl exercise check 2 node1/filter/FORWARD
    """
    from labctl.report import exercise_text as texts
    from labctl.report.exercise_json import check_document
    from labctl.training import session as training

    session.require_root()
    session.handle_termination()
    run = _current(session)
    number = None if task is None else task - 1
    run, outcomes = training.check(run, number, " ".join(answer) or None, session.terminal.progress)
    session.terminal.clear()
    pairs = _pairs(outcomes)
    if session.json:
        session.print_document(check_document(run.exercise, run.progress, pairs))
    else:
        terminal = session.terminal
        terminal.lines(texts.outcome_lines(run.exercise, run.progress, pairs, terminal), fold=6)
        _print_rest(session, run, was_judged=bool(pairs))
    return 0 if pairs and all(judgement.state == "passed" for _, judgement in pairs) else int(not _is_done(run, pairs))


def _current(session: Session) -> ExerciseRun:
    """The exercise that runs, as `_in_its_language` has it."""
    from labctl.training import session as training

    return _in_its_language(session, training.current(session.lab))


def _in_its_language(session: Session, run: ExerciseRun) -> ExerciseRun:
    """An exercise in the language of --lang. Without it, labctl uses the language in which the exercise was
    started."""
    from dataclasses import replace

    from labctl.translation import language

    if session.lang is not None:
        return replace(run, running=replace(run.running, language=session.language))
    language.use(run.running.language)
    return run


def _pairs(outcomes: Sequence[TaskOutcome]) -> tuple[tuple[int, Any], ...]:
    return tuple((one.number, one.judgement) for one in outcomes)


def _is_done(run: ExerciseRun, pairs: Sequence[Any]) -> bool:
    """Whether nothing was judged because nothing is open."""
    return run.progress.is_finished and not pairs


def _print_rest(session: Session, run: ExerciseRun, *, was_judged: bool) -> None:
    """What is to do next, or the end."""
    from labctl.kernel.host import paths
    from labctl.report import exercise_text as texts

    terminal, command = session.terminal, paths.command_prefix(run.lab.name)
    if run.progress.is_finished:
        terminal.lines(texts.end_lines(run.exercise, run.progress, terminal))
    elif not was_judged and run.progress.first_open is not None:
        first = run.progress.first_open
        terminal.lines([f"{first + 1}. {run.exercise.tasks[first].say}"], fold=3)
    terminal.line()
    terminal.lines(texts.next_commands(run.exercise, run.progress, command), fold=8)


@exercise.command("hint", short_help="Show the next hint.")
@global_options("lab", "json", "lang")
@click.pass_obj
def hint(session: Session) -> int:
    """Show the next hint of the exercise that runs. A hint costs points.

    \b
    Example:
      sudo labctl exercise hint
    """
    from labctl.report import exercise_text as texts
    from labctl.report.exercise_json import hint_document
    from labctl.training import session as training

    session.require_root()
    run, found = training.hint(_current(session))
    number = None if found is None else run.progress.hints - 1
    if session.json:
        session.print_document(hint_document(run.exercise, run.progress, number))
    elif number is None:
        session.terminal.lines(
            [sentence("there are no more hints; `labctl exercise solve` shows the solution")], fold=4
        )
    else:
        session.terminal.lines(texts.hint_lines(run.exercise, number), fold=4)
    return 0


@exercise.command("reset", short_help="Build the lab of the exercise again, as it was at the start.")
@click.option("--forget", is_flag=True, help="Also forget your points, and begin the exercise again.")
@global_options("lab", "json", "lang")
@click.pass_obj
def reset(session: Session, forget: bool) -> int:
    """Remove the lab of the exercise that runs, and build it again as it was at the start. Tasks that are done stay so.

    \b
    Examples:
      sudo labctl exercise reset
      sudo labctl exercise reset --forget
    """
    from labctl.training import session as training

    session.require_root()
    session.handle_termination()
    run = training.reset(_current(session), forget=forget, step=session.terminal.progress)
    session.terminal.clear()
    _print_sheet(session, run)
    return 0


@exercise.command("solve", short_help="Give up: show the solution, and carry it out.")
@click.argument("task", required=False, metavar="[TASK]", type=TASK_NUMBER)
@click.option("--show", is_flag=True, help="Only show the solution.")
@global_options("lab", "json", "lang")
@click.pass_obj
def solve(session: Session, task: int | None, show: bool) -> int:
    """Show the solution of the open tasks, or of TASK, and carry it out. The tasks are then worth nothing.

    Exits 0 if the solution passes the check, as it must: a test suite can run it for each exercise.

    \b
    Examples:
      sudo labctl exercise solve
      sudo labctl exercise solve 1
      sudo labctl exercise solve --show
    """
    from labctl.report import exercise_text as texts
    from labctl.report.exercise_json import check_document, solution_document
    from labctl.training import session as training

    session.require_root()
    session.handle_termination()
    run = _current(session)
    number, terminal = None if task is None else task - 1, session.terminal
    if show:
        run, numbers = training.show_solutions(run, number)
        if session.json:
            session.print_document(solution_document(run.exercise, run.progress, numbers))
        for at in () if session.json else numbers:
            terminal.lines(texts.solution_lines(at, run.exercise.tasks[at], run.lab.name, terminal), fold=6)
        return 0

    def report(at: int, one: Task) -> None:
        if not session.json:
            terminal.lines(texts.solution_lines(at, one, run.lab.name, terminal), fold=6)

    run, outcomes = training.solve(run, number, terminal.progress, report)
    terminal.clear()
    pairs = _pairs(outcomes)
    if session.json:
        session.print_document(check_document(run.exercise, run.progress, pairs))
    else:
        terminal.lines(texts.outcome_lines(run.exercise, run.progress, pairs, terminal), fold=6)
        _print_rest(session, run, was_judged=True)
    return 0 if all(judgement.state == "passed" for _, judgement in pairs) else 1


@exercise.command("next", short_help="Remove the lab of this exercise, and start the next one.")
@click.option("--skip", is_flag=True, help="Go on although tasks are open.")
@global_options("lab", "json", "lang")
@click.pass_obj
def next_exercise(session: Session, skip: bool) -> int:
    """Start the next exercise of the course that you have not finished. The lab of the one that runs is removed.

    \b
    Examples:
      sudo labctl exercise next
      sudo labctl exercise next --skip
    """
    import labctl
    from labctl.training import session as training

    session.require_root()
    session.handle_termination()
    run = _current_or_none(lambda: _current(session))
    if run is not None and not run.progress.is_finished and not skip:
        first = (run.progress.first_open or 0) + 1
        raise UsageError(f"{run.running.name}: task {first} is open", "labctl exercise next --skip goes on without it")
    name = training.next_name(run)
    if name is None and session.json:
        _print_list_document(session)
        return 0
    if name is None:
        session.terminal.lines([sentence("you have finished all exercises; --random makes new ones")], fold=4)
        return 0
    if run is not None:
        session.terminal.progress(f"removing {run.lab.name}")
        labctl.down(run.lab.name)
    record_name, definition = training.find_definition(name)
    language = session.language if session.lang or run is None else run.running.language
    started, _ = training.start(record_name, definition, None, language, session.terminal.progress)
    session.terminal.clear()
    _print_sheet(session, started)
    return 0


def _print_list_document(session: Session) -> None:
    from labctl.report.exercise_json import list_document
    from labctl.scenario import exercise_catalog
    from labctl.training import learner, progress_records

    name = learner.learner_name()
    session.print_document(list_document(exercise_catalog.entries(), progress_records.load_all(name), name))


def _current_or_none(current: Callable[[], ExerciseRun]) -> ExerciseRun | None:
    """The exercise that runs; None if none does. Raises UsageError if several run."""
    from labctl.lab import exercise_record
    from labctl.training.learner import learner_name

    mine = [one for one in exercise_record.load_all() if one.learner == learner_name()]
    return current() if mine else None


def _print_sheet(session: Session, run: ExerciseRun) -> None:
    from labctl.kernel.host import paths
    from labctl.report import exercise_text as texts
    from labctl.report.exercise_json import sheet_document

    if session.json:
        session.print_document(sheet_document(run.exercise, run.progress))
        return
    terminal = session.terminal
    terminal.lines(texts.sheet(run.exercise, run.progress, terminal))
    terminal.lines(texts.next_commands(run.exercise, run.progress, paths.command_prefix(run.lab.name)), fold=8)


COMMAND = exercise
