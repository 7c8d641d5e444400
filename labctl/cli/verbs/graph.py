"""labctl graph: a drawing of a scenario or of a running lab."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from labctl.cli.options import global_options, manifests_option, print_warnings, sets_option
from labctl.cli.param_types import FILE, ScenarioParam
from labctl.cli.session import Session
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.scenario_types import Lab
    from labctl.drawing.model import Drawing

SUFFIXES = {
    ".svg": "svg",
    ".html": "html",
    ".htm": "html",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
}

PLAN_ALONE = "as planned; not compared with the kernel (--plan)"
WITHOUT_ROOT = "as planned; not compared with the kernel, which needs root"


class DrawnParam(ScenarioParam):
    """A running lab, a built-in scenario, or a file."""

    name = "lab"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.kernel.host import paths

        labs = [lab for lab in paths.labs() if lab.startswith(incomplete)]
        scenarios = [item for item in super().shell_complete(ctx, param, incomplete) if item.value not in labs]
        return [*map(CompletionItem, labs), *scenarios]


@click.command("graph", short_help="Draw a lab: machines, devices, cables, tunnels, addresses, routes.")
@click.argument("drawn", type=DrawnParam(), metavar="[LAB|SCENARIO]", required=False)
@click.option(
    "--as",
    "form",
    type=click.Choice(["text", "svg", "html", "mermaid", "dot"]),
    help="Output format; by default that of the ending of -o FILE, else text.",
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write the drawing to this file.")
@click.option("--all", "everything", is_flag=True, help="Draw every pod and every route of a large lab.")
@click.option("--plan", "plan_only", is_flag=True, help="Draw a running lab as its plan says, without its drift.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw the text format with plain ASCII characters.")
@sets_option
@manifests_option
@global_options("lab")
@click.pass_obj
def graph(
    session: Session,
    drawn: str | None,
    form: str | None,
    output: str | None,
    everything: bool,
    plan_only: bool,
    ascii_only: bool,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Draw a scenario, or a running lab with what is not as planned.

    Each machine is a box with its devices, addresses and routes, and with its pods or containers inside. Cables are
    veth pairs. Below the boxes are the Services. Without LAB, the drawing is of the lab that runs; a name of
    a running lab means that lab, also if a scenario has the same name, unless --set or --manifest is given.

    A running lab is compared with the kernel, as `labctl status` does it: what is missing, changed or not planned
    is red, and has that word. Without root, and with --plan, the drawing is of the plan alone, and says so.

    In a lab of more than 6 nodes, and in a node of more than 8 pods, pods are drawn as their number, and of more
    than 24 nodes, only 9 are drawn: --all draws everything. The html format is one page without other files: it zooms,
    prints, and opens what is drawn as a number.

    \b
    Examples:
      labctl graph kubenet
      sudo labctl graph
      sudo labctl graph -o lab.html
      labctl graph kubenet --set routing=host -o kubenet.svg
      labctl graph calico --as mermaid
      labctl graph docker-overlay --as dot | dot -Tsvg > overlay.svg
    """
    from labctl.drawing.from_lab import draw

    compiled, is_running = _compiled(session, drawn, sets, manifests)
    print_warnings(session, compiled)
    if output is not None:
        from labctl.report.output_files import require_writable

        require_writable(output)
    form = form or SUFFIXES.get(PurePath(output or "").suffix.lower(), "text")
    changes = _changes(session, compiled) if is_running and not plan_only else None
    drawing = draw(compiled, everything=everything, changes=changes)
    if is_running and changes is None:
        drawing = replace(drawing, source=PLAN_ALONE if plan_only else WITHOUT_ROOT)
    if form == "html":
        from labctl.drawing import html

        lines = html.page_lines(drawing, html.details(compiled, drawing, changes))
    else:
        lines = _lines(session, drawing, form, ascii_only, to_file=output is not None)
    if output is not None:
        from labctl.report.output_files import write

        write(output, "\n".join(lines) + "\n")
    elif session.json:
        from labctl.report.json_documents import graph_document

        session.print_document(graph_document(compiled, form, "\n".join(lines) + "\n", is_running, changes))
    else:
        session.terminal.lines(lines)
    return 0


def _compiled(
    session: Session, name: str | None, sets: tuple[str, ...], manifests: tuple[str, ...]
) -> tuple[Lab, bool]:
    """The running lab of that name, else the scenario; and whether it runs. Raises UsageError, ScenarioError."""
    import labctl
    from labctl.kernel.host import paths
    from labctl.lab import records
    from labctl.lab.cni_attach import with_plugin_results

    if name is not None and session.lab is not None and name != session.lab:
        raise UsageError(f"graph: {name!r} and -l {session.lab} are two labs", "name one of them")
    if name is None or (name in paths.labs() and not sets and not manifests):
        if sets or manifests:
            option = "--set" if sets else "--manifest"
            raise UsageError(f"{option} needs a scenario", f"labctl graph SCENARIO {option} ...")
        return with_plugin_results(records.load_compiled_lab(records.resolve_lab_name(name or session.lab))), True
    return labctl.load(name, set=sets, manifests=manifests).compiled, False


def _changes(session: Session, lab: Lab) -> tuple[Change, ...] | None:
    """What differs in the kernel; None if this process may not look. Raises KernelError."""
    if os.geteuid() != 0:
        return None
    from labctl.lab import lifecycle, records

    session.require_root()
    session.terminal.progress(f"comparing {len(lab.plan)} objects")
    return lifecycle.status(lab.name, records.load_compiled_lab(lab.name))


def _lines(session: Session, drawing: Drawing, form: str, ascii_only: bool, *, to_file: bool) -> list[str]:
    if form == "svg":
        from labctl.drawing.svg import svg_lines

        return svg_lines(drawing)
    if form == "mermaid":
        from labctl.drawing.mermaid import mermaid_lines

        return mermaid_lines(drawing)
    if form == "dot":
        from labctl.drawing.dot import dot_lines

        return dot_lines(drawing)
    from labctl.drawing.text import WIDTH, text_lines

    plain = ascii_only or (not to_file and not session.terminal.can_encode("┌─│"))
    width = WIDTH if to_file else session.terminal.width or WIDTH

    def red(text: str) -> str:
        return session.terminal.paint(text, "red")

    return text_lines(drawing, width, ascii_only=plain, paint=None if to_file or session.json else red)


COMMAND = graph
