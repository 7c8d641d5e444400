"""The JSON documents of `policy matrix` and `policy why`. docs/json.md publishes their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.kubernetes.policies.policy_words import endpoint_name

if TYPE_CHECKING:
    from labctl.kubernetes.policies.policy_explanation import DirectionExplanation, Explanation
    from labctl.kubernetes.policies.policy_matrix import Cell, PolicyMatrix
    from labctl.kubernetes.policies.policy_oracle import Decision
    from labctl.kubernetes.policies.policy_question import PolicyAnswer

Document = dict[str, Any]


def matrix_document(lab: str, matrix: PolicyMatrix) -> Document:
    """`policy matrix --json`."""
    return {
        "lab": lab,
        "protocol": matrix.protocol,
        "port": matrix.port,
        "live": matrix.live,
        "sources": [str(one) for one in matrix.sources],
        "targets": [str(one) for one in matrix.targets],
        "pairs": [_pair(one) for one in matrix],
        "differences": len(matrix.differences),
        "notes": list(matrix.notes),
    }


def why_document(lab: str, answer: PolicyAnswer) -> Document:
    """`policy why --json`."""
    return {
        "lab": lab,
        "source": answer.source,
        "target": answer.target,
        "service": answer.service or None,
        "protocol": answer.protocol,
        "port": answer.port or None,
        "allowed": answer.allowed,
        "connections": [_connection(one) for one in answer.explanations],
        "notes": list(answer.notes),
    }


def _pair(cell: Cell) -> Document:
    return {
        "source": str(cell.source),
        "target": str(cell.target),
        "allowed": cell.verdict.allowed,
        "measured": cell.measured,
        "detail": cell.detail,
        "differs": cell.differs,
        "decisions": [_decision(one) for one in cell.verdict.decisions],
    }


def _connection(one: Explanation) -> Document:
    return {
        "source": endpoint_name(one.source),
        "target": endpoint_name(one.target),
        "port": one.port or None,
        "seen_as": str(one.seen_as) if one.seen_as else None,
        "ways": [{"node": way.node, "seen_as": str(way.seen_as) if way.seen_as else None} for way in one.ways],
        "allowed": one.verdict.allowed,
        "exempt": one.verdict.exempt or None,
        "denial": one.denial or None,
        "decisions": [_explained(each) for each in one.directions],
    }


def _decision(one: Decision) -> Document:
    return {
        "direction": one.direction,
        "allowed": one.allowed,
        "tier": one.tier or None,
        "policy": one.policy or None,
        "rule": one.rule or None,
        "rule_name": one.rule_name or None,
        "isolated_by": list(one.policies),
        "passed_by": [{"policy": each.policy, "rule": each.number, "rule_name": each.name} for each in one.passed],
        "unclear": list(one.unclear),
    }


def _explained(one: DirectionExplanation) -> Document:
    return {
        **_decision(one.decision),
        "pod": one.pod,
        "reason": one.reason,
        "rule_text": one.rule_words or None,
        "details": list(one.details),
        "misses": [
            {"policy": each.policy, "rule": each.rule, "text": each.words, "reasons": list(each.reasons)}
            for each in one.misses
        ],
        "remedy": one.remedy or None,
    }
