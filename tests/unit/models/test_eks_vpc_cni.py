"""A node of EKS, word by word: iptables-save's text, and `ip rule` and `ip route` of each table.

The blocks are what aws/amazon-vpc-cni-k8s writes by its sources (and portmap of containernetworking/plugins), with
this lab's addresses.
"""

from __future__ import annotations

import pytest

from labctl.core.neighbour_presets import NeighbourPresets
from labctl.core.resources import Address, Interface, Link, Neighbour, Route, Rule, Sysctl
from labctl.core.why import reason_of, reason_of_rule
from tests.support.rule_tables import (
    in_any_order,
    lab,
    parse_tables,
    plan_ruleset,
    plan_tables,
    resource_texts,
    ruleset,
)

EKS = "model: eks-vpc-cni\nenis: 2\nips_per_eni: 2\nnodes: {node1: {pods: [a, b]}}\n"


AWS = """
*mangle
-A PREROUTING -i eth0 -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80
-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A PREROUTING -i vlan+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
*nat
:AWS-CONNMARK-CHAIN-0 - [0:0]
:AWS-SNAT-CHAIN-0 - [0:0]
-A PREROUTING -i eni+ -m comment --comment "AWS, outbound connections" -j AWS-CONNMARK-CHAIN-0
-A PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
-A AWS-CONNMARK-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS CONNMARK CHAIN" -j RETURN
-A AWS-CONNMARK-CHAIN-0 -m comment --comment "AWS, CONNMARK" -j CONNMARK --set-xmark 0x80/0x80
-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN
-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.0.4 --random-fully
"""  # noqa: E501
MANGLE = parse_tables(AWS)["mangle"]["PREROUTING"]


def test_eks_writes_its_whole_rule_set() -> None:
    assert plan_tables(lab(EKS)) == parse_tables(AWS)


NFT = """
table ip aws-cni {
	chain nat-prerouting {
		type nat hook prerouting priority dstnat + 10; policy accept;
		fib daddr type local return
		iifname "eni*" counter packets 0 bytes 0 jump snat-mark
		counter packets 0 bytes 0 meta mark set ct mark & 0x00000080
	}

	chain snat-mark {
		counter packets 0 bytes 0 ip daddr 192.0.2.0/24 return
		counter packets 0 bytes 0 ip daddr 198.51.100.0/24 return
		counter packets 0 bytes 0 ip daddr 10.0.0.0/16 return
		counter packets 0 bytes 0 ct mark set ct mark | 0x00000080
	}
}
"""
EXCLUDED = "exclude_snat_cidrs: [198.51.100.0/24, 192.0.2.0/24]\n"


def test_release_1_23_marks_connections_in_a_table_of_nft() -> None:
    built = lab(f'{EKS}release: "1.23"\n{EXCLUDED}')
    assert in_any_order(plan_ruleset(built)) == in_any_order(ruleset(NFT))
    before = plan_tables(lab(EKS + EXCLUDED))
    assert before["nat"].pop("AWS-CONNMARK-CHAIN-0")
    assert before["nat"].pop("PREROUTING")
    assert plan_tables(built) == before
    assert plan_ruleset(lab(f'{EKS}release: "1.23"\nexternal_snat: true\n')) == []
    assert plan_ruleset(lab(EKS)) == []


def test_every_rule_of_nft_has_a_reason() -> None:
    for item in plan_ruleset(lab(f'{EKS}release: "1.23"\n')):
        assert reason_of(item) is not None
        assert [entry for entry in item.entries if reason_of_rule(item, entry) is None] == []


def test_eks_leaves_an_empty_chain_with_external_snat() -> None:
    assert plan_tables(lab(EKS + "external_snat: true\n")) == {
        "mangle": {"PREROUTING": MANGLE},
        "nat": {"AWS-SNAT-CHAIN-0": []},
    }


def test_eks_without_ports_of_the_node() -> None:
    assert plan_tables(lab(EKS + "node_port_support: false\n"))["mangle"]["PREROUTING"] == [MANGLE[1]]
    neither = lab(EKS + "node_port_support: false\nexternal_snat: true\n")
    assert plan_tables(neither) == {"nat": {"AWS-SNAT-CHAIN-0": []}}
    assert not any(text.startswith("pref 1024 ") for text in resource_texts(neither, Rule))


