"""A rule of a policy engine that dropped a probe is named by its policy, if the policies deny this packet there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.core.resources import IP, Interface, Link
from labctl.kubernetes.policies.calico_policies import policy_chain_name
from labctl.kubernetes.policies.calico_tiers import of_cluster_policy
from labctl.models.lib.kube_router_node import PodFirewall
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import CounterIncrease, NamespaceState, Question, RuleHit, TraceEvidence
from labctl.tracing.hops import PacketObservation
from labctl.tracing.policy_denials import with_policy_denials
from tests.support.policy_lab import policy_lab

STATE = policy_lab().kubernetes
PODS = {one.machine: one for one in STATE.pods}
A, B, E = (PODS[name].ips[0] for name in "abe")
NODE_IP = policy_lab().machine("node2").addresses[0]  # type: ignore[union-attr]
SERVICE = next(one.cluster_ips[0] for one in STATE.cluster.services if one.name == "web")
GUARD = policy_chain_name(of_cluster_policy(STATE.cluster_policies[0]), "Ingress")
POD_A, POD_B = (PodFirewall(name, A, "x").chain for name in "ab")
DROP = '-m comment --comment "Drop if no policies passed packet" -j DROP'
FROM_E = (
    "ClusterNetworkPolicy guard (Admin tier, ingress) denies it:"
    " rule 1 (no-e) denies all ports from pods with pod=e in all namespaces"
)
TO_A = "NetworkPolicies x/deny-all and x/allow-web (ingress) deny it: no rule of them allows TCP 8080 from b"
FROM_B = "NetworkPolicy x/deny-all (egress) denies it: no rule allows TCP 8080 to a"


def hit(chain: str, src: IP, dst: IP, dport: int | None = 8080, node: str = "node1", target: str = "DROP") -> RuleHit:
    return RuleHit(
        node, "request", "ip", 2, "filter", chain, "rule", 9, src, dst, rule=DROP, target=target, dport=dport
    )


def seen(node: str, dev: str, way: str, src: IP, dst: IP, dport: int | None) -> PacketObservation:
    return PacketObservation(
        node, dev, way, 1000, "request", src, dst, 64, 60, sport=40000, dport=dport, addressed_here=True  # type: ignore[arg-type]
    )  # fmt: skip


def evidence(
    *hits: RuleHit, source: str = "e", target: IP = A, port: int | None = 8080, asked: IP | None = None, **more: object
) -> TraceEvidence:
    """A probe that a node's device was the last to see, and what the policies of the lab say about it."""
    src = PODS[source].ips[0]
    links = tuple(Link(Interface("node1", f"veth{pod}"), "veth", peer=Interface(pod, "eth0")) for pod in "abc")
    protocol = "icmp" if port is None else "tcp"
    found = TraceEvidence(
        Question("six-pods", source, str(target), asked or target, "a", protocol, port),  # type: ignore[arg-type]
        "timeout", "", 1, (NamespaceState("node1", links),),
        (seen("node1", "eth0", "in", src, asked or target, port),), hits,
        machines={name: pod.ips for name, pod in PODS.items()}, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return with_policy_denials(found, STATE)


def cause(found: TraceEvidence) -> tuple[str, str]:
    why = diagnose(found).why
    assert why is not None
    assert why.kind == "rule"
    return why.sentence, why.tries[0]


def test_the_policy_is_the_cause_and_its_command_explains_it() -> None:
    sentence, command = cause(evidence(hit(GUARD, E, A)))

    assert sentence == FROM_E
    assert command == "labctl policy why e a --tcp 8080"


def test_a_chain_of_calico_s_table_of_nft_has_the_same_cause() -> None:
    guard = policy_chain_name(of_cluster_policy(STATE.cluster_policies[0]), "Ingress", 248)

    assert cause(evidence(hit(f"filter-{guard}", E, A)))[0] == FROM_E
    assert cause(evidence(hit("filter-cali-tw-vetha", B, A), source="b"))[0] == TO_A


def test_the_rule_stays_as_a_fact() -> None:
    facts = diagnose(evidence(hit(GUARD, E, A))).facts

    assert any(one.label == "rule" and f"filter/{GUARD} rule 9: -j DROP" in one.text for one in facts)


def test_the_egress_of_the_source_is_the_cause_in_its_chain() -> None:
    assert cause(evidence(hit("cali-fw-vethb", B, A), source="b"))[0] == FROM_B


def test_the_ingress_of_the_target_is_the_cause_in_its_chain() -> None:
    assert cause(evidence(hit("cali-tw-vetha", B, A), source="b"))[0] == TO_A


def test_kube_router_s_chain_of_a_pod_says_which_end_denied_it() -> None:
    """One chain is for both directions of a pod, and both ends may deny the same packet."""
    assert cause(evidence(hit(POD_A, B, A, target="REJECT"), source="b"))[0] == TO_A
    assert cause(evidence(hit(POD_B, B, A, target="REJECT"), source="b"))[0] == FROM_B


def test_the_form_after_the_translation_of_a_service_counts() -> None:
    found = evidence(hit(GUARD, E, A), asked=SERVICE, port=80)

    assert cause(found)[0] == FROM_E
    assert {(one.dst, one.dport) for one in found.policy_denials} == {(A, 8080)}


def test_a_pod_that_a_service_leads_back_to_itself_is_asked_about_by_the_service() -> None:
    found = evidence(hit("cali-fw-vetha", A, A), source="a", asked=SERVICE, port=80)
    sentence, command = cause(found)

    assert sentence == FROM_B
    assert command == f"labctl policy why a {SERVICE} --tcp 80"


def test_a_ping_has_no_port() -> None:
    sentence, command = cause(evidence(hit(GUARD, E, A, None), port=None))

    assert sentence == FROM_E
    assert command == "labctl policy why e a --icmp"


def test_a_masqueraded_source_is_denied_as_what_it_is() -> None:
    found = evidence(hit("cali-tw-vetha", NODE_IP, A))

    assert f"no rule of them allows TCP 8080 from {NODE_IP}" in cause(found)[0]


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (hit("FORWARD", E, A), "the chain is no engine's"),
        (hit("cali-fw-vetha", B, A), "the chain is that of the other direction"),
        (hit("cali-tw-vethb", B, A), "the chain is that of another pod"),
        (hit("cali-tw-vetha", E, A), "the tier of NetworkPolicies was not asked"),
        (hit(GUARD, E, A, node="node2"), "the node is not the pod's"),
        (hit("cali-tw-vetha", PODS["d"].ips[0], A), "the policies allow this packet"),
    ],
)
def test_another_rule_is_not_blamed_on_a_policy(one: RuleHit, why: str) -> None:
    found = evidence(one)
    seen_there = tuple(replace(each, node=one.node) for each in found.observations)
    sentence, command = cause(replace(found, observations=seen_there))

    assert "NetworkPolicy" not in sentence, why
    assert "a rule of " in sentence
    assert "iptables" in command


def test_a_counter_is_a_probable_cause() -> None:
    one = CounterIncrease("node1", "ip", "filter", GUARD, 9, 1, DROP, "DROP")
    found = evidence(counter_increases=(one,), drops_traced=False, rules_traced=False)

    assert cause(found)[0].startswith(f"probably {FROM_E} (its counter increased")


def test_an_answered_probe_and_a_lab_without_policies_have_no_denials() -> None:
    found = replace(evidence(), policy_denials=())

    assert evidence().policy_denials
    assert not with_policy_denials(replace(found, answer="reply"), STATE).policy_denials
    assert not with_policy_denials(found, replace(STATE, policies=(), cluster_policies=())).policy_denials
