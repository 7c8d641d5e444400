"""The way out of an AKS cluster, with packets: what each type lets out, and why a connection is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from labctl.checks import runner
from labctl.core.results import Outcome
from labctl.core.scenario_types import Lab
from labctl.faults.catalogue import find_fault
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.lab import break_fix, lifecycle
from labctl.scenario.definition import define_text
from tests.support.drift import drift
from tests.support.traces import traced

pytestmark = pytest.mark.firewall

NAME = "way-out"
EVERY_TYPE = ("kubenet", "azure-cni-transparent-vlan")  # the two that differ most in the fabric
SOME_TYPES = ("azure-cni-bridge", "azure-cni-transparent", "azure-cni-overlay")
PODS = "nodes: {node1: {pods: [a]}, node2: {pods: [c]}}\n"
BLOCKS = "{type: loadBalancer, allocated_outbound_ports: 8}"
FIREWALL = '{type: userDefinedRouting, allow: ["tcp *:443"]}'
TYPES = {
    "loadBalancer": BLOCKS,
    "loadBalancer, two addresses": "{type: loadBalancer, allocated_outbound_ports: 40000, outbound_ips: 2}",
    "natGateway": "natGateway",
    "natGateway, three addresses": "{type: natGateway, outbound_ips: 3}",
    "userDefinedRouting": FIREWALL,
    "none": "none",
    "block": "block",
}


@pytest.fixture(autouse=True)
def gone() -> Iterator[None]:
    """No lab is left, whatever a test finds."""
    yield
    lifecycle.down(NAME)


def up(outbound: str, model: str = "kubenet", checks: str = "") -> Lab:
    text = f"name: {NAME}\nmodel: {model}\n{PODS}outbound: {outbound}\n{checks}"
    lifecycle.up(define_text("way-out.yaml", text, NAME, approximate=True), approximate=True)
    return lifecycle.load_compiled_lab(NAME)


def outcome(lab: Lab, keyword: str) -> Outcome:
    (found,) = runner.run(lab, keyword).outcomes
    return found


def run(node: str, command: str) -> str:
    """The output of a command in a machine, with the iptables that wrote the rules of the lab."""
    words = command.replace("tables-legacy", f"tables-{backend.backend_of(NAME)}").split()
    inside = ["ip", "netns", "exec", paths.netns_name(NAME, node), *words]
    return subprocess.run(inside, check=True, capture_output=True, text=True).stdout


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("model", "outbound"),
    [
        *((model, outbound) for model in EVERY_TYPE for outbound in TYPES.values()),
        *((model, outbound) for model in SOME_TYPES for outbound in (BLOCKS, FIREWALL)),
    ],
)
def test_what_a_type_claims_is_true(model: str, outbound: str) -> None:
    lab = up(outbound, model)
    found = runner.run(lab, "internet").outcomes
    assert len(found) >= 2
    assert [(one.check.say, one.evidence) for one in found if one.verdict != "pass"] == []
    assert drift(NAME) == []


@pytest.mark.parametrize("model", ["kubenet", "azure-cni-transparent"])
@pytest.mark.parametrize("platform", ["true", "{imds_restriction: true}", "{masq_link_local: false}"])
def test_the_platforms_addresses_answer_nodes_and_not_pods(model: str, platform: str) -> None:
    lab = up(FIREWALL, model, f"platform: {platform}\n")
    found = [*runner.run(lab, "platform").outcomes, *runner.run(lab, "metadata").outcomes]
    assert len({one.check.say for one in found}) == 3
    assert [(one.check.say, one.evidence) for one in found if one.verdict != "pass"] == []
    assert drift(NAME) == []


@pytest.mark.kernel
@pytest.mark.parametrize("model", ["kubenet", "azure-cni-bridge", "azure-cni-transparent"])
def test_chosen_pods_leave_through_the_static_egress_gateway(model: str) -> None:
    nodes = "nodes: {node1: {pods: [a, b]}, node2: {pods: [c]}, gw: {}}\negress_gateway: {node: gw, pods: [a, c]}\n"
    text = f"name: {NAME}\nmodel: {model}\n{nodes}" + ("dedup: false\n" if model == "kubenet" else "")
    lifecycle.up(define_text("way-out.yaml", text, NAME))
    found = runner.run(lifecycle.load_compiled_lab(NAME)).outcomes
    assert [(one.check.say, one.evidence) for one in found if one.verdict != "pass"] == []
    assert drift(NAME) == []


def test_a_check_names_the_block_that_is_used_up() -> None:
    checks = """
