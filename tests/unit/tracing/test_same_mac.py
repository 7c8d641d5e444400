"""A frame that comes to the wrong machine, because two machines have one MAC address."""

from __future__ import annotations

from dataclasses import replace

from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.loss_point import find_loss_point
from tests.support.traces import recording


def with_mac(evidence: TraceEvidence, node: str, dev: str, mac: str) -> TraceEvidence:
    states = [
        replace(
            state,
            links=tuple(
                replace(link, mac=mac) if (link.at.ns, link.at.dev) == (node, dev) else link for link in state.links
            ),
        )
        for state in evidence.namespaces
    ]
    return evidence.with_details(namespaces=tuple(states))


def test_two_machines_with_one_mac_address_are_named_before_forwarding() -> None:
    found = recording("forwarding-off")
    point = find_loss_point(found)
    assert point.last_observation is not None
    assert point.last_observation.mac is not None
    twin = next(
        one.at
        for state in found.namespaces
        for one in state.addresses
        if one.addr.ip == point.dst and one.at.dev != "lo"
    )
    story = diagnose(with_mac(found, twin.ns, twin.dev, point.last_observation.mac[1]))
    assert story.why is not None
    assert story.why.kind == "duplicate-mac"
    assert f"and {twin} have the same MAC address" in story.why.sentence
    assert diagnose(found).why != story.why
