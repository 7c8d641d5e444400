"""Whatever the options are: a file is compiled, or refused at a place in it. And the claims follow the options."""

from __future__ import annotations

import time
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from labctl.core.scenario_types import Check
from labctl.errors import ScenarioError
from labctl.models.lib import primitives
from labctl.scenario.definition import parse_and_compile
from tests.support import model_options

SAMPLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("model", model_options.drawn_models())
def test_options_are_compiled_or_refused_at_their_place(model: str) -> None:
    compiled = []

    @SAMPLE
    @given(model_options.scenarios(model))
    def sample(scenario: dict[str, Any]) -> None:
        began = time.process_time()
        try:
            lab = parse_and_compile(model_options.text(scenario), "options.yaml")[1]
        except ScenarioError as refused:
            for problem in refused.problems:
                assert problem.line > 0
                assert problem.column > 0
        else:
            compiled.append(lab)
        assert time.process_time() - began < 1.0

    sample()
    assert compiled, "everything that was drawn is refused"


def test_the_sample_has_every_model_that_has_options() -> None:
    from labctl.models import model_names

    assert set(model_names()) - set(model_options.drawn_models()) == {"raw"}


@pytest.mark.parametrize("model", ["cilium", "flannel", "kube-router", "kubenet"])
@pytest.mark.parametrize(("pod_cidr", "node_prefix"), [("10.1.1.0/24", 23), ("10.1.1.0/30", 16), ("10.1.1.8/29", 28)])
def test_a_pod_cidr_smaller_than_the_part_of_one_node(model: str, pod_cidr: str, node_prefix: int) -> None:
    text = f"model: {model}\nnodes: [n]\nnode_prefix: {node_prefix}\npod_cidr: {pod_cidr}\n"
    with pytest.raises(ScenarioError) as refused:
        parse_and_compile(text, "options.yaml")
    assert [(problem.line, problem.column) for problem in refused.value.problems if "pod_cidr" in problem.what][:1] == [
        (4, 1)
    ]


@pytest.mark.parametrize("key", ["docker0", "docker_gwbridge", "underlay"])
def test_a_range_that_takes_the_whole_pool_of_a_swarm_is_refused_at_once(key: str) -> None:
    began = time.process_time()
    with pytest.raises(ScenarioError) as refused:
        parse_and_compile(
            f"model: docker-overlay\nhosts: {{h: {{containers: [a]}}}}\n{key}: 10.0.0.0/8\n", "options.yaml"
        )
    assert "no free subnet is left for the network" in str(refused.value)
    assert time.process_time() - began < 0.3


def test_free_subnets_skip_what_is_taken() -> None:
    pool, taken = IPv4Network("10.0.0.0/8"), [IPv4Network("10.0.0.0/9"), IPv4Network("10.128.1.4/30")]
    found = primitives.free_subnets(pool, 24, taken)
    assert [str(next(found)) for _ in range(3)] == ["10.128.0.0/24", "10.128.2.0/24", "10.128.3.0/24"]
    assert list(primitives.free_subnets(pool, 24, [pool])) == []
    assert list(primitives.free_subnets(IPv4Network("10.0.0.0/23"), 24, [IPv4Network("10.0.0.128/25")])) == [
        IPv4Network("10.0.1.0/24")
    ]


def claims(text: str) -> list[Check]:
    return [check for check in parse_and_compile(text, "options.yaml")[1].checks if check.origin == "model"]


GKE = "model: gke-vpc-native\nnodes: {n1: {pods: [a, b]}, n2: {pods: [c]}}\n"
KUBELET = "model: kubenet\nmasquerade: kubelet\nnodes: {n1: {pods: [a, b]}, n2: {pods: [c]}}\n"


@pytest.mark.parametrize(
    "text",
    [
        GKE + "pod_cidr: 11.0.0.0/14\n",
        GKE.replace("vpc-native", "routes-based") + "pod_cidr: 9.4.0.0/14\n",
        GKE + "pod_cidr: 100.64.0.0/14\nnon_masquerade: rfc1918\n",
        KUBELET + "pod_cidr: 192.168.0.0/16\n",
    ],
)
def test_masqueraded_pods_are_not_claimed_to_be_seen_with_their_own_address(text: str) -> None:
    found = claims(text)
    meshes = [check for check in found if check.probe == "mesh"]
    assert [check.say for check in meshes] == ["each node reaches its own pods"]
    (claim,) = (check for check in found if "masquerade packets to the pods' range" in check.say)
    seen = {(see.src, see.negate) for see in claim.sees}
    assert (claim.source, True) in seen
    assert all(not source.isalpha() or negate for source, negate in seen if source is not None)
    assert all(see.src != check.source for check in found for see in check.sees if see.ttl is not None)


def test_pods_in_part_of_the_exempt_range_are_claimed_one_by_one() -> None:
    found = claims(KUBELET + "pod_cidr: 192.168.0.0/16\nnon_masquerade_cidr: 192.168.1.0/24\n")
    groups = [check.groups for check in found if check.probe == "mesh" and "exempt" in check.say]
    assert groups == [((("a", "b", "c"), ("c",)),)]


def test_pods_in_the_exempt_range_are_claimed_to_keep_their_addresses() -> None:
    for text in (GKE, GKE + "pod_cidr: 100.64.0.0/14\n", KUBELET):
        says = [check.say for check in claims(text) if check.probe == "mesh"]
        assert says[0] == "every pod reaches every pod and is seen with its own address"


def test_intranode_visibility_needs_pods_that_keep_their_addresses() -> None:
    with pytest.raises(ScenarioError) as refused:
        parse_and_compile(GKE + "intranode_visibility: true\npod_cidr: 11.0.0.0/14\n", "options.yaml")
    (problem,) = refused.value.problems
    assert problem.line == 4
    assert "intranode_visibility" in problem.what


def host_port_claims(pod: str) -> list[Check]:
    text = f"model: kubenet\nnodes: {{n1: {{pods: {{a: {{{pod}}}}}}}}}\n"
    return [check for check in claims(text) if check.probe == "tcp" and check.port != 8080]


def test_a_claim_about_a_host_port_is_about_the_address_of_the_port() -> None:
    (claim,) = host_port_claims('host_ports: ["127.8.0.1:842:2"]')
    assert (claim.source, claim.target, claim.port) == ("n1", "127.8.0.1", 842)
    (claim,) = host_port_claims('host_ports: ["10.224.0.4:842:2"]')
    assert (claim.source, claim.target, claim.port) == ("vm", "n1", 842)
    assert host_port_claims('host_ports: ["10.244.0.1:842:2"]') == []  # no other machine has a route to this address


def test_a_claim_about_a_host_port_uses_the_server_of_the_pod() -> None:
    (claim,) = host_port_claims('host_ports: ["842:2"], containers: ["web:2"]')
    assert (claim.source, claim.listen, claim.server) == ("vm", False, ("a", 2))
    found = host_port_claims('host_ports: ["842:2"], containers: ["web:3,2/udp"]')
    assert [(claim.source, claim.listen) for claim in found] == [("vm", True), ("n1", True)]
