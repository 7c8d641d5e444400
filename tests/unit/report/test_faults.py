"""What `break` and `fix` print: the trace that shows the fault, and the connections that a plan does not have."""

from __future__ import annotations

from io import StringIO

import pytest

from labctl.core.scenario_types import Lab
from labctl.faults.catalogue import find_fault
from labctl.faults.lab_objects import Traffic
from labctl.lab.fault_records import FaultRecord
from labctl.report import faults
from labctl.report.terminal import Terminal
from labctl.scenario.definition import define


@pytest.fixture(scope="module")
def kubenet() -> Lab:
    return define("kubenet").compiled


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (Traffic("a", "c"), "a c"),
        (Traffic("a", "c", ("icmp",), size=1472, fragment=True), "a c --size 1472 --fragment"),
        (Traffic("a", "c", ("udp", "tcp")), "a c --udp 8080 --listen"),
        (Traffic("a", "c", ("tcp",), 80, listen=False), "a c --tcp 80"),
        (Traffic("a", "c", ("udp",), 53, sport=40000), "a c --udp 53 --listen --sport 40000"),
        (Traffic("internet", "host1", ("tcp",), 8080, server=("c1", 80)), "internet host1 --tcp 8080 --listen c1:80"),
    ],
)
def test_a_probe_as_arguments_of_trace(traffic: Traffic, words: str) -> None:
    assert faults.trace_words(traffic) == words


def test_a_connection_is_named_by_break_and_by_fix(kubenet: Lab) -> None:
    fault = find_fault(kubenet, "stale-conntrack")
    record = FaultRecord(fault.kind, fault.on, False, connections=fault.connections)
    terminal = Terminal(StringIO(), StringIO())
    (flow,) = fault.connections
    broken = list(faults.break_lines("kubenet", record, fault, None, "labctl", terminal))
    assert f"      extra    connection udp {flow.src}:{flow.sport} > {flow.dst}:{flow.dport}" in broken
    assert f"try: labctl trace a internet --udp {flow.dport} --listen --sport {flow.sport}" in broken
    fixed = list(faults.fix_lines("kubenet", [(record, ())], terminal))
    assert f"      removed  connection udp {flow.src}:{flow.sport} > {flow.dst}:{flow.dport}" in fixed
    assert "    it was repaired already" not in fixed


def test_an_interrupted_break_is_called_so() -> None:
    record = FaultRecord("forwarding-off", "node1", False, interrupted=True)
    first, *_ = faults.solution_lines("kubenet", [record], Terminal(StringIO(), StringIO()))
    assert first == "forwarding-off on node1 (interrupted)"
