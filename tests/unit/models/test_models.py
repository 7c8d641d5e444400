"""What the models promise, beyond their golden plans: shapes, checks of their own, and what they refuse."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from labctl import models
from labctl.core.resources import Address, Chain, Interface, Link, Neighbour, Netns, Route, Rule, Sysctl
from labctl.core.scenario_types import Check, Lab, Scenario, ScenarioNode
from labctl.errors import ScenarioError
from labctl.models.lib import primitives
from labctl.scenario.definition import parse_and_compile

CLUSTER = {"node1": ["a", "b"], "node2": ["c"]}
HOST = {"host1": ["c1", "c2"]}
AKS = [  # the models of AKS, each with an option that is a range
    ("kubenet", "pod_cidr"),
    ("azure-cni-transparent", "vnet_cidr"),
    ("azure-cni-bridge", "vnet_cidr"),
    ("azure-cni-overlay", "pod_cidr"),
]


def scenario(model: str, nodes: dict[str, list[str]], **options: Any) -> Scenario:
    made = models.find_model(model).Options(**options)
    return Scenario(model, model, tuple(ScenarioNode(name, tuple(pods)) for name, pods in nodes.items()), made)


def lab(model: str, nodes: dict[str, list[str]], **options: Any) -> Lab:
    return models.compile_lab(scenario(model, nodes, **options))


def refusals(model: str, nodes: dict[str, list[str]], **options: Any) -> list[tuple[str, str, str]]:
    return list(models.find_model(model).refuse(scenario(model, nodes, **options)))


def chains(built: Lab, ns: str, table: str, family: str = "ip") -> dict[str, list[str]]:
    return {
        item.name: [str(rule) for rule in item.rules]
        for item in built.plan
        if isinstance(item, Chain) and (item.ns, item.table, item.family) == (ns, table, family)
    }


def routes(built: Lab, ns: str) -> set[str]:
    return {
        f"{item.dst} {item.via} {item.dev} {item.table}"
        for item in built.plan
        if isinstance(item, Route) and item.ns == ns
    }


def crowd(count: int, word: str = "p") -> list[str]:
    return [f"{word}{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("model", "nodes"),
    [
        ("docker-bridge", HOST),
        ("kubenet", CLUSTER),
        ("azure-cni-transparent", CLUSTER),
        ("azure-cni-bridge", CLUSTER),
        ("azure-cni-overlay", CLUSTER),
        ("azure-cni-transparent-vlan", CLUSTER),
        ("cilium", CLUSTER),
    ],
)
class TestEveryModel:
    def test_it_opens_with_a_picture_and_says_what_it_follows(self, model: str, nodes: dict[str, list[str]]) -> None:
        module = models.find_model(model)
        assert module.__doc__.splitlines()[0].endswith(".")
        assert "+--" in module.__doc__
        assert module.FOLLOWS

    def test_every_namespace_is_a_machine_and_every_device_lies_in_one(
        self, model: str, nodes: dict[str, list[str]]
    ) -> None:
        built = lab(model, nodes)
        spaces = {item.name for item in built.plan if isinstance(item, Netns)}
        assert sorted(spaces) == sorted(machine.name for machine in built.machines)  # and each of them once
        assert {item.ns for item in built.plan} == spaces

    def test_veths_come_in_pairs_with_mtu_and_names_that_fit(self, model: str, nodes: dict[str, list[str]]) -> None:
        links = {item.at: item for item in lab(model, nodes).plan if isinstance(item, Link)}
        for at, link in links.items():
            assert len(at.dev) <= 15
            assert link.kind == "loopback" or link.mtu == 1500
            assert link.peer is None or links[link.peer].peer == at
            assert link.kind != "bridge" or link.mac is not None

    def test_every_machine_owns_the_addresses_it_says(self, model: str, nodes: dict[str, list[str]]) -> None:
        built = lab(model, nodes)
        owned = {(item.ns, item.addr.ip) for item in built.plan if isinstance(item, Address)}
        assert {(machine.name, address) for machine in built.machines for address in machine.addresses} <= owned

    def test_whether_it_forwards_is_written_in_every_namespace(self, model: str, nodes: dict[str, list[str]]) -> None:
        built = lab(model, nodes)
        forward = {item.ns: item.value for item in built.plan if isinstance(item, Sysctl) and "ip_forward" in item.name}
        routers = {"host", "node", "fabric", "namespace"}
        assert forward == {machine.name: str(int(machine.role in routers)) for machine in built.machines}

    def test_the_same_scenario_gives_the_same_plan(self, model: str, nodes: dict[str, list[str]]) -> None:
        assert lab(model, nodes) == lab(model, nodes)


class TestDockerBridge:
    def test_each_release_has_its_own_chains(self) -> None:
        new, old = (
            chains(lab("docker-bridge", HOST, release=release), "host1", "filter") for release in ("28", "20.10")
        )
        assert "DOCKER-FORWARD" in new
        assert "DOCKER-FORWARD" not in old
        assert new["DOCKER-USER"] == []
        assert old["DOCKER-USER"] == ["-j RETURN"]
        assert chains(lab("docker-bridge", HOST, release="20.10"), "host1", "raw") == {}

    def test_docker_28_drops_what_is_routed_to_a_container_in_raw(self) -> None:
        assert chains(lab("docker-bridge", HOST), "host1", "raw")["PREROUTING"] == [
            "-d 172.17.0.2/32 ! -i docker0 -j DROP",
            "-d 172.17.0.3/32 ! -i docker0 -j DROP",
        ]

    def test_20_10_makes_macs_of_addresses(self) -> None:
        links = {
            str(item.at): item for item in lab("docker-bridge", HOST, release="20.10").plan if isinstance(item, Link)
        }
        assert links["c1/eth0"].mac == "02:42:ac:11:00:02"

    def test_several_hosts_share_an_ethernet_and_the_subnet(self) -> None:
        built = lab("docker-bridge", {"host1": ["c1"], "host2": ["d1"]})
        owned = {str(item.at): str(item.addr) for item in built.plan if isinstance(item, Address)}
        assert owned["host2/eth0"] == "192.168.50.12/24"
        assert owned["c1/eth0"] == owned["d1/eth0"] == "172.17.0.2/16"
        assert {item.at.dev for item in built.plan if isinstance(item, Link) and item.master == "wire"} == {
            "host1", "host2", "internet",
        }  # fmt: skip

    def test_a_container_has_a_device_in_each_network_and_one_way_out(self) -> None:
        text = """
