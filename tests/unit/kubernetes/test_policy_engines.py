"""What the rules of policy engines do with packets, against the oracle: Kubernetes' truth tables and drawn policies."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from labctl.kubernetes.policy_objects import (
    ContainerPort,
    Direction,
    IPBlock,
    NetworkPolicy,
    Peer,
    PolicyPort,
    PolicyRule,
)
from labctl.kubernetes.policy_oracle import PolicyOracle
from labctl.kubernetes.selectors import EVERYTHING, Requirement, Selector
from tests.support import drawn_policies
from tests.support.drawn_policies import PROTOCOLS
from tests.support.policy_cases import CASES, NAMES, PolicyCase
from tests.support.policy_labs import PolicyLab, bare_lab, placed, policy_lab

MODELS = {
    "calico": "calico",
    "azure-cni-transparent": "calico",
    "azure-cni-overlay": "calico",
    "eks-vpc-cni": "calico",
    "gke-routes-based": "calico",
    "gke-vpc-native": "calico",
    "kubenet": "kube-router",
    "flannel": "kube-router",
    "azure-cni-bridge": "kube-router",
    "kube-router": "kube-router",
}
FLOWS = [(source, target) for source in NAMES for target in NAMES if source != target]


@pytest.mark.parametrize("model", ["calico", "azure-cni-transparent", "kubenet", "kube-router"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rules_deny_the_flows_of_the_truth_table(model: str, case: PolicyCase) -> None:
    case = placed(case, bare_lab(model)[0])
    lab = policy_lab(model, case.oracle.policies, case.labels)

    denied = {(one, other) for one, other in FLOWS if not lab.passes(one, other, case.protocol, case.port)}
    assert denied == case.denied_flows


def generated_peers(lab: PolicyLab) -> list[tuple[Peer, ...]]:
    """Every kind of peer of cyclonus, and pairs of them."""
    a, b = Selector((("pod", "a"),)), Selector((("pod", "b"),))
    not_x = Selector((), (Requirement("kubernetes.io/metadata.name", "NotIn", ("x",)),))
    kinds = [Peer(pods, namespaces) for pods in (None, EVERYTHING, b) for namespaces in (None, EVERYTHING, not_x)][1:]
    one, other = (IPv4Network(lab.pod(name).ips[0]) for name in ("y/b", "z/b"))
    around = one.supernet(new_prefix=4)
    blocks = [
        (IPBlock(around),),
        (IPBlock(one),),
        (IPBlock(around, (one,)),),
        (IPBlock(around, (one, other)),),
        (IPBlock(around, (one,)), IPBlock(one)),
        (IPBlock(around, (one,)), IPBlock(around, (other,))),
        (IPBlock(IPv4Network("0.0.0.0/0"), (other,)),),
    ]
    sets = [(), *((kind,) for kind in kinds), *(tuple(Peer(block=block) for block in group) for group in blocks)]
    return [*sets, (Peer(a), Peer(b, not_x)), (Peer(b), Peer(block=IPBlock(around, (other,)))), (Peer(a), Peer(a))]


GENERATED_PORTS: list[tuple[PolicyPort, ...]] = [
    (),
    (PolicyPort("TCP"),),
    (PolicyPort("TCP", 80),),
    (PolicyPort("UDP", 80),),
    (PolicyPort("TCP", 79, 80),),
    (PolicyPort("TCP", "web"),),
    (PolicyPort("UDP", "web"),),
    (PolicyPort("TCP", "absent"),),
    (PolicyPort("TCP", 79), PolicyPort("TCP", "web")),
    (PolicyPort("TCP", 80), PolicyPort("UDP", "web"), PolicyPort("TCP", "api")),
    (PolicyPort("TCP", 80), PolicyPort("TCP")),
    (*(PolicyPort("TCP", 100 + 2 * step) for step in range(20)), PolicyPort("TCP", 80)),
]


@pytest.mark.parametrize("direction", ["Ingress", "Egress"])
@pytest.mark.parametrize("model", ["calico", "kubenet"])
def test_rules_decide_as_the_oracle_for_every_kind_of_peers_and_ports(model: str, direction: Direction) -> None:
    bare = policy_lab(model, ())
    # the name `web` is another number in some pods
    numbers = {str(pod): 81 if str(pod) in ("x/b", "y/b", "z/a") else 80 for pod in bare.state.pods}
    ports = {one: (ContainerPort("web", number), ContainerPort("api", 161 - number)) for one, number in numbers.items()}
    pods = {str(one): replace(one, labels={"pod": one.name}, ports=ports[str(one)]) for one in bare.state.pods}
    for peers in generated_peers(bare):
        for allowed_ports in GENERATED_PORTS:
            rules = (PolicyRule(peers, allowed_ports),)
            sides = {"ingress": rules} if direction == "Ingress" else {"egress": rules}
            policy = NetworkPolicy("x", "p", Selector((("pod", "a"),)), (direction,), **sides)
            lab = policy_lab(model, (policy,), pods=pods)
            oracle = PolicyOracle(lab.state.policies, lab.state.namespaces)
            for port in (80, 81):
                for one, other in FLOWS:
                    if "x/a" in (one, other):
                        wanted = oracle.verdict(lab.pod(one), lab.pod(other), "TCP", port)
                        found = lab.passes(one, other, "TCP", port)
                        assert found == wanted.allowed, f"{one} to {other}:{port} with {policy}: {wanted}"


@pytest.mark.parametrize("model", MODELS)
@settings(deadline=None, max_examples=20)
@given(some.data())
def test_rules_decide_as_the_oracle_for_drawn_policies(model: str, data: some.DataObject) -> None:
    bare = policy_lab(model, ())
    ips = [IPv4Address(one.ips[0]) for one in bare.state.pods]
    pods = data.draw(drawn_policies.named(bare.state.pods))
    lab = policy_lab(model, data.draw(drawn_policies.policies(ips)), pods=pods)
    oracle = PolicyOracle(lab.state.policies, lab.state.namespaces)
    port, protocol = data.draw(some.sampled_from(drawn_policies.NUMBERS)), data.draw(some.sampled_from(PROTOCOLS))

    passing = {(one, other) for one, other in FLOWS if lab.passes(one, other, protocol, port)}
    allowed = {
        (one, other) for one, other in FLOWS if oracle.verdict(lab.pod(one), lab.pod(other), protocol, port).allowed
    }
    assert passing == allowed