checks:
  - {say: the eighth, tcp: a -> internet:8001, while_open: 7}
  - {say: the ninth, tcp: a -> internet:8002, while_open: 8, expect: timeout}
  - {say: the ninth is lost, tcp: a -> internet:8003, while_open: 8, within: 500ms}
  - {say: no tenth, tcp: a -> internet:8004, while_open: 9, within: 500ms}
"""
    lab = up(BLOCKS, checks=checks)
    used = "8 of the 8 ports of 203.0.113.50:1024-1031 are in use by tcp connections to 203.0.113.1:"
    assert outcome(lab, "the eighth").verdict == "pass"
    silent = outcome(lab, "8002")
    assert silent.verdict == "pass"
    assert any(f"{used}8002" in line for line in silent.evidence)
    lost = outcome(lab, "the ninth is lost")
    assert lost.verdict == "fail"
    assert any("snat-port-exhaustion" in line and f"{used}8003" in line for line in lost.evidence)
    unproven = outcome(lab, "no tenth")
    assert unproven.verdict == "inconclusive"
    assert "only 8 of 9 connections" in unproven.evidence[0]


def test_a_fault_uses_the_ports_of_one_node_and_a_trace_names_them() -> None:
    lab = up(BLOCKS, "azure-cni-overlay")
    traced(NAME, "a internet --tcp 443 --listen")  # its connection still has a port of the block
    break_fix.break_lab(lab, find_fault(lab, "snat-ports-used", "fabric/conntrack/a"))
    _, lost = traced(NAME, "a internet --tcp 443 --listen")
    _, other_node = traced(NAME, "c internet --tcp 443 --listen")
    _, other_port = traced(NAME, "a internet --tcp 80 --listen")
    break_fix.fix(lab, break_fix.fault_records.load(NAME))
    _, again = traced(NAME, "a internet --tcp 443 --listen")

    assert lost.why is not None
    assert (lost.verdict, lost.why.kind) == ("lost", "snat-port-exhaustion")
    assert "all 8 ports of 203.0.113.50:1024-1031" in lost.why.sentence
    assert [other_node.verdict, other_port.verdict, again.verdict] == ["answered"] * 3


def test_a_rule_that_is_missing_at_the_firewall_is_named() -> None:
    lab = up(FIREWALL)
    break_fix.break_lab(lab, find_fault(lab, "firewall-rule-missing", "azure-firewall/FORWARD/tcp:443"))
    _, lost = traced(NAME, "a internet --tcp 443 --listen")
    break_fix.fix(lab, break_fix.fault_records.load(NAME))
    _, again = traced(NAME, "a internet --tcp 443 --listen")

    assert lost.why is not None
    assert lost.why.sentence == "a rule of FORWARD in azure-firewall dropped the request"
    assert again.verdict == "answered"


def test_the_firewall_counts_what_it_refuses() -> None:
    lab = up(FIREWALL)
    assert outcome(lab, "drops the packet").verdict == "pass"
    _, story = traced(NAME, "a internet --tcp 80")
    assert story.why is not None
    assert (story.why.kind, "azure-firewall" in story.why.sentence) == ("rule", True)
    listing = run("azure-firewall", "iptables-legacy -nvL FORWARD")
    (drop,) = (line for line in listing.splitlines() if "DROP" in line)
    assert int(drop.split()[0]) >= 2


def test_a_connection_from_outside_that_bypasses_the_firewall_gets_no_reply() -> None:
    """A load balancer leads it to a node; the reply takes the route to the firewall, which did not see the request."""
    up(FIREWALL)
    rule = "-t nat -A PREROUTING -i pip -p tcp --dport 8080 -j DNAT --to-destination 10.224.0.4:8080"
    run("fabric", f"iptables-legacy {rule}")
    _, story = traced(NAME, "internet fabric/pip --tcp 8080 --listen node1:8080")
    assert story.why is not None
    assert story.why.kind == "rule"
    assert "azure-firewall" in story.why.sentence
    assert "reply" in story.sentence
    request = next(leg for leg in story.legs if leg.name == "request")
    assert "azure-firewall" not in [step.node for step in request.steps]
