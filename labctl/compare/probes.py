"""The questions that packets answer, as checks, and what a reply proves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from labctl.checks.evidence import Evidence
from labctl.checks.verdict import Judgement, judge
from labctl.compare.measurements import Asked, Outcome
from labctl.compare.roles import Cast, absent
from labctl.core.scenario_types import Check

HOPE = 0.3  # seconds to wait for a reply in the first attempt
SILENCE = 1.0  # seconds to wait in the second attempt, which proves that no reply comes
FEW = 20  # bytes of an IPv4 header
ECHO = 8  # bytes of an echo's header


def questions(who: Cast) -> Mapping[str, Check | str]:
    """The checks by the question's key; a text (the reason) if the source or the target does not exist."""
    asked: dict[str, tuple[str | None, str | None, str]] = {
        "mate": (who.pod, who.mate, "mate"),
        "far": (who.pod, who.far, "far"),
        "mate_far": (who.mate, who.far, "far" if who.far is None else "mate"),
        "back": (who.far, who.pod, "far"),
        "beyond": (who.pod, who.beyond, "beyond"),
        "own_node": (who.pod, who.node, ""),
        "other_node": (who.pod, who.other, "other"),
        "vm": (who.pod, who.vm, "vm"),
        "internet": (who.pod, who.internet, "internet"),
        "from_vm": (who.vm, who.pod, "vm"),
        "from_internet": (who.internet, who.pod, "internet"),
    }
    found: dict[str, Check | str] = {}
    for key, (source, target, part) in asked.items():
        found[key] = absent(part, who) if source is None or target is None else _ping(source, target)
    return found


def _ping(source: str, target: str) -> Check:
    return Check(f"{source} reaches {target}", "ping", source, target, within=HOPE)


def silence(check: Check) -> Check:
    """The same question with the expectation of no reply, which the check then has to prove."""
    return replace(check, expect="fail", within=SILENCE)


def sized(source: str, target: str, size: int, within: float = HOPE) -> Check:
    """Whether an IPv4 packet of `size` bytes passes unfragmented. Only an error proves that it does not."""
    say = f"a packet of {size} bytes"
    return Check(say, "ping", source, target, expect="fail", within=within, size=size - FEW - ECHO)


def told(evidence: Evidence, judgement: Judgement) -> Asked:
    """The result that one probe's evidence gives, whichever answer its check expected.

    A reply counts by the same rules as in a check. A missing reply counts only if it was expected and proven.
    """
    check = evidence.check
    if evidence.answer == "reply":
        hoped = replace(evidence, check=replace(check, expect="reply"))
        verdict, said = judge(hoped)
        outcomes: dict[str, Outcome] = {"pass": "came", "fail": "elsewhere"}
        outcome: Outcome = outcomes.get(verdict, "inconclusive")
    else:
        verdict, said = judgement
        outcome = "silent" if verdict == "pass" and check.silent else "inconclusive"
    return Asked(check, outcome, said, evidence.trail.requests, evidence.answer == "blocked")
