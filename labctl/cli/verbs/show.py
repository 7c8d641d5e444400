"""labctl show: show the state of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labctl.cli.options import global_options, why_option
from labctl.cli.param_types import NODE
from labctl.cli.session import Session
from labctl.errors import LabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.core.scenario_types import Lab


@click.command("show", short_help="Show the state of a node, or one line for each machine.")
@click.argument("node", required=False, type=NODE)
@click.option("--hooks", is_flag=True, help="Show the chains that the kernel calls at each hook of NODE, in order.")
@why_option("Say why each object of NODE is there, and what makes it.")
@global_options("lab", "json", "verbose", verbose="Without NODE: how faithful each part of the lab is.")
@click.pass_obj
def show(session: Session, node: str | None, hooks: bool, why: bool) -> int:
    """Show all that the kernel holds in a node: links, bridge ports, addresses, routes, policy rules, neighbours,
    forwarding entries, firewall rules with counters, connections (conntrack), listening sockets, sysctls.

    With --hooks, show in what order the kernel calls the chains of iptables and of nft's tables in a node: at each hook
    by their priority, with their policies and numbers of rules, and whether they are the lab's.

    Without NODE, there is one line for each machine: its role, the node that it runs on, its addresses, what is down,
    the numbers of its firewall rules and of the connections that it tracks, and the ports on which it listens. One line
    says how faithful the lab is to the real system; with -v, a table says it part by part. With --json, every node is
    shown in full.

    \b
    Examples:
      sudo labctl show
      sudo labctl show -v
      sudo labctl show node1
      sudo labctl show node1 --why
      sudo labctl show node1 --hooks
      sudo labctl show --json
    """
    from labctl.lab import lifecycle
    from labctl.lab.node_lookup import find_nodes
    from labctl.report.lab_overview import overview, summaries
    from labctl.report.node_view import fidelity_section, fidelity_summary, sections
    from labctl.running_lab import read_views

    if why and node is None:
        raise UsageError("--why needs a node", "labctl show NODE --why; `labctl explain LAB` is about the whole lab")
    if why and session.json:
        raise UsageError("--why and --json cannot be used together", "labctl explain NODE --json has the reasons")
    if hooks and why:
        raise UsageError("--hooks and --why cannot be used together", "labctl show NODE --why is about single objects")
    session.require_root()
    name = lifecycle.resolve_lab_name(session.lab)
    nodes = find_nodes(name, node)
    if hooks:
        return _show_hooks(session, name, nodes)
    if why:
        from labctl.lab import fault_records

        fault_records.refuse_hidden(name, "show --why")
    terminal = session.terminal
    terminal.progress(f"reading {name}")
    views = read_views(name, nodes, details=node is not None or session.json)
    lab = _lab_or_none(name) if session.json or node is None else None
    if session.json:
        from labctl.report.json_documents import show_document

        session.print_document(show_document(name, views, lab, shows_all=node is None))
    elif node is None:
        terminal.section(overview(summaries(views, lab)))
        if lab is not None and lab.virtual_addresses:
            from labctl.report.up_status import service_table

            terminal.line()
            terminal.section(service_table(lab))
        if lab is not None:
            terminal.line()
            if session.verbose:
                terminal.section(fidelity_section(lab))
            else:
                from labctl.report.up_status import approximation_lines

                terminal.lines([fidelity_summary(lab), *approximation_lines(lab)], fold=4)
    else:
        (view,) = views
        terminal.line(terminal.paint(f"{name}/{view.node}", "bold"))
        reasons = None
        if why:
            from labctl.explanation.planned_reasons import PlannedReasons
            from labctl.lab.cni_attach import with_plugin_results

            reasons = PlannedReasons(with_plugin_results(lifecycle.load_compiled_lab(name)))
        for section in sections(view, reasons):
            terminal.line()
            terminal.section(section)
    return 0


def _show_hooks(session: Session, name: str, nodes: Sequence[str]) -> int:
    from labctl.kernel.firewall.backend import backend_of
    from labctl.kernel.observe.hooks import read_hooks
    from labctl.report import hooks as report
    from labctl.translation.language import gettext

    lab, backend = _lab_or_none(name), backend_of(name)
    found = [
        report.node_hooks(node, chains, listed, lab.plan if lab is not None else None, backend)
        for node, (chains, listed) in read_hooks(name, nodes).items()
    ]
    if session.json:
        session.print_document(report.hooks_document(name, found))
        return 0
    terminal = session.terminal
    for number, one in enumerate(found):
        terminal.lines(["", ""][: 1 if number else 0])
        terminal.line(terminal.paint(f"{name}/{one.node}", "bold"))
        for section in report.hook_sections(one):
            terminal.line()
            terminal.section(section)
        terminal.line()
        terminal.lines([gettext(text) for text in report.notes(one)], fold=0)
    return 0


def _lab_or_none(name: str) -> Lab | None:
    """The lab as it was defined; None if its record is lost."""
    from labctl.lab import lifecycle

    try:
        return lifecycle.load_compiled_lab(name)
    except LabError:
        return None


COMMAND = show
