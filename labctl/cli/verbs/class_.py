"""labctl class: what a teacher needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.failure import has_json_flag
from labctl.cli.options import global_options
from labctl.cli.param_types import FILE, NumberParam
from labctl.cli.session import Session
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.board.board import Board
    from labctl.board.entry import Kind
    from labctl.training.class_records import ClassRecords

INTERVAL_S = 5


class ClassGroup(click.Group):
    """The group of the verbs, with a suggestion for a mistyped one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            from labctl.core.names import did_you_mean

            ctx.obj.json = ctx.obj.json or has_json_flag(args)
            hint = did_you_mean(args[0], tuple(self.commands), 0.5, lambda verb: f"`labctl class {verb}`")
            raise UsageError(f"class: there is no {args[0]!r}", hint or f"the verbs are {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


@click.group("class", cls=ClassGroup, short_help="Teach a class: see what all learners have reached.")
@global_options()
def class_() -> None:
    """Teach a class.

    \b
    Examples:
      sudo labctl class board
      labctl class board --kubernetes
    """


@class_.command("board", short_help="Show what all learners have reached.")
@click.argument("more", nargs=-1, type=FILE, metavar="")
@click.option("--from", "given", multiple=True, type=FILE, metavar="DIR|FILE...", help="Read these records instead.")
@click.option("--kubernetes", is_flag=True, help="Ask labctl in the pods of a cluster, through kubectl.")
@click.option("-n", "--namespace", metavar="NAME", help="With --kubernetes: the namespace; by default labctl.")
@click.option(
    "--selector", metavar="LABELS", help="With --kubernetes: which pods; by default app.kubernetes.io/name=labctl."
)
@click.option("--as", "form", type=click.Choice(["text", "html"]), default="text", help="A table, or a page.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write it to a file.")
@click.option("--sort", type=click.Choice(["name", "points", "state"]), default="name", help="The order of the lines.")
@click.option("--watch", is_flag=True, help="Again and again, until ^C.")
@click.option("--interval", type=NumberParam(1, 3600), metavar="SECONDS", help="With --watch; by default 5.")
@global_options("json")
@click.pass_obj
def board(
    session: Session,
    more: tuple[str, ...],
    given: tuple[str, ...],
    kubernetes: bool,
    namespace: str | None,
    selector: str | None,
    form: str,
    output: str | None,
    sort: str,
    watch: bool,
    interval: int | None,
) -> int:
    """Show what all learners have reached in lessons and exercises: one line for each, and who needs help.

    Without an option, those of this machine; with sudo, also those who have labs without root. --from reads records
    that were gathered from other machines: their folders of progress, or what `labctl class board --json`, `exercise
    list --learners --json` and `learn --json` have printed there. A file that is none of these is named and left out.
    --kubernetes runs `labctl class board --json` in each pod of a class.

    A learner is stuck after three wrong attempts at a task, or two hints; idle after 15 minutes without a change.

    \b
    Examples:
      sudo labctl class board
      sudo labctl class board --watch --sort state
      labctl class board --from gathered/ --as html -o board.html
      labctl class board --kubernetes --as html -o board.html --watch
    """
    _refuse_contradictions(session, form, output, watch, interval)
    sources = (*given, *more)
    if (namespace or selector) and not kubernetes:
        raise UsageError(f"{'-n' if namespace else '--selector'} is for --kubernetes")
    if output is not None:
        from labctl.report.output_files import require_writable

        require_writable(output)
    refresh_s = (interval or INTERVAL_S) if watch else None
    session.handle_termination()
    while True:
        records = _records(session, sources, kubernetes, namespace, selector)
        made = _board(records, sort)
        _report(session, made, records, form, output, refresh_s)
        if refresh_s is None:
            return 0
        try:
            time.sleep(refresh_s)
        except KeyboardInterrupt:
            return 0


def _refuse_contradictions(session: Session, form: str, output: str | None, watch: bool, interval: int | None) -> None:
    if session.json and (form != "text" or output is not None or watch):
        raise UsageError("--json prints one document: it goes with neither --as html, -o nor --watch")
    if interval is not None and not watch:
        raise UsageError("--interval is for --watch")
    if watch and form == "html" and output is None:
        raise UsageError("--watch writes the page again and again, so it needs a file", "-o board.html")


def _records(
    session: Session, sources: Sequence[str], kubernetes: bool, namespace: str | None, selector: str | None
) -> ClassRecords:
    from labctl.training.class_records import ClassRecords

    records = ClassRecords()
    for path in sources:
        records.add_path(path)
    if kubernetes:
        from labctl.training import class_pods

        session.terminal.progress("asking the pods")
        class_pods.add_pods(records, namespace or class_pods.NAMESPACE, selector or class_pods.SELECTOR)
        session.terminal.clear()
    if not sources and not kubernetes:
        records.add_machine()
    return records


def _board(records: ClassRecords, sort: str) -> Board:
    from labctl.board.board import make_board
    from labctl.scenario.catalog import exercise_files, lesson_files

    courses: dict[Kind, tuple[str, ...]] = {"lesson": tuple(lesson_files()), "exercise": tuple(exercise_files())}
    return make_board(records.found, courses, datetime.now(timezone.utc), sort)


def _report(
    session: Session, made: Board, records: ClassRecords, form: str, output: str | None, refresh_s: int | None
) -> None:
    from labctl.report import class_board as texts

    if session.json:
        session.print_document(texts.board_document(made, records.problems))
        return
    terminal = session.terminal
    if form == "html":
        from labctl.report.class_page import board_page

        _write(session, board_page(made, refresh_s), output)
    elif output is not None:
        from labctl.report.text_layout import align

        parts = [texts.summary(made), "", *align(texts.table(made, texts.MARKS)), "", *texts.legend(made, texts.MARKS)]
        _write(session, "\n".join(parts) + "\n", output)
    else:
        if refresh_s is not None and terminal.tty:
            terminal.line("\033[H\033[2J\033[3J")
        texts.print_board(made, terminal)
    for line in texts.problem_lines(records.problems):
        terminal.print_stderr(f"labctl: {line}")


def _write(session: Session, text: str, output: str | None) -> None:
    from labctl.report.output_files import write

    if output is None:
        session.terminal.line(text.rstrip("\n"))
    else:
        write(output, text)


COMMAND = class_
