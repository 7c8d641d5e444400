"""The records of faults: the wanted state of a lab with faults, and a record that cannot be read."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from labctl.core.observations import Flow
from labctl.core.resources import Plan, Route, Sysctl
from labctl.errors import UsageError
from labctl.kernel.host import lab_state
from labctl.lab import fault_records
from labctl.lab.fault_records import FaultRecord

ROUTE = Route("node1", ip_network("10.0.0.0/8"), dev="eth0")
SETTING = Sysctl("node1", "net.ipv4.ip_forward", "1")
OFF = Sysctl("node1", "net.ipv4.ip_forward", "0")
UNPLANNED, CHANGED = (Sysctl("node1", "net.ipv4.conf.all.arp_ignore", value) for value in "01")
PLAN: Plan = (SETTING, ROUTE)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path))


def test_a_hidden_fault_changes_the_wanted_state() -> None:
    removed = FaultRecord("route-missing", "node1/10.0.0.0/8", True, (ROUTE,), ())
    changed = FaultRecord("forwarding-off", "node1", True, (SETTING,), (OFF,))
    assert fault_records.expected(PLAN, [removed]) == (SETTING,)
    assert fault_records.expected(PLAN, [changed]) == (OFF, ROUTE)


def test_an_ordinary_fault_leaves_the_plan_and_adds_the_settings_that_only_it_changed() -> None:
    changed = FaultRecord("forwarding-off", "node1", False, (SETTING,), (OFF,))
    outside = FaultRecord("arp-ignore", "node1", False, (UNPLANNED,), (CHANGED,))
    assert fault_records.expected(PLAN, [changed]) == PLAN
    assert set(fault_records.expected(PLAN, [outside])) == {*PLAN, UNPLANNED}


def test_a_fixed_fault_changes_nothing() -> None:
    record = fault_records.marked_fixed(FaultRecord("forwarding-off", "node1", True, (SETTING,), (OFF,)))
    assert record.fixed
    assert fault_records.expected(PLAN, [record]) == PLAN


def test_records_are_read_as_they_were_written() -> None:
    records = (
        FaultRecord("forwarding-off", "node1", False, (SETTING,), (OFF,)),
        FaultRecord("route-missing", "node1/10.0.0.0/8", True, (ROUTE,), (), fixed=True),
    )
    fault_records.save("kubenet", records)
    assert fault_records.load("kubenet") == records
    assert fault_records.active("kubenet") == records[:1]
    fault_records.repaired("kubenet")
    assert fault_records.load("kubenet") == records[1:]
    fault_records.save("kubenet", ())
    assert not (lab_state.directory("kubenet") / "faults.json").exists()


def test_connections_and_an_interruption_are_read_as_they_were_written() -> None:
    here, far = ip_address("10.0.0.2"), ip_address("192.0.2.1")
    flow = Flow("node1", 17, here, far, 40000, 53, far, here, 53, 40000)
    record = FaultRecord("conntrack-stale", "node1/conntrack/a", False, connections=(flow,), interrupted=True)
    fault_records.save("kubenet", [record])
    assert fault_records.load("kubenet") == (record,)


def test_a_record_of_an_older_labctl_is_read() -> None:
    text = '{"faults": [{"fault": "x", "object": "y", "hidden": true, "before": [], "after": [], "fixed": false}]}'
    lab_state.save("kubenet", "faults.json", text)
    assert fault_records.load("kubenet") == (FaultRecord("x", "y", True),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"faults": [1]}',
        '{"faults": [{"fault": 1}]}',
        '{"faults": [{"fault": 1, "object": "y", "hidden": true, "before": [], "after": [], "fixed": false}]}',
        "[" * 100_000,
    ],
)
def test_a_record_that_cannot_be_read_is_an_error_of_break_and_fix_until_up_repaired_the_lab(text: str) -> None:
    lab_state.save("kubenet", "faults.json", text)
    assert fault_records.load("kubenet") == ()
    for read in (fault_records.active, fault_records.load_all):
        with pytest.raises(UsageError, match="the record of the faults of lab kubenet cannot be read"):
            read("kubenet")
    fault_records.repaired("kubenet")
    assert fault_records.active("kubenet") == ()
    assert not (lab_state.directory("kubenet") / "faults.json").exists()
