"""Plain text lines: the results of verbs, without tables or colour. Everything here is pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.core.results import Outcome, Report, Verdict

SYMBOLS: dict[str, str] = {"pass": "✔", "fail": "✘", "skip": "–", "inconclusive": "?"}
VERDICT_LABELS: dict[str, str] = {"pass": "PASS", "fail": "FAIL", "skip": "SKIP", "inconclusive": "INCONCLUSIVE"}
VERDICT_COLOURS: dict[str, str] = {"pass": "green", "fail": "red", "skip": "dim", "inconclusive": "yellow"}

ROOT_COMMAND = re.compile(
    r"(?<!sudo )(?<![\w.-])((modprobe|apt-get install|apt install|sysctl -w) (?=\w)|(umount|rm) (?=/))"
)
VERB_COMMAND = re.compile(
    r"(?<!sudo )(?<![\w./-])labctl(?= (up|down|status|check|exec|shell|show|trace|capture|compare|doctor|break|fix)\b)"
)
COMMAND_PREFIX = "    run manually: "


def with_sudo(text: str, sudo: str) -> str:
    """A hint with `sudo` (or nothing) before each command in it that changes the machine and so needs its root."""
    return ROOT_COMMAND.sub(lambda found: sudo + found[0], text)


def with_command(text: str, labctl: str) -> str:
    """A hint in which the verbs of labctl that need root are written as a user types them: after `labctl`."""
    return VERB_COMMAND.sub(labctl, text)


def count(number: int, noun: str) -> str:
    """`1 object`, `2 objects`; with the plural of nouns that end in y, s or ch."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


def duration(seconds: float) -> str:
    """A duration as text: `0.21 s`, `12 s`."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def symbol(verdict: Verdict, *, symbols: bool) -> str:
    """The symbol of a verdict: ✔ ✘ – ? on a terminal, a word elsewhere."""
    return SYMBOLS[verdict] if symbols else VERDICT_LABELS[verdict]


def evidence_lines(outcome: Outcome, *, verbose: bool = False) -> list[str]:
    """The lines under a check that did not pass: what was expected, seen, and where. With `verbose`, for all checks."""
    lines = []
    if outcome.verdict != "pass" or verbose:
        lines += [f"    {line}" for text in outcome.evidence for line in text.splitlines()]
        if outcome.command and outcome.verdict != "skip":
            lines.append(COMMAND_PREFIX + outcome.command)
        if outcome.pcap:
            lines.append(f"    packets: {outcome.pcap}")
    return lines


def tally(report: Report, seconds: float) -> str:
    """The last line of `check`: the number of each verdict, and the time."""
    verdicts = [outcome.verdict for outcome in report.outcomes]
    if not verdicts:
        return f"{report.lab} has no checks"
    participles = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive", "skip": "skipped"}
    parts = [f"{verdicts.count(verdict)} {word}" for verdict, word in participles.items() if verdict in verdicts]
    return f"{report.lab}: {count(len(verdicts), 'check')}, {', '.join(parts)} in {duration(seconds)}"
