"""The comparison itself: twins are alike, and no kind of object can differ unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.fidelity import subjects
from tests.fidelity.alike import differences, docker_observed, observed

NODES = ("node1", "a", "b")
# what is done to one of two equal labs, and what must be said of it
UNLIKE = {
    "ip link set veth86f7e437 mtu 1400": r"changed link veth-a-eth0: mtu",
    "ip link set veth86f7e437 type bridge_slave hairpin on": r"changed link veth-a-eth0: hairpin",
    "ip link set veth86f7e437 type bridge_slave isolated on": r"ip link veth-a-eth0: .*isolated",
    "ip link set veth86f7e437 nomaster": r"changed link veth-a-eth0: master",
    "ip link set cbr0 promisc off": r"changed link cbr0: promisc",
    "ip link set cbr0 down": r"changed link cbr0: up",
    "ip link set cbr0 address 02:42:00:00:00:01": r"changed link cbr0: address",
    "ip link set cbr0 type bridge forward_delay 200": r"ip link cbr0: .*forward_delay",
    "ip link set cbr0 txqueuelen 7": r"ip link cbr0: txqlen",
    "ip addr add 192.0.2.1/24 dev eth0": r"missing address 192.0.2.1/24|extra address 192.0.2.1/24",
    "ip addr change 10.224.0.4/16 dev eth0 valid_lft 900 preferred_lft 900": r"ip addr eth0 10.224.0.4: dynamic",
    "ip route del 10.244.0.0/24 dev cbr0": r"changed address 10.244.0.1/24",
    "ip route add 192.0.2.0/24 via 10.224.0.1": r"route 192.0.2.0/24",
    "ip route change default via 10.224.0.1 proto static": r"ip route table all unicast default.*: protocol|protocol",
    "ip rule add pref 7 from 192.0.2.1 lookup 9": r"rule pref 7",
    "ip neigh add 10.224.0.9 lladdr 02:00:00:00:00:09 dev eth0": r"neighbour 10.224.0.9",
    "bridge fdb add 02:00:00:00:00:09 dev veth86f7e437 master static": r"fdb entry 02:00:00:00:00:09",
    "tc qdisc add dev eth0 root pfifo": r"tc qdisc eth0 pfifo",
    "tc filter add dev eth0 ingress protocol ip u32 match u32 0 0": r"tc queue eth0: ingress was .*u32",
    "tc class add dev eth0 parent 7: classid 7:1 htb rate 1mbit": r"tc queue eth0: class was .*1Mbit",
    "bridge mdb add dev cbr0 port veth86f7e437 grp 239.1.1.1 permanent": r"bridge mdb .*239.1.1.1: ",
    "ip nexthop add id 7 dev eth0": r"ip nexthop 7: ",
    "ip addrlabel add prefix 2001:db8::/32 label 7": r"ip addrlabel .*2001:db8::",
    "ip xfrm policy add src 192.0.2.1 dst 192.0.2.2 dir out": r"ip xfrm policy: .*192.0.2.1",
    "iptables-OTHER -A FORWARD -j DROP": r"nf_tables: tables was .*ip filter|iptables-legacy .*-A FORWARD",
    "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=1": r"sysctl net.ipv4.conf.cbr0.proxy_arp",
    "sysctl -qw net.ipv4.tcp_ecn=1": r"sysctl net.ipv4.tcp_ecn",
    "iptables-OWN -t mangle -A FORWARD -j ACCEPT": r"iptables -t mangle -A FORWARD -j ACCEPT",
    "iptables-OWN -P FORWARD DROP": r"iptables -t filter -P FORWARD",
    "ip6tables-OWN -A INPUT -j DROP": r"ip6tables -t filter -A INPUT -j DROP",
    "ebtables -A FORWARD -j DROP": r"ebtables -t filter -A FORWARD -j DROP",
}
# what has to be there before
FIRST = {
    "tc filter": ("tc qdisc add dev eth0 clsact",),
    "tc class": ("tc qdisc add dev eth0 root handle 7: htb",),
}


@pytest.fixture(scope="module")
def twins(sandbox: None) -> Iterator[None]:
    for name in ("one", "two"):
        lifecycle.up(lifecycle.define("kubenet", name))
    assert differences(observed("one", NODES), observed("two", NODES)) == []
    yield
    for name in paths.labs():
        lifecycle.down(name)


@pytest.mark.parametrize("doing", UNLIKE)
def test_nothing_differs_unseen(twins: None, doing: str) -> None:
    for before in FIRST.get(doing.split(" add")[0], ()):
        subjects.inside("two", "node1", *before.split())
    try:
        other = "legacy" if subjects.BACKEND == "nft" else "nft"
        subjects.inside("two", "node1", *doing.replace("OWN", subjects.BACKEND).replace("OTHER", other).split())
        found = differences(docker_observed("one", NODES), docker_observed("two", NODES))
        assert any(re.search(UNLIKE[doing], line) for line in found), found
    finally:
        lifecycle.up(lifecycle.define("kubenet", "two"), replace=True)