def test_eks_puts_each_exempt_range_before_the_others() -> None:
    nat = plan_tables(lab(EKS + "exclude_snat_cidrs: [198.51.100.0/24, 192.0.2.0/24]\n"))["nat"]
    assert [rule.split()[1] for rule in nat["AWS-SNAT-CHAIN-0"][:3]] == [
        "192.0.2.0/24",
        "198.51.100.0/24",
        "10.0.0.0/16",
    ]
    told = [rule.split('"')[1] for rule in nat["AWS-SNAT-CHAIN-0"][:3]]
    assert told == ["AWS SNAT CHAIN EXCLUSION", "AWS SNAT CHAIN EXCLUSION", "AWS SNAT CHAIN"]
    assert [rule.split('"')[1] for rule in nat["AWS-CONNMARK-CHAIN-0"][:3]] == ["AWS CONNMARK CHAIN"] * 3


@pytest.mark.parametrize(("how", "end"), [("prng", " --random-fully"), ("hashrandom", " --random"), ("none", "")])
def test_eks_draws_ports_as_it_is_told(how: str, end: str) -> None:
    last = plan_tables(lab(f"{EKS}randomize_snat: {how}\n"))["nat"]["AWS-SNAT-CHAIN-0"][-1]
    assert last.endswith(f"--to-source 10.0.0.4{end}")


def test_eks_routes_by_source() -> None:
    built = lab(EKS + "external_service_cidrs: [198.51.100.0/24]\n")
    assert resource_texts(built, Rule) == [
        "pref 32765 from 10.0.0.6/32 lookup 2",
        "pref 1024 from all fwmark 0x80/0x80 lookup main",
        "pref 1535 from all to 198.51.100.0/24 lookup main",
        "pref 512 from all to 10.0.0.5/32 lookup main",
        "pref 512 from all to 10.0.0.7/32 lookup main",
        "pref 1536 from 10.0.0.7/32 lookup 2",
    ]
    assert resource_texts(built, Route) == [
        "default via 10.0.0.1 dev eth0",
        "10.0.0.1 dev eth1 table 2",
        "default via 10.0.0.1 dev eth1 table 2",
        "10.0.0.5 dev eniacd53aa4120",  # eni and 11 digits of the SHA-1 of default.a
        "10.0.0.7 dev eniff6fc35a693",
    ]
    assert resource_texts(built, Address) == [
        "10.0.0.4/20 dev eth0",
        "10.0.0.6/20 dev eth1, without the route to its subnet",
    ]
    filters = [text for text in resource_texts(built, Sysctl) if "rp_filter" in text]
    assert [text.removeprefix("net.ipv4.conf.") for text in filters] == [
        "all.rp_filter = 1",
        "default.rp_filter = 1",
        "eth1.rp_filter = 1",
        "eth0.rp_filter = 2",
    ]


def test_a_pod_of_eks_knows_its_gateway_for_good() -> None:
    built = lab(EKS)
    end = next(item for item in built.plan if isinstance(item, Link) and item.peer == Interface("b", "eth0"))
    assert resource_texts(built, Address, "b") == ["10.0.0.7/32 dev eth0"]
    assert resource_texts(built, Route, "b") == ["169.254.1.1 dev eth0", "default via 169.254.1.1 dev eth0"]
    assert resource_texts(built, Neighbour, "b") == [f"169.254.1.1 dev eth0 lladdr {end.mac} nud permanent"]


