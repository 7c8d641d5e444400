"""Which namespaces and settings a trace reads afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.core.topology import Topology
from labctl.scenario.definition import parse_and_compile
from labctl.tracing import collect
from labctl.tracing.evidence import TraceEvidence
from tests.support import neighbour_trace_cases, tunnel_trace_cases
from tests.support.bridge_trace_cases import OVERLAY
from tests.support.traces import recording


def read(scenario: str, evidence: TraceEvidence) -> set[str]:
    _, lab = parse_and_compile(scenario, "lab.yaml")
    return set(collect._namespaces_to_read(Topology(lab), evidence))


def sysctls(scenario: str, node: str, evidence: TraceEvidence) -> set[str]:
    _, lab = parse_and_compile(scenario, "lab.yaml")
    return set(collect._sysctls(Topology(lab), node, evidence))


@pytest.fixture(autouse=True, params=[3])
def big_lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lab counts as one that is too big to be read as a whole."""
    monkeypatch.setattr(collect, "FULL_READ_LIMIT", request.param)


def test_the_machine_that_should_answer_is_read() -> None:
    assert read(neighbour_trace_cases.SILENCE, recording("arp-ignore")) >= {"h1", "h2"}


def test_the_namespace_below_a_macvlan_is_read() -> None:
    assert read(neighbour_trace_cases.STACK, recording("macvlan-private")) >= {"c1", "c3", "host"}


@pytest.mark.parametrize("big_lab", [5], indirect=True)
def test_the_namespaces_of_both_ends_of_a_tunnel_are_read() -> None:
    found = read(OVERLAY, recording("vxlan-no-proxy-entry"))

    assert found >= {"c1", "host1-ov", "host1", "c2", "host2-ov", "host2"}


@pytest.mark.parametrize("big_lab", [1], indirect=True)
def test_the_settings_of_the_device_that_got_the_question_are_read() -> None:
    found = sysctls(neighbour_trace_cases.SILENCE, "h2", recording("arp-ignore-device"))

    assert {"net.ipv4.conf.eth0.arp_ignore", "net.ipv4.conf.all.arp_ignore"} <= found


def test_settings_of_neighbours_are_not_read_if_a_reply_came() -> None:
    lost = recording("vxlan-remote")
    answered = replace(lost, answer="reply")
    names = sysctls(tunnel_trace_cases.ENDS, "v1", lost) - sysctls(tunnel_trace_cases.ENDS, "v1", answered)

    assert "net.ipv4.conf.eth0.arp_ignore" in names
    assert not {name for name in names if ".rp_filter" in name}
