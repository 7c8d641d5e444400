"""What `break`, `fix` and `break --list` print."""

from __future__ import annotations

import io

import pytest

from labctl.core.diff import Change
from labctl.core.resources import Interface, Link
from labctl.faults.catalogue import applicable, find_fault
from labctl.faults.lab_objects import Traffic
from labctl.lab.fault_records import FaultRecord
from labctl.report import faults
from labctl.report.terminal import Terminal
from labctl.scenario.definition import define


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (Traffic("a", "c"), "a c"),
        (Traffic("a", "c", ("icmp", "udp"), size=1472), "a c --size 1472"),
        (Traffic("a", "c", ("icmp",), size=4000, fragment=True), "a c --size 4000 --fragment"),
        (Traffic("a", "c", ("tcp",)), "a c --tcp 8080 --listen"),
        (Traffic("a", "c", ("tcp",), 80, listen=False), "a c --tcp 80"),
        (Traffic("a", "c", ("udp",), 53, sport=4000), "a c --udp 53 --listen --sport 4000"),
        (Traffic("a", "h", ("tcp",), 8080, server=("c1", 80)), "a h --tcp 8080 --listen c1:80"),
    ],
)
def test_the_advised_trace_is_the_probe_that_the_fault_hits(traffic: Traffic, words: str) -> None:
    assert faults.trace_words(traffic) == words


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(io.StringIO(), io.StringIO())


def test_break_says_what_is_now_and_fix_what_was(terminal: Terminal) -> None:
    link = Link(Interface("node1", "eth0"), "veth", mtu=1500)
    small = Link(Interface("node1", "eth0"), "veth", mtu=1380)
    record = FaultRecord("mtu-router", "node1/eth0", False, (link,), (small,))
    fault = find_fault(define("kubenet").compiled, "mtu-router", "node1/eth0")

    broken = list(faults.break_lines("kubenet", record, fault, None, "labctl", terminal))
    fixed = list(faults.fix_lines("kubenet", [(record, (Change(link, small),))], terminal))

    assert any("mtu is 1380, should be 1500" in line for line in broken)
    assert "try: labctl trace a c --size 1472" in broken
    assert any("mtu was 1380, should be 1500" in line for line in fixed)


def test_an_entry_of_conntrack_is_shown_and_its_removal_is_no_earlier_repair(terminal: Terminal) -> None:
    fault = find_fault(define("kubenet").compiled, "conntrack-stale")
    record = FaultRecord(fault.kind, fault.on, False, connections=fault.connections)
    (flow,) = fault.connections
    entry = f"connection udp {flow.src}:{flow.sport} > {flow.dst}:{flow.dport}"
    broken = list(faults.break_lines("kubenet", record, fault, None, "labctl", terminal))
    assert f"      extra    {entry}" in broken
    assert f"try: labctl trace a internet --udp {flow.dport} --listen --sport {flow.sport}" in broken
    assert f"      extra    {entry}" in list(faults.solution_lines("kubenet", [record], terminal))
    fixed = list(faults.fix_lines("kubenet", [(record, ())], terminal))
    assert f"      removed  {entry}" in fixed
    assert "    it was repaired already" not in fixed

    other = FaultRecord("forwarding-off", "node1", False, (Link(Interface("node1", "eth0"), "veth"),))
    assert "    it was repaired already" in list(faults.fix_lines("kubenet", [(other, ())], terminal))


def test_an_interrupted_break_is_called_so(terminal: Terminal) -> None:
    record = FaultRecord("forwarding-off", "node1", False, interrupted=True)
    assert next(faults.solution_lines("kubenet", [record], terminal)) == "forwarding-off on node1 (interrupted)"


def test_the_list_has_a_heading_for_each_subject(terminal: Terminal) -> None:
    found = list(applicable(define("kubenet").compiled))
    lines = list(faults.catalogue_lines("kubenet", found, terminal, objects=False))

    assert [line for line in lines if line in ("ROUTING", "MTU", "SOURCE NAT")] == ["ROUTING", "MTU", "SOURCE NAT"]
    assert "ROUTING" not in list(faults.catalogue_lines("kubenet", found[:1], terminal, objects=True))