@pytest.mark.parametrize("pods", [0, 1, 4, 5, 9, 10, 15])
def test_pods_fill_one_eni_after_the_other_and_one_is_to_spare(pods: int) -> None:
    """As an m5.large would with 6 addresses: 5 pods for each of 3."""
    names = ", ".join(f"p{number}" for number in range(pods))
    built = lab(f"model: eks-vpc-cni\nnodes: {{node1: {{pods: [{names}]}}}}\n")
    first = int(next(one for one in built.machines if one.name == "node1").addresses[0])
    offsets = [int(one.addresses[0]) - first for one in built.machines if one.role == "pod"]
    assert offsets == [number + 1 for number in range(17) if number % 6 != 5][:pods]
    sources = [item for item in built.plan if isinstance(item, Rule) and item.pref == 1536]
    assert [item.table for item in sources] == [2] * max(min(pods - 5, 5), 0) + [3] * max(pods - 10, 0)
    devices = [item.at.dev for item in built.plan if isinstance(item, Link) and item.at.ns == "node1"]
    assert sum(dev.startswith("eth") for dev in devices) == min(3, max(1, -(-pods // 5)) + 1)


PORTMAP = """
*nat
-A PREROUTING -i eni+ -m comment --comment "AWS, outbound connections" -j AWS-CONNMARK-CHAIN-0
-A PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "ABOUT" -m multiport --dports 8080 -j POD
-A POD -s 10.0.0.7/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A POD -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A POD -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.7:80
"""


def test_a_port_of_an_eks_node_is_wired_by_portmap() -> None:
    built = lab(EKS.replace("[a, b]", '{a: , b: {host_ports: ["8080:80"]}}'))
    nat = plan_tables(built)["nat"]
    chain = next(name for name in nat if name.startswith("CNI-DN-"))
    expected = parse_tables(PORTMAP.replace("POD", chain).replace("ABOUT", r"dnat name: \"aws-cni\" id: \"b\""))["nat"]
    assert {name: nat[name] for name in expected} == expected
    assert "net.ipv4.conf.eniff6fc35a693.route_localnet = 1" in resource_texts(built, Sysctl)


ANSWERS = """
*nat
-A PREROUTING -p ARP --arp-op Request --arp-ip-dst 10.0.0.4 -j arpreply --arpreply-mac ETH0
-A PREROUTING -p ARP --arp-op Request --arp-ip-dst 10.0.0.5 -j arpreply --arpreply-mac ETH0
-A PREROUTING -p ARP --arp-op Request --arp-ip-dst 10.0.0.6 -j arpreply --arpreply-mac ETH1
-A PREROUTING -p ARP --arp-op Request --arp-ip-dst 10.0.0.7 -j arpreply --arpreply-mac ETH1
"""


def test_the_vpc_answers_for_every_address_and_checks_every_eni() -> None:
    built = lab(EKS)
    macs = {item.at.dev: str(item.mac) for item in built.plan if isinstance(item, Link) and item.at.ns == "node1"}
    bridge = plan_tables(built, "fabric", "bridge")
    answers = parse_tables(ANSWERS.replace("ETH0", macs["eth0"]).replace("ETH1", macs["eth1"]))["nat"]["PREROUTING"]
    assert bridge["nat"]["PREROUTING"][:4] == answers
    assert bridge["filter"]["SRC-node1-eth1"] == [
        "-p IPv4 --ip-src 10.0.0.6 -j RETURN",
        "-p IPv4 --ip-src 10.0.0.7 -j RETURN",
        "-p IPv4 -j DROP",
    ]
    assert [rule for rule in bridge["filter"]["FORWARD"] if "node1-eth1" in rule] == [
        "-i node1-eth1 -j SRC-node1-eth1",
        "-o node1-eth1 -j DST-node1-eth1",
    ]
    assert "-i node1-eth1 -j SRC-node1-eth1" in bridge["filter"]["INPUT"]  # what goes to the VPC's own router
    unchecked = plan_tables(lab(EKS + "source_dest_check: false\n"), "fabric", "bridge")
    assert unchecked["filter"] == {"FORWARD": ["-p ARP -j DROP"]}


def test_a_mass_of_probes_knows_who_answers_for_a_pod_in_the_vpc() -> None:
    """The nodes' subnet is on eth0's link, and the VPC says which ENI a pod is at; eth1 asks for its gateway alone."""
    built = lab(EKS.replace("[a, b]}", "[a, b]}, node2: {pods: [c]}"))
    known = NeighbourPresets(built).needed(machine.addresses[0] for machine in built.machines).presets
    found = {(str(item.at), str(item.ip)): str(item.mac_interface) for item in known}
    assert found["node2/eth0", "10.0.0.5"] == "node1/eth0"
    assert found["node2/eth0", "10.0.0.7"] == "node1/eth1"
    assert found["node1/eth1", "10.0.0.1"] == "fabric/br0"
