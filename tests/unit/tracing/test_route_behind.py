"""The cause behind a place where a packet only ended, if a part of the evidence is different."""

from __future__ import annotations

from dataclasses import replace

from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import NamespaceState, TraceEvidence
from tests.support.traces import recording


def sentence(evidence: TraceEvidence) -> str:
    why = diagnose(evidence).why
    assert why is not None
    return why.sentence


def without_routes(evidence: TraceEvidence, node: str) -> TraceEvidence:
    states = [replace(state, routes=()) if state.node == node else state for state in evidence.namespaces]
    return replace(evidence, namespaces=tuple(states))


def test_a_default_route_is_no_fault_if_the_other_side_has_one_as_well() -> None:
    found = without_routes(recording("way-round-missing"), "node2")

    assert sentence(found).startswith("fabric has no route to 10.244.0.65 (c)")


def test_the_route_back_of_a_machine_that_the_packet_passed_says_nothing_about_the_way_there() -> None:
    found = recording("way-round-missing")
    seen = tuple(replace(item, node="node2") if item.node == "fabric" else item for item in found.observations)
    asked = tuple(replace(one, node="node2") if one.node == "fabric" else one for one in found.lookups)

    assert "except its default route" not in sentence(replace(found, observations=seen, lookups=asked, events=()))


def test_a_device_that_is_down_in_another_network_is_not_blamed() -> None:
    found = recording("way-round-down")

    def elsewhere(state: NamespaceState) -> NamespaceState:
        return replace(state, addresses=tuple(one for one in state.addresses if one.at.dev != "eth1"))

    assert sentence(replace(found, namespaces=tuple(map(elsewhere, found.namespaces)))).startswith("h1 does not have")


def test_a_rule_about_the_device_that_leads_to_the_address_is_the_cause_alone() -> None:
    found = recording("rule-about-wrong-device")

    def connected(state: NamespaceState) -> NamespaceState:
        theirs = next(
            one for one in recording("rule-about-wrong-device").namespace("r2").addresses if "10.2." in str(one)
        )
        mine = replace(theirs, at=replace(theirs.at, ns="r1", dev="h1"))
        return replace(state, addresses=(*state.addresses, mine)) if state.node == "r1" else state

    assert sentence(replace(found, namespaces=tuple(map(connected, found.namespaces)))) == (
        "a rule of FORWARD in r1 dropped the request"
    )
