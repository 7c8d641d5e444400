"""Checks to Services from every kind of machine, in one lab of a scenario file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.checks import runner
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text

pytestmark = pytest.mark.firewall

TEXT = """
name: service-checks
model: kubenet
nodes:
  node1: {pods: {here: {labels: {app: here}}, client: }}
  node2: {pods: {there: {labels: {app: there}}}}
services:
  near: {selector: {app: here}, ports: ["80:8080", "53:53/udp"]}
  far: {selector: {app: there}, ports: ["80:8080", "53:53/udp"]}
checks:
  - {tcp: client -> near:80}
  - {tcp: client -> far:80, see: {at: there/eth0, src: client, dst: there}}
  - {tcp: node1 -> near:80}
  - {tcp: node1 -> far:80, see: {at: there/eth0, src: node1, dst: there}}
  - {udp: client -> far.default.svc:53}
  - {udp: node1 -> near:53}
"""


def test_a_check_to_a_service_passes_from_a_pod_and_from_a_node() -> None:
    """A node translates its own packet before it leaves, so its first addresses are on no device."""
    definition = define_text("service-checks.yaml", TEXT)
    lifecycle.up(definition)
    try:
        lab = definition.compiled
        report = runner.run(replace(lab, checks=tuple(one for one in lab.checks if one.origin == "scenario")))
        assert len(report.outcomes) == 6
        assert [(one.check.say, one.evidence) for one in report.outcomes if one.verdict != "pass"] == []
    finally:
        lifecycle.down("service-checks")
