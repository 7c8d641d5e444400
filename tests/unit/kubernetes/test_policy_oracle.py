"""The oracle of NetworkPolicies: Kubernetes' own truth tables, and properties of all policies."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.api.policy_reader import read_policy
from labctl.kubernetes.policies.policy_oracle import PolicyOracle
from tests.support.policy_cases import CASES, NAMES, PORTS, PolicyCase

FLOWS = [(source, target) for source in NAMES for target in NAMES]
SPECS = [spec for case in CASES for spec in case.specs]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_flows_that_do_not_pass(case: PolicyCase) -> None:
    oracle = case.oracle
    denied = {
        (source, target)
        for source, target in FLOWS
        if not oracle.verdict(case.pod(source), case.pod(target), case.protocol, case.port).allowed
    }

    assert denied == case.denied_flows


def test_the_policy_and_its_rule_are_named() -> None:
    case = next(one for one in CASES if one.name == "stacked policies")
    verdict = case.oracle.verdict(case.pod("y/a"), case.pod("x/a"), "TCP", 80)
    denial = case.oracle.verdict(case.pod("z/a"), case.pod("x/a"), "TCP", 80)

    assert str(verdict) == "allowed; egress: no policy selects the pod; ingress: allowed by x/p2, rule 1"
    assert str(denial) == "denied; egress: no policy selects the pod; ingress: no rule of x/p1, x/p2 allows it"


def test_an_address_outside_has_only_the_decision_of_the_pod() -> None:
    case = PolicyCase(
        "outside", ({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]},), ()
    )
    inside, outside = (
        case.oracle.verdict(ip_address(ip), case.pod("x/a"), "TCP", 80) for ip in ("203.0.113.9", "192.0.2.1")
    )

    assert (inside.allowed, outside.allowed) == (True, False)
    assert [one.direction for one in inside.decisions] == ["Ingress"]


def test_a_pod_of_its_node_s_network_is_not_isolated() -> None:
    case = PolicyCase("host", (SPECS[0],), ())
    host = Pod("x", "h", (ip_address("192.0.2.2"),), host_network=True)

    assert case.oracle.verdict(case.pod("y/a"), host, "TCP", 80).allowed
    assert not case.oracle.verdict(host, case.pod("x/a"), "TCP", 80).allowed


def test_a_policy_without_types_isolates_for_egress_only_if_it_has_such_rules() -> None:
    def types(spec: dict[str, object]) -> tuple[str, ...]:
        return read_policy({"metadata": {"name": "p"}, "spec": spec}).types

    assert types({"podSelector": {}}) == ("Ingress",)
    assert types({"podSelector": {}, "egress": [{}]}) == ("Ingress", "Egress")
    assert types({"podSelector": {}, "egress": []}) == ("Ingress",)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"policyTypes": ["Ingres"]}, "'Ingres' is not Ingress or Egress"),
        ({"ingress": [{"from": [{}]}]}, "a peer needs"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}, "'Is' is not In, NotIn"),
    ],
)
def test_what_cannot_be_a_policy_is_refused(spec: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_policy({"metadata": {"name": "p"}, "spec": spec})


@given(some.data())
def test_the_order_of_policies_means_nothing(data: some.DataObject) -> None:
    specs = data.draw(some.lists(some.sampled_from(SPECS), max_size=6))
    other = data.draw(some.permutations(specs))
    source, target = data.draw(some.sampled_from(FLOWS))
    port, protocol = data.draw(some.sampled_from(PORTS))

    assert verdict(specs, source, target, port, protocol) == verdict(other, source, target, port, protocol)


@given(some.data())
def test_one_policy_more_opens_nothing_between_pods_that_no_policy_isolated_less(data: some.DataObject) -> None:
    """A policy closes a flow only by isolating a pod that was open in this direction."""
    specs = data.draw(some.lists(some.sampled_from(SPECS), max_size=5))
    more = [*specs, data.draw(some.sampled_from(SPECS))]
    source, target = data.draw(some.sampled_from(FLOWS))
    port, protocol = data.draw(some.sampled_from(PORTS))
    before, after = oracle(specs), oracle(more)
    one, other = pods(source, target)
    isolated = [
        {policy.name for policy in it.selecting(pod, direction)} != set()
        for it in (before, after)
        for pod, direction in ((one, "Egress"), (other, "Ingress"))
    ]
    if isolated[:2] == isolated[2:]:
        assert after.verdict(one, other, protocol, port).allowed >= before.verdict(one, other, protocol, port).allowed
    if not any(isolated[:2]):
        assert before.verdict(one, other, protocol, port).allowed


def oracle(specs: list[dict[str, object]]) -> PolicyOracle:
    return PolicyCase("", tuple(specs), ()).oracle


def pods(source: str, target: str) -> tuple[Pod, Pod]:
    case = PolicyCase("", (), ())
    return case.pod(source), case.pod(target)


def verdict(specs: list[dict[str, object]], source: str, target: str, port: int, protocol: str) -> bool:
    return oracle(specs).verdict(*pods(source, target), protocol, port).allowed  # type: ignore[arg-type]
