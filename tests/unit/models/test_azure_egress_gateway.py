"""The static egress gateway of AKS: the routes of its pods, its namespace, its node, and what is refused."""

from __future__ import annotations

import pytest

from labctl.core.resources import Address, Chain, Link, Route, Rule
from labctl.core.scenario_types import Lab
from labctl.errors import ScenarioError
from labctl.models.lib.azure_egress_gateway import NAMESPACE
from labctl.scenario.definition import parse_and_compile

MODELS = {"kubenet": "dedup: false\n", "azure-cni-bridge": "", "azure-cni-transparent": "", "azure-cni-overlay": ""}
NODES = "nodes: {node1: {pods: [a, b]}, node2: {pods: [c]}, gw: {}}\n"
GATEWAY = "{node: gw, pods: [a, c]}"


def lab(model: str = "azure-cni-overlay", gateway: str = GATEWAY, more: str = "") -> Lab:
    key = f"egress_gateway: {gateway}\n" if gateway else ""
    return parse_and_compile(f"name: fixed\nmodel: {model}\n{NODES}{key}{more}{MODELS.get(model, '')}", "fixed.yaml")[1]


def routes(found: Lab, ns: str, table: int = 254) -> dict[str, str]:
    items = (item for item in found.plan if isinstance(item, Route) and item.ns == ns and item.table == table)
    return {str(item.dst): f"{item.via or ''} {item.dev}".strip() for item in items}


def rules(found: Lab, ns: str, chain: str) -> list[str]:
    chains = (item for item in found.plan if isinstance(item, Chain) and item.family == "ip")
    return [str(one) for item in chains if (item.ns, item.name) == (ns, chain) for one in item.rules]


@pytest.mark.parametrize("model", MODELS)
def test_a_pod_keeps_eth0_for_excluded_ranges_only(model: str) -> None:
    found, before = lab(model), lab(model, "")
    default = routes(before, "a")["0.0.0.0/0"]
    via = default.split()[0]
    assert routes(found, "a") == {
        "0.0.0.0/0": "169.254.3.1 wg0",
        f"{via}/32": "eth0",
        "10.0.0.0/8": default,
        "172.16.0.0/12": default,
        "169.254.169.254/32": default,
    }
    assert all(item.connected is False for item in found.plan if isinstance(item, Address) and item.ns == "a")
    assert routes(found, "b") == routes(before, "b")


def test_answers_to_what_came_in_by_eth0_leave_by_eth0() -> None:
    found = lab()
    (rule,) = (item for item in found.plan if isinstance(item, Rule) and item.ns == "a")
    assert (rule.mark, rule.table) == (0x2222, 0x2222)
    assert routes(found, "a", 0x2222) == {"0.0.0.0/0": "169.254.1.1 eth0"}
    assert rules(found, "a", "PREROUTING") == [
        "-i eth0 -j MARK --set-xmark 0x2222/0xffffffff",
        "-j CONNMARK --save-mark",
    ]
    assert len(rules(found, "a", "OUTPUT")) == 1
    assert rules(found, "b", "OUTPUT") == []


def test_each_tunnel_has_its_number_and_its_socket_in_the_node() -> None:
    found = lab()
    ends = {item.at.ns: item for item in found.plan if isinstance(item, Link) and item.kind == "vxlan"}
    assert {ns: link.link_netns for ns, link in ends.items()} == {"a": "node1", "c": "node2", NAMESPACE: "gw"}
    assert [dict(ends[pod].options)["id"] for pod in ("a", "c")] == ["6001", "6002"]
    assert {dict(ends[pod].options)["remote"] for pod in ("a", "c")} == {"10.224.0.6"}
    back = {str(item.dst): item.encap for item in found.plan if isinstance(item, Route) and item.encap is not None}
    assert {pod: (vni, str(node)) for pod, (vni, node) in back.items()} == {
        "10.244.0.1/32": (6001, "10.224.0.4"),
        "10.244.1.1/32": (6002, "10.224.0.5"),
    }


@pytest.mark.parametrize("model", MODELS)
def test_the_node_lets_the_secondary_address_pass_before_it_masquerades(model: str) -> None:
    found = lab(model)
    assert rules(found, "gw", "POSTROUTING")[0].endswith("-j EGRESS-GATEWAY-SNAT")
    assert "IP-MASQ-AGENT" in rules(found, "gw", "POSTROUTING")[1]
    assert rules(found, "gw", "EGRESS-10-224-255-253") == ["-s 10.224.255.253/32 -j ACCEPT"]
    assert rules(found, NAMESPACE, "EGRESS-GATEWAY-SNAT-6000") == [
        "-o host0 -m connmark --mark 0x1770 -j SNAT --to-source 10.224.255.253"
    ]


@pytest.mark.parametrize("outbound", ["", "outbound: loadBalancer\n"])
def test_the_fabric_translates_the_secondary_address_before_all_others(outbound: str) -> None:
    found = lab(more=outbound)
    first = rules(found, "fabric", "POSTROUTING")[0]
    assert first == "-s 10.224.255.253/32 -o pip -j SNAT --to-source 203.0.113.96"
    assert routes(found, "fabric")["10.224.255.253/32"] == "10.224.0.6 gw"


def test_claims_about_the_load_balancer_are_about_other_pods() -> None:
    found = lab(more="outbound: loadBalancer\n")
    blocks = [check for check in found.checks if "block" in check.say]
    assert [check.source for check in blocks] == []  # the first pod of each node uses the gateway
    alone = lab(gateway="{node: gw, pods: [a]}", more="outbound: loadBalancer\n")
    assert [check.source for check in alone.checks if "block" in check.say] == ["c"]


@pytest.mark.parametrize(
    ("gateway", "more", "says"),
    [
        ("{node: node9, pods: [a]}", "", "there is no node 'node9'"),
        ("{pods: [a]}", "", "egress_gateway: 'node' is missing"),
        ("{node: node2, pods: [a]}", "", "node2 has pods, but the nodes of a gateway run no others"),
        ("{node: gw, pods: [a, z]}", "", "there is no pod 'z' on another node"),
        ("gw", "", "egress_gateway: no pod uses the gateway"),
        ("{node: gw, pods: [a], public_ip_prefix: 203.0.113.64/27}", "", "is not a /28 to /31"),
        ("{node: gw, pods: [a], public_ip_prefix: 203.0.113.48/30}", "", "is not a free range of internet_cidr"),
        ("{node: gw, pods: [a], public_ip_prefix: 198.51.100.0/31}", "", "is not a free range of internet_cidr"),
        (GATEWAY, "outbound: natGateway\n", "labctl builds it with the outbound type loadBalancer, not natGateway"),
    ],
)
def test_what_does_not_fit_is_refused(gateway: str, more: str, says: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        lab(gateway=gateway, more=more)
    (problem,) = refused.value.problems
    assert says in problem.what
    assert problem.line == 4


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        ("azure-cni-transparent", "ip_allocation: pod-subnet\n", "AKS has no static egress gateway with a pod subnet"),
        ("kubenet", "", "the chain against duplicates (dedup) drops what its pods send"),
        ("azure-cni-transparent-vlan", "", "unknown key 'egress_gateway'"),
    ],
)
def test_some_clusters_cannot_have_one(model: str, more: str, says: str) -> None:
    text = f"name: fixed\nmodel: {model}\n{NODES}egress_gateway: {GATEWAY}\n{more}"
    with pytest.raises(ScenarioError) as refused:
        parse_and_compile(text, "fixed.yaml")
    assert [problem.what for problem in refused.value.problems if says in problem.what]
