"""The verbs that inspect labs and the machine: list, status, check, show, doctor."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.app import Session, common
from labctl.cli.lab_commands import sets_option
from labctl.cli.param_types import NODE, SCENARIO
from labctl.errors import LabError, UsageError
from labctl.report.output_files import keeper, writable, write

if TYPE_CHECKING:
    from labctl.core.results import Outcome, Report
    from labctl.core.scenario_types import Check, Lab


def scenario_option(function: Any) -> Any:
    """--scenario FILE, for a lab if its saved definition is lost."""
    text = "The scenario of the lab, if labctl's record of it is lost."
    return click.option("--scenario", type=SCENARIO, metavar="FILE", help=text)(function)


@click.command("list", short_help="List running labs or built-in scenarios.")
@click.option("--scenarios", is_flag=True, help="List the built-in scenarios instead of the running labs.")
@common("json")
@click.pass_obj
def list_labs(session: Session, scenarios: bool) -> int:
    """List the running labs, or the built-in scenarios; needs no root.

    A scenario's grade says how faithful its model is to the real system: `approximate (3)` has three parts that
    are only similar to it, `needs vlan` has a part that needs a kernel with VLANs. The model's page in docs/models
    lists the parts.

    \b
    Examples:
      labctl list
      labctl list --scenarios
    """
    from labctl.report import lists
    from labctl.report.json_documents import list_document, scenarios_document

    if scenarios:
        from labctl.scenario import catalog

        found = catalog.entries()
        if session.json:
            session.document(scenarios_document(found))
        else:
            session.terminal.section(lists.scenarios(found))
        return 0
    from labctl.lab import lifecycle

    running = lifecycle.running()
    if session.json:
        session.document(list_document(running))
    elif running:
        session.terminal.section(lists.labs(running))
    else:
        from labctl.kernel.host import paths

        session.terminal.line(f"no lab runs; start one: {paths.command()} up kubenet")
    return 0


@click.command("status", short_help="Show what has drifted from the definition.")
@scenario_option
@sets_option
@common("lab", "json")
@click.pass_obj
def status(session: Session, scenario: str | None, sets: tuple[str, ...]) -> int:
    """Show every object of a running lab that differs from the definition: missing, extra or changed.

    Exits 1 if there is drift. `labctl up` with the same scenario repairs it.

    \b
    Examples:
      sudo labctl status
      sudo labctl status -l kubenet --json
    """
    from labctl.lab import lifecycle

    session.need_root()
    name = lifecycle.choose(session.lab)
    lab = recall(name, scenario, sets)
    session.terminal.progress(f"comparing {len(lab.plan)} objects")
    changes = lifecycle.status(name, lab)
    if session.json:
        from labctl.report.json_documents import status_document

        session.document(status_document(name, lab, changes))
    else:
        from labctl.report import up_status as report

        report.say_status(name, lab, changes, session.terminal)
    return 1 if changes else 0


@click.command("check", short_help="Prove every claim of a lab with packets.")
@click.option("-k", "word", metavar="WORD", help="Only checks with WORD in their sentence or machines.")
@click.option("--pcap", metavar="DIR", type=click.Path(), help="Write the packets of each check as pcapng files.")
@click.option("--junit", metavar="FILE", type=click.Path(), help="Also write the results as JUnit XML.")
@scenario_option
@sets_option
@common("lab", "json", "verbose", verbose="Also print the evidence and the command of every check.")
@click.pass_obj
def check(
    session: Session,
    word: str | None,
    pcap: str | None,
    junit: str | None,
    scenario: str | None,
    sets: tuple[str, ...],
) -> int:
    """Prove every claim of a running lab with real packets.

    Exits 0 if all checks pass or are skipped, 1 if one fails or is inconclusive. A failed check shows what
    was expected, what was seen, and where.

    \b
    Examples:
      sudo labctl check
      sudo labctl check -k internet -v
      sudo labctl check --junit results.xml
      sudo labctl check --pcap packets/
    """
    from labctl.lab import lifecycle
    from labctl.report.up_status import approximation_lines

    session.need_root()
    name = lifecycle.choose(session.lab)
    if junit is not None:
        writable(junit)
    keep = None if pcap is None else keeper(pcap, session.terminal.complain)
    session.end_cleanly()
    lab = recall(name, scenario, sets)
    report = run_checks(session, lab, word, keep)
    if not session.json:
        session.terminal.lines(approximation_lines(lab), fold=4)
    if junit is not None:
        from labctl.report.junit import junit as as_junit

        write(junit, as_junit(report))
    if session.json:
        from labctl.report.json_documents import check_document

        session.document(check_document(report))
    return 1 if report.verdict in ("fail", "inconclusive") else 0


def run_checks(
    session: Session, lab: Lab, word: str | None, keep: Callable[[Check, bytes], str] | None = None
) -> Report:
    """Run a lab's checks. Without --json, print the line of each check as soon as it is decided."""
    import labctl
    from labctl.report import plain_text as text

    terminal = session.terminal

    def tell(outcome: Outcome) -> None:
        sign = terminal.paint(text.mark(outcome.verdict, marks=terminal.marks), text.COLOUR[outcome.verdict])
        terminal.line(f"{sign} {outcome.check.say}")
        terminal.lines(text.evidence(outcome, verbose=session.verbose), fold=6)

    begun = time.monotonic()
    terminal.progress(f"checking {lab.name}")
    report = labctl.check(lab, word, keep=keep, progress=None if session.json else tell)
    terminal.clear()
    if not session.json:
        terminal.line(text.tally(report, time.monotonic() - begun))
    return report


