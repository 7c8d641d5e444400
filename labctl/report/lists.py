"""Tables of labs and scenarios, and the text output of `doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from labctl.core import fidelity
from labctl.core.lab_results import RunningSummary
from labctl.core.names import summarize_names
from labctl.core.sentence import sentence
from labctl.core.text import count
from labctl.report.plain_text import with_sudo
from labctl.report.table_section import TableSection

if TYPE_CHECKING:
    from labctl.lab.doctor import Finding
    from labctl.report.terminal import Terminal
    from labctl.scenario.catalog import ScenarioEntry


SCENARIO, SHOWS = sentence("scenario"), sentence("what it shows")
LAB_COLUMNS = (sentence("model"), sentence("nodes"), sentence("names"), SCENARIO)
WIDE = 130  # columns of a terminal that has room for the grades of the scenarios
COLOURS = {"ok": "green", "warn": "yellow", "missing": "red"}


def labs(running: Iterable[RunningSummary]) -> TableSection:
    """The running labs; with their owners if there are several."""
    shown = tuple(running)
    has_owners = len({lab.owner for lab in shown}) > 1
    rows = tuple((lab.name, *((lab.owner or "?",) if has_owners else ()), *_description(lab)) for lab in shown)
    head = (sentence("lab"), *((sentence("owner"),) if has_owners else ()), *LAB_COLUMNS)
    return TableSection("", head, rows)


def _description(lab: RunningSummary) -> tuple[str, ...]:
    return _model(lab), str(len(lab.nodes)), summarize_names(lab.nodes, 8), lab.scenario or sentence("(record lost)")


def _model(lab: RunningSummary) -> str:
    note = f" (approximate: {', '.join(lab.approximate)})" if lab.approximate else ""
    return (lab.model or "?") + note


def scenarios(entries: Iterable[ScenarioEntry], width: int | None = None) -> TableSection:
    """The built-in scenarios, each with its sentence and the grade of its model. On a terminal with fewer than
    `WIDE` columns without the grades, so that each takes one or two lines."""
    if width is not None and width < WIDE:
        return TableSection("", (SCENARIO, SHOWS), tuple((entry.name, entry.say) for entry in entries))
    rows = [(entry.name, fidelity.summary(entry.parts), entry.title) for entry in entries]
    return TableSection("", (SCENARIO, sentence("grade"), SHOWS), tuple(rows))


def print_findings(findings: Iterable[Finding], sudo: str, terminal: Terminal) -> None:
    """Print every finding on one line; below a problem, its fix, with `sudo` before what needs the machine's root."""
    all_findings = list(findings)
    width = max(len(finding.subject) for finding in all_findings)
    for finding in all_findings:
        state = terminal.paint(f"{finding.state:<7}", COLOURS[finding.state])
        line = f"{state}  {finding.subject:<{width}}  {finding.detail}".rstrip()
        terminal.lines([line], fold=width + 11)
        if finding.state != "ok" and finding.fix:
            terminal.lines([f"         fix: {with_sudo(finding.fix, sudo)}"], fold=14)
    missing = sum(finding.state == "missing" for finding in all_findings)
    warned = sum(finding.state == "warn" for finding in all_findings)
    if missing:
        terminal.line(f"this machine cannot run every lab: {count(missing, 'thing')} missing")
    else:
        terminal.line("this machine can run labs" + (f"; {count(warned, 'warning')}" if warned else ""))
