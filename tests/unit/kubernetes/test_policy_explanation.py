"""What is said about a connection: who denies it, which rules nearly fit, and what would allow it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from labctl.errors import UsageError
from labctl.kubernetes.api.policy_objects import ContainerPort, IPBlock, Namespace, Peer, Pod, PolicyPort, PolicyRule
from labctl.kubernetes.api.selectors import EVERYTHING, Requirement, Selector
from labctl.kubernetes.policies.policy_oracle import PolicyOracle
from labctl.kubernetes.policies.policy_question import PolicyAnswer, answer, names
from labctl.kubernetes.policies.policy_words import misses, rule_words
from tests.support.policy_lab import policy_lab

A = Pod("x", "a", (ip_address("10.244.0.2"),), {"app": "web"}, (ContainerPort("http", 8080),))
TEAM = Selector((("team", "one"),))
APP = Selector((("app", "db"),))


def ask(source: str, target: str, port: int = 8080, protocol: Any = "TCP") -> PolicyAnswer:
    lab = policy_lab()
    return answer(lab, lab.kubernetes, source, target, protocol, port)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (PolicyRule(), "allows all ports from everywhere"),
        (PolicyRule((Peer(),)), "allows all ports from namespace x"),
        (PolicyRule((Peer(namespaces=EVERYTHING),)), "allows all ports from all pods"),
        (PolicyRule((Peer(APP),)), "allows all ports from pods with app=db in namespace x"),
        (PolicyRule((Peer(APP, EVERYTHING),)), "allows all ports from pods with app=db in all namespaces"),
        (PolicyRule((Peer(APP, TEAM),)), "allows all ports from pods with app=db in namespaces with team=one"),
        (
            PolicyRule((Peer(block=IPBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),))),)),
            "allows all ports from 10.0.0.0/8 except 10.1.0.0/16",
        ),
        (
            PolicyRule((), (PolicyPort("TCP", 80, 90), PolicyPort("UDP", "dns"), PolicyPort("SCTP"))),
            "allows TCP 80-90 or UDP port dns or all SCTP ports from everywhere",
        ),
    ],
)
def test_a_rule_in_words(rule: PolicyRule, words: str) -> None:
    assert rule_words(rule, "x", "Ingress") == words


def test_a_rule_of_egress_says_to() -> None:
    assert rule_words(PolicyRule((Peer(APP),)), "x", "Egress").endswith("to pods with app=db in namespace x")


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        (
            Peer(Selector((("app", "web"),))),
            "y/b is in namespace y (podSelector alone means pods of the policy's own namespace)",
        ),
        (Peer(APP, EVERYTHING), "y/b has app=web"),
        (Peer(Selector((("tier", "1"),)), EVERYTHING), "y/b has no label tier"),
        (Peer(Selector((), (Requirement("app", "NotIn", ("web",)),)), EVERYTHING), "y/b has app=web"),
        (Peer(Selector((), (Requirement("tier", "Exists"),)), EVERYTHING), "y/b has no label tier"),
        (Peer(None, TEAM), "namespace y has team=two"),
        (Peer(None, Selector((("kubernetes.io/metadata.name", "z"),))), "y/b is in namespace y"),
        (Peer(block=IPBlock(ip_network("10.9.0.0/16"))), "y/b (10.244.1.2) is not in 10.9.0.0/16"),
        (
            Peer(block=IPBlock(ip_network("10.0.0.0/8"), (ip_network("10.244.1.0/24"),))),
            "y/b (10.244.1.2) is in the exception 10.244.1.0/24",
        ),
    ],
)
def test_why_a_peer_is_not_meant(peer: Peer, why: str) -> None:
    other = Pod("y", "b", (ip_address("10.244.1.2"),), {"app": "web"})
    oracle = PolicyOracle((), {"y": Namespace("y", {"team": "two"})})

    assert misses(oracle, PolicyRule((peer,)), "x", other, A, "TCP", 80) == (why,)


def test_a_ping_fits_rules_without_ports_only() -> None:
    into = ask("f", "a", 0, "ICMP").explanations[0].directions[1]

    assert into.reason.endswith("no rule of them allows ICMP from f")
    assert into.misses[0].reasons == ("ICMP is not TCP port http",)
    assert ask("e", "c", 0, "ICMP").allowed
    assert "kube-router lets pings pass" in ask("e", "c", 0, "ICMP").notes[0]
    assert not ask("node1", "a", 0, "ICMP").notes
    assert ask("c", "x/web", 0, "ICMP").notes == ("Service x/web does not forward ICMP: name one of its pods",)


def test_of_several_peers_the_nearest_is_named() -> None:
    rule = PolicyRule((Peer(None, Selector((("kubernetes.io/metadata.name", "z"),))), Peer(APP, EVERYTHING)))
    other = Pod("y", "b", (), {"app": "web"})

    assert misses(PolicyOracle(()), rule, "x", other, A, "TCP", 80) == ("y/b has app=web",)


def test_what_is_not_a_pod_of_the_cluster_s_network_is_named() -> None:
    rule = PolicyRule((Peer(APP),))
    host = Pod("x", "agent", (), host_network=True)

    assert misses(PolicyOracle(()), rule, "x", ip_address("192.0.2.1"), A, "TCP", 80) == ("192.0.2.1 is not a pod",)
    assert "uses the network of its node" in misses(PolicyOracle(()), rule, "x", host, A, "TCP", 80)[0]


@pytest.mark.parametrize(
    ("port", "why"),
    [
        (PolicyPort("TCP", 81), "TCP 80 is not TCP 81"),
        (PolicyPort("UDP", 80), "TCP 80 is not UDP 80"),
        (PolicyPort("TCP", "http"), "port http of x/a is TCP 8080, not TCP 80"),
        (PolicyPort("TCP", "https"), "x/a has no port named https"),
    ],
)
def test_why_a_port_is_not_meant(port: PolicyPort, why: str) -> None:
    rule = PolicyRule((), (port,))

    assert misses(PolicyOracle(()), rule, "x", A, A, "TCP", 80) == (why,)


def test_the_denial_names_every_policy_that_isolates() -> None:
    found = ask("b", "a").explanations[0]

    assert found.denial == "NetworkPolicy x/deny-all (egress) denies it: no rule allows TCP 8080 to a"
    into = found.directions[1]
    assert into.reason.startswith("NetworkPolicies x/deny-all and x/allow-web (ingress) deny it: no rule of them")
    assert [str(one) for one in into.misses] == [
        "rule 1 of x/allow-web allows TCP port http from namespace y or pods with pod=f in namespace z,"
        " but b is in namespace x"
    ]
    assert into.remedy == "an ingress rule for TCP 8080 from b in a NetworkPolicy of namespace x that selects a"


def test_the_denial_of_the_admin_tier_comes_with_its_remedy() -> None:
    into = ask("e", "a").explanations[0].directions[1]

    assert into.reason == (
        "ClusterNetworkPolicy guard (Admin tier, ingress) denies it:"
        " rule 1 (no-e) denies all ports from pods with pod=e in all namespaces"
    )
    assert "x/deny-all and x/allow-web cannot change that" in into.details[0]
    assert into.remedy.startswith("a rule in front of rule 1 of guard with the action Accept")


def test_a_rule_that_passes_is_a_detail_of_what_decides_then() -> None:
    into = ask("f", "a").explanations[0].directions[1]

    assert into.decision.allowed
    assert into.reason.startswith("rule 1 of NetworkPolicy x/allow-web allows TCP port http")
    assert into.details[0] == "ClusterNetworkPolicy ask, rule 1 (ask-x) passes it on to the next tier"


def test_the_baseline_tier_names_what_it_accepts_and_what_would_come_before_it() -> None:
    into = ask("e", "d").explanations[0].directions[1]

    assert "(Baseline tier, ingress) denies it: rule 2 (closed) denies TCP 8080 from all pods" in into.reason
    assert [one.policy for one in into.misses] == ["default"]
    assert into.remedy.endswith("it decides before the Baseline tier")
    assert ask("e", "d", 80).allowed


def test_a_service_is_answered_for_each_backend_at_its_own_port() -> None:
    found = ask("c", "x/web", 80)

    assert (found.service, found.allowed) == ("x/web", True)
    assert [(str(one.target), one.port) for one in found.explanations] == [("x/a", 8080)]
    assert ask("c", str(service_ip("web")), 80).explanations == found.explanations
    assert ask("c", "web.x", 80).explanations == ask("c", "web.x.svc", 80).explanations == found.explanations


def test_a_pod_behind_a_service_is_asked_for_its_own_packets() -> None:
    found = ask("a", "service/x/web", 80)

    assert found.allowed is False
    assert not found.explanations[0].verdict.exempt
    assert ask("a", "a").explanations[0].verdict.exempt


@pytest.mark.parametrize(
    ("target", "port", "note"),
    [
        ("x/web", 81, "Service x/web has no TCP port 81: its ports are TCP 80; no policy is asked"),
        ("x/empty", 80, "Service x/empty has no ready backend for TCP 80; no policy is asked"),
    ],
)
def test_a_service_that_leads_nowhere_asks_no_policy(target: str, port: int, note: str) -> None:
    found = ask("c", target, port)

    assert (found.allowed, found.notes, found.explanations) == (None, (note,), ())


@pytest.mark.parametrize(
    ("source", "target", "what", "hint"),
    [
        ("g", "a", "has no pod, Service, machine or address 'g'", "it has a, x/a"),
        ("x/aa", "a", "address 'x/aa'", "did you mean x/a?"),
        ("x/web", "a", "x/web is a Service, which opens no connections", "name a pod"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(source: str, target: str, what: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(source, target)

    assert what in caught.value.message
    assert hint in caught.value.hint


def test_an_address_of_a_pod_is_the_pod_and_others_are_addresses() -> None:
    pod = policy_lab().kubernetes.pod("a")

    assert ask("c", str(pod.ips[0])).explanations[0].target == pod
    assert ask("198.51.100.7", "a").source == "198.51.100.7"
    assert ask("internet", "198.51.100.7").notes == ("no end is a pod, so no policy is asked",)
    assert ask("node1", "a").explanations[0].verdict.exempt == "a node always reaches its own pods"
    assert ask("node2", "a").allowed is False


def test_every_name_that_is_offered_is_understood() -> None:
    lab = policy_lab()
    offered = names(lab, lab.kubernetes)

    assert {"a", "x/a", "x/web", "internet", "node1"} <= set(offered)
    assert all(ask("c", name).target for name in offered)


def service_ip(name: str) -> Any:
    services = policy_lab().kubernetes.cluster.services
    return next(one.cluster_ips[0] for one in services if one.name == name)