def recall(name: str, scenario: str | None, sets: tuple[str, ...]) -> Lab:
    """The definition of a running lab, compiled. Raises UsageError."""
    from labctl.lab import lifecycle

    if sets and scenario is None:
        raise UsageError("--set needs --scenario FILE", "the record of a running lab has its values")
    return lifecycle.recall(name, scenario, sets)


@click.command("show", short_help="Show the state of a node, or of all nodes.")
@click.argument("node", required=False, type=NODE)
@common("lab", "json")
@click.pass_obj
def show(session: Session, node: str | None) -> int:
    """Show a node, or all: links, addresses, routes, neighbours, firewall with counters, sysctls.

    \b
    Examples:
      sudo labctl show node1
      sudo labctl show --json
    """
    from labctl.cli.exec_commands import find_node
    from labctl.kernel.observe.node_view import peek
    from labctl.lab import lifecycle
    from labctl.report.node_view import View, parts, sections

    session.need_root()
    name = lifecycle.choose(session.lab)
    nodes = find_node(name, node)
    session.terminal.progress(f"reading {name}")
    plan = lifecycle.observe(name, nodes[0] if node is not None else None)
    views = [
        View(one, tuple(item for item in plan if item.ns == one), chains, settings)
        for one, (chains, settings) in peek(name, nodes).items()
    ]
    if session.json:
        from labctl.report.json_documents import show_document

        session.document(show_document(name, views, _known(name)))
        return 0
    lab = _known(name) if node is None else None
    if lab is not None:
        session.terminal.section(parts(lab))
    for number, view in enumerate(views):
        if number or lab is not None:
            session.terminal.line()
        session.terminal.line(session.terminal.paint(f"{name}/{view.node}", "bold"))
        for section in sections(view):
            session.terminal.line()
            session.terminal.section(section)
    return 0


def _known(name: str) -> Lab | None:
    """The lab as it was defined; None if its record is lost."""
    from labctl.lab import lifecycle

    try:
        return lifecycle.recall(name)
    except LabError:
        return None


@click.command("doctor", short_help="Check whether this machine can run labs.")
@common("json")
@click.pass_obj
def doctor(session: Session) -> int:
    """Check whether this machine can run labs: kernel, tools, limits, leftovers; each problem with a fix.

    Kernel features are tried in a temporary namespace. Exits 4 if something that is needed is missing.

    \b
    Example:
      sudo labctl doctor
    """
    from labctl import models
    from labctl.kernel.host_facts import examine
    from labctl.lab.doctor import findings, wanted

    session.terminal.progress("trying kernel features")
    asked = wanted({name: getattr(models.find(name), "PARTS", ()) for name in models.names()})
    found = findings(examine(asked), asked)
    if session.json:
        from labctl.report.json_documents import doctor_document

        session.document(doctor_document(found))
    else:
        from labctl.report import lists

        lists.say_findings(found, session.terminal)
    return 4 if any(finding.state == "missing" for finding in found) else 0


VERBS = (list_labs, status, check, show, doctor)
