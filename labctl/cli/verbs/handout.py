"""labctl handout: a lesson, an exercise or a scenario on one or two sheets of paper."""

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

KINDS = ("lesson", "exercise", "scenario")


class HandoutParam(ScenarioParam):
    """A built-in lesson, exercise or scenario, or a file."""

    name = "subject"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.scenario.catalog import exercise_files, lesson_files

        names = dict.fromkeys((*lesson_files(), *exercise_files()))
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*found, *(one for one in super().shell_complete(ctx, param, incomplete) if one.value not in names)]


@click.command("handout", short_help="Put a lesson, an exercise or a scenario on paper.")
@click.argument("subject", type=HandoutParam(), metavar="LESSON|EXERCISE|SCENARIO")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="What the name means, if several have it; by default the first of these.",
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write the page to this file.")
@click.option("--answers", is_flag=True, help="For teachers: with the answers, the hints and the hidden faults.")
@sets_option
@manifests_option
@global_options("json", "lang")
@click.pass_obj
def handout(
    session: Session,
    subject: str,
    kind: str | None,
    output: str | None,
    answers: bool,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Make a page for paper: the drawing of a lab, its machines, addresses and routes, what is true there or what is to
    do, the commands to begin, and room for notes; needs no root, and no running lab.

    The page is HTML without other files: open it in a browser, and print it on A4. It has two sheets at most; longer
    lists are shortened, and say so. The page of a lesson or exercise has lines to write the answers, and nothing that
    gives them away; with --answers it can be longer.

    \b
    Examples:
      labctl handout calico -o calico.html
      labctl handout one-cable -o one-cable.html
      labctl handout route-table --lang ja -o route-table.html
      labctl handout route-table --answers -o teacher.html
    """
    from labctl.report.handout import Subject, page_lines

    lab, kind = _compiled(subject, kind, sets, manifests)
    print_warnings(session, lab)
    if output is not None:
        from labctl.report.output_files import require_writable

        require_writable(output)
    page = "\n".join(page_lines(Subject(subject, lab, answers, session.language))) + "\n"
    if output is not None:
        from labctl.report.output_files import write

        write(output, page)
    if session.json:
        from labctl.report.json_documents import handout_document

        session.print_document(handout_document(lab, kind, session.language, page, output))
    elif output is None:
        session.terminal.lines(page.splitlines())
    return 0


def _compiled(name: str, wanted: str | None, sets: tuple[str, ...], manifests: tuple[str, ...]) -> tuple[Lab, str]:
    """The lab that a name means, and what it is. Raises UsageError, ScenarioError."""
    import labctl
    from labctl.scenario.catalog import ALIASES, exercise_files, lesson_files, names

    lessons, exercises = lesson_files(), exercise_files()
    scenarios = {one: one for one in (*names(), *ALIASES)}
    files = {"lesson": lessons, "exercise": exercises, "scenario": scenarios}
    if "/" in name or name.endswith((".yaml", ".yml")):
        lab = labctl.load(name, set=sets, manifests=manifests).compiled
        kind = "lesson" if lab.lesson is not None else "exercise" if lab.exercise is not None else "scenario"
        if wanted not in (None, kind):
            raise UsageError(f"{name} is {_with_article(kind)}, not {_with_article(str(wanted))}")
        return lab, kind
    for kind in KINDS if wanted is None else (wanted,):
        if name in files[kind]:
            return labctl.load(files[kind][name], set=sets, manifests=manifests).compiled, kind
    raise _unknown(name, wanted, files)


def _unknown(name: str, wanted: str | None, files: dict[str, dict[str, str]]) -> UsageError:
    from labctl.core.names import did_you_mean

    known = [one for kind in (KINDS if wanted is None else (wanted,)) for one in files[kind]]
    others = [kind for kind in KINDS if name in files[kind]]
    hint = did_you_mean(name, dict.fromkeys(known))
    if others:
        hint = f"{name} is {_with_article(others[0])}"
    hint = hint or "`labctl learn`, `labctl exercise list` and `labctl list --scenarios` show the names"
    return UsageError(f"there is no {wanted or 'lesson, exercise or scenario'} {name!r}", hint)


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind == "exercise" else f"a {kind}"


COMMAND = handout
