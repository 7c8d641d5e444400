"""What a node of EKS and GKE is set to, word by word: iptables-save's text, and `ip rule` and `ip route` of each table.

The blocks are what aws/amazon-vpc-cni-k8s, GoogleCloudPlatform/netd and kubernetes-sigs/ip-masq-agent write by
their sources (and portmap of containernetworking/plugins), with this lab's addresses.
"""

from __future__ import annotations

import pytest

from labctl.core.iptables import BUILTIN
from labctl.core.neighbour_presets import presets
from labctl.core.resources import Address, Chain, Interface, Link, Neighbour, Route, Rule, Sysctl
from labctl.core.scenario_types import Lab
from labctl.render.resources import resource_values
from labctl.scenario.definition import parse_and_compile
from tests.test_docker_rules import Tables, block

EKS = "model: eks-vpc-cni\nenis: 2\nips_per_eni: 2\nnodes: {node1: {pods: [a, b]}}\n"
GKE = "model: gke-vpc-native\nnodes: {node1: {pods: [a, b]}}\n"


def lab(text: str) -> Lab:
    return parse_and_compile(text, "t.yaml")[1]


def saved(built: Lab, ns: str = "node1", family: str = "ip") -> Tables:
    """A namespace's rules by table and chain; a built-in chain without rules is not there."""
    tables: Tables = {}
    for item in built.plan:
        if isinstance(item, Chain) and (item.ns, item.family) == (ns, family):
            rules = [str(rule) for rule in item.rules]
            if rules or item.name not in BUILTIN[family, item.table]:
                tables.setdefault(item.table, {})[item.name] = rules
    return tables


def said(built: Lab, kind: type, ns: str = "node1") -> list[str]:
    return [resource_values(item) for item in built.plan if isinstance(item, kind) and item.ns == ns]


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
MANGLE = block(AWS)["mangle"]["PREROUTING"]


def test_eks_writes_its_whole_rule_set() -> None:
    assert saved(lab(EKS)) == block(AWS)


def test_eks_leaves_an_empty_chain_with_external_snat() -> None:
    assert saved(lab(EKS + "external_snat: true\n")) == {
        "mangle": {"PREROUTING": MANGLE},
        "nat": {"AWS-SNAT-CHAIN-0": []},
    }


def test_eks_without_ports_of_the_node() -> None:
    assert saved(lab(EKS + "node_port_support: false\n"))["mangle"]["PREROUTING"] == [MANGLE[1]]
    neither = lab(EKS + "node_port_support: false\nexternal_snat: true\n")
    assert saved(neither) == {"nat": {"AWS-SNAT-CHAIN-0": []}}
    assert not any(text.startswith("pref 1024 ") for text in said(neither, Rule))


def test_eks_puts_each_exempt_range_before_the_others() -> None:
    nat = saved(lab(EKS + "exclude_snat_cidrs: [198.51.100.0/24, 192.0.2.0/24]\n"))["nat"]
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
    last = saved(lab(f"{EKS}randomize_snat: {how}\n"))["nat"]["AWS-SNAT-CHAIN-0"][-1]
    assert last.endswith(f"--to-source 10.0.0.4{end}")


def test_eks_routes_by_source() -> None:
    built = lab(EKS + "external_service_cidrs: [198.51.100.0/24]\n")
    assert said(built, Rule) == [
        "pref 32765 from 10.0.0.6/32 lookup 2",
        "pref 1024 from all fwmark 0x80/0x80 lookup main",
        "pref 1535 from all to 198.51.100.0/24 lookup main",
        "pref 512 from all to 10.0.0.5/32 lookup main",
        "pref 512 from all to 10.0.0.7/32 lookup main",
        "pref 1536 from 10.0.0.7/32 lookup 2",
    ]
    assert said(built, Route) == [
        "default via 10.0.0.1 dev eth0",
        "10.0.0.1 dev eth1 table 2",
        "default via 10.0.0.1 dev eth1 table 2",
        "10.0.0.5 dev eniacd53aa4120",  # eni and 11 digits of the SHA-1 of default.a
        "10.0.0.7 dev eniff6fc35a693",
    ]
    assert said(built, Address) == ["10.0.0.4/20 dev eth0", "10.0.0.6/20 dev eth1, without the route to its subnet"]
    filters = [text for text in said(built, Sysctl) if "rp_filter" in text]
    assert [text.removeprefix("net.ipv4.conf.") for text in filters] == [
        "all.rp_filter = 1",
        "default.rp_filter = 1",
        "eth1.rp_filter = 1",
        "eth0.rp_filter = 2",
    ]


