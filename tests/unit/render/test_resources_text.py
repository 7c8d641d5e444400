"""The words for kernel objects and their differences, and the JSON of plans there and back."""

from __future__ import annotations

import dataclasses
import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from labctl.core.diff import Change
from labctl.core.iptables import rule
from labctl.core.resources import (
    Address,
    Chain,
    Fdb,
    Interface,
    Link,
    Neighbour,
    Netns,
    NextHop,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.render.commands import commands, script
from labctl.render.plan_json import plan_json, resource_from_json, resource_json
from labctl.render.resources import change_lines, resource_line
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile

ETH0 = Interface("node1", "eth0")
CBR0 = Interface("node1", "cbr0")
VETH = Link(Interface("node1", "veth1"), "veth", Interface("a", "eth0"), "cbr0", 1500, hairpin=True)
TUNNEL = (("id", "42"), ("dstport", "4789"), ("learning", "off"), ("proxy", "on"))
VXLAN = Link(Interface("box", "vx0"), "vxlan", options=TUNNEL, link_netns="node1")
ROUTE = Route("node1", ip_network("10.244.1.0/24"), ip_address("10.224.0.5"), "eth0")
POD = Address(Interface("a", "eth0"), ip_interface("10.224.0.5/16"), connected=False)
PROBED = Neighbour(ETH0, ip_address("169.254.1.1"), "aa:aa:aa:aa:aa:aa", "probe")
REMOTE = Fdb(ETH0, "02:00:00:00:00:02", ip_address("192.0.2.2"))
MARKED = Rule("node1", 100, 7, iif="eth0", mark=0x14D, mask=0xFFFF)
UNDERLAY = Fdb(ETH0, "02:00:00:00:00:02", ip_address("192.0.2.2"), "eth1")
MULTIPATH = Route(
    "r", ip_network("10.0.0.0/8"), metric=5,
    nexthops=(NextHop(ip_address("192.0.2.1"), weight=3), NextHop(ip_address("fe80::1"), "p0", onlink=True)),
)  # fmt: skip
HOSTED = Route("node1", ip_network("10.0.0.2/32"), dev="veth1", scope="host")
BUT = Rule("node1", 76, 1, iif="eth0", invert=True)
COMMENT = rule('-d 10.0.0.0/8 -m comment --comment "it\'s local" -j RETURN')
NAT = Chain("node1", "nat", "POSTROUTING", (COMMENT, rule("-o eth0 -j MASQUERADE")))
DEDUP = Chain("node1", "filter", "DEDUP", (rule("-p IPv4 -o veth+ -j DROP", "bridge"),), family="bridge")
SAMPLES: tuple[Resource, ...] = (
    Netns("a"), VETH, VXLAN, Link(CBR0, "bridge", mtu=1500, mac="02:00:00:00:00:01", promisc=True),
    Sysctl("node1", "net.ipv4.ip_forward", "1"), POD, PROBED, Neighbour(ETH0, ip_address("10.0.0.1"), None, proxy=True),
    REMOTE, ROUTE, Route("node1", ip_network("2001:db8::/32"), kind="unreachable", metric=5), MARKED,
    Rule("node1", 5, family=6, src=ip_network("2001:db8::/32")), NAT, DEDUP, HOSTED, BUT, UNDERLAY, MULTIPATH,
)  # fmt: skip


@pytest.mark.parametrize(
    ("item", "said", "typed"),
    [
        (Netns("a"), "namespace a", ["ip netns add a"]),
        (
            VETH,
            "link veth1 type veth peer a/eth0 mtu 1500 master cbr0 hairpin on up",
            [
                "ip link add veth1 type veth peer name eth0 netns a",
                "ip link set veth1 addrgenmode none",
                "ip link set veth1 mtu 1500 master cbr0 up",
                "bridge link set dev veth1 hairpin on",
            ],
        ),
        (
            VXLAN,
            "link vx0 type vxlan id 42 dstport 4789 nolearning proxy link-netns node1 up",
            [
                "ip -n node1 link add vx0 netns box type vxlan id 42 dstport 4789 nolearning proxy",
                "ip link set vx0 addrgenmode none",
                "ip link set vx0 up",
            ],
        ),
        (
            Link(Interface("box", "eth0_7"), "vlan", options=(("dev", "eth0"), ("id", "7")), link_netns="node1"),
            "link eth0_7 type vlan dev eth0 id 7 link-netns node1 up",
            [
                "ip -n node1 link add eth0_7 netns box link eth0 type vlan id 7",
                "ip link set eth0_7 addrgenmode none",
                "ip link set eth0_7 up",
            ],
        ),
        (
            Link(Interface("box", "vx0"), "vxlan", options=(("id", "42"), ("dev", "eth0"))),
            "link vx0 type vxlan id 42 dev eth0 up",
            [
                "ip link add vx0 type vxlan id 42 dev eth0",
                "ip link set vx0 addrgenmode none",
                "ip link set vx0 up",
            ],
        ),
        (Link(Interface("a", "lo"), "loopback"), "link lo up", ["ip link set lo up"]),
        (
            Sysctl("node1", "net.ipv4.conf.eth0/100.rp_filter", "0"),
            "sysctl net.ipv4.conf.eth0/100.rp_filter = 0",
            ["sysctl -qw net.ipv4.conf.eth0/100.rp_filter=0"],
        ),
        (
            POD,
            "address 10.224.0.5/16 dev eth0, without the route to its subnet",
            ["ip addr add 10.224.0.5/16 dev eth0", "ip route del 10.224.0.0/16 dev eth0 proto kernel"],
        ),
        (
            PROBED,
            "neighbour 169.254.1.1 dev eth0 lladdr aa:aa:aa:aa:aa:aa nud probe",
            ["ip neigh replace 169.254.1.1 dev eth0 lladdr aa:aa:aa:aa:aa:aa nud probe"],
        ),
        (
            REMOTE,
            "fdb entry 02:00:00:00:00:02 dev eth0 dst 192.0.2.2",
            ["bridge fdb append 02:00:00:00:00:02 dev eth0 dst 192.0.2.2 self permanent"],
        ),
        (
            ROUTE,
            "route 10.244.1.0/24 via 10.224.0.5 dev eth0",
            ["ip route add 10.244.1.0/24 via 10.224.0.5 dev eth0"],
        ),
        (
            Route("r", ip_network("::/0"), ip_address("fe80::1"), "eth0", 100, 5, onlink=True, mtu=1400),
            "route default via fe80::1 dev eth0 table 100 metric 5 mtu 1400 onlink",
            ["ip -6 route add default via fe80::1 dev eth0 table 100 metric 5 mtu 1400 onlink"],
        ),
        (
            MULTIPATH,
            "route 10.0.0.0/8 metric 5 nexthop via 192.0.2.1 weight 3 nexthop via inet6 fe80::1 dev p0 weight 1 onlink",
            [
                "ip route add 10.0.0.0/8 metric 5 nexthop via 192.0.2.1 weight 3 "
                "nexthop via inet6 fe80::1 dev p0 weight 1 onlink"
            ],
        ),
        (
            Rule("node1", 5, 7, mark=0),
            "rule pref 5 from all fwmark 0x0/0xffffffff lookup 7",  # without the mask, ip makes a rule for any mark
            ["ip rule add pref 5 from all fwmark 0x0/0xffffffff lookup 7"],
        ),
        (
            Link(CBR0, "bridge", options=(("vlan_filtering", "0"), ("ageing_time", "5")), up=False),
            "link cbr0 type bridge vlan_filtering 0 ageing_time 5 down",
            ["ip link add cbr0 type bridge ageing_time 5", "ip link set cbr0 addrgenmode none"],
        ),
        (
            UNDERLAY,
            "fdb entry 02:00:00:00:00:02 dev eth0 dst 192.0.2.2 via eth1",
            ["bridge fdb append 02:00:00:00:00:02 dev eth0 dst 192.0.2.2 via eth1 self permanent"],
        ),
        (
            MARKED,
            "rule pref 100 from all iif eth0 fwmark 0x14d/0xffff lookup 7",
            ["ip rule add pref 100 from all iif eth0 fwmark 0x14d/0xffff lookup 7"],
        ),
        (
            HOSTED,
            "route 10.0.0.2 dev veth1 scope host",
            ["ip route add 10.0.0.2 dev veth1 scope host"],
        ),
        (
            BUT,
            "rule pref 76 not from all iif eth0 lookup 1",
            ["ip rule add pref 76 not from all iif eth0 lookup 1"],
        ),
        (
            NAT,
            "chain nat POSTROUTING",
            [
                "iptables -t nat -A POSTROUTING -d 10.0.0.0/8 -m comment --comment 'it'\"'\"'s local' -j RETURN",
                "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
            ],
        ),
        (
            DEDUP,
            "chain filter DEDUP (ebtables)",
            ["ebtables -t filter -N DEDUP", "ebtables -t filter -A DEDUP -p IPv4 -o veth+ -j DROP"],
        ),
        (
            Chain("r", "filter", "FORWARD", policy="DROP", family="ip6"),
            "chain filter FORWARD (IPv6) policy DROP",
            ["ip6tables -t filter -P FORWARD DROP"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_object_is_said_and_typed_in_its_tools_words(item: Resource, said: str, typed: list[str]) -> None:
    assert resource_line(item) == said
    assert list(commands(item)) == typed


def changed(item: Any, **fields: Any) -> tuple[str, ...]:
    return change_lines(Change(item, dataclasses.replace(item, **fields)))


def test_what_is_missing_or_extra_is_named() -> None:
    assert change_lines(Change(ROUTE, None)) == ("missing route 10.244.1.0/24 via 10.224.0.5 dev eth0",)
    assert change_lines(Change(None, Netns("x"))) == ("extra namespace x",)


def test_a_changed_object_tells_each_field_that_changed() -> None:
    assert changed(VETH, mtu=1400, up=False, master=None) == (
        "changed link veth1: master was none, should be cbr0",
        "changed link veth1: mtu was 1400, should be 1500",
        "changed link veth1: up was down, should be up",
    )
    assert changed(ROUTE, via=None) == ("changed route 10.244.1.0/24: via was none, should be 10.224.0.5",)
    assert changed(POD, connected=True) == (
        "changed address 10.224.0.5/16 dev eth0: the route to its subnet should not be there",
    )
    assert changed(Sysctl("a", "net.ipv4.ip_forward", "1"), value="0") == (
        "changed sysctl net.ipv4.ip_forward: value was 0, should be 1",
    )


def test_a_changed_chain_is_told_rule_by_rule() -> None:
    stray = rule("-j ACCEPT")
    assert changed(NAT, rules=(stray, NAT.rules[1])) == (
        "extra iptables -t nat -A POSTROUTING -j ACCEPT",
        'missing iptables -t nat -A POSTROUTING -d 10.0.0.0/8 -m comment --comment "it\'s local" -j RETURN',
    )
    assert changed(NAT, rules=NAT.rules[::-1]) == (
        "changed iptables -t nat POSTROUTING: the rules are in another order",
    )
    forward = Chain("r", "filter", "FORWARD", policy="DROP")
    assert changed(forward, policy="ACCEPT") == (
        "changed iptables -t filter -P FORWARD: policy was ACCEPT, should be DROP",
    )
    assert change_lines(Change(DEDUP, None)) == (
        "missing ebtables -t filter -N DEDUP",
        "missing ebtables -t filter -A DEDUP -p IPv4 -o veth+ -j DROP",
    )


def test_a_script_makes_a_veth_once_and_declares_chains_before_their_rules() -> None:
    other = Link(Interface("a", "eth0"), "veth", VETH.at, None, 1500)
    jump = Chain("node1", "nat", "POSTROUTING", (rule("-j MINE"),))
    lines = list(
        script((Netns("a"), VETH, other, jump, Chain("node1", "nat", "MINE")), netns_name=lambda ns: f"lab.{ns}")
    )
    assert lines[0] == (None, "ip netns add lab.a")
    assert [text for _, text in lines if "link add" in text] == [
        "ip link add veth1 type veth peer name eth0 netns lab.a"
    ]
    assert ("a", "ip link set eth0 mtu 1500 up") in lines
    assert lines[-2:] == [("node1", "iptables -t nat -N MINE"), ("node1", "iptables -t nat -A POSTROUTING -j MINE")]


@pytest.mark.parametrize("item", SAMPLES, ids=lambda item: resource_line(item))
def test_an_object_survives_json(item: Resource) -> None:
    document = json.loads(json.dumps(resource_json(item)))
    assert document["object"] == type(item).__name__.lower()
    assert resource_from_json(document) == item


@pytest.mark.parametrize("name", catalog.names())
def test_a_whole_plan_survives_json(name: str) -> None:
    file, text = catalog.find(name)
    lab = parse_and_compile(text, file)[1]
    document = json.loads(json.dumps(plan_json(lab)))
    assert tuple(map(resource_from_json, document["plan"])) == lab.plan
    assert [check["say"] for check in document["checks"]] == [check.say for check in lab.checks]


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({"object": "tunnel"}, "no kernel object 'tunnel'"),
        ({}, "no kernel object None"),
        ({"object": "netns", "name": "a", "colour": "red"}, "no field 'colour'"),
        ({"object": "netns"}, "a netns cannot be read"),
        ({"object": "route", "ns": "a", "dst": "10.0.0.300"}, "10.0.0.300"),
    ],
)
def test_json_that_is_no_object_is_refused(document: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        resource_from_json(document)
