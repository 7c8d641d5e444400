"""A Calico node word by word: what Felix and BIRD write, by encapsulation; and what becomes of packets without it.

The blocks are what projectcalico/calico 3.31 writes by its sources, without Felix's own marks (`cali:HASH`), which are
held against those of real clusters' nodes.
"""

from __future__ import annotations

import re

import pytest

from labctl.core.resources import Address, Chain, Fdb, Interface, IpSet, Link, Neighbour, Process, Route, Sysctl
from labctl.core.scenario_types import Lab
from labctl.models.lib.calico_felix import FelixConfig, PolicyTier, WorkloadEndpoint, dispatch_chains, firewall
from labctl.models.lib.calico_rule_hash import APPEND_SUFFIX, with_hash_comments
from labctl.render.resources import resource_values
from labctl.scenario.definition import parse_and_compile
from tests.support.rule_tables import Tables, parse_tables, plan_tables, resource_texts

A, B = "caliacd53aa4120", "califf6fc35a693"  # cali and 11 digits of the SHA-1 of default.a, of default.b
MARK = re.compile(r"-m comment --comment cali:[-\w]{16} ?")
TEXT = "model: calico\nelsewhere: [node3]\nnodes: {node1: {pods: [a]}, node2: {}, node3: {}}\nencapsulation: "
NAT = """
*nat
:cali-PREROUTING - [0:0]
:cali-OUTPUT - [0:0]
:cali-POSTROUTING - [0:0]
:cali-fip-dnat - [0:0]
:cali-fip-snat - [0:0]
:cali-nat-outgoing - [0:0]
-A PREROUTING -j cali-PREROUTING
-A OUTPUT -j cali-OUTPUT
-A POSTROUTING -j cali-POSTROUTING
-A cali-PREROUTING -j cali-fip-dnat
-A cali-OUTPUT -j cali-fip-dnat
-A cali-POSTROUTING -j cali-fip-snat
-A cali-POSTROUTING -j cali-nat-outgoing
-A cali-POSTROUTING -o vxlan.calico -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully
"""  # noqa: E501
RAW = """
*raw
:cali-PREROUTING - [0:0]
:cali-OUTPUT - [0:0]
:cali-rpf-skip - [0:0]
:cali-from-host-endpoint - [0:0]
:cali-to-host-endpoint - [0:0]
-A PREROUTING -j cali-PREROUTING
-A OUTPUT -j cali-OUTPUT
-A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000
-A cali-PREROUTING -p udp -m udp --dport 4789 -j CT --notrack
-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000
-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -j cali-rpf-skip
-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
-A cali-PREROUTING -m mark --mark 0x0/0x40000 -j cali-from-host-endpoint
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-OUTPUT -j cali-to-host-endpoint
-A cali-OUTPUT -p udp -m udp --dport 4789 -j CT --notrack
-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
*mangle
:cali-from-host-endpoint - [0:0]
:cali-to-host-endpoint - [0:0]
-A PREROUTING -j cali-PREROUTING
-A POSTROUTING -j cali-POSTROUTING
-A cali-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-PREROUTING -j cali-from-host-endpoint
-A cali-PREROUTING -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-POSTROUTING -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000
-A cali-POSTROUTING -m conntrack --ctstate DNAT -j cali-to-host-endpoint
-A cali-POSTROUTING -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j RETURN
"""  # noqa: E501
FILTER = """
*filter
:cali-from-host-endpoint - [0:0]
:cali-to-host-endpoint - [0:0]
:cali-from-hep-forward - [0:0]
:cali-to-hep-forward - [0:0]
:cali-cidr-block - [0:0]
-A INPUT -j cali-INPUT
-A FORWARD -j cali-FORWARD
-A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -j MARK --set-xmark 0x10000/0x10000
-A OUTPUT -j cali-OUTPUT
-A cali-INPUT -p udp -m comment --comment "Allow IPv4 VXLAN packets from allowed hosts" -m multiport --dports 4789 -m set --match-set cali40all-vxlan-net src -m addrtype --dst-type LOCAL -j ACCEPT
-A cali-INPUT -p udp -m comment --comment "Drop IPv4 VXLAN packets from non-allowed hosts" -m multiport --dports 4789 -m addrtype --dst-type LOCAL -j DROP
-A cali-INPUT -i cali+ -g cali-wl-to-host
-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-INPUT -j cali-from-host-endpoint
-A cali-INPUT -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-hep-forward
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
-A cali-FORWARD -j cali-to-hep-forward
-A cali-FORWARD -j cali-cidr-block
-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -o cali+ -j RETURN
-A cali-OUTPUT -p udp -m comment --comment "Allow IPv4 VXLAN packets to other allowed hosts" -m multiport --dports 4789 -m addrtype --src-type LOCAL -m set --match-set cali40all-vxlan-net dst -j ACCEPT
-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-OUTPUT -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint
-A cali-OUTPUT -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-wl-to-host -j cali-from-wl-dispatch
-A cali-wl-to-host -m comment --comment "Configured DefaultEndpointToHostAction" -j ACCEPT
-A cali-from-wl-dispatch -i caliacd53aa4120 -g cali-fw-caliacd53aa4120
-A cali-from-wl-dispatch -m comment --comment "Unknown interface" -j DROP
-A cali-to-wl-dispatch -o caliacd53aa4120 -g cali-tw-caliacd53aa4120
-A cali-to-wl-dispatch -m comment --comment "Unknown interface" -j DROP
-A cali-tw-caliacd53aa4120 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-caliacd53aa4120 -m conntrack --ctstate INVALID -j DROP
-A cali-tw-caliacd53aa4120 -j MARK --set-xmark 0x0/0x30000
-A cali-tw-caliacd53aa4120 -j cali-pri-kns.default
-A cali-tw-caliacd53aa4120 -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-caliacd53aa4120 -j cali-pri-ksa.default.default
-A cali-tw-caliacd53aa4120 -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-caliacd53aa4120 -m comment --comment "Drop if no profiles matched" -j DROP
-A cali-fw-caliacd53aa4120 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-caliacd53aa4120 -m conntrack --ctstate INVALID -j DROP
-A cali-fw-caliacd53aa4120 -j MARK --set-xmark 0x0/0x30000
-A cali-fw-caliacd53aa4120 -p udp -m comment --comment "Drop VXLAN encapped packets originating in workloads" -m multiport --dports 4789 -j DROP
-A cali-fw-caliacd53aa4120 -p ipencap -m comment --comment "Drop IPinIP encapped packets originating in workloads" -j DROP
-A cali-fw-caliacd53aa4120 -j cali-pro-kns.default
-A cali-fw-caliacd53aa4120 -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-caliacd53aa4120 -j cali-pro-ksa.default.default
-A cali-fw-caliacd53aa4120 -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-caliacd53aa4120 -m comment --comment "Drop if no profiles matched" -j DROP
-A cali-pri-kns.default -m comment --comment "Profile kns.default ingress" -j MARK --set-xmark 0x10000/0x10000
-A cali-pri-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-pri-ksa.default.default -m comment --comment "Profile ksa.default.default ingress"
-A cali-pro-kns.default -m comment --comment "Profile kns.default egress" -j MARK --set-xmark 0x10000/0x10000
-A cali-pro-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-pro-ksa.default.default -m comment --comment "Profile ksa.default.default egress"
"""  # noqa: E501
POLICY = """
*filter
-A cali-tw-cali1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-cali1 -m conntrack --ctstate INVALID -j DROP
-A cali-tw-cali1 -j MARK --set-xmark 0x0/0x30000
-A cali-tw-cali1 -m comment --comment "Start of tier default" -j MARK --set-xmark 0x0/0x20000
-A cali-tw-cali1 -m mark --mark 0x0/0x20000 -j cali-pi-web
-A cali-tw-cali1 -m comment --comment "Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-cali1 -m comment --comment "End of tier default. Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
"""  # noqa: E501


