"""labctl show: show the state of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labctl.cli.options import global_options
from labctl.cli.param_types import NODE
from labctl.cli.session import Session
from labctl.errors import LabError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab


@click.command("show", short_help="Show the state of a node, or of all nodes.")
@click.argument("node", required=False, type=NODE)
@global_options("lab", "json")
@click.pass_obj
def show(session: Session, node: str | None) -> int:
    """Show a node, or all: links, addresses, routes, neighbours, firewall with counters, sysctls.

    \b
    Examples:
      sudo labctl show node1
      sudo labctl show --json
    """
    from labctl.cli.lab_lookup import find_nodes
    from labctl.kernel.observe.node_view import read_nodes
    from labctl.lab import lifecycle
    from labctl.report.node_view import NodeView, fidelity_section, sections

    session.require_root()
    name = lifecycle.resolve_lab_name(session.lab)
    nodes = find_nodes(name, node)
    session.terminal.progress(f"reading {name}")
    plan = lifecycle.observe(name, nodes[0] if node is not None else None)
    views = [
        NodeView(one, tuple(item for item in plan if item.ns == one), chains, settings)
        for one, (chains, settings) in read_nodes(name, nodes).items()
    ]
    if session.json:
        from labctl.report.json_documents import show_document

        session.print_document(show_document(name, views, _lab_or_none(name)))
        return 0
    lab = _lab_or_none(name) if node is None else None
    if lab is not None:
        session.terminal.section(fidelity_section(lab))
    for number, view in enumerate(views):
        if number or lab is not None:
            session.terminal.line()
        session.terminal.line(session.terminal.paint(f"{name}/{view.node}", "bold"))
        for section in sections(view):
            session.terminal.line()
            session.terminal.section(section)
    return 0


def _lab_or_none(name: str) -> Lab | None:
    """The lab as it was defined; None if its record is lost."""
    from labctl.lab import lifecycle

    try:
        return lifecycle.load_compiled_lab(name)
    except LabError:
        return None


COMMAND = show
