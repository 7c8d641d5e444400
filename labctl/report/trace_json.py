"""The JSON document of `trace`: the result, and the evidence for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.render.dataclass_json import to_json

if TYPE_CHECKING:
    from labctl.tracing.comparison import TraceComparison
    from labctl.tracing.evidence import TraceEvidence
    from labctl.tracing.result import TraceResult


def trace_comparison_document(
    evidence: tuple[TraceEvidence, TraceEvidence], comparison: TraceComparison
) -> dict[str, Any]:
    """`trace --compare --json`: both traces, and the first difference."""
    pairs = zip(evidence, (comparison.first, comparison.second), strict=True)
    return {
        "lab": evidence[0].question.lab,
        "traces": [trace_document(one, result) for one, result in pairs],
        "difference": to_json(comparison.difference),
    }


def trace_document(evidence: TraceEvidence, result: TraceResult) -> dict[str, Any]:
    """`trace --json`."""
    return {
        "lab": evidence.question.lab,
        "verdict": result.verdict,
        "story": to_json(result),
        "evidence": to_json(evidence),
    }
