"""The catalogue of faults: each kind says what it is, and each fault changes the plan of the lab that it fits."""

from __future__ import annotations

import re
from functools import cache

import pytest

from labctl.core.diff import diff
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.faults import catalogue
from labctl.faults.catalogue import applicable, faults_of, find_fault, find_kind, kinds, random_fault
from labctl.faults.fault import Fault, FaultKind
from labctl.scenario import catalog
from labctl.scenario.definition import define

SCENARIOS = catalog.names()


@cache
def faults_by_kind(scenario: str) -> tuple[Lab, tuple[tuple[FaultKind, tuple[Fault, ...]], ...]]:
    """The lab of a scenario, and the faults that fit it."""
    lab = define(scenario).compiled
    return lab, tuple(applicable(lab))


def test_every_kind_says_what_it_is_and_what_follows() -> None:
    for kind in kinds().values():
        for sentence in (kind.summary, kind.effect, *([kind.unnoticed] if kind.unnoticed else [])):
            assert re.fullmatch(r"[A-Z].*\.", sentence), f"{kind.name}: {sentence}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_fault_changes_the_plan_and_can_be_undone(scenario: str) -> None:
    lab, applicable_faults = faults_by_kind(scenario)
    keys = {item.key: item for item in lab.plan}
    for kind, faults in applicable_faults:
        for fault in faults:
            assert fault.kind == kind.name
            assert fault.machine in {item.ns for item in lab.plan}, fault.on
            assert fault.changes or fault.connections, fault.on
            for change in fault.changes:
                assert change.want != change.have, (kind.name, fault.on)
                assert change.have is None or keys[change.have.key] == change.have, (kind.name, fault.on)
            assert not fault.changes or diff(fault.applied_to(lab.plan), lab.plan), (kind.name, fault.on)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_fault_names_its_cause_and_a_probe_between_machines_of_the_lab(scenario: str) -> None:
    lab, applicable_faults = faults_by_kind(scenario)
    names = {machine.name for machine in lab.machines}
    for kind, faults in applicable_faults:
        for fault in faults:
            assert all(one.source in names for one in fault.traffic), (kind.name, fault.on)
            assert all(cause.kinds for cause in fault.causes), (kind.name, fault.on)
        assert any(fault.traffic for fault in faults), kind.name
        assert all(fault.causes for fault in faults) or kind.unnoticed, kind.name


def test_every_kind_fits_some_built_in_scenario() -> None:
    fitting = {kind.name for name in SCENARIOS for kind, _ in faults_by_kind(name)[1]}
    assert fitting == set(kinds())


@cache
def _kubenet() -> Lab:
    return define("kubenet").compiled


def test_a_fault_is_found_by_its_object() -> None:
    assert find_fault(_kubenet(), "route-missing", "node1/0.0.0.0/0").on == "node1/0.0.0.0/0"
    assert find_fault(_kubenet(), "route-missing", "node1").on == "node1/0.0.0.0/0"  # the only one there
    assert isinstance(find_fault(_kubenet(), "forwarding-off"), Fault)


def test_a_wrong_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as raised:
        find_kind("route-mising")
    assert "route-missing" in (raised.value.hint or "")
    with pytest.raises(UsageError) as raised:
        find_fault(_kubenet(), "forwarding-off", "nod1")
    assert "node1" in (raised.value.hint or "")
    with pytest.raises(UsageError, match="several objects"):
        find_fault(_kubenet(), "route-missing", "fabric")


def test_the_same_seed_gives_the_same_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = _kubenet()
    assert random_fault(lab, 7) == random_fault(lab, 7)
    # the seed has no part in which faults fit: for the other seeds, they are searched once
    fitting = tuple(applicable(lab))
    monkeypatch.setattr(catalogue, "applicable", lambda one: {id(lab): fitting}[id(one)])
    assert len({(fault.kind, fault.on) for fault in (random_fault(lab, seed) for seed in range(30))}) > 1
    assert not find_kind(random_fault(lab, 7).kind).unnoticed


def test_faults_of_one_object_are_listed_once() -> None:
    for kind in kinds().values():
        names = [fault.on for fault in faults_of(_kubenet(), kind)]
        assert len(names) == len(set(names))


def test_a_machine_that_is_not_on_the_way_translates_nothing() -> None:
    """The containers of both hosts are in one overlay network, and only one of them claims to reach the internet."""
    lab = define("docker-overlay").compiled
    for kind in ("masquerade-missing", "snat-unused-address"):
        assert [fault.on for fault in faults_of(lab, find_kind(kind))] == ["host1/nat/POSTROUTING/1"]


def test_a_router_whose_bridge_takes_the_packets_has_no_routing_loop() -> None:
    """azure0 gives the packets for a pod the pod's MAC address, so the node does not route them."""
    assert faults_of(_kubenet(), find_kind("routing-loop"))
    assert not faults_of(define("azure-cni-bridge").compiled, find_kind("routing-loop"))


def test_a_loop_to_a_router_without_gateway_may_end_with_the_first_question() -> None:
    """The node asks the fabric for the pod, which answers (proxy ARP) only if its route does not lead back."""
    lab = define("aks-firewall-egress").compiled
    kinds = {
        fault.on: [kind for cause in fault.causes for kind in cause.kinds]
        for fault in faults_of(lab, find_kind("routing-loop"))
    }

    assert kinds["fabric/10.224.0.36/32"] == ["loop", "proxy-arp-route"]
    assert faults_of(_kubenet(), find_kind("routing-loop"))[0].causes[0].kinds == ("loop",)
