"""What the rules of policy engines do with packets, against the oracle: Kubernetes' truth tables and drawn policies."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from labctl.kubernetes.api.policy_objects import Direction
from labctl.kubernetes.api.policy_reader import read_policy
from labctl.kubernetes.policies.policy_oracle import PolicyOracle
from tests.support import drawn_policies, generated_policies
from tests.support.drawn_policies import PROTOCOLS
from tests.support.policy_cases import CASES, NAMES, PolicyCase
from tests.support.policy_labs import bare_lab, placed, policy_lab

MODELS = (
    "calico",
    "azure-cni-transparent",
    "azure-cni-overlay",
    "eks-vpc-cni",
    "gke-routes-based",
    "gke-vpc-native",
    "kubenet",
    "flannel",
    "azure-cni-bridge",
    "kube-router",
)
# the engine is the one of the model, but for these
NFTABLES = (
    ("calico", "calico-nftables"),
    ("azure-cni-transparent", "calico-nftables"),
    ("kubenet", "kube-router-nftables"),
    ("kube-router", "kube-router-nftables"),
)
WITH_NFTABLES = (*((model, None) for model in MODELS), *NFTABLES, ("flannel", "kube-router-nftables"))
FLOWS = [(source, target) for source in NAMES for target in NAMES if source != target]


@pytest.mark.parametrize(
    ("model", "engine"),
    [*((model, None) for model in ("calico", "azure-cni-transparent", "kubenet", "kube-router")), *NFTABLES],
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rules_deny_the_flows_of_the_truth_table(model: str, engine: str | None, case: PolicyCase) -> None:
    case = placed(case, bare_lab(model)[0])
    lab = policy_lab(model, case.oracle.policies, case.labels, engine)

    denied = {(one, other) for one, other in FLOWS if not lab.passes(one, other, case.protocol, case.port)}
    assert denied == case.denied_flows


@pytest.mark.parametrize("direction", ["Ingress", "Egress"])
@pytest.mark.parametrize(
    ("model", "engine"),
    [("calico", None), ("kubenet", None), ("calico", "calico-nftables"), ("kubenet", "kube-router-nftables")],
)
def test_rules_decide_as_the_oracle_for_every_kind_of_peers_and_ports(
    model: str, engine: str | None, direction: Direction
) -> None:
    bare = policy_lab(model, ())
    pods = generated_policies.named_pods(bare)
    for policy in generated_policies.policies(bare, direction):
        lab = policy_lab(model, (policy,), engine=engine, pods=pods)
        oracle = PolicyOracle(lab.state.policies, lab.state.namespaces)
        for port in (80, 81):
            for one, other in FLOWS:
                if "x/a" in (one, other):
                    wanted = oracle.verdict(lab.pod(one), lab.pod(other), "TCP", port)
                    found = lab.passes(one, other, "TCP", port)
                    assert found == wanted.allowed, f"{one} to {other}:{port} with {policy}: {wanted}"


def test_the_specs_of_generated_policies_mean_these_policies() -> None:
    for policy in generated_policies.policies(policy_lab("calico", ()), "Ingress"):
        spec = {key: value for key, value in generated_policies.spec(policy).items() if key != "namespace"}
        assert read_policy({"metadata": {"name": "p", "namespace": "x"}, "spec": spec}) == policy


@pytest.mark.parametrize(("model", "engine"), WITH_NFTABLES)
@settings(deadline=None, max_examples=12)
@given(some.data())
def test_rules_decide_as_the_oracle_for_drawn_policies(model: str, engine: str | None, data: some.DataObject) -> None:
    bare = policy_lab(model, ())
    ips = [IPv4Address(one.ips[0]) for one in bare.state.pods]
    pods = data.draw(drawn_policies.named(bare.state.pods))
    lab = policy_lab(model, data.draw(drawn_policies.policies(ips)), engine=engine, pods=pods)
    oracle = PolicyOracle(lab.state.policies, lab.state.namespaces)
    port, protocol = data.draw(some.sampled_from(drawn_policies.NUMBERS)), data.draw(some.sampled_from(PROTOCOLS))

    passing = {(one, other) for one, other in FLOWS if lab.passes(one, other, protocol, port)}
    allowed = {
        (one, other) for one, other in FLOWS if oracle.verdict(lab.pod(one), lab.pod(other), protocol, port).allowed
    }
    assert passing == allowed
