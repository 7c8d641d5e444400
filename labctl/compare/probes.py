"""The questions that packets answer, as checks, and what a reply proves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from labctl.checks.evidence import CheckEvidence
from labctl.checks.verdict import Evaluation, evaluate
from labctl.compare.measurements import ProbeOutcome, ProbeResult
from labctl.compare.roles import Roles, absence_text
from labctl.core.scenario_types import Check

REPLY_TIMEOUT_S = 0.3  # seconds to wait for a reply in the first attempt
SILENCE_TIMEOUT_S = 1.0  # seconds to wait in the second attempt, which proves that no reply comes
IPV4_HEADER_BYTES = 20  # bytes of an IPv4 header
ICMP_HEADER_BYTES = 8  # bytes of an echo's header


def probe_checks(roles: Roles) -> Mapping[str, Check | str]:
    """The checks by the question's key; a text (the reason) if the source or the target does not exist."""
    endpoints: dict[str, tuple[str | None, str | None, str]] = {
        "mate": (roles.pod, roles.same_node_pod, "mate"),
        "far": (roles.pod, roles.other_node_pod, "far"),
        "mate_far": (roles.same_node_pod, roles.other_node_pod, "far" if roles.other_node_pod is None else "mate"),
        "back": (roles.other_node_pod, roles.pod, "far"),
        "beyond": (roles.pod, roles.routed_pod, "beyond"),
        "own_node": (roles.pod, roles.node, ""),
        "other_node": (roles.pod, roles.other_node, "other"),
        "vm": (roles.pod, roles.vm, "vm"),
        "internet": (roles.pod, roles.internet, "internet"),
        "from_vm": (roles.vm, roles.pod, "vm"),
        "from_internet": (roles.internet, roles.pod, "internet"),
    }
    checks: dict[str, Check | str] = {}
    for key, (source, target, role) in endpoints.items():
        checks[key] = absence_text(role, roles) if source is None or target is None else _ping(source, target)
    return checks


def _ping(source: str, target: str) -> Check:
    return Check(f"{source} reaches {target}", "ping", source, target, within=REPLY_TIMEOUT_S)


def expect_no_answer(check: Check) -> Check:
    """The same question with the expectation of no reply, which the check then has to prove."""
    return replace(check, expect="fail", within=SILENCE_TIMEOUT_S)


def size_check(source: str, target: str, size: int, timeout_s: float = REPLY_TIMEOUT_S) -> Check:
    """Whether an IPv4 packet of `size` bytes passes unfragmented. Only an error proves that it does not."""
    say = f"a packet of {size} bytes"
    return Check(
        say, "ping", source, target, expect="fail", within=timeout_s, size=size - IPV4_HEADER_BYTES - ICMP_HEADER_BYTES
    )


def probe_result(evidence: CheckEvidence, evaluation: Evaluation) -> ProbeResult:
    """The result of one probe from its evidence, whichever answer its check expected.

    A reply counts by the same rules as in a check. A missing reply counts only if it was expected and proven.
    """
    check = evidence.check
    if evidence.answer == "reply":
        expecting_reply = replace(evidence, check=replace(check, expect="reply"))
        verdict, reasons = evaluate(expecting_reply)
        outcomes: dict[str, ProbeOutcome] = {"pass": "came", "fail": "elsewhere"}
        outcome: ProbeOutcome = outcomes.get(verdict, "inconclusive")
    else:
        verdict, reasons = evaluation
        outcome = "silent" if verdict == "pass" and check.expects_no_answer else "inconclusive"
    return ProbeResult(check, outcome, reasons, evidence.trail.requests, evidence.answer == "blocked")
