"""ClusterNetworkPolicies: the conformance tests of their API, and properties of all policies."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kubernetes.api.cluster_policy_reader import read_cluster_policy
from labctl.kubernetes.api.policy_objects import Namespace, Pod
from labctl.kubernetes.policies.policy_oracle import PolicyOracle
from tests.support.cluster_policy_cases import (
    CLUSTER_CASES,
    HOUSE_PODS,
    HOUSE_PORTS,
    NP_S,
    ClusterCase,
    Poke,
    Spec,
    house_oracle,
    house_pod,
    house_pods,
    houses,
    policy,
    ports,
    rules,
)

SPECS = [spec for case in CLUSTER_CASES for spec in case.specs]
NETWORK_POLICIES: list[Spec] = [NP_S, {}, {"policyTypes": ["Egress"]}, {"ingress": [{}]}, {"egress": [{}]}]
FLOWS = [(source, target) for source in HOUSE_PODS for target in HOUSE_PODS if source != target]


@pytest.mark.parametrize("case", CLUSTER_CASES, ids=str)
def test_the_pokes_of_the_conformance_tests(case: ClusterCase) -> None:
    oracle = case.oracle
    wrong = [poke for poke in case.pokes if allowed(oracle, poke) != poke.connects]

    assert not list(map(str, wrong))


def test_each_case_has_a_poke_that_its_policies_change_or_let_pass_on_purpose() -> None:
    without = house_oracle(())

    assert all(allowed(without, poke) for case in CLUSTER_CASES for poke in case.pokes)
    assert sum(not poke.connects for case in CLUSTER_CASES for poke in case.pokes) > 100


def test_the_tier_the_policy_and_the_rule_are_named() -> None:
    denial = verdict(oracle_of(policy(houses("g"), name="guard", ingress=[named("Deny", "no-s")])), "s/0", "g/0")

    text = "ingress: denied by ClusterNetworkPolicy guard, rule 1 (no-s), in the Admin tier"
    assert str(denial) == f"denied; egress: no policy selects the pod; {text}"
    assert (denial.denials[0].tier, denial.denials[0].policy, denial.denials[0].rule_name) == ("Admin", "guard", "no-s")


def test_the_rules_that_passed_the_connection_on_are_named() -> None:
    passing = policy(houses("g"), name="guard", ingress=[named("Pass", "ask-the-team")])
    decision = verdict(house_oracle((passing,), (NP_S,)), "s/0", "g/0").decisions[1]

    assert (decision.tier, decision.policy, decision.rule) == ("NetworkPolicy", "g/np1", 1)
    assert list(map(str, decision.passed)) == ["guard, rule 1 (ask-the-team)"]


def test_policies_of_one_priority_that_disagree_are_named() -> None:
    first = policy(houses("g"), name="a", ingress=[named("Deny", "")])
    second = policy(houses("g"), name="b", ingress=[named("Accept", "")])
    for given_specs in ((first, second), (second, first)):
        decision = verdict(house_oracle(given_specs), "s/0", "g/0").decisions[1]
        assert (decision.allowed, decision.policy, decision.unclear) == (False, "a", ("b",))
    other = {**second, "priority": 16}
    assert verdict(house_oracle((first, other)), "s/0", "g/0").decisions[1].unclear == ()


def test_a_pod_is_asked_for_packets_to_itself_only_if_they_leave_it() -> None:
    """The conformance test of hairpin traffic: through a Service, to the pod itself."""
    oracle = oracle_of(policy(houses("g"), ingress=rules("from", ("Deny", houses("g"), {}))))
    pod = house_pod("g/0")

    assert oracle.verdict(pod, pod, "TCP", 80).allowed
    assert not oracle.verdict(pod, pod, "TCP", 80, hairpin=True).allowed


def test_a_node_reaches_its_own_pods_and_is_no_subject() -> None:
    deny = policy({"namespaces": {}}, ingress=rules("from", ("Deny", {"namespaces": {}}, {})))
    closed = PolicyOracle((), {}, oracle_of(deny).cluster_policies, {"node1": (ip_address("192.0.2.1"),)})
    pod = Pod("g", "0", (ip_address("10.244.0.2"),), node="node1")
    host = Pod("g", "agent", (ip_address("192.0.2.1"),), node="node1", host_network=True)
    isolated = house_oracle((), ({},))
    oracle = PolicyOracle(isolated.policies, {}, closed.cluster_policies, closed.node_ips)

    assert oracle.verdict(ip_address("192.0.2.1"), pod, "TCP", 80).exempt == "a node always reaches its own pods"
    assert oracle.verdict(host, pod, "TCP", 80).allowed
    assert not oracle.verdict(ip_address("192.0.2.2"), pod, "TCP", 80).allowed
    assert oracle.verdict(house_pod("s/0"), host, "TCP", 80).allowed
    assert not closed.cluster_policies[0].selects(host, Namespace("g"))
    assert closed.cluster_policies[0].selects(pod, Namespace("g"))


def test_a_named_port_is_that_of_the_target_in_every_protocol() -> None:
    by_name = {"protocols": [{"destinationNamedPort": "serve-53"}]}
    oracle = oracle_of(policy(houses("g"), egress=rules("to", ("Deny", houses("r"), by_name))))

    assert not allowed(oracle, Poke("g/0>r/0", 53, False))
    assert allowed(oracle, Poke("g/0>r/0", 5353, True))


GOOD = policy(houses("g"), ingress=rules("from", ("Deny", houses("s"), {})))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tier": "NetworkPolicy"}, "tier: 'NetworkPolicy' is not Admin or Baseline"),
        ({"priority": 1001}, "priority: 1001 is not a number from 0 to 1000"),
        ({"priority": True}, "priority: True is not a number"),
        ({"subject": {}}, "subject: needs exactly one of namespaces and pods"),
        ({"subject": {"namespaces": {}, "pods": {}}}, "subject: needs exactly one"),
        ({"subject": {"pods": {"namespaceSelector": {}}}}, "subject.pods: needs podSelector"),
        ({"ingres": []}, "spec: there is no 'ingres'; did you mean ingress?"),
        ({"ingress": GOOD["ingress"] * 26}, "ingress: has 26 rules, more than 25"),
    ],
)
def test_what_cannot_be_a_policy_is_refused(change: Spec, what: str) -> None:
    with pytest.raises(ValueError, match=f"^{what.replace('?', '.')}"):
        read({**GOOD, **change})


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"action": "Allow"}, r"egress\[0\].action: 'Allow' is not Accept, Deny or Pass \(v1alpha1's Allow is Accept"),
        ({"action": "Deny", "to": []}, r"egress\[0\].to: needs at least one peer"),
        ({"to": [{"nodes": {}}]}, r"egress\[0\].to\[0\].nodes: labctl does not match nodes"),
        ({"to": [{"domainNames": ["example.org"]}]}, r"egress\[0\].to\[0\].domainNames: labctl has no DNS"),
        ({"to": [{"networks": []}]}, r"egress\[0\].to\[0\]: needs exactly one of namespaces, pods, networks"),
        ({"to": [{"networks": ["300.0.0.0/8"]}]}, "'300.0.0.0/8' does not appear to be"),
        ({"ports": [{"portNumber": {}}]}, r"egress\[0\].ports: v1alpha2 has `protocols` instead"),
        ({"protocols": []}, r"egress\[0\].protocols: an empty list"),
        ({"protocols": [{"icmp": {}}]}, r"egress\[0\].protocols\[0\]: there is no 'icmp'"),
        ({"protocols": [{"tcp": {}}]}, r"egress\[0\].protocols\[0\].tcp: needs destinationPort"),
        ({"protocols": [{"tcp": {"destinationPort": {"number": 0}}}]}, "0 is not a port from 1 to 65535"),
        ({"protocols": [{"tcp": {"destinationPort": {"range": {"start": 9, "end": 9}}}}]}, "start 9 is not less"),
        ({"name": "x" * 101}, r"egress\[0\].name: has 101 characters"),
        (
            {"to": [{"networks": ["10.0.0.0/8"]}], "protocols": [{"destinationNamedPort": "web"}]},
            r"egress\[0\].protocols: destinationNamedPort needs peers that are pods",
        ),
    ],
)
def test_what_cannot_be_a_rule_is_refused(rule: Spec, what: str) -> None:
    good = {"action": "Deny", "to": [{"namespaces": {}}]}
    with pytest.raises(ValueError, match=what):
        read(policy(houses("g"), egress=[{**good, **rule}]))


def test_ingress_has_no_networks() -> None:
    with pytest.raises(ValueError, match="only egress rules have networks"):
        read(policy(houses("g"), ingress=[{"action": "Deny", "from": [{"networks": ["10.0.0.0/8"]}]}]))


@given(some.data())
def test_the_order_of_objects_means_nothing_but_priority_does(data: some.DataObject) -> None:
    chosen = data.draw(some.lists(some.sampled_from(SPECS), max_size=5))
    specs = [{**spec, "priority": 10 * at, "name": f"p{at}"} for at, spec in enumerate(chosen)]
    network_policies = data.draw(some.lists(some.sampled_from(NETWORK_POLICIES), max_size=2))
    poke = data.draw(drawn_poke)
    here = house_oracle(tuple(specs), tuple(network_policies))
    there = house_oracle(tuple(data.draw(some.permutations(specs))), tuple(reversed(network_policies)))

    assert allowed(here, poke) == allowed(there, poke)


@given(some.data())
def test_the_first_rule_of_the_first_policy_that_fits_decides(data: some.DataObject) -> None:
    """With a rule for everything in front of all others, only this rule counts; behind them, it never does."""
    specs = tuple({**one, "tier": "Admin"} for one in data.draw(some.lists(some.sampled_from(SPECS), max_size=4)))
    action = data.draw(some.sampled_from(("Accept", "Deny")))
    every: Spec = {"namespaces": {}}
    rule = {"ingress": rules("from", (action, every, {})), "egress": rules("to", (action, every, {}))}
    poke = data.draw(drawn_poke)
    first = house_oracle((policy(every, priority=0, **rule), *specs), (NP_S,))
    before, last = house_oracle(specs), house_oracle((*specs, policy(every, priority=1000, name="zz", **rule)))

    assert allowed(first, poke) == (action == "Accept")
    decided = decisions(before, poke)
    for one, other in zip(decided, decisions(last, poke), strict=True):
        if one.tier:
            assert (one.allowed, one.policy, one.rule) == (other.allowed, other.policy, other.rule)


@given(some.data())
def test_a_policy_that_selects_nothing_changes_nothing(data: some.DataObject) -> None:
    specs = tuple(data.draw(some.lists(some.sampled_from(SPECS), max_size=4)))
    nothing = {**data.draw(some.sampled_from(SPECS)), "subject": house_pods({"house": "nobody"}), "priority": 0}
    poke = data.draw(drawn_poke)

    assert decisions(house_oracle(specs), poke) == decisions(house_oracle((*specs, nothing)), poke)


@given(some.data())
def test_a_network_policy_more_opens_nothing_that_the_admin_tier_denies(data: some.DataObject) -> None:
    specs = tuple({**one, "tier": "Admin"} for one in data.draw(some.lists(some.sampled_from(SPECS), max_size=4)))
    poke = data.draw(drawn_poke)
    network_policies = data.draw(some.lists(some.sampled_from(NETWORK_POLICIES), min_size=1, max_size=3))
    if not allowed(house_oracle(specs), poke):
        assert not allowed(house_oracle(specs, tuple(network_policies)), poke)


@given(some.data())
def test_without_a_network_policy_the_baseline_tier_decides_what_the_admin_tier_would(data: some.DataObject) -> None:
    specs = data.draw(some.lists(some.sampled_from(SPECS), max_size=4))
    poke = data.draw(drawn_poke)
    admin, baseline = (house_oracle(tuple({**one, "tier": tier} for one in specs)) for tier in ("Admin", "Baseline"))

    assert allowed(admin, poke) == allowed(baseline, poke)


drawn_poke = some.builds(
    lambda flow, port: Poke(f"{flow[0]}>{flow[1]}", port[0], True),
    some.sampled_from(FLOWS),
    some.sampled_from(HOUSE_PORTS),
)


def read(spec: Spec) -> Any:
    return read_cluster_policy({"metadata": {"name": "p"}, "spec": spec})


def named(action: str, name: str) -> Spec:
    return {"name": name, "action": action, "from": [houses("s")], **ports(80)}


def oracle_of(spec: Spec) -> PolicyOracle:
    return house_oracle((spec,))


def verdict(oracle: PolicyOracle, source: str, target: str) -> Any:
    return oracle.verdict(house_pod(source), house_pod(target), "TCP", 80)


def decisions(oracle: PolicyOracle, poke: Poke) -> Any:
    source, target = map(house_pod, poke.flow.split(">"))
    return oracle.verdict(source, target, poke.protocol, poke.port).decisions


def allowed(oracle: PolicyOracle, poke: Poke) -> bool:
    source, target = map(house_pod, poke.flow.split(">"))
    return oracle.verdict(source, target, poke.protocol, poke.port).allowed