def built(encapsulation: str, more: str = "") -> Lab:
    return parse_and_compile(f"{TEXT}{encapsulation}\n{more}", "t.yaml")[1]


def rules(made: Lab) -> Tables:
    """A node's rules without Felix's marks."""
    return {table: {name: [MARK.sub("", rule) for rule in each] for name, each in some.items()}
            for table, some in plan_tables(made).items()}  # fmt: skip


def test_felix_writes_its_whole_rule_set() -> None:
    found = rules(built("vxlan"))
    assert found["nat"] == parse_tables(NAT)["nat"]
    assert {name: found[name] for name in ("raw", "mangle")} == parse_tables(RAW)
    assert found["filter"] == parse_tables(FILTER)["filter"]
    assert set(found) == {"raw", "mangle", "nat", "filter"}


REAL = """
*filter
-A INPUT -m comment --comment cali:Cz_u1IQiXIMmKD4c -j cali-INPUT
-A FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD
-A FORWARD -m comment --comment cali:S93hcgKJrXEqnTfs -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -m comment --comment cali:mp77cMpurHhyjLrM -j MARK --set-xmark 0x10000/0x10000
-A OUTPUT -m comment --comment cali:tVnHkvAo15HuiPy0 -j cali-OUTPUT
-A cali-FORWARD -m comment --comment cali:vjrMJCRpqwy5oRoX -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -m comment --comment cali:A_sPAO0mcxbT9mOV -m mark --mark 0x0/0x10000 -j cali-from-hep-forward
-A cali-FORWARD -i cali+ -m comment --comment cali:8ZoYfO5HKXWbB3pk -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -m comment --comment cali:jdEuaPBe14V2hutn -j cali-to-wl-dispatch
-A cali-FORWARD -m comment --comment cali:12bc6HljsMKsmfr- -j cali-to-hep-forward
-A cali-FORWARD -m comment --comment cali:NOSxoaGx8OIstr1z -j cali-cidr-block
-A cali-INPUT -p ipencap -m comment --comment cali:PajejrV4aFdkZojI -m comment --comment "Allow IPIP packets from Calico hosts" -m set --match-set cali40all-hosts-net src -m addrtype --dst-type LOCAL -j ACCEPT
-A cali-INPUT -p ipencap -m comment --comment cali:_wjq-Yrma8Ly1Svo -m comment --comment "Drop IPIP packets from non-Calico hosts" -j DROP
-A cali-INPUT -i cali+ -m comment --comment cali:8TZGxLWh_Eiz66wc -g cali-wl-to-host
-A cali-INPUT -m comment --comment cali:6McIeIDvPdL6PE1T -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-INPUT -m comment --comment cali:YGPbrUms7NId8xVa -j MARK --set-xmark 0x0/0xf0000
-A cali-INPUT -m comment --comment cali:2gmY7Bg2i0i84Wk_ -j cali-from-host-endpoint
-A cali-INPUT -m comment --comment cali:q-Vz2ZT9iGE331LL -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -m comment --comment cali:Mq1_rAdXXH3YkrzW -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -o cali+ -m comment --comment cali:69FkRTJDvD5Vu6Vl -j RETURN
-A cali-OUTPUT -p ipencap -m comment --comment cali:AnEsmO6bDZbQntWW -m comment --comment "Allow IPIP packets to other Calico hosts" -m set --match-set cali40all-hosts-net dst -m addrtype --src-type LOCAL -j ACCEPT
-A cali-OUTPUT -m comment --comment cali:9e9Uf3GU5tX--Lxy -j MARK --set-xmark 0x0/0xf0000
-A cali-OUTPUT -m comment --comment cali:0f3LDz_VKuHFaA2K -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint
-A cali-OUTPUT -m comment --comment cali:OgU2f8BVEAZ_fwkq -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-from-wl-dispatch -m comment --comment cali:zTj6P0TIgYvgz-md -m comment --comment "Unknown interface" -j DROP
-A cali-to-wl-dispatch -m comment --comment cali:7KNphB1nNHw80nIO -m comment --comment "Unknown interface" -j DROP
-A cali-wl-to-host -m comment --comment cali:Ee9Sbo10IpVujdIY -j cali-from-wl-dispatch
-A cali-wl-to-host -m comment --comment cali:nSZbcOoG1xPONxb8 -m comment --comment "Configured DefaultEndpointToHostAction" -j ACCEPT
"""  # noqa: E501
PODS = """
*filter
-A cali-from-wl-dispatch -i cali112d888c0c2 -m comment --comment cali:887K6j2m0yTxV8XZ -g cali-fw-cali112d888c0c2
-A cali-from-wl-dispatch -i cali26cecacb712 -m comment --comment cali:-1f18nv9_J5o_MPL -g cali-fw-cali26cecacb712
-A cali-from-wl-dispatch -i cali55f439ddb0e -m comment --comment cali:X28EvX2q55aZM8gM -g cali-fw-cali55f439ddb0e
-A cali-from-wl-dispatch -i cali9d7310e16e7 -m comment --comment cali:CxKCBaJmNdZnWGOY -g cali-fw-cali9d7310e16e7
-A cali-from-wl-dispatch -i calic5a1f1aa0ed -m comment --comment cali:ZPC1pWieGIBIr5A7 -g cali-fw-calic5a1f1aa0ed
-A cali-from-wl-dispatch -i calif6abb148530 -m comment --comment cali:xDvXvF5yVFq7Y1QJ -g cali-fw-calif6abb148530
-A cali-from-wl-dispatch -m comment --comment cali:FUqQW1upEuPXcL7s -m comment --comment "Unknown interface" -j DROP
-A cali-fw-cali112d888c0c2 -m comment --comment cali:gxYrST51OJyfBgWw -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-cali112d888c0c2 -m comment --comment cali:6xENQhO2T0QW5LgN -m conntrack --ctstate INVALID -j DROP
-A cali-fw-cali112d888c0c2 -m comment --comment cali:O7MDTYmYN54jUWVF -j MARK --set-xmark 0x0/0x10000
-A cali-fw-cali112d888c0c2 -p udp -m comment --comment cali:pJp4jdAzPgU1geph -m comment --comment "Drop VXLAN encapped packets originating in workloads" -m multiport --dports 4789 -j DROP
-A cali-fw-cali112d888c0c2 -p ipencap -m comment --comment cali:rM5VAS66uaB9uI7_ -m comment --comment "Drop IPinIP encapped packets originating in workloads" -j DROP
-A cali-fw-cali112d888c0c2 -m comment --comment cali:s_9J1YgpafK_gEIJ -j cali-pro-kns.kube-system
-A cali-fw-cali112d888c0c2 -m comment --comment cali:djdRyha1SrYGGpRJ -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-cali112d888c0c2 -m comment --comment cali:Agp1xuefUF89n6q7 -j cali-pro-_CVSZITRyIpEmH8AB6H
-A cali-fw-cali112d888c0c2 -m comment --comment cali:ctlnSZ9l6AD7YocC -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-cali112d888c0c2 -m comment --comment cali:ThfJzx8K_BY2PCkD -m comment --comment "Drop if no profiles matched" -j DROP
-A cali-pri-_CVSZITRyIpEmH8AB6H -m comment --comment cali:Jm7TmoNoWplOEka1 -m comment --comment "Profile ksa.kube-system.metrics-server ingress"
-A cali-pri-kns.kube-system -m comment --comment cali:J1TyxtHWd0qaBGK- -m comment --comment "Profile kns.kube-system ingress" -j MARK --set-xmark 0x10000/0x10000
-A cali-pri-kns.kube-system -m comment --comment cali:QIB6k7eEKdIg73Jp -m mark --mark 0x10000/0x10000 -j RETURN
"""  # noqa: E501


