"""The way out of an AKS cluster: blocks of ports, what each type builds in the fabric, and what Azure refuses."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from labctl.core.resources import Chain, Route, Rule
from labctl.core.scenario_types import Lab
from labctl.errors import ScenarioError
from labctl.models.lib import azure_outbound
from labctl.models.lib.azure_outbound_options import TYPES, Outbound
from labctl.scenario.definition import parse_and_compile

MODELS = (
    "kubenet",
    "azure-cni-bridge",
    "azure-cni-transparent",
    "azure-cni-transparent-vlan",
    "azure-cni-overlay",
)
PODS = "nodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\n"
PUBLIC = IPv4Address("203.0.113.50")


def lab(model: str = "kubenet", outbound: str = "", more: str = "", nodes: str = PODS) -> Lab:
    text = f"name: way-out\nmodel: {model}\n{nodes}{f'outbound: {outbound}' if outbound else ''}\n{more}"
    return parse_and_compile(text, "way-out.yaml")[1]


def problems(outbound: str, **more: Any) -> list[tuple[int, str]]:
    with pytest.raises(ScenarioError) as refused:
        lab(outbound=outbound, **more)
    return [(problem.line, problem.what) for problem in refused.value.problems]


def rules(found: Lab, ns: str, table: str, chain: str) -> list[str]:
    chains = (item for item in found.plan if isinstance(item, Chain) and item.family == "ip")
    return [str(one) for item in chains if (item.ns, item.table, item.name) == (ns, table, chain) for one in item.rules]


def blocks(outbound: Outbound, nodes: int) -> list[str]:
    return [f"{one.address}:{one.ports}" for one in azure_outbound.port_blocks(outbound, PUBLIC, nodes)]


def test_without_the_key_the_fabric_translates_everything_to_one_address() -> None:
    assert rules(lab(), "fabric", "nat", "POSTROUTING") == ["-o pip -j SNAT --to-source 203.0.113.50"]


@pytest.mark.parametrize(
    ("nodes", "ports"), [(1, 1024), (50, 1024), (51, 512), (200, 256), (201, 128), (800, 64), (1000, 32), (1001, 0)]
)
def test_a_load_balancer_divides_its_ports_by_the_number_of_nodes(nodes: int, ports: int) -> None:
    assert Outbound().ports_per_node(nodes) == ports


def test_blocks_follow_each_other_and_continue_on_the_next_address() -> None:
    assert blocks(Outbound(), 2) == ["203.0.113.50:1024-2047", "203.0.113.50:2048-3071"]
    assert blocks(Outbound(allocated_outbound_ports=8), 2) == ["203.0.113.50:1024-1031", "203.0.113.50:1032-1039"]
    assert blocks(Outbound(outbound_ips=2, allocated_outbound_ports=32000), 4) == [
        "203.0.113.50:1024-33023",
        "203.0.113.50:33024-65023",
        "203.0.113.51:1024-33023",
        "203.0.113.51:33024-65023",
    ]
    given = Outbound(public_ips=(IPv4Address("203.0.113.9"),), allocated_outbound_ports=64000)
    assert blocks(given, 1) == ["203.0.113.9:1024-65023"]


def test_a_block_never_goes_on_to_the_next_address() -> None:
    found = azure_outbound.port_blocks(Outbound(outbound_ips=2, allocated_outbound_ports=24000), PUBLIC, 4)
    assert [(str(one.address), str(one.ports)) for one in found][1:3] == [
        ("203.0.113.50", "25024-49023"),
        ("203.0.113.51", "1024-25023"),
    ]


def test_a_load_balancer_has_a_block_for_tcp_and_for_udp_and_none_for_icmp() -> None:
    found = rules(lab(outbound="{type: loadBalancer, allocated_outbound_ports: 16}"), "fabric", "nat", "POSTROUTING")
    assert found == [
        "-s 10.224.0.4/32 -o pip -p tcp -j SNAT --to-source 203.0.113.50:1024-1039",
        "-s 10.224.0.4/32 -o pip -p udp -j SNAT --to-source 203.0.113.50:1024-1039",
        "-s 10.224.0.4/32 -o pip -p icmp -j SNAT --to-source 203.0.113.50",
        "-s 10.224.0.5/32 -o pip -p tcp -j SNAT --to-source 203.0.113.50:1040-1055",
        "-s 10.224.0.5/32 -o pip -p udp -j SNAT --to-source 203.0.113.50:1040-1055",
        "-s 10.224.0.5/32 -o pip -p icmp -j SNAT --to-source 203.0.113.50",
    ]


def test_a_tenants_pods_use_the_block_of_their_node() -> None:
    nodes = "nodes: {node1: {pods: {a: {vlan: 7}}}, node2: {pods: {c: {vlan: 7}}}}\n"
    found = lab("azure-cni-transparent-vlan", "{type: loadBalancer, allocated_outbound_ports: 8}", nodes=nodes)
    tcp = [one for one in rules(found, "fabric", "nat", "POSTROUTING") if "-p tcp" in one]
    assert [one.split()[1] + " " + one.rsplit(":", 1)[1] for one in tcp] == [
        "10.224.0.4/32 1024-1031",
        "10.100.0.4/32 1024-1031",
        "10.224.0.5/32 1032-1039",
        "10.100.0.5/32 1032-1039",
    ]


def test_a_nat_gateway_shares_all_ports_of_all_addresses() -> None:
    found = rules(lab(outbound="{type: natGateway, outbound_ips: 3}"), "fabric", "nat", "POSTROUTING")
    tcp = [one for one in found if "-p tcp" in one]
    assert len(found) == 6
    assert all(one.startswith("-s 10.224.0.0/16 -o pip") and one.endswith(":1024-65535") for one in found)
    assert ["--probability" in one for one in tcp] == [True, True, False]


def test_a_nat_gateway_drops_icmp() -> None:
    found = lab(outbound="natGateway")
    assert rules(found, "fabric", "filter", "FORWARD") == ["-s 10.224.0.0/16 -o pip -p icmp -j DROP"]
    (ping,) = (check for check in found.checks if check.probe == "ping" and check.target == "internet")
    assert ping.expect == "fail"


@pytest.mark.parametrize("model", MODELS)
def test_the_route_to_the_firewall_is_for_the_nodes_packets_to_the_internet(model: str) -> None:
    found = lab(model, '{type: userDefinedRouting, allow: ["tcp *:443", "any 203.0.113.8/30", "udp *:53-54"]}')
    (route,) = (item for item in found.plan if isinstance(item, Route) and item.table == azure_outbound.ROUTE_TABLE)
    assert (str(route.dst), str(route.via), route.ns) == ("0.0.0.0/0", "10.228.0.4", "fabric")
    devices = {item.iif for item in found.plan if isinstance(item, Rule) and item.table == azure_outbound.ROUTE_TABLE}
    assert {"node1", "node2"} <= devices
    assert "pip" not in devices
    assert "azure-firewall" not in devices
    assert rules(found, "azure-firewall", "filter", "FORWARD")[1:4] == [
        "-p tcp -m tcp --dport 443 -m conntrack --ctstate NEW -j ACCEPT",
        "-d 203.0.113.8/30 -m conntrack --ctstate NEW -j ACCEPT",
        "-p udp -m udp --dport 53:54 -m conntrack --ctstate NEW -j ACCEPT",
    ]
    assert rules(found, "azure-firewall", "filter", "FORWARD")[-1] == "-j DROP"


def test_replies_for_tenants_come_back_from_the_firewall() -> None:
    nodes = "nodes: {node1: {pods: {a: {vlan: 7}}}}\n"
    found = lab("azure-cni-transparent-vlan", "userDefinedRouting", nodes=nodes)
    back = {item.iif for item in found.plan if isinstance(item, Rule) and item.dst is not None and item.table == 1007}
    assert back == {"azure-firewall"}


def test_a_firewall_without_rules_allows_nothing_and_claims_only_that() -> None:
    found = lab(outbound="userDefinedRouting")
    claims = [check for check in found.checks if check.target == "internet"]
    assert [(check.probe, check.expect) for check in claims] == [("tcp", "timeout")]


def test_a_firewall_that_allows_everything_claims_no_loss() -> None:
    found = lab(outbound='{type: userDefinedRouting, allow: ["any *"]}')
    assert {check.expect for check in found.checks if check.target == "internet"} == {"reply"}


def test_none_has_no_route_and_block_has_a_rule() -> None:
    closed, blocked = lab(outbound="none"), lab(outbound="block")
    assert rules(closed, "fabric", "nat", "POSTROUTING") == rules(blocked, "fabric", "nat", "POSTROUTING") == []
    assert [str(item.iif) for item in closed.plan if isinstance(item, Rule) and item.table == 91] == [
        "vm",
        "node1",
        "node2",
    ]
    assert rules(blocked, "fabric", "filter", "FORWARD") == [
        f"-i {node} -o pip -m conntrack --ctstate NEW -j DROP" for node in ("node1", "node2")
    ]


def test_the_answers_of_a_load_balancer_leave_whatever_the_nodes_way_out_is() -> None:
    """Their source is the address of the load balancer."""
    found = lab(outbound="none")
    sources = {str(item.src) for item in found.plan if isinstance(item, Rule) and item.table == 91}
    assert sources == {"10.224.0.0/16", "10.225.0.0/16"}


def test_vm_leaves_only_by_a_way_of_the_nodes_subnet() -> None:
    def ways(outbound: str) -> list[tuple[str | None, int]]:
        found = lab(outbound=outbound, more="vm_cidr: 10.224.0.0/16\n")
        return [(item.iif, item.table) for item in found.plan if isinstance(item, Rule) and item.iif == "vm"]

    assert ways("loadBalancer") == [("vm", 100), ("vm", azure_outbound.NO_ROUTE_TABLE)]
    assert ways("natGateway") == [("vm", 100)]
    assert ways("userDefinedRouting") == [("vm", 100), ("vm", azure_outbound.ROUTE_TABLE)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_makes_a_claim_about_the_internet(model: str, kind: str) -> None:
    found = lab(model, kind)
    claims = [check for check in found.checks if check.target == "internet" and check.origin == "model"]
    assert claims
    assert all(check.sees for check in claims)


def test_pods_of_a_pod_subnet_leave_with_the_ports_of_their_node() -> None:
    more, nodes = "ip_allocation: pod-subnet\n", "nodes: {node1: {pods: [a]}, node2: {pods: [c]}}\n"
    found = lab("azure-cni-transparent", "{allocated_outbound_ports: 8}", more, nodes)
    tcp = [one for one in rules(found, "fabric", "nat", "POSTROUTING") if "-p tcp" in one]
    assert [(one.split()[1], one.rsplit(":", 1)[1]) for one in tcp] == [
        ("10.224.0.4/32", "1024-1031"),
        ("10.226.0.5/32", "1024-1031"),
        ("10.224.0.5/32", "1032-1039"),
        ("10.226.0.21/32", "1032-1039"),
    ]
    shared = lab("azure-cni-transparent", "natGateway", more, nodes)
    assert {one.split()[1] for one in rules(shared, "fabric", "nat", "POSTROUTING")} == {
        "10.224.0.0/16",
        "10.226.0.0/16",
    }


def test_a_word_and_a_section_mean_the_same() -> None:
    assert lab(outbound="natGateway").plan == lab(outbound="{type: natGateway}").plan
    assert lab(outbound="loadBalancer").plan == lab(outbound="{}").plan


@pytest.mark.parametrize(
    ("outbound", "says"),
    [
        ("{allocated_outbound_ports: 12}", "allocated_outbound_ports 12 is not a multiple of 8"),
        ("{allocated_outbound_ports: 40000}", "2 nodes with 40000 ports each do not fit: 64000 / 40000 x 1 = 1 nodes"),
        ("{outbound_ips: 100, public_ips: [203.0.113.7]}", "outbound_ips and public_ips cannot be used together"),
        ("{type: natGateway, outbound_ips: 17}", "a NAT gateway has at most 16 public addresses, and here are 17"),
        ("{type: natGateway, allocated_outbound_ports: 8}", "allocated_outbound_ports does not apply"),
        ("{type: none, public_ips: [203.0.113.7]}", "public_ips does not apply to the outbound type none"),
        ("{public_ips: [198.51.100.7]}", "198.51.100.7 is not a free address of internet_cidr"),
        ("{public_ips: [203.0.113.7, 203.0.113.7]}", "public_ips has one address twice"),
        ("{type: userDefinedRouting, firewall_cidr: 10.228.0.0/27}", "firewall_cidr 10.228.0.0/27 is too small"),
        ("{type: userDefinedRouting, firewall_cidr: 10.224.0.0/24}", "overlaps node_cidr 10.224.0.0/16"),
        ("{type: userDefinedRouting, public_ips: [203.0.113.7, 203.0.113.8]}", "azure-firewall has one public address"),
    ],
)
def test_what_azure_does_not_allow_is_refused_at_its_key(outbound: str, says: str) -> None:
    ((line, what),) = problems(outbound)
    assert says in what
    assert line == 4


def test_the_firewalls_subnet_is_in_the_virtual_network() -> None:
    found = problems("{type: userDefinedRouting, firewall_cidr: 10.99.0.0/26}", model="azure-cni-transparent")
    assert [what for _, what in found] == ["firewall_cidr 10.99.0.0/26 is not in vnet_cidr 10.224.0.0/12"]


def test_a_large_pool_needs_a_number_of_ports() -> None:
    nodes = f"nodes: {{{', '.join(f'n{number}: {{}}' for number in range(1001))}}}\n"
    found = problems("loadBalancer", model="azure-cni-overlay", nodes=nodes, more="pod_cidr: 100.64.0.0/10\n")
    assert [what for _, what in found] == ["1001 nodes: a load balancer divides its ports by itself for at most 1000"]


def test_kubenet_outside_of_a_cloud_has_no_way_out_of_a_cloud() -> None:
    found = problems("natGateway", more="routing: host\n")
    assert [what for _, what in found] == ["outbound does not apply to kubenet outside of a cloud (routing: host)"]


def test_the_name_of_the_firewall_is_reserved() -> None:
    with pytest.raises(ScenarioError, match="azure-firewall"):
        lab(nodes="nodes: {node1: {pods: [azure-firewall]}}\n")