model: docker-bridge
networks: {back: {internal: true}, front: {}, own: {subnet: 172.18.0.0/16}}
hosts: {host1: {containers: {a: , b: {networks: [back, front, bridge]}, c: {networks: [none]}, d: {networks: [front]}}}}
"""
        built = parse_and_compile(text, "t.yaml")[1]
        owned = {str(item.at): str(item.addr) for item in built.plan if isinstance(item, Address)}
        assert {at: owned[at] for at in owned if at[0] in "abcd"} == {
            "a/eth0": "172.17.0.2/16",
            "b/eth0": "172.19.0.2/16",
            "b/eth1": "172.20.0.2/16",
            "b/eth2": "172.17.0.3/16",
            "d/eth0": "172.20.0.3/16",
        }
        assert routes(built, "b") == {"0.0.0.0/0 172.17.0.1 eth2 254"}  # bridge is the first by name
        assert routes(built, "c") == set()
        masters = {item.peer: item.master for item in built.plan if isinstance(item, Link) and item.master}
        assert masters[Interface("b", "eth2")] == "docker0"
        assert masters[Interface("b", "eth1")] == primitives.device_names("br-", 12, ["front"])[0]
        assert [str(ip) for ip in built.machine("host1").addresses] == [  # type: ignore[union-attr]
            "192.168.50.11", "172.17.0.1", "172.19.0.1", "172.20.0.1", "172.18.0.1",
        ]  # fmt: skip

    def test_subnets_come_from_dockers_pools_until_none_is_left(self) -> None:
        names = [f"n{number}" for number in range(29)]
        text = "model: docker-bridge\nunderlay: 192.168.16.0/24\nhosts: [host1]\nnetworks:\n"
        text += "".join(f"  {name}: {{}}\n" for name in names)
        built = parse_and_compile(text, "t.yaml")[1]
        gateways = [str(ip) for ip in built.machine("host1").addresses[2:]]  # type: ignore[union-attr]
        assert gateways[:2] == ["172.18.0.1", "172.19.0.1"]
        assert gateways[13:16] == ["172.31.0.1", "192.168.0.1", "192.168.32.1"]
        with pytest.raises(ScenarioError, match=r"t.yaml:34:3: no free subnet is left for network x"):
            parse_and_compile(text.replace("  n28: {}\n", "  n28: {}\n  x: {}\n"), "t.yaml")

    def test_a_thousand_containers_are_planned_at_once(self) -> None:
        big = scenario("docker-bridge", {"host1": crowd(1000)})
        times = []
        for _ in range(5):
            start = time.process_time()
            built = models.compile_lab(big)
            times.append(time.process_time() - start)
        assert len({item.at for item in built.plan if isinstance(item, Link) and item.master == "docker0"}) == 1000
        assert min(times) < 0.2

    def test_it_refuses_what_cannot_be(self) -> None:
        told = refusals("docker-bridge", {"host1": crowd(1024)}, subnet=ip_network("172.17.0.0/28"))
        assert [key for key, _, _ in told] == ["hosts", "subnet"]
        assert told[0][1:] == (
            "host1 has 1024 containers; a Linux bridge has at most 1023 ports", "spread them over 2 hosts",
        )  # fmt: skip
        assert "= 1027: a /21" in told[1][2]
        assert [key for key, _, _ in refusals("docker-bridge", HOST, underlay=ip_network("172.17.8.0/24"))] == [
            "underlay"
        ]
        assert refusals("docker-bridge", {f"host{n}": [] for n in range(8)}, underlay=ip_network("192.168.50.0/28"))


class TestKubenet:
    def test_udr_nodes_know_no_other_node_and_the_route_table_serves_nodes_only(self) -> None:
        built = lab("kubenet", CLUSTER)
        assert routes(built, "node1") == {"0.0.0.0/0 10.224.0.1 eth0 254"}
        assert "10.244.1.0/24 10.224.0.5 node2 100" in routes(built, "fabric")
        assert [item.iif for item in built.plan if isinstance(item, Rule)] == ["node1", "node2"]
        beside = lab("kubenet", CLUSTER, vm_cidr=ip_network("10.224.0.0/16"))
        assert [item.iif for item in beside.plan if isinstance(item, Rule)] == ["node1", "node2", "vm"]
        assert beside.machine("vm").addresses == (ip_address("10.224.255.254"),)  # type: ignore[union-attr]

    def test_host_routing_puts_the_routes_on_the_nodes(self) -> None:
        built = lab("kubenet", CLUSTER, routing="host")
        assert routes(built, "node1") == {"0.0.0.0/0 10.224.0.1 eth0 254", "10.244.1.0/24 10.224.0.5 eth0 254"}
        assert not [item for item in built.plan if isinstance(item, Rule)]

    @pytest.mark.parametrize(
        ("profile", "exempt"), [("podcidr", ["10.244.0.0/16"]), ("podcidr+subnet", ["10.244.0.0/16", "10.224.0.0/16"])]
    )
    def test_the_agent_exempts_what_the_profile_says(self, profile: str, exempt: list[str]) -> None:
        nat = chains(lab("kubenet", CLUSTER, masquerade=profile), "node1", "nat")
        assert [text.split()[1] for text in nat["IP-MASQ-AGENT"][:-1]] == exempt
        assert nat["IP-MASQ-AGENT"][-1].endswith("-j MASQUERADE")
        assert nat["POSTROUTING"][0].endswith("-m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT")

    def test_the_kubelet_masquerades_by_itself(self) -> None:
        built = lab("kubenet", CLUSTER, masquerade="kubelet")
        assert chains(built, "node1", "nat")["POSTROUTING"][0].startswith("! -d 10.0.0.0/8 ")
        assert "KUBE-DEDUP" in chains(built, "node1", "filter", "bridge")
        nowhere = lab("kubenet", CLUSTER, masquerade="kubelet", non_masquerade_cidr=ip_network("0.0.0.0/0"))
        assert chains(nowhere, "node1", "nat") == {}

    def test_the_dedup_rules_know_the_bridge(self) -> None:
        built = lab("kubenet", CLUSTER)
        mac = next(item.mac for item in built.plan if isinstance(item, Link) and item.at == Interface("node2", "cbr0"))
        assert chains(built, "node2", "filter", "bridge")["AKS-DEDUP-PROMISC"] == [
            f"-p IPv4 -s {mac} -o veth+ --ip-src 10.244.1.1 -j ACCEPT",
            f"-p IPv4 -s {mac} -o veth+ --ip-src 10.244.1.0/24 -j DROP",
        ]
        assert chains(lab("kubenet", CLUSTER, dedup=False), "node2", "filter", "bridge") == {}

    def test_without_ip_forwarding_the_fabric_drops_and_nothing_is_promised(self) -> None:
        built = lab("kubenet", CLUSTER, ip_forwarding=False)
        assert chains(built, "fabric", "filter")["FORWARD"] == [
            "! -s 10.224.0.4/32 -i node1 -j DROP", "! -d 10.224.0.4/32 -o node1 -j DROP",
            "! -s 10.224.0.5/32 -i node2 -j DROP", "! -d 10.224.0.5/32 -o node2 -j DROP",
        ]  # fmt: skip
        assert [check.target for check in built.checks] == ["vm"]  # which needs no forwarding

    def test_how_far_pods_are_apart_follows_from_who_routes(self) -> None:
        for routing, ttl in (("udr", 61), ("host", 62)):
            far = [check for check in lab("kubenet", CLUSTER, routing=routing).checks if "apart" in check.say]
            assert [(check.source, check.target, check.sees[0].ttl) for check in far] == [("a", "c", ttl)]
        assert not any("vm" in check.say for check in lab("kubenet", CLUSTER, masquerade="kubelet").checks)

    def test_it_refuses_what_aks_refuses(self) -> None:
        many = {f"node{number}": [] for number in range(1, 402)}
        told = {key: (what, hint) for key, what, hint in refusals("kubenet", many)}
        assert told["nodes"][0].startswith("401 nodes: an Azure route table has at most 400 routes")
        assert told["pod_cidr"][0] == "pod_cidr 10.244.0.0/16 holds 256 ranges of /24, but there are 401 nodes"
        assert told["pod_cidr"][1] == "2^(24 - 15) = 512: a /15 is large enough"

    def test_it_refuses_more_pods_than_fit(self) -> None:
        assert [key for key, _, _ in refusals("kubenet", {"node1": crowd(111)})] == ["nodes/node1/pods"]
        told = refusals("kubenet", {"node1": crowd(14)}, node_prefix=28)
        assert told == [
            ("node_prefix", "node1 has 14 pods, but its /28 has 13 addresses for them",
             "pods + network, cbr0 and broadcast: a /27"),
        ]  # fmt: skip

    def test_it_refuses_ranges_that_overlap(self) -> None:
        told = refusals("kubenet", CLUSTER, pod_cidr=ip_network("10.224.128.0/17"))
        assert [(key, what) for key, what, _ in told] == [
            ("pod_cidr", "pod_cidr 10.224.128.0/17 overlaps node_cidr 10.224.0.0/16")
        ]
        assert [key for key, _, _ in refusals("kubenet", CLUSTER, public_ip=ip_address("198.51.100.1"))] == [
            "public_ip"
        ]
        assert [key for key, _, _ in refusals("kubenet", CLUSTER, node_cidr=ip_network("10.224.0.0/29"))] == []
        assert (
            "a /28"
            in refusals("kubenet", {f"node{n}": [] for n in range(3)}, node_cidr=ip_network("10.9.0.0/29"))[0][2]
        )


class TestAzureCniTransparent:
    def test_there_is_no_bridge_and_a_route_to_every_pod(self) -> None:
        built = lab("azure-cni-transparent", CLUSTER)
        assert not [item for item in built.plan if isinstance(item, Link) and (item.kind == "bridge" or item.master)]
        azv = {str(item.peer): item for item in built.plan if isinstance(item, Link) and item.at.dev.startswith("azv")}
        assert set(azv) == {"a/eth0", "b/eth0", "c/eth0"}
        assert f"10.224.0.5/32 None {azv['a/eth0'].at.dev} 254" in routes(built, "node1")
        assert {item.mac for item in azv.values()} == {"aa:aa:aa:aa:aa:aa"}
        assert {len(item.at.dev) for item in azv.values()} == {14}

    def test_a_pods_gateway_is_nowhere(self) -> None:
        built = lab("azure-cni-transparent", CLUSTER)
        assert routes(built, "a") == {"169.254.1.1/32 None eth0 254", "0.0.0.0/0 169.254.1.1 eth0 254"}
        gateway = [item for item in built.plan if isinstance(item, Neighbour) and item.ns == "a"]
        assert [(str(item.ip), item.mac, item.state) for item in gateway] == [
            ("169.254.1.1", "aa:aa:aa:aa:aa:aa", "probe")
        ]
        assert [item.connected for item in built.plan if isinstance(item, Address) and item.ns == "a"] == [False]
        assert "169.254.1.1" not in {str(item.addr.ip) for item in built.plan if isinstance(item, Address)}

    def test_each_node_keeps_addresses_for_its_pods(self) -> None:
        built = lab("azure-cni-transparent", CLUSTER, max_pods=10)
        owned = {machine.name: str(machine.addresses[0]) for machine in built.machines}
        assert (owned["node1"], owned["a"], owned["b"]) == ("10.224.0.4", "10.224.0.5", "10.224.0.6")
        assert (owned["node2"], owned["c"]) == ("10.224.0.15", "10.224.0.16")
        assert "10.224.0.16/32 10.224.0.15 node2 254" in routes(built, "fabric")

    def test_the_subnet_must_hold_the_plan(self) -> None:
        nodes = {f"node{number}": [] for number in range(1, 51)}
        told = refusals("azure-cni-transparent", nodes, subnet=ip_network("10.224.0.0/22"))
        assert told == [
            ("subnet", "subnet 10.224.0.0/22 has 1019 addresses, but 50 nodes of 30 pods need 1581",
             "(50 + 1 for upgrades) x (30 + 1) = 1581, and Azure reserves 5: a /21 is large enough; "
             "31 nodes fit in 10.224.0.0/22"),
        ]  # fmt: skip
        seven, eight = ({f"node{number}": [] for number in range(count)} for count in (7, 8))
        assert refusals("azure-cni-transparent", seven, subnet=ip_network("10.224.0.0/24")) == []
        assert refusals("azure-cni-transparent", eight, subnet=ip_network("10.224.0.0/24")) != []

    def test_it_refuses_too_many_pods_and_subnets_outside_the_network(self) -> None:
        assert [key for key, _, _ in refusals("azure-cni-transparent", {"node1": crowd(31)})] == ["nodes/node1/pods"]
        told = refusals("azure-cni-transparent", CLUSTER, subnet=ip_network("10.0.0.0/16"))
        assert [(key, what) for key, what, _ in told] == [
            ("subnet", "subnet 10.0.0.0/16 is not in vnet_cidr 10.224.0.0/12")
        ]


class TestAzureCniBridge:
    def test_the_bridge_takes_over_the_address_and_the_route_and_wears_the_nics_mac(self) -> None:
        built = lab("azure-cni-bridge", CLUSTER)
        links = {str(item.at): item for item in built.plan if isinstance(item, Link)}
        assert {name for name, item in links.items() if item.master == "azure0" and item.hairpin} == {
            "node1/eth0", "node2/eth0", *(str(links[f"{pod}/eth0"].peer) for pod in "abc"),
        }  # fmt: skip
        assert links["node1/azure0"].mac == links["node1/eth0"].mac
        owned = {str(item.at): str(item.addr) for item in built.plan if isinstance(item, Address)}
        assert owned["node1/azure0"] == "10.224.0.4/16"
        assert "node1/eth0" not in owned
        assert routes(built, "node1") == {"0.0.0.0/0 10.224.0.1 azure0 254"}

    def test_a_pod_is_a_plain_machine_of_the_subnet(self) -> None:
        built = lab("azure-cni-bridge", CLUSTER)
        assert routes(built, "a") == {"0.0.0.0/0 10.224.0.1 eth0 254"}
        assert [(str(item.addr), item.connected) for item in built.plan if isinstance(item, Address) and item.ns == "a"]
        assert built.machine("c").addresses == (ip_address("10.224.0.36"),)  # type: ignore[union-attr]

    def test_ebtables_translates_in_the_plugins_order(self) -> None:
        built = lab("azure-cni-bridge", CLUSTER)
        macs = {str(item.at): item.mac for item in built.plan if isinstance(item, Link)}
        nic, pod = macs["node2/eth0"], macs["c/eth0"]
        assert chains(built, "node2", "nat", "bridge") == {
            "POSTROUTING": [f"-s Unicast -o eth0 -j snat --to-src {nic} --snat-arp --snat-target ACCEPT"],
            "PREROUTING": [
                f"-p ARP --arp-op Request --arp-ip-dst 10.224.0.35 -j arpreply --arpreply-mac {nic}",
                "-p ARP -i eth0 --arp-op Reply -j dnat --to-dst ff:ff:ff:ff:ff:ff --dnat-target ACCEPT",
                f"-p ARP --arp-op Request --arp-ip-dst 10.224.0.36 -j arpreply --arpreply-mac {pod}",
                f"-p IPv4 -i eth0 --ip-dst 10.224.0.36 -j dnat --to-dst {pod} --dnat-target ACCEPT",
            ],
        }
        known = [item for item in built.plan if isinstance(item, Neighbour) and item.ns == "node2"]
        assert known == [Neighbour(Interface("node2", "azure0"), ip_address("10.224.0.36"), pod)]

    def test_tunnel_mode_sends_every_frame_to_the_fabric(self) -> None:
        built = lab("azure-cni-bridge", CLUSTER, mode="tunnel")
        rules = chains(built, "node2", "nat", "bridge")["PREROUTING"]
        assert rules[2] == "-i az+ -j dnat --to-dst 12:34:56:78:9a:bc --dnat-target ACCEPT"
        assert rules[3].endswith("--arp-ip-dst 10.224.0.36 -j arpreply --arpreply-mac 12:34:56:78:9a:bc")
        assert not [item for item in built.plan if isinstance(item, Neighbour)]

    def test_the_subnet_must_hold_the_plan(self) -> None:
        told = refusals("azure-cni-bridge", {"node1": crowd(31), "node2": []}, subnet=ip_network("10.224.0.0/26"))
        assert [(key, hint) for key, _, hint in told] == [
            ("subnet", "(2 + 1 for upgrades) x (30 + 1) = 93, and Azure reserves 5: a /25 is large enough; "
             "no node fits in 10.224.0.0/26"),
            ("nodes/node1/pods", "spread them over 2 nodes, or raise max_pods"),
        ]  # fmt: skip
        two = refusals("azure-cni-bridge", CLUSTER, subnet=ip_network("10.224.0.0/27"), max_pods=10)
        assert [hint.rpartition("; ")[2] for _, _, hint in two] == ["1 node fits in 10.224.0.0/27"]


class TestAzureCniOverlay:
    def test_each_node_has_a_part_of_the_pod_cidr_and_a_route_to_every_pod(self) -> None:
        built = lab("azure-cni-overlay", CLUSTER)
        owned = {machine.name: str(machine.addresses[0]) for machine in built.machines}
        assert (owned["node1"], owned["a"], owned["b"]) == ("10.224.0.4", "10.244.0.1", "10.244.0.2")
        assert (owned["node2"], owned["c"]) == ("10.224.0.5", "10.244.1.1")
        assert not [item for item in built.plan if isinstance(item, Link) and item.kind == "bridge"]
        assert {text.split()[0] for text in routes(built, "node1")} == {"0.0.0.0/0", "10.244.0.1/32", "10.244.0.2/32"}
        assert routes(built, "a") == {"169.254.1.1/32 None eth0 254", "0.0.0.0/0 169.254.1.1 eth0 254"}

    def test_only_the_clusters_nics_look_into_its_routing_domain(self) -> None:
        built = lab("azure-cni-overlay", CLUSTER, vm_cidr=ip_network("10.224.0.0/16"))
        assert {text for text in routes(built, "fabric") if text.endswith(" 100")} == {
            "10.244.0.0/24 10.224.0.4 node1 100", "10.244.1.0/24 10.224.0.5 node2 100",
        }  # fmt: skip
        rules = [(item.iif, str(item.dst), item.table) for item in built.plan if isinstance(item, Rule)]
        assert rules == [("node1", "10.244.0.0/16", 100), ("node2", "10.244.0.0/16", 100)]
        nowhere = [item for item in built.plan if isinstance(item, Route) and item.kind == "unreachable"]
        assert [(item.ns, str(item.dst), item.table) for item in nowhere] == [("fabric", "10.244.0.0/16", 254)]

    def test_everything_outside_the_pod_cidr_is_masqueraded(self) -> None:
        nat = chains(lab("azure-cni-overlay", CLUSTER), "node1", "nat")["IP-MASQ-AGENT"]
        assert [text.split()[1] for text in nat[:-1]] == ["10.244.0.0/16"]
        assert nat[-1].endswith("-j MASQUERADE")

    def test_it_refuses_what_does_not_fit(self) -> None:
        three = {f"node{number}": [] for number in range(3)}
        told = refusals(
            "azure-cni-overlay", three, pod_cidr=ip_network("10.244.0.0/23"), node_cidr=ip_network("10.9.0.0/29")
        )
        assert told == [
            ("pod_cidr", "pod_cidr 10.244.0.0/23 holds 2 ranges of /24, but there are 3 nodes",
             "2^(24 - 22) = 4: a /22 is large enough"),
            ("node_cidr", "node_cidr 10.9.0.0/29 is too small for 3 nodes",
             "3 + 1 for upgrades, and Azure reserves 5: a /28 is large enough; 2 nodes fit in 10.9.0.0/29"),
        ]  # fmt: skip
        many = {f"node{number}": [] for number in range(5001)}
        told = refusals("azure-cni-overlay", many, pod_cidr=ip_network("10.64.0.0/10"))
        assert [(key, what) for key, what, _ in told] == [("nodes", "5001 nodes: AKS allows at most 5000")]
        assert [key for key, _, _ in refusals("azure-cni-overlay", {"node1": crowd(251)})] == ["nodes/node1/pods"]


class TestAzureCniTransparentVlan:
    TENANTS = """