def test_felix_would_know_its_rules_again() -> None:
    """As a node of a real cluster with IP in IP has them, before there are pods on it."""
    text = "model: calico\nencapsulation: ipip\nnodes: {node1: {}}\n"
    found = plan_tables(parse_and_compile(text, "t.yaml")[1])["filter"]
    assert {name: each for name, each in found.items() if each} == parse_tables(REAL)["filter"]
    empty = {"cidr-block", "from-hep-forward", "from-host-endpoint", "to-hep-forward", "to-host-endpoint"}
    assert {name for name, each in found.items() if not each} == {f"cali-{name}" for name in empty}


@pytest.mark.parametrize(
    ("encapsulation", "table", "chain", "known"),
    [
        (
            "none",
            "raw",
            "cali-PREROUTING",
            "XFX5xbM8B9qR10JG EWMPb0zVROM-woQp PWuxTAIaFCtsg5Qa fSSbGND7dgyemWU7 ImU0-4Rl2WoOI9Ou lV4V2MPoMBf0hl9T",
        ),
        ("none", "mangle", "cali-PREROUTING", "6BJqBjBC7crtA-7- KX7AGNd6rMcDUai6 wNH7KsA3ILKJBsY9"),
        (
            "vxlan",
            "filter",
            "cali-INPUT",
            "J76FwxInZIsk7uKY EDCNTTxYfggApx8C H03xYXARh4e8pwd4 MN6K3isIWBigb1Va OSYphBLwOgic22Hz",
        ),
    ],
)
def test_felix_would_know_more_rules_again(encapsulation: str, table: str, chain: str, known: str) -> None:
    """By the marks that nodes of real clusters show, rule for rule from a chain's first."""
    found = plan_tables(built(encapsulation))[table][chain]
    marks = [rule.split("cali:", 1)[1][:16] for rule in found]
    assert marks[: len(known.split())] == known.split()


