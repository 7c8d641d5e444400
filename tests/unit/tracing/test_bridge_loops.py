"""A trace in a bridge loop names the loop as the cause."""

from __future__ import annotations

import json
from dataclasses import replace

from labctl.core.resources import Interface
from labctl.render import dataclass_json
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence
from tests.support.traces import TRACES

ENDS = tuple(Interface("s", dev) for dev in ("l1", "l2", "r1", "r2"))


def test_a_loss_that_nothing_else_explains_is_the_loops() -> None:
    whole = dataclass_json.from_json(TraceEvidence, json.loads((TRACES / "delivered.json").read_text()))
    evidence = replace(whole, answer="timeout", observations=whole.observations[:4], flows=())
    assert (diagnose(evidence).verdict, diagnose(evidence).why) == ("lost", None)
    story = diagnose(replace(evidence, looping=ENDS))
    assert story.why is not None
    assert (story.why.kind, story.facts[0].text) == (
        "bridge-loop", "the same frames pass again and again at s/l1, s/l2, s/r1, s/r2",
    )  # fmt: skip
    assert story.tries == ("labctl exec s -- ip link set l1 down",)
