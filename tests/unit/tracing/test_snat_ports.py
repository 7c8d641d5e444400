"""The cause `snat-port-exhaustion` needs the count of connections: a loss at the same rule alone proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence
from tests.support.traces import recording


def kind(evidence: TraceEvidence) -> str | None:
    why = diagnose(evidence).why
    return None if why is None else why.kind


@pytest.fixture
def lost() -> TraceEvidence:
    return recording("snat-ports")


def test_all_ports_in_use_are_the_cause(lost: TraceEvidence) -> None:
    assert kind(lost) == "snat-port-exhaustion"


def test_a_port_that_is_left_excludes_it(lost: TraceEvidence) -> None:
    (use,) = lost.port_uses
    assert kind(replace(lost, port_uses=(replace(use, used=use.size - 1),))) == "rule"
    assert kind(replace(lost, port_uses=())) == "rule"


def test_the_ports_of_another_machine_are_not_the_cause(lost: TraceEvidence) -> None:
    (use,) = lost.port_uses
    assert kind(replace(lost, port_uses=(replace(use, node="w"),))) == "rule"


def test_a_packet_that_left_was_not_lost_for_a_port(lost: TraceEvidence) -> None:
    last = lost.observations[-1]
    left = replace(last, dev="up", direction="out", when=last.when + 1000)
    assert kind(replace(lost, observations=(*lost.observations, left), events=())) != "snat-port-exhaustion"


def test_a_rule_that_drops_comes_first(lost: TraceEvidence) -> None:
    hit = lost.rule_hits[-1]
    drop = replace(hit, table="mangle", chain="FORWARD", hook=2, rule="-j DROP", target="DROP")
    assert kind(replace(lost, rule_hits=(*lost.rule_hits, drop))) == "rule"