model: azure-cni-transparent-vlan
nodes: {node1: {pods: {a: {vlan: 7}, b: {vlan: 7}, x: {vlan: 8}}}, node2: {pods: {c: {vlan: 7}}}}
"""

    def tenants(self, *approximate: str) -> Lab:
        return parse_and_compile(self.TENANTS, "t.yaml", substitute_features=approximate or None)[1]

    @pytest.mark.parametrize("approximate", [(), ("vlan",)], ids=["exact", "approximate"])
    def test_a_tenants_namespace_is_as_the_plugin_makes_it(self, approximate: tuple[str, ...]) -> None:
        built = self.tenants(*approximate)
        space = "node1-vlan7"
        assert chains(built, space, "mangle") == {
            "PREROUTING": ["-i eth0_7 -j ACCEPT", "-j MARK --set-xmark 0x14d/0xffffffff"]
        }
        assert chains(built, space, "filter") == {"FORWARD": ["-d 168.63.129.16/32 -p tcp -m tcp --dport 80 -j DROP"]}
        a, b = primitives.device_names("azv", 11, ["a", "b"])
        assert routes(built, space) == {
            "169.254.2.1/32 None eth0_7 254", "0.0.0.0/0 169.254.2.1 eth0_7 254", f"10.100.0.4/32 None {a} 254",
            "169.254.2.1/32 None eth0_7 2", "0.0.0.0/0 169.254.2.1 eth0_7 2", f"10.100.0.5/32 None {b} 254",
        }  # fmt: skip
        rules = [item for item in built.plan if isinstance(item, Rule) and item.ns == space]
        assert [(item.pref, item.mark, item.table) for item in rules] == [(32765, 333, 2)]
        known = [item for item in built.plan if isinstance(item, Neighbour) and item.ns == space]
        assert [(str(item.ip), item.at.dev, item.mac, item.state) for item in known] == [
            ("169.254.2.1", "eth0_7", "12:34:56:78:9a:bc", "permanent")
        ]
        settings = {item.name: item.value for item in built.plan if isinstance(item, Sysctl) and item.ns == space}
        assert [settings[f"net.ipv4.conf.{name}.rp_filter"] for name in ("all", "eth0_7")] == ["0", "0"]
        assert [settings[f"net.ipv4.conf.{name}.proxy_arp"] for name in (a, b)] == ["1", "1"]

    def test_a_pods_gateway_is_nowhere_and_known_for_good(self) -> None:
        built = self.tenants()
        assert routes(built, "a") == {"169.254.2.1/32 None eth0 254", "0.0.0.0/0 169.254.2.1 eth0 254"}
        gateway = [item for item in built.plan if isinstance(item, Neighbour) and item.ns == "a"]
        assert [(str(item.ip), item.mac, item.state) for item in gateway] == [
            ("169.254.2.1", "aa:aa:aa:aa:aa:aa", "permanent")
        ]
        assert [item.connected for item in built.plan if isinstance(item, Address) and item.ns == "a"] == [False]

    def test_the_node_holds_nothing_of_its_tenants_but_their_vlans(self) -> None:
        built = self.tenants()
        links = {str(item.at): item for item in built.plan if isinstance(item, Link)}
        assert routes(built, "node1") == {"0.0.0.0/0 10.224.0.1 eth0 254"}
        assert {name for name in links if name.startswith("node1/")} == {"node1/lo", "node1/eth0"}
        vlan = links["node1-vlan8/eth0_8"]
        assert (vlan.kind, vlan.link_netns, vlan.options) == ("vlan", "node1", (("dev", "eth0"), ("id", "8")))
        assert vlan.mac == links["node1/eth0"].mac
        assert links["fabric/node1-vlan8"].options == (("dev", "node1"), ("id", "8"))

    def test_the_substitute_differs_in_the_vlans_alone(self) -> None:
        exact, other = self.tenants(), self.tenants("vlan")
        unlike = {item.key for item in exact.plan if item not in other.plan}
        assert unlike == {item.key for item in exact.plan if isinstance(item, Link) and item.kind == "vlan"}
        assert {item.key for item in exact.plan} == {item.key for item in other.plan}
        assert exact.checks == other.checks

    def test_each_tenant_has_a_routing_domain_of_its_own(self) -> None:
        built = self.tenants()
        for table, own in (("1007", {"10.100.0.4", "10.100.0.5", "10.100.0.6"}), ("1008", {"10.100.1.4"})):
            rows = [text.split() for text in routes(built, "fabric") if text.endswith(f" {table}")]
            assert {row[0].removesuffix("/32") for row in rows} == own | {"10.100.0.0/16", "10.224.0.0/16"}
        (mesh,) = meshes(built)
        assert mesh.groups == ((("a", "b", "c"), ("a", "b", "c")),)

    def test_it_refuses_what_does_not_fit(self) -> None:
        def told(text: str) -> list[str]:
            with pytest.raises(ScenarioError) as caught:
                parse_and_compile(text, "t.yaml")
            return [f"{one.line}: {one.what}" for one in caught.value.problems]

        assert told(self.TENANTS.replace("x: {", "node1-vlan7: {")) == [
            "3: node1-vlan7, the namespace of tenant 7 on node1, is the name of another machine"
        ]
        assert told(self.TENANTS + "tenant_cidr: 10.100.0.0/24\n") == [
            "4: tenant_cidr 10.100.0.0/24 holds 1 ranges of /24, but there are 2 tenants"
        ]
        assert told(self.TENANTS + "tenant_cidr: 10.224.0.0/16\n") == [
            "4: tenant_cidr 10.224.0.0/16 overlaps node_cidr 10.224.0.0/16"
        ]
        many = "model: azure-cni-transparent-vlan\nmax_pods: 250\nnodes: {count: 2, pods: 126}\n"
        assert told(many) == ["3: tenant 1 has 252 pods, but its 10.100.0.0/24 has addresses for 251"]
        assert told(self.TENANTS.replace("vlan: 8", "vlan: 4095"))[0].startswith("3: vlan: 4095 is out of bounds")


@pytest.mark.parametrize("model", models.model_names())
def test_how_true_a_model_is_stands_in_its_parts(model: str) -> None:
    module = models.find_model(model)
    grades = [part.grade for part in module.PARTS]
    assert "faithful" in grades or "approximation" in grades
    assert not re.search(r"^(faithful|approximation|needs|skipped)\s", module.__doc__, re.MULTILINE)
    for part in module.PARTS:
        assert part.aspect.isprintable()
        assert len(part.aspect) < 110
        assert part.reason or part.grade != "approximation"
        assert bool(part.feature) == (part.grade == "needs")
        assert not part.aspect.endswith(".")
        assert not part.reason.endswith(".")


@pytest.mark.parametrize("reserved", ["169.254.0.0/16", "172.30.8.0/24", "172.16.0.0/12", "192.0.2.0/24", "0.0.0.0/0"])
@pytest.mark.parametrize(("model", "key"), AKS)
def test_aks_keeps_ranges_for_itself(model: str, key: str, reserved: str) -> None:
    told = refusals(model, CLUSTER, **{key: ip_network(reserved)})
    assert [what for where, what, _ in told if where == key and "which AKS reserves" in what]


@pytest.mark.parametrize("model", [model for model, _ in AKS])
def test_kubernetes_rules_are_checked_without_being_named(model: str) -> None:
    everyone, nodes = meshes(lab(model, CLUSTER))
    assert everyone.groups == ((("a", "b", "c"), ("a", "b", "c")),)
    assert nodes.groups == ((("node1",), ("a", "b")), (("node2",), ("c",)))
    assert {everyone.probe, nodes.probe} == {"mesh"}
    assert {everyone.origin, nodes.origin} == {"model"}
    assert [check.say for check in meshes(lab(model, {"node1": ["a"], "node2": []}))] == [
        "each node reaches its own pods"
    ]
    assert lab(model, {"node1": []}).checks == ()


def meshes(built: Lab) -> list[Check]:
    return [check for check in built.checks if check.probe == "mesh"]


def test_device_names_never_meet() -> None:
    names = crowd(300)
    assert len(set(primitives.device_names("v", 3, names))) == 300
    assert primitives.device_names("v", 3, names) == primitives.device_names("v", 3, names)
    assert [primitives.device_name(name)[:3] for name in ("node1", "igw", "lan1", "lan2")] == [
        "nod",
        "to-",
        "to-",
        "to-",
    ]
    assert (
        primitives.device_name("a-name-too-long-for-a-device")
        == primitives.device_names("to-", 11, ["a-name-too-long-for-a-device"])[0]
    )


def test_the_installed_packages_are_searched_only_for_a_model_that_is_not_labctls_own() -> None:
    code = (
        "import sys\nfrom labctl import api, models\n"
        "api.load('kubenet').compiled\n"
        "print('importlib.metadata' in sys.modules, models.has_model('kubenet'))\n"
        "print(models.has_model('kube_router'), models.has_model('nothing'), 'importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True", "False", "False", "True"]
