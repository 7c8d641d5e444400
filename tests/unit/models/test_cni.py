"""The model cni: what it claims about a list, and what it builds beside it."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

import pytest

from labctl.cni.conflist import parse_config_list
from labctl.cni.list_effects import list_effects
from labctl.core.resources import Chain, Route
from labctl.core.scenario_types import Lab
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile

NODES = "{node1: {pods: [a, b]}, node2: {pods: [c]}}"
OWN, OTHER, SIX = (
    f"{{type: host-local, subnet: '{subnet}'}}" for subnet in ("{pod_cidr}", "10.88.0.0/16", "fd00::/64")
)
EVERY = "every pod reaches every pod and is seen with its own address"
SAME_NODE = "pods of one node reach each other and are seen with their own addresses"
MASQUERADED = "pods of another node are seen with their node's address, because the list masquerades"
NODE = "each node reaches its own pods"


def lab(plugin: str, nodes: str = NODES, more: str = "") -> Lab:
    conflist = f"{{cniVersion: 0.4.0, name: n, plugins: [{plugin}]}}"
    return parse_and_compile(f"model: cni\nconflist: {conflist}\nnodes: {nodes}\n{more}", "t.yaml")[1]


def claims(found: Lab) -> list[str]:
    return [check.say for check in found.checks if check.probe != "cni"]


@pytest.mark.parametrize(
    ("plugin", "claimed"),
    [
        (f"{{type: ptp, ipam: {OWN}}}", [EVERY, NODE]),
        (f"{{type: bridge, isGateway: true, ipam: {OWN}}}", [EVERY, NODE]),
        ("{type: mine}", [EVERY, NODE]),  # what is not known does what Kubernetes requires
        (
            "{type: bridge, isDefaultGateway: true, capabilities: {ipRanges: true}, ipam: {type: host-local}}",
            [EVERY, NODE],
        ),
        (f"{{type: bridge, isGateway: true, ipMasq: true, ipam: {OWN}}}", [SAME_NODE, MASQUERADED, NODE]),
        (f"{{type: bridge, isGateway: true, ipMasq: true, ipam: {OTHER}}}", [SAME_NODE, NODE]),
        (f"{{type: bridge, isGateway: true, ipam: {SIX}}}", [SAME_NODE, NODE]),
        (f"{{type: bridge, ipam: {OWN}}}", [SAME_NODE]),
        (f"{{type: bridge, isGateway: true, portIsolation: true, ipam: {OWN}}}", [NODE]),
        (f"{{type: bridge, isGateway: true, vlan: 5, ipam: {OWN}}}", [SAME_NODE, NODE]),
        ("{type: bridge, isGateway: true, ipam: {}}", []),
        ("{type: bridge, bridge: br0}", []),
        ("{type: macvlan, master: eth0, ipam: {}}", []),
        (f"{{type: macvlan, master: eth0, ipam: {OTHER}}}", [SAME_NODE]),
        (f"{{type: macvlan, master: eth0, mode: private, ipam: {OTHER}}}", []),
        (f"{{type: ipvlan, master: eth0, mode: l3, ipam: {OTHER}}}", [SAME_NODE]),
        ("{type: host-device, device: eth1}", []),
        (f"{{type: loopback}}, {{type: ptp, ipam: {OWN}}}, {{type: portmap}}", [EVERY, NODE]),
        (f"{{type: ptp, ipam: {OWN}}}, {{type: vrf, vrfname: x}}", []),
        (f"{{type: labctl-cni, shape: routed, ipMasq: true, ipam: {OWN}}}", [SAME_NODE, MASQUERADED, NODE]),
        ("{type: flannel, delegate: {ipMasq: true}}", [SAME_NODE, MASQUERADED, NODE]),
        (
            "{type: bridge, isGateway: true, ipam: {type: static, addresses: [{address: 10.9.0.2/24}]}}",
            [SAME_NODE, NODE],
        ),
    ],
)
def test_no_more_is_claimed_than_the_list_can_do(plugin: str, claimed: list[str]) -> None:
    assert claims(lab(plugin)) == claimed


def test_on_one_node_a_list_that_masquerades_is_claimed_to_connect_all_pods() -> None:
    found = lab(f"{{type: bridge, isGateway: true, ipMasq: true, ipam: {OTHER}}}", "{node1: {pods: [a, b]}}")
    assert claims(found) == [EVERY, NODE]


@pytest.mark.parametrize(
    ("plugin", "more", "exempt"),
    [
        ("{type: mine}", "", ["10.244.0.0/16"]),
        (f"{{type: ptp, ipam: {OTHER}}}", "", ["10.244.0.0/16", "10.88.0.0/16"]),
        (f"{{type: ptp, ipMasq: true, ipam: {OTHER}}}", "", []),
        (f"{{type: ptp, ipMasq: true, ipam: {OWN}}}", "masquerade: true", ["10.244.0.0/16"]),
        ("{type: mine}", "masquerade: false", []),
    ],
)
def test_the_agent_masquerades_only_where_the_list_does_not(plugin: str, more: str, exempt: list[str]) -> None:
    chains = [item for item in lab(plugin, more=more).plan if isinstance(item, Chain) and item.name == "IP-MASQ-AGENT"]
    assert len(chains) == (2 if exempt else 0)
    for chain in chains:
        assert [str(rule).split()[1] for rule in chain.rules if rule.target == "RETURN"] == exempt


def test_no_node_has_a_route_to_the_range_that_its_own_pods_use() -> None:
    everywhere = lab("{type: bridge, isGateway: true, ipam: {type: host-local, subnet: 10.244.0.0/16}}")
    assert not [
        item for item in everywhere.plan if isinstance(item, Route) and item.dst == IPv4Network("10.244.0.0/24")
    ]
    assert [
        item.ns for item in lab("{type: mine}").plan if isinstance(item, Route) and str(item.dst) == "10.244.0.0/24"
    ]


@pytest.mark.parametrize(
    ("plugins", "what"),
    [
        ("{type: loopback}", "the list n (loopback) gives a pod no eth0"),
        ("{type: tuning}, {type: portmap}", "the list n (tuning, portmap) gives a pod no eth0"),
        (
            "{type: ptp}, {type: sbr}",
            "the list n (ptp, sbr) leaves a pod without a route: sbr moves those of its only device",
        ),
    ],
)
def test_a_list_that_gives_no_network_is_refused_at_its_place(plugins: str, what: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        lab(plugins)
    assert str(caught.value).startswith(f"t.yaml:2:1: {what}\n    hint: ")


@pytest.mark.parametrize(("subnet", "key"), [("192.168.0.0/16", "node_cidr"), ("203.0.113.128/25", "internet_cidr")])
def test_a_bridge_cannot_have_an_address_of_another_link_of_the_node(subnet: str, key: str) -> None:
    plugin = f"{{type: bridge, isGateway: true, ipam: {{type: host-local, subnet: {subnet}}}}}"
    with pytest.raises(
        ScenarioError, match=f"gives its bridge an address of {subnet}, which overlaps {key} "
    ) as caught:
        lab(plugin)
    assert len(caught.value.problems) == 1
    assert claims(lab(plugin.replace("isGateway: true, ", ""))) == [SAME_NODE]  # the node is not in that network


@pytest.mark.parametrize(
    "ipam", [5, [], {"subnet": 5}, {"ranges": {}}, {"ranges": [5, [], [5]]}, {"addresses": [{"address": {}}]}]
)
def test_keys_of_a_wrong_type_are_left_to_the_plugin(ipam: Any) -> None:
    plugin = {
        "type": "bridge",
        "ipam": ipam,
        "capabilities": 5,
        "delegate": 5,
        "ipMasq": "yes",
        "isGateway": 1,
        "mode": [],
    }
    text = json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": [plugin]})
    found = list_effects(parse_config_list(text), IPv4Network("10.244.0.0/24"))
    assert (found.ranges, found.masquerades, found.node_reaches) == ((), False, False)
    for kind in ("macvlan", "mine"):
        list_effects(parse_config_list(text.replace("bridge", kind)), IPv4Network("10.244.0.0/24"))
