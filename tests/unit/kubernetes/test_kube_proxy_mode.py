"""kube-proxy in mode nftables on top of the lab of a model: its tables beside the model's own rules."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.core.resources import Chain, NftObject, Process, Sysctl
from labctl.core.scenario_types import Lab
from labctl.core.why import reason_of, reason_of_rule
from labctl.explanation.explanation import Explainer
from labctl.explanation.selection import find_subjects
from tests.support.kubernetes_labs import TWO_NODES, lab_with, service
from tests.support.reasons import problems

NFTABLES = {"mode": "nftables", "version": "1.36"}


def lab(text: str = TWO_NODES, **spec: Any) -> Lab:
    return lab_with([service(**spec)], text, kube_proxy=NFTABLES)


def table(found: Lab, node: str = "node1", family: str = "ip") -> dict[str, tuple[str, ...]]:
    name = f"{family} kube-proxy"
    return {one.name: one.entries for one in found.plan if isinstance(one, NftObject) and one.table == name
            and one.ns == node}  # fmt: skip


def test_every_node_has_the_table_and_no_chain_of_the_other_mode() -> None:
    found = lab()
    for node in ("node1", "node2"):
        assert table(found, node)["services"][1].endswith("vmap @service-ips")
    assert not [one for one in found.plan if isinstance(one, Chain) and one.name.startswith("KUBE-")]
    assert not [one for one in found.plan if isinstance(one, Sysctl) and one.name.endswith("route_localnet")]
    assert {one.name for one in found.plan if isinstance(one, Chain) and one.ns == "node1"} >= {"IP-MASQ-AGENT"}
    assert not table(found, family="ip6"), "no node has an IPv6 address"


def test_the_table_is_that_of_the_lab() -> None:
    found = lab(type="NodePort", ports=[{"port": 80, "targetPort": 8080, "nodePort": 30080}])
    (ip,) = found.kubernetes.cluster.services[0].cluster_ips
    one = table(found)

    assert one["cluster-ips"] == (str(ip),)
    assert one["nodeport-ips"] == ("10.224.0.4",)
    assert one["hairpin-connections"] == ("10.244.0.2 . 10.244.0.2 . tcp . 8080",)
    assert table(found, "node2")["hairpin-connections"] == ("10.244.1.2 . 10.244.1.2 . tcp . 8080",)
    assert "ip saddr != 10.244.0.0/16" in one["services"][0]
    assert one["cluster-ips-check"][1].startswith("ip daddr 10.0.0.0/16 drop"), "the range of the model's cluster IPs"


def test_health_checks_answer_at_the_main_address_only() -> None:
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30181}
    command = {
        mode: next(
            one.command
            for one in lab_with([service(**spec)], kube_proxy={"mode": mode}).plan
            if isinstance(one, Process) and (one.ns, one.name) == ("node1", "kube-proxy")
        )
        for mode in ("iptables", "nftables")
    }

    assert command["iptables"][2] == "default/web:30181:1"
    assert command["nftables"][2] == "default/web:30181:1@10.224.0.4"


def test_health_checks_answer_everywhere_if_all_addresses_serve_node_ports() -> None:
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30181}
    settings = {**NFTABLES, "nodePortAddresses": ["0.0.0.0/0"]}
    nowhere = {**NFTABLES, "nodePortAddresses": ["127.0.0.0/8"]}
    found = lab_with([service(**spec)], kube_proxy=settings)
    closed = lab_with([service(**spec)], kube_proxy=nowhere)

    assert Process("node1", "kube-proxy", ("healthcheck", "10256", "default/web:30181:1")) in found.plan
    assert Process("node1", "kube-proxy", ("healthcheck", "10256")) in closed.plan


def test_a_release_that_needs_the_device_warns_where_it_is_not_there() -> None:
    detect = {"detectLocalMode": "BridgeInterface", "mode": "nftables", "version": "1.31"}
    with_bridge = lab_with([service()], kube_proxy={**detect, "detectLocal": {"bridgeInterface": "cbr0"}})
    without = lab_with([service()], kube_proxy={**detect, "detectLocal": {"bridgeInterface": "br7"}})
    later = lab_with([service()], kube_proxy={**detect, "version": "1.33", "detectLocal": {"bridgeInterface": "br7"}})

    assert [one.what for one in without.kubernetes.problems] == [
        "kube-proxy 1.31 writes no rules on node1: nft needs the device br7"
    ]
    assert not table(without)
    assert not with_bridge.kubernetes.problems
    assert any('iif != "cbr0"' in rule for rules in table(with_bridge).values() for rule in rules)
    assert not later.kubernetes.problems
    assert any('iifname != "br7"' in rule for rules in table(later).values() for rule in rules)


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.36"])
def test_every_object_rule_and_element_has_a_reason(version: str) -> None:
    spec = {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30181,
        "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["192.0.2.0/24"],
    }  # fmt: skip
    items = [
        service(**spec),
        service("plain", type="NodePort"),
        service("none", selector={"app": "x"}, type="NodePort"),
    ]
    found = lab_with(items, kube_proxy={"mode": "nftables", "version": version})
    objects = [one for one in found.plan if isinstance(one, NftObject)]

    assert objects
    assert not [(one.kind, one.name) for one in objects if reason_of(one) is None]
    assert not [(one.name, text) for one in objects for text in one.entries if reason_of_rule(one, text) is None]
    assert [*problems(found)] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("node1 { tcp . 30080", "The nodePort 30080 of every node leads to the Service default/web."),
        ("node1 cluster-ips { 10.0", "10.0.39.225 is the cluster IP of a Service."),
        ("node1 hairpin-connections {", "The pod a may reach itself at port 8080."),
        ("node1 masquerade fully-random", None),
        (
            "node1 ip kube-proxy service-PFISGYVC-default/web/tcp/",
            "It chooses among all ready endpoints of default/web (traffic policy Cluster).",
        ),
    ],
)
def test_explain_finds_rules_and_elements(words: str, sentence: str | None) -> None:
    found = lab(type="NodePort", ports=[{"port": 80, "targetPort": 8080, "nodePort": 30080}])
    subjects = find_subjects(found, words.split(" "))
    told = [Explainer(found).why(one).sentence for one in subjects]

    assert told == [sentence] if sentence else len(told) == 2