@pytest.mark.parametrize("chain", parse_tables(PODS)["filter"])
def test_felix_would_know_its_rules_for_pods_again(chain: str) -> None:
    """As nodes of another real cluster have them, of a release before tiers."""
    wanted = parse_tables(PODS)["filter"][chain]
    assert [str(rule) for rule in with_hash_comments(chain, (MARK.sub("", rule) for rule in wanted))] == wanted
    assert [
        str(rule) for rule in with_hash_comments(chain + APPEND_SUFFIX, (MARK.sub("", rule) for rule in wanted))
    ] != wanted


def test_without_a_tunnel_felix_says_nothing_of_one() -> None:
    none, vxlan = rules(built("none")), rules(built("vxlan"))
    lines = [f"{table} {chain} {rule}" for table, some in none.items() for chain, each in some.items() for rule in each]
    assert [line for line in lines if "4789" in line or "vxlan" in line] == [
        f"filter cali-fw-{A} {vxlan['filter'][f'cali-fw-{A}'][3]}"
    ]
    assert none["nat"]["cali-POSTROUTING"] == vxlan["nat"]["cali-POSTROUTING"][:2]
    assert none["filter"]["cali-INPUT"] == vxlan["filter"]["cali-INPUT"][2:]


IPIP = """
*filter
-A cali-INPUT -p ipencap -m comment --comment "Allow IPIP packets from Calico hosts" -m set --match-set cali40all-hosts-net src -m addrtype --dst-type LOCAL -j ACCEPT
-A cali-INPUT -p ipencap -m comment --comment "Drop IPIP packets from non-Calico hosts" -j DROP
-A cali-OUTPUT -p ipencap -m comment --comment "Allow IPIP packets to other Calico hosts" -m set --match-set cali40all-hosts-net dst -m addrtype --src-type LOCAL -j ACCEPT
*nat
-A cali-POSTROUTING -o tunl0 -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
"""  # noqa: E501


