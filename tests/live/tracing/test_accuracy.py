"""A sample of the trial that scripts/trace-accuracy makes: on some scenarios, no trace names a wrong cause."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from labctl.core.scenario_types import Lab
from labctl.faults.catalogue import applicable
from labctl.faults.fault import Fault, FaultKind
from labctl.faults.lab_objects import PROTOCOLS
from labctl.lab import lifecycle
from tests.support.trace_trial import Row, Trial

pytestmark = pytest.mark.firewall

SCENARIOS = ("kubenet", "docker-bridge", "flannel", "calico", "docker-publish")
KINDS = 9  # kinds of faults on each scenario
SEED = 20  # another one tries other kinds and objects


@pytest.fixture(scope="module", params=SCENARIOS)
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    name = f"trial-{request.param}"
    lifecycle.up(lifecycle.define(request.param, name))
    yield Trial(lifecycle.load_compiled_lab(name))
    lifecycle.down(name)


def sample(lab: Lab) -> list[tuple[FaultKind, Fault]]:
    """Some kinds that a check can notice, each with one of its first objects."""
    generator = random.Random(f"{lab.model} {SEED}")
    found = [(kind, faults) for kind, faults in applicable(lab) if not kind.unnoticed]
    return [(kind, generator.choice(faults[:4])) for kind, faults in generator.sample(found, KINDS)]


def test_no_fault_no_complaint(trial: Trial) -> None:
    rows = list(trial.healthy_rows(("icmp", "udp")))
    assert rows
    assert [row for row in rows if row.judgement != "right"] == []


def test_no_answer_is_wrong(trial: Trial) -> None:
    rows: list[Row] = []
    for number, (kind, fault) in enumerate(sample(trial.lab)):
        order = PROTOCOLS[number % 3 :] + PROTOCOLS[: number % 3]
        usable = [name for name in order if any(trial.delivers(one, name) for one in fault.traffic)]
        rows += trial.rows(kind, fault, tuple(usable[:1]))
    judged = [row for row in rows if row.judgement in ("right", "incomplete", "wrong")]
    assert [row for row in rows if row.judgement in ("wrong", "broken")] == []
    assert all(row.noticed for row in rows), "status names the object of every fault"
    assert len(judged) >= KINDS // 2
    assert sum(row.judgement == "right" for row in judged) >= len(judged) - 1
