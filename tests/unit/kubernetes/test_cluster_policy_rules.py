"""What Calico's rules do with packets under ClusterNetworkPolicies: the conformance tests, and the oracle."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from labctl.core.resources import Chain
from labctl.kubernetes.policies.policy_engine import policy_problems
from labctl.kubernetes.policies.policy_oracle import PolicyOracle
from tests.support import drawn_policies
from tests.support.cluster_policy_cases import (
    CLUSTER_CASES,
    GRESS,
    NP_S,
    ClusterCase,
    Spec,
    houses,
    policy,
    rules,
)
from tests.support.cluster_policy_labs import cluster_policies, house_lab
from tests.support.policy_cases import NAMES
from tests.support.policy_labs import PolicyLab, policy_lab

MODELS = ("calico", "azure-cni-transparent", "eks-vpc-cni")
ENGINES = (*((model, None) for model in MODELS), *((model, "calico-nftables") for model in MODELS))
FLOWS = [(source, target) for source in NAMES for target in NAMES if source != target]
BY_NAME: Spec = {"protocols": [{"destinationNamedPort": "web"}]}


@pytest.mark.parametrize(("model", "engine"), ENGINES)
@pytest.mark.parametrize("case", CLUSTER_CASES, ids=str)
def test_rules_answer_the_pokes_of_the_conformance_tests(model: str, engine: str | None, case: ClusterCase) -> None:
    lab = house_lab(model, case, engine)
    wrong = [
        str(poke)
        for poke in case.pokes
        if lab.passes(*poke.flow.split(">"), poke.protocol, poke.port) != poke.connects  # type: ignore[misc]
    ]

    assert not wrong


@pytest.mark.parametrize(("model", "engine"), ENGINES)
@settings(deadline=None, max_examples=30)
@given(some.data())
def test_rules_decide_as_the_oracle_for_drawn_policies(model: str, engine: str | None, data: some.DataObject) -> None:
    ips = [IPv4Address(one.ips[0]) for one in policy_lab(model, ()).state.pods]
    network_policies = data.draw(some.one_of(some.just(()), drawn_policies.policies(ips)))
    lab = policy_lab(model, network_policies, engine=engine, cluster_policies=data.draw(cluster_policies(ips)))
    oracle = PolicyOracle.of(lab.state)
    port, protocol = data.draw(some.sampled_from(drawn_policies.NUMBERS)), data.draw(some.sampled_from(("TCP", "UDP")))

    passing = {(one, other) for one, other in FLOWS if lab.passes(one, other, protocol, port)}
    allowed = {
        (one, other)
        for one, other in FLOWS
        if oracle.verdict(lab.pod(one), lab.pod(other), protocol, port).allowed  # type: ignore[arg-type]
    }
    assert passing == allowed


def texts(lab: PolicyLab, words: str) -> list[str]:
    """The rules of the chain of node1 that has this name, or these words in its first rule."""
    chains = (one for one in lab.lab.plan if isinstance(one, Chain) and one.ns == "node1" and one.rules)
    found = [one for one in chains if one.name == words or words in str(one.rules[0])]
    return [str(rule) for rule in found[0].rules]


def test_the_tiers_stand_in_the_chain_of_a_pod_in_calico_s_order() -> None:
    case = ClusterCase("", (GRESS, policy(houses("g"), "Baseline", 1, ingress=GRESS["ingress"][:1])), (), (NP_S,))
    lab = house_lab("calico", case)
    device, _ = lab._device(lab.pod("g/0"))
    words = [part for text in texts(lab, f"cali-tw-{device}") for part in text.split('"') if "tier" in part]

    assert words == [
        "Start of tier kube-admin", "Start of tier default", "End of tier default. Drop if no policies passed packet",
        "Start of tier kube-baseline",
    ]  # fmt: skip


def test_each_action_is_a_rule_and_has_the_name_of_its_rule() -> None:
    named = [{"name": "it's off", **rules("from", ("Deny", houses("s"), {}))[0]}]
    ingress = [*named, *rules("from", ("Pass", houses("h"), {}), ("Accept", houses("r"), {}))]
    lab = house_lab("calico", ClusterCase("", (policy(houses("g"), name="guard", ingress=ingress),), ()))
    found = texts(lab, "Policy kcnp.kube-admin.guard ingress")

    comments = '-m comment --comment "name=it_s off" -m comment --comment "Policy kcnp.kube-admin.guard ingress"'
    assert comments in found[0]
    assert found[0].endswith("-j DROP")
    ends = ("-j MARK --set-xmark 0x20000/0x20000", "-m mark --mark 0x20000/0x20000 -j RETURN")
    assert [text.endswith(end) for text, end in zip(found[1:3], ends, strict=True)] == [True, True]
    assert found[3].endswith("-j MARK --set-xmark 0x10000/0x10000")


@pytest.mark.parametrize(
    ("model", "spec", "what", "path"),
    [
        ("kubenet", GRESS, "kube-router, which enforces the policies of this lab, does not have", ()),
        (
            "calico",
            policy(houses("g"), ingress=rules("from", ("Deny", houses("s"), BY_NAME))),
            "destinationNamedPort: Calico does not know it",
            ("spec", "ingress", 0, "protocols"),
        ),
    ],
)
def test_what_an_engine_does_not_know_is_refused_and_writes_nothing(
    model: str, spec: Spec, what: str, path: tuple[object, ...]
) -> None:
    lab = house_lab(model, ClusterCase("", ({**spec, "name": "guard"},), ()))
    (problem,) = policy_problems(lab.state, lab.lab)

    assert (problem.kind, problem.name, problem.path, problem.warning) == ("ClusterNetworkPolicy", "guard", path, False)
    assert what in problem.what
    assert problem.hint
    assert not [one for one in lab.lab.plan if isinstance(one, Chain) and "kcnp" in one.name]
    assert not [one for one in lab.lab.plan if isinstance(one, Chain) and one.name.startswith("KUBE-NWPLCY")]