def test_felix_lets_in_ip_in_ip_of_calico_hosts_alone() -> None:
    found, told = rules(built("ipip")), parse_tables(IPIP)
    assert found["filter"]["cali-INPUT"][:2] == told["filter"]["cali-INPUT"]
    assert found["filter"]["cali-OUTPUT"][2:3] == told["filter"]["cali-OUTPUT"]
    assert found["nat"]["cali-POSTROUTING"][2:] == told["nat"]["cali-POSTROUTING"]


@pytest.mark.parametrize(
    ("encapsulation", "more", "sets"),
    [
        ("none", "", {"masq-ipam-pools": "10.244.0.0/16", "all-ipam-pools": "10.244.0.0/16"}),
        ("none", "nat_outgoing: false", {"masq-ipam-pools": "", "all-ipam-pools": "10.244.0.0/16"}),
        (
            "vxlan",
            "",
            {
                "masq-ipam-pools": "10.244.0.0/16",
                "all-ipam-pools": "10.244.0.0/16",
                "all-vxlan-net": "192.168.0.2 192.168.1.3",
            },
        ),
        (
            "none",
            "nat_outgoing_exclusions: ip-pools-and-host-ips",
            {
                "masq-ipam-pools": "10.244.0.0/16",
                "all-ipam-pools": "10.244.0.0/16",
                "all-hosts-net": "192.168.0.1 192.168.0.2 192.168.1.3",
            },
        ),
        (
            "ipip",
            "",
            {
                "masq-ipam-pools": "10.244.0.0/16",
                "all-ipam-pools": "10.244.0.0/16",
                "all-hosts-net": "192.168.0.1 192.168.0.2 192.168.1.3",
            },
        ),
    ],
)
def test_felix_keeps_its_sets(encapsulation: str, more: str, sets: dict[str, str]) -> None:
    found = [one for one in built(encapsulation, more).plan if isinstance(one, IpSet) and one.ns == "node1"]
    assert {one.name: " ".join(one.members) for one in found} == {f"cali40{name}": text for name, text in sets.items()}
    assert {one.kind for one in found} == {"hash:net"}


