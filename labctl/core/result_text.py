"""The text of results: the lines of a check, counts and durations, and the one line of a `repr`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.core.results import Outcome, Report

VERDICT_LABELS: dict[str, str] = {"pass": "PASS", "fail": "FAIL", "skip": "SKIP", "inconclusive": "INCONCLUSIVE"}
COMMAND_PREFIX = "    run manually: "
MAX_REPR = 200  # characters of a repr


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


def short_repr(value: object, text: str) -> str:
    """The repr of a result: its class and a text, in one line of at most MAX_REPR characters."""
    line = f"{type(value).__name__} {' '.join(text.split())}"
    return f"<{line if len(line) <= MAX_REPR - 2 else line[: MAX_REPR - 3] + '…'}>"


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


def outcome_lines(outcome: Outcome) -> list[str]:
    """One check as `labctl check` prints it in a pipe: the verdict, the sentence, and the evidence unless it passed."""
    return [f"{VERDICT_LABELS[outcome.verdict]} {outcome.check.say}", *evidence_lines(outcome)]


def tally(report: Report, seconds: float | None = None) -> str:
    """The last line of `check`: the number of each verdict, and the time if it is given."""
    verdicts = [outcome.verdict for outcome in report.outcomes]
    if not verdicts:
        return f"{report.lab} has no checks"
    participles = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive", "skip": "skipped"}
    parts = [f"{verdicts.count(verdict)} {word}" for verdict, word in participles.items() if verdict in verdicts]
    time_text = "" if seconds is None else f" in {duration(seconds)}"
    return f"{report.lab}: {count(len(verdicts), 'check')}, {', '.join(parts)}{time_text}"
