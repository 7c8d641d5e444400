"""The JSON document of `trace`: the result, and the evidence for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.render.dataclass_json import encode

if TYPE_CHECKING:
    from labctl.tracing.evidence import Evidence
    from labctl.tracing.result import Story


def trace_document(evidence: Evidence, story: Story) -> dict[str, Any]:
    """`trace --json`."""
    return {
        "lab": evidence.question.lab,
        "verdict": story.verdict,
        "story": encode(story),
        "evidence": encode(evidence),
    }