def test_nat_outgoing_has_exclusions_and_can_be_off() -> None:
    usual = parse_tables(NAT)["nat"]["cali-nat-outgoing"]
    spared = rules(built("none", "nat_outgoing_exclusions: ip-pools-and-host-ips"))["nat"]["cali-nat-outgoing"]
    assert spared == [usual[0].replace(" -j", " -m set ! --match-set cali40all-hosts-net dst -j")]
    assert rules(built("none", "nat_outgoing: false"))["nat"]["cali-nat-outgoing"] == []


@pytest.mark.parametrize(
    ("word", "target"),
    [("drop", "DROP"), ("return", "RETURN"), ("reject", "REJECT --reject-with icmp-port-unreachable")],
)
def test_what_a_pod_says_to_its_node_can_be_refused(word: str, target: str) -> None:
    chain = rules(built("none", f"default_endpoint_to_host_action: {word}"))["filter"]["cali-wl-to-host"]
    assert chain[1] == f'-m comment --comment "Configured DefaultEndpointToHostAction" -j {target}'


def test_policies_come_before_profiles_and_end_in_a_drop() -> None:
    told = FelixConfig(
        "n", None, (WorkloadEndpoint("cali1", (PolicyTier("default", ("cali-pi-web",)),)),), (), (), "10.244.0.0/16"
    )
    chains = {item.name: [MARK.sub("", str(rule)) for rule in item.rules] for item in firewall(told)
              if isinstance(item, Chain)}  # fmt: skip
    usual = parse_tables(FILTER)["filter"]
    assert chains["cali-tw-cali1"] == [*parse_tables(POLICY)["filter"]["cali-tw-cali1"], *usual[f"cali-tw-{A}"][3:]]
    assert chains["cali-fw-cali1"] == usual[f"cali-fw-{A}"]


def test_a_crowd_of_pods_is_found_by_a_tree_of_chains() -> None:
    devices = ["cali0a1", "cali0a2", "cali0b1", "cali1c1"]
    unknown = '-m comment --comment "Unknown interface" -j DROP'
    assert dict(dispatch_chains("cali-to-wl-dispatch", "-o", "cali-tw-", devices)) == {
        "cali-to-wl-dispatch": ["-o cali0+ -g cali-to-wl-dispatch-0", "-o cali1c1 -g cali-tw-cali1c1", unknown],
        "cali-to-wl-dispatch-0": [*(f"-o {name} -g cali-tw-{name}" for name in devices[:3]), unknown],
    }
    two = dict(dispatch_chains("r", "-i", "c-", devices[1:3] + devices[3:]))
    assert list(two) == ["r", "r-0"]
    close = dict(dispatch_chains("r", "-i", "c-", devices[:2]))
    assert close == {"r": ["-i cali0a1 -g c-cali0a1", "-i cali0a2 -g c-cali0a2", unknown]}
    assert dict(dispatch_chains("r", "-i", "c-", [])) == {"r": [unknown]}