def test_a_pod_of_eks_knows_its_gateway_for_good() -> None:
    built = lab(EKS)
    end = next(item for item in built.plan if isinstance(item, Link) and item.peer == Interface("b", "eth0"))
    assert said(built, Address, "b") == ["10.0.0.7/32 dev eth0"]
    assert said(built, Route, "b") == ["169.254.1.1 dev eth0", "default via 169.254.1.1 dev eth0"]
    assert said(built, Neighbour, "b") == [f"169.254.1.1 dev eth0 lladdr {end.mac} nud permanent"]


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
    nat = saved(built)["nat"]
    chain = next(name for name in nat if name.startswith("CNI-DN-"))
    expected = block(PORTMAP.replace("POD", chain).replace("ABOUT", r"dnat name: \"aws-cni\" id: \"b\""))["nat"]
    assert {name: nat[name] for name in expected} == expected
    assert "net.ipv4.conf.eniff6fc35a693.route_localnet = 1" in said(built, Sysctl)


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
    bridge = saved(built, "fabric", "bridge")
    answers = block(ANSWERS.replace("ETH0", macs["eth0"]).replace("ETH1", macs["eth1"]))["nat"]["PREROUTING"]
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
    unchecked = saved(lab(EKS + "source_dest_check: false\n"), "fabric", "bridge")
    assert unchecked["filter"] == {"FORWARD": ["-p ARP -j DROP"]}


def test_a_mass_of_probes_knows_who_answers_for_a_pod_in_the_vpc() -> None:
    """The nodes' subnet is on eth0's link, and the VPC says which ENI a pod is at; eth1 asks for its gateway alone."""
    built = lab(EKS.replace("[a, b]}", "[a, b]}, node2: {pods: [c]}"))
    known = presets(built, [machine.addresses[0] for machine in built.machines])
    found = {(str(item.at), str(item.ip)): str(item.mac_interface) for item in known}
    assert found["node2/eth0", "10.0.0.5"] == "node1/eth0"
    assert found["node2/eth0", "10.0.0.7"] == "node1/eth1"
    assert found["node1/eth1", "10.0.0.1"] == "fabric/br0"


MASQ = """
*nat
:IP-MASQ-AGENT - [0:0]
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 169.254.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 172.16.0.0/12 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 192.168.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE --random-fully
"""  # noqa: E501
RESERVED = (
    "100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"
)
NETD = """
*mangle
-A PREROUTING -m comment --comment "redirect all traffic to GCP-PREROUTING chain" -j GCP-PREROUTING
-A POSTROUTING -m comment --comment "redirect all traffic to GCP-POSTROUTING chain" -j GCP-POSTROUTING
-A GCP-PREROUTING -m comment --comment "restore the conn mark if applicable" -j CONNMARK --restore-mark --nfmask 0x4000 --ctmask 0x4000
-A GCP-POSTROUTING -m mark --mark 0x4000/0x4000 -m comment --comment "save the conn mark only if hairpin bit (0x4000/0x4000) is set" -j CONNMARK --save-mark --nfmask 0x4000 --ctmask 0x4000
"""  # noqa: E501


@pytest.mark.parametrize("model", ["gke-vpc-native", "gke-routes-based"])
def test_gke_masquerades_for_the_public_internet_alone(model: str) -> None:
    text = GKE.replace("gke-vpc-native", model)
    assert saved(lab(text + "non_masquerade: rfc1918\n")) == block(MASQ)
    rules = saved(lab(text))["nat"]["IP-MASQ-AGENT"]
    private = block(MASQ)["nat"]["IP-MASQ-AGENT"]
    assert [rules[:4], rules[-1]] == [private[:4], private[-1]]
    assert [rule.split()[1] for rule in rules[4:-1]] == RESERVED.split()


