"""The addresses of Azure's platform: what the fabric accepts, what nodes forbid, and what is claimed of pods."""

from __future__ import annotations

import pytest

from labctl.core.resources import Address, Chain, Process
from labctl.core.scenario_types import Lab
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile

MODELS = ("kubenet", "azure-cni-bridge", "azure-cni-transparent", "azure-cni-overlay")
PODS = "nodes: {node1: {pods: [a]}, node2: {pods: [c]}}\n"
IMDS = "169.254.169.254"


def lab(model: str, more: str) -> Lab:
    return parse_and_compile(f"name: platform\nmodel: {model}\n{PODS}{more}\n", "platform.yaml")[1]


def rules(found: Lab, ns: str, chain: str) -> list[str]:
    chains = (item for item in found.plan if isinstance(item, Chain) and item.family == "ip")
    return [str(one) for item in chains if (item.ns, item.name) == (ns, chain) for one in item.rules]


@pytest.mark.parametrize("model", MODELS)
def test_the_platform_answers_the_primary_address_of_each_nic(model: str) -> None:
    found = lab(model, "platform: true")
    accepted = rules(found, "fabric", "PLATFORM")
    assert accepted[0] == "-s 10.224.0.4/32 -i node1 -j RETURN"
    assert accepted[-2:] == ["-s 10.225.0.4/32 -i vm -j RETURN", "-j DROP"]
    assert {item.name for item in found.plan if isinstance(item, Process)} >= {"imds", "wireserver"}
    addresses = {str(item.addr.ip) for item in found.plan if isinstance(item, Address) and item.ns == "fabric"}
    assert {"168.63.129.16", IMDS} <= addresses


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("more", ["", "platform: false", "platform: {enabled: false, imds_restriction: true}"])
def test_without_the_key_there_is_no_platform(model: str, more: str) -> None:
    assert lab(model, more).plan == lab(model, "").plan


@pytest.mark.parametrize("model", MODELS)
def test_the_restriction_is_a_rule_of_each_node(model: str) -> None:
    found = lab(model, "platform: {imds_restriction: true}")
    expected = f"! -s 10.224.0.4/32 -d {IMDS}/32 -p tcp -m tcp --dport 80 -j DROP"
    assert expected in rules(found, "node1", "FORWARD")
    assert expected not in rules(lab(model, "platform: true"), "node1", "FORWARD")


@pytest.mark.parametrize("model", MODELS)
def test_link_local_destinations_are_exempt_before_all_others(model: str) -> None:
    exempt, usual = (rules(lab(model, f"platform: {{masq_link_local: {word}}}"), "node1", "IP-MASQ-AGENT") for word in
                     ("false", "true"))  # fmt: skip
    assert "-d 169.254.0.0/16" in exempt[0]
    assert exempt[1:] == usual


@pytest.mark.parametrize(
    ("more", "expect"),
    [
        ("platform: true", "reply"),
        ("platform: {imds_restriction: true}", "timeout"),
        ("platform: {masq_link_local: false}", "timeout"),
        ("platform: true\nmasquerade: kubelet", "reply"),
        ("platform: true\nmasquerade: kubelet\nnon_masquerade_cidr: 0.0.0.0/0", "timeout"),
    ],
)
def test_what_is_claimed_of_a_pod(more: str, expect: str) -> None:
    claims = [check for check in lab("kubenet", more).checks if check.target == IMDS]
    assert [(check.source, check.expect) for check in claims] == [("node1", "reply"), ("a", expect)]
    assert all(check.sees for check in claims)


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        ("kubenet", "platform: true\nrouting: host", "platform does not apply to kubenet outside of a cloud"),
        ("kubenet", "platform: {masq_link_local: false}\nmasquerade: kubelet", "masq_link_local is an option of"),
        (
            "azure-cni-transparent",
            "platform: {masq_link_local: false}\nip_allocation: pod-subnet",
            "masq_link_local is an option of ip-masq-agent, which does not run with a pod subnet",
        ),
        ("azure-cni-overlay", "platform: maybe", "enabled: 'maybe' is neither true nor false"),
        ("azure-cni-transparent-vlan", "platform: true", "unknown key 'platform'"),
    ],
)
def test_what_does_not_fit_is_refused(model: str, more: str, says: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        lab(model, more)
    (problem,) = refused.value.problems
    assert says in problem.what
    assert problem.line == 4