OWN = f"10.244.0.1 dev {A}"
WAYS = {
    "none": [
        "blackhole 10.244.0.0/26 proto bird",
        "10.244.0.64/26 via 192.168.0.2 dev eth0 proto bird",
        "10.244.0.128/26 via 192.168.0.254 dev eth0 proto bird",
        f"10.244.0.0 dev {A}",
    ],
    "vxlan": [
        "blackhole 10.244.0.0/26 proto 80",
        "10.244.0.64/26 via 10.244.0.64 dev vxlan.calico mtu 1450 onlink",
        "10.244.0.128/26 via 10.244.0.128 dev vxlan.calico mtu 1450 onlink",
        OWN,
    ],
    "vxlan-cross-subnet": [
        "blackhole 10.244.0.0/26 proto 80",
        "10.244.0.64/26 via 192.168.0.2 dev eth0 proto 80 onlink",
        "10.244.0.128/26 via 10.244.0.128 dev vxlan.calico mtu 1450 onlink",
        OWN,
    ],
    "ipip": [
        "blackhole 10.244.0.0/26 proto bird",
        "10.244.0.64/26 via 192.168.0.2 dev tunl0 proto bird onlink",
        "10.244.0.128/26 via 192.168.1.3 dev tunl0 proto bird onlink",
        OWN,
    ],
    "ipip-cross-subnet": [
        "blackhole 10.244.0.0/26 proto bird",
        "10.244.0.64/26 via 192.168.0.2 dev eth0 proto bird",
        "10.244.0.128/26 via 192.168.1.3 dev tunl0 proto bird onlink",
        OWN,
    ],
}


@pytest.mark.parametrize("encapsulation", WAYS)
def test_blocks_are_routed_by_who_knows_the_way(encapsulation: str) -> None:
    made = built(encapsulation)
    assert resource_texts(made, Route) == ["default via 192.168.0.254 dev eth0", *WAYS[encapsulation]]
    assert not any("10.244" in text for text in resource_texts(made, Route, "fabric"))


def test_the_router_learns_blocks_where_it_is_asked_to() -> None:
    assert resource_texts(built("none", "peer_with_router: true"), Route, "fabric") == [
        "10.244.0.0/26 via 192.168.0.1 dev lan1 proto bird",
        "10.244.0.64/26 via 192.168.0.2 dev lan1 proto bird",
        "10.244.0.128/26 via 192.168.1.3 dev lan2 proto bird",
    ]


def test_a_vxlan_device_knows_all_others() -> None:
    made = built("vxlan")
    (device,) = [one for one in made.plan if isinstance(one, Link) and one.at == Interface("node1", "vxlan.calico")]
    options = {"id": "4096", "dev": "eth0", "local": "192.168.0.1", "learning": "off", "dstport": "4789"}
    assert (device.mtu, device.mac, dict(device.options)) == (1450, "66:f9:37:c3:7e:94", options)
    two, three = "66:2d:bf:44:a6:8b", "66:a4:6f:e0:c4:da"
    assert resource_texts(made, Neighbour) == [
        f"10.244.0.64 dev vxlan.calico lladdr {two} nud permanent",
        f"10.244.0.128 dev vxlan.calico lladdr {three} nud permanent",
    ]
    assert resource_texts(made, Fdb) == [
        f"{two} dev vxlan.calico dst 192.168.0.2",
        f"{three} dev vxlan.calico dst 192.168.1.3",
    ]
    assert resource_texts(made, Address) == ["192.168.0.1/24 dev eth0", "10.244.0.0/32 dev vxlan.calico"]