def test_netd_routes_by_where_a_packet_came_in() -> None:
    plain, built = lab(GKE), lab(GKE + "intranode_visibility: true\n")
    assert said(plain, Rule) == []
    assert saved(built)["mangle"] == block(NETD)["mangle"]
    assert said(built, Rule) == [
        "pref 70 from all to 127.0.0.0/8 lookup local",
        "pref 70 from all to 169.254.0.0/16 lookup local",
        "pref 70 from all to 10.4.0.1/32 lookup local",
        "pref 70 from all to 10.128.0.2/32 lookup local",
        "pref 74 from all fwmark 0x4000/0x4000 lookup main",
        "pref 75 from all iif lo lookup main",
        "pref 76 not from all iif eth0 lookup 1",
    ]
    assert [text for text in said(built, Route) if "table" in text] == ["default via 10.128.0.1 dev eth0 table 1"]
    assert "net.ipv4.conf.eth0.rp_filter = 2" in said(built, Sysctl)
    assert "net.ipv4.conf.eth0.rp_filter = 1" in said(plain, Sysctl)


def test_ptp_wires_every_pod_to_the_same_address() -> None:
    built = lab(GKE)
    assert said(built, Address) == ["10.128.0.2/32 dev eth0", *(f"10.4.0.1/32 dev {dev}" for dev in veths(built))]
    one, other = veths(built)
    assert said(built, Route) == [
        "10.128.0.1 dev eth0",
        "default via 10.128.0.1 dev eth0",
        f"10.4.0.2 dev {one} scope host",
        f"10.4.0.3 dev {other} scope host",
    ]
    assert said(built, Address, "a") == ["10.4.0.2/24 dev eth0, without the route to its subnet"]
    assert said(built, Route, "a") == [
        "10.4.0.1 dev eth0 src 10.4.0.2",
        "10.4.0.0/24 via 10.4.0.1 dev eth0 src 10.4.0.2",
        "default via 10.4.0.1 dev eth0",
    ]


def veths(built: Lab) -> list[str]:
    devices = [item.at.dev for item in built.plan if isinstance(item, Link) and item.at.ns == "node1"]
    return [dev for dev in devices if dev.startswith("veth")]


@pytest.mark.parametrize(("most", "length"), [(8, 28), (16, 27), (32, 26), (64, 25), (110, 24), (128, 24), (256, 23)])
def test_a_nodes_range_has_twice_as_many_addresses_as_pods(most: int, length: int) -> None:
    built = lab(f"{GKE}max_pods: {most}\n")
    assert said(built, Address, "a") == [f"10.4.0.2/{length} dev eth0, without the route to its subnet"]


def test_only_a_custom_route_is_hidden_from_peers() -> None:
    native, based = lab(GKE), lab(GKE.replace("gke-vpc-native", "gke-routes-based"))
    way = "10.4.0.0/24 via 10.128.0.2 dev node1"
    assert f"{way} onlink" in said(native, Route, "fabric")
    assert said(native, Rule, "fabric") == []
    assert f"{way} table 100 onlink" in said(based, Route, "fabric")
    assert said(based, Rule, "fabric") == [f"pref 100 from all iif {dev} lookup 100" for dev in ("node1", "vm")]


def test_a_node_may_send_what_the_vpc_knows_it_by() -> None:
    def sent(text: str) -> list[str]:
        rules = saved(lab(text), "fabric")["raw"]["PREROUTING"]
        return [rule for rule in rules if "node1" in rule]

    own = "-s 10.128.0.2/32 -i node1 -j ACCEPT"
    assert sent(GKE) == [own, "-s 10.4.0.0/24 -i node1 -j ACCEPT", "-i node1 -j DROP"]
    based = GKE.replace("gke-vpc-native", "gke-routes-based")
    assert sent(based) == []
    assert sent(based + "ip_forwarding: false\n") == [own, "-i node1 -j DROP"]
