"""The evidence of a trace: which shapes are refused."""

from __future__ import annotations

import pytest

from labctl.render import dataclass_json
from labctl.tracing.evidence import TraceEvidence


def test_evidence_of_another_shape_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        dataclass_json.from_json(TraceEvidence, {"question": {"lab": "x"}})
