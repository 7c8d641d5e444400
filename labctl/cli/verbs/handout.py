"""labctl handout: a scenario or an exercise on one or two sheets of paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from labctl.cli.options import global_options, manifests_option, print_warnings, sets_option
from labctl.cli.param_types import FILE, ScenarioParam
from labctl.cli.session import Session
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab


class HandoutParam(ScenarioParam):
    """A built-in exercise, a built-in scenario, or a file."""

    name = "subject"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.scenario.catalog import exercise_files

        exercises = [CompletionItem(name) for name in exercise_files() if name.startswith(incomplete)]
        known = {item.value for item in exercises}
        return [*exercises, *(one for one in super().shell_complete(ctx, param, incomplete) if one.value not in known)]


@click.command("handout", short_help="Print a scenario or an exercise on one or two sheets of paper.")
@click.argument("subject", type=HandoutParam(), metavar="SCENARIO|EXERCISE")
@click.option("--lang", metavar="CODE", help="The language of the page, such as ja; by default that of the locale.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write the page to this file.")
@click.option("--answers", is_flag=True, help="For teachers: with the answers, the hints and the hidden faults.")
@sets_option
@manifests_option
@global_options("json")
@click.pass_obj
def handout(
    session: Session,
    subject: str,
    lang: str | None,
    output: str | None,
    answers: bool,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Make a page for paper: the drawing of a lab, its machines, addresses and routes, what is true there or what is to
    do, the commands to begin, and room for notes; needs no root, and no running lab.

    The page is HTML without other files: open it in a browser, and print it on A4. It has two sheets at most; longer
    lists are shortened, and say so. The page of an exercise has lines to write the answers, and nothing that gives them
    away; with --answers it can be longer.

    \b
    Examples:
      labctl handout kubenet -o kubenet.html
      labctl handout route-table --lang ja -o route-table.html
      labctl handout route-table --answers -o teacher.html
    """
    from labctl.report.handout import Subject, page_lines
    from labctl.translation import language

    lab, kind = _compiled(subject, sets, manifests)
    print_warnings(session, lab)
    if output is not None:
        from labctl.report.output_files import require_writable

        require_writable(output)
    language.use(language.chosen_language(lang))
    page = "\n".join(page_lines(Subject(subject, lab, answers))) + "\n"
    if output is not None:
        from labctl.report.output_files import write

        write(output, page)
    if session.json:
        from labctl.report.json_documents import handout_document

        session.print_document(handout_document(lab, kind, language.current_language(), page, output))
    elif output is None:
        session.terminal.lines(page.splitlines())
    return 0


def _compiled(name: str, sets: tuple[str, ...], manifests: tuple[str, ...]) -> tuple[Lab, str]:
    """The lab, and what it is: an exercise or a scenario. Raises UsageError, ScenarioError."""
    import labctl
    from labctl.core.names import did_you_mean
    from labctl.scenario.catalog import ALIASES, exercise_files, names

    exercises, scenarios = exercise_files(), (*names(), *ALIASES)
    is_file = "/" in name or name.endswith((".yaml", ".yml"))
    if not is_file and name not in exercises and name not in scenarios:
        hint = did_you_mean(name, (*exercises, *scenarios))
        hint = hint or "`labctl list --scenarios` and `labctl exercise list` show the names"
        raise UsageError(f"there is no scenario and no exercise {name!r}", hint)
    lab = labctl.load(exercises.get(name, name), set=sets, manifests=manifests).compiled
    return lab, "scenario" if lab.exercise is None else "exercise"


COMMAND = handout