def test_ip_in_ip_is_the_kernels_or_a_programs() -> None:
    made = built("ipip")
    (device,) = [one for one in made.plan if isinstance(one, Link) and one.at == Interface("node1", "tunl0")]
    assert (device.kind, device.mtu) == ("ipip", 1480)
    assert not any(isinstance(one, Process) for one in made.plan)
    other = parse_and_compile(f"{TEXT}ipip\n", "t.yaml", substitute_features=("ipip",))[1]
    (device,) = [one for one in other.plan if isinstance(one, Link) and one.at == Interface("node1", "tunl0")]
    assert (device.kind, device.mtu) == ("tun", 1480)
    (program,) = [one for one in other.plan if isinstance(one, Process) and one.ns == "node1"]
    far = ("10.244.0.64/26=192.168.0.2", "10.244.0.128/26=192.168.1.3")
    assert program.command == ("tunnel", "ipip", "tunl0", "192.168.0.1", *far)


@pytest.mark.parametrize(("encapsulation", "mtu"), [("none", 1500), ("vxlan-cross-subnet", 1450), ("ipip", 1480)])
def test_a_pod_is_wired_to_an_address_that_nobody_has(encapsulation: str, mtu: int) -> None:
    made = built(encapsulation)
    ends = {one.at: one for one in made.plan if isinstance(one, Link)}
    outer, inner = ends[Interface("node1", A)], ends[Interface("a", "eth0")]
    assert (outer.mac, outer.mtu, inner.mtu, outer.peer) == ("ee:ee:ee:ee:ee:ee", mtu, mtu, inner.at)
    own = "10.244.0.0" if encapsulation == "none" else "10.244.0.1"
    assert resource_texts(made, Address, "a") == [f"{own}/32 dev eth0"]
    assert resource_texts(made, Route, "a") == ["169.254.1.1 dev eth0", "default via 169.254.1.1 dev eth0"]
    assert resource_texts(made, Neighbour, "a") == []
    settings = {resource_values(one) for one in made.plan if isinstance(one, Sysctl) and one.ns == "node1"}
    conf = {f"net.ipv4.conf.{A}.{name} = 1" for name in ("route_localnet", "proxy_arp", "forwarding")}
    assert {*conf, f"net.ipv4.neigh.{A}.proxy_delay = 0"} <= settings


def test_a_full_node_gets_more_blocks_after_every_nodes_first() -> None:
    text = "model: calico\nblock_size: 30\nnodes: {node1: {pods: [p1, p2, p3, p4, p5]}, node2: {pods: [q, r, s, t]}}\n"
    made = parse_and_compile(text, "t.yaml")[1]
    own = {one.name: str(one.addresses[0]) for one in made.machines if one.role == "pod"}
    assert own == {
        "p1": "10.244.0.1", "p2": "10.244.0.2", "p3": "10.244.0.3", "p4": "10.244.0.8", "p5": "10.244.0.9",
        "q": "10.244.0.5", "r": "10.244.0.6", "s": "10.244.0.7", "t": "10.244.0.12",
    }  # fmt: skip
    ways = [text for text in resource_texts(made, Route, "node2") if "192.168.0.1 " in text]
    assert ways == [
        "10.244.0.0/30 via 192.168.0.1 dev eth0 proto 80 onlink",
        "10.244.0.8/30 via 192.168.0.1 dev eth0 proto 80 onlink",
    ]
    assert [text for text in resource_texts(made, Route) if text.startswith("blackhole")] == [
        "blackhole 10.244.0.0/30 proto 80",
        "blackhole 10.244.0.8/30 proto 80",
    ]


def test_a_lab_whose_router_knows_no_pods_claims_no_more_than_it_can() -> None:
    more = "nodes: {node1: {pods: [a]}, node2: {pods: [b]}, node3: {pods: [c]}}"
    text = TEXT.replace("nodes: {node1: {pods: [a]}, node2: {}, node3: {}}", more) + "none\n"
    (mesh,) = [one for one in parse_and_compile(text, "t.yaml")[1].checks if "subnet" in one.say]
    assert mesh.groups == ((("a", "b"), ("a", "b")),)
    told = parse_and_compile(f"{text}peer_with_router: true\n", "t.yaml")[1]
    assert told.checks[0].groups == ((("a", "b", "c"), ("a", "b", "c")),)
