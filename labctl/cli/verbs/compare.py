"""labctl compare: measure several models with the same questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labctl.cli.options import approximate_option, firewall_option, global_options, manifests_option
from labctl.cli.param_types import SCENARIO
from labctl.cli.session import Session
from labctl.errors import KernelError, LabError, MissingError, Problem, ScenarioError, UsageError

if TYPE_CHECKING:
    from labctl.compare.run import ComparedScenario
    from labctl.compare.table import Table
    from labctl.core.iptables import Backend


@click.command("compare", short_help="Measure several models with the same questions, in one table.")
@click.argument("scenarios", nargs=-1, type=SCENARIO, metavar="SCENARIO...")
@click.option("--all", "everything", is_flag=True, help="Every built-in scenario that has pods or containers.")
@click.option("--markdown", is_flag=True, help="Print a Markdown page.")
@approximate_option("Where this kernel lacks a feature, build the model's substitute, and report it.")
@firewall_option("Write rules with iptables-legacy or iptables-nft; by default with legacy where it works.")
@manifests_option
@global_options("json", "verbose", verbose="Also print the evidence for each answer.")
@click.pass_obj
def compare(
    session: Session,
    scenarios: tuple[str, ...],
    everything: bool,
    markdown: bool,
    approximate: bool,
    firewall: Backend | None,
    manifests: tuple[str, ...],
) -> int:
    """Build one lab after the other, ask the same questions about each, and print the answers in one table.

    Every answer is measured: from packets that are captured where they arrive, and from the kernel's state. No answer
    is entered manually. The labs get unused names and are always removed again; running labs are not changed. Times
    are relative to the first lab that has two nodes.

    A scenario that this kernel cannot build is skipped, with the reason. Exits 0 if at least one lab was measured,
    1 if evidence was lost for an answer (`inconclusive`), and with the exit code of the reason if all were skipped.

    --manifest adds the same objects of Kubernetes to each scenario that is named.

    \b
    Examples:
      sudo labctl compare kubenet azure-cni-transparent docker-bridge
      sudo labctl compare kubenet ./my-lab.yaml --json
      sudo labctl compare kubenet calico --manifest policies.yaml
      sudo labctl compare --all --markdown > comparison.md
    """
    from labctl.compare import run

    if markdown and session.json:
        raise UsageError("compare: --json and --markdown cannot be used together", "remove one of them")
    if everything and manifests:
        raise UsageError("compare: --all and --manifest cannot be used together", "name the scenarios for the objects")
    chosen = _entries(_scenario_names(scenarios, everything), everything, firewall, manifests)
    session.require_root()
    session.handle_termination()
    session.interruption_text = lambda: "the labs of the comparison are removed"
    table = run.compare(chosen, session.terminal.progress, approximate=approximate)
    session.terminal.clear()
    if all(getattr(column, "reason", "") for column in table.columns):
        raise _all_skipped_error(table)
    _print(session, table, _command(scenarios, approximate, firewall, manifests) if markdown else "")
    return 1 if table.inconclusive else 0


def _scenario_names(scenarios: tuple[str, ...], everything: bool) -> tuple[str, ...]:
    """The names of the scenarios, each once. Raises UsageError."""
    from labctl.scenario import catalog

    if everything and scenarios:
        raise UsageError("compare: name scenarios or use --all, not both")
    if not everything and not scenarios:
        raise UsageError("compare: no scenario is named", "such as: labctl compare kubenet docker-bridge; or --all")
    duplicate = next((name for name in scenarios if scenarios.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(f"compare: {duplicate} is named twice", "name each scenario once")
    return catalog.names() if everything else scenarios


def _entries(
    names: tuple[str, ...], everything: bool, firewall: Backend | None, manifests: tuple[str, ...]
) -> list[ComparedScenario]:
    """Read all scenarios before anything is built, so that all mistakes and all unknown names are reported at once.
    With --all, only scenarios that can be measured are returned. Raises ScenarioError, UsageError."""
    from labctl.compare.run import ComparedScenario
    from labctl.lab import lifecycle

    found: list[ComparedScenario] = []
    problems: list[Problem] = []
    unknown: list[UsageError] = []
    for name in names:
        try:
            found.append(ComparedScenario(name, lifecycle.define(name, firewall=firewall, manifests=manifests)))
        except ScenarioError as error:
            problems += error.problems
        except UsageError as error:
            unknown.append(error)
            problems.append(Problem(name, 1, 1, error.message, error.hint))
    if len(problems) == len(unknown) == 1:
        raise unknown[0]
    if problems:
        raise ScenarioError(problems)
    return [entry for entry in found if entry.has_pods or not everything]


def _all_skipped_error(table: Table) -> LabError:
    """The error for a comparison in which no lab could be measured."""
    reasons = "; ".join(f"{column.title}: {getattr(column, 'reason', '')}" for column in table.columns)
    codes = {getattr(column, "code", 0) for column in table.columns}
    kind = KernelError if 3 in codes else MissingError if 4 in codes else UsageError
    return kind(f"no lab could be measured: {reasons}")


def _command(
    scenarios: tuple[str, ...], approximate: bool, firewall: Backend | None, manifests: tuple[str, ...]
) -> str:
    """The command that writes this page. The page of all scenarios is part of the documentation."""
    import shlex

    more = (" --approximate" if approximate else "") + (f" --firewall {firewall}" if firewall else "")
    more += "".join(f" --manifest {shlex.quote(file)}" for file in manifests)
    if scenarios:
        return f"sudo labctl compare {shlex.join(scenarios)}{more} --markdown"
    return f"sudo labctl compare --all{more} --markdown > docs/comparison.md"


def _print(session: Session, table: Table, page: str) -> None:
    """Print the table; as a page of Markdown if `page` is the command that writes it."""
    from labctl.report import comparison

    terminal = session.terminal
    if session.json:
        from labctl.report.comparison_json import comparison_document

        session.print_document(comparison_document(table))
        return
    if page:
        terminal.lines(comparison.markdown(table, page))
        return
    for number, section in enumerate(comparison.sections(table, terminal.width)):
        if number:
            terminal.line()
        terminal.section(section, style=comparison.style)
    terminal.line()
    if session.verbose:
        terminal.lines((*comparison.evidence_lines(table), ""), fold=4)
    terminal.lines(comparison.notes(table), fold=4)
    terminal.lines([comparison.tally(table)], fold=4)


COMMAND = compare
