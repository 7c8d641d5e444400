"""labctl check: prove the claims of a lab."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from labctl.cli.lab_lookup import recall
from labctl.cli.options import global_options, manifests_option, scenario_option, sets_option
from labctl.cli.session import Session
from labctl.core.sentence import sentence
from labctl.report.output_files import pcap_writer, require_writable, write
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.results import Outcome, Report
    from labctl.core.scenario_types import Check, Lab


@click.command("check", short_help="Prove every claim of a lab with packets.")
@click.option("-k", "word", metavar="WORD", help="Only checks with WORD in their sentence or probe (`ping a -> c`).")
@click.option("--pcap", metavar="DIR", type=click.Path(), help="Write the packets of each check as pcapng files.")
@click.option("--junit", metavar="FILE", type=click.Path(), help="Also write the results as JUnit XML.")
@click.option("--all-pairs", is_flag=True, help="Ask every pair of a large mesh, not a sample.")
@scenario_option
@sets_option
@manifests_option
@global_options("lab", "json", "verbose", verbose="Also print the evidence and the command of every check.")
@click.pass_obj
def check(
    session: Session,
    word: str | None,
    pcap: str | None,
    junit: str | None,
    all_pairs: bool,
    scenario: str | None,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Prove every claim of a running lab with real packets.

    Exits 0 if all checks pass or are skipped, 1 if one fails or is inconclusive. A failed check shows what
    was expected, what was seen, and where. A mesh of very many pairs asks a sample of them, and says so.

    \b
    Examples:
      sudo labctl check
      sudo labctl check -k internet -v
      sudo labctl check --junit results.xml
      sudo labctl check --pcap packets/
      sudo labctl check --all-pairs
    """
    from labctl.lab import lifecycle
    from labctl.report.up_status import approximation_lines

    session.require_root()
    name = lifecycle.resolve_lab_name(session.lab)
    if junit is not None:
        require_writable(junit)
    keep = None if pcap is None else pcap_writer(pcap, session.terminal.print_stderr)
    session.handle_termination()
    lab = recall(name, scenario, sets, manifests)
    report = run_checks(session, lab, word, keep, all_pairs=all_pairs)
    if not session.json:
        session.terminal.lines(approximation_lines(lab), fold=4)
    if junit is not None:
        from labctl.report.junit import junit_document

        write(junit, junit_document(report))
    if session.json:
        from labctl.report.json_documents import check_document

        session.print_document(check_document(report))
    return 1 if report.verdict in ("fail", "inconclusive") else 0


def run_checks(
    session: Session,
    lab: Lab,
    keyword: str | None,
    save_pcap: Callable[[Check, bytes], str] | None = None,
    *,
    all_pairs: bool = False,
) -> Report:
    """Run a lab's checks. Without --json, print the line of each check as soon as it is decided."""
    import labctl
    from labctl.core import results
    from labctl.report import plain_text

    terminal = session.terminal

    def print_outcome(outcome: Outcome) -> None:
        symbol = terminal.paint(
            plain_text.symbol(outcome.verdict, symbols=terminal.symbols), plain_text.VERDICT_COLOURS[outcome.verdict]
        )
        terminal.lines([f"{symbol} {gettext(outcome.check.say)}"], fold=2)
        terminal.lines(results.evidence_lines(outcome, verbose=session.verbose), fold=6)

    started = time.monotonic()
    terminal.progress(sentence("checking {lab}", lab=lab.name))
    progress = None if session.json else print_outcome
    report = labctl.check(lab, keyword, keep=save_pcap, progress=progress, all_pairs=all_pairs)
    terminal.clear()
    if not session.json:
        terminal.lines([results.tally(report, time.monotonic() - started)], fold=4)
    return report


COMMAND = check
