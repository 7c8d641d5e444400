"""What flannel makes on a node, word by word, by its sources; and what its options change."""

from __future__ import annotations

import pytest

from labctl.core.resources import Address, Fdb, Link, Neighbour, Process, Route
from labctl.core.why import reason_of, reason_of_rule
from labctl.errors import ScenarioError
from tests.support.rule_tables import (
    in_any_order,
    lab,
    parse_tables,
    plan_ruleset,
    plan_tables,
    resource_texts,
    ruleset,
)

HEAD = "model: flannel\nelsewhere: [node3]\n"
NODES = "nodes: {node1: {pods: [a, b]}, node2: {pods: [c]}, node3: {pods: [d]}}\n"
VTEPS = {"node2": "02:07:c2:80:9a:74", "node3": "02:2c:81:c4:0a:03"}
FLANNELD = """
*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s RANGE -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d RANGE -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d RANGE -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"""


@pytest.mark.parametrize("backend", ["vxlan", "host-gw", "udp", "ipip"])
@pytest.mark.parametrize(("node", "pods"), [("node1", "10.244.1.0/24"), ("node3", "10.244.3.0/24")])
def test_each_node_has_its_own_rule_set_whatever_the_backend(backend: str, node: str, pods: str) -> None:
    built = lab(f"{HEAD}backend: {backend}\n{NODES}")
    assert plan_tables(built, node) == parse_tables(FLANNELD.replace("RANGE", pods))


def test_who_does_not_masquerade_has_no_such_chain() -> None:
    assert plan_tables(lab(f"{HEAD}ip_masq: false\n{NODES}")) == {"filter": parse_tables(FLANNELD)["filter"]}


# what `nft list ruleset` prints of a node with EnableNFTables, where the network has no IPv6
NFT = """
table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip saddr RANGE ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr RANGE return
		ip saddr != RANGE ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
	}

	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.244.0.0/16 accept
		ip daddr 10.244.0.0/16 accept
	}
}
table ip6 flannel-ipv6 {
	comment "rules for flannel-ipv6"
}
"""


@pytest.mark.parametrize("backend", ["vxlan", "host-gw", "udp", "ipip"])
@pytest.mark.parametrize(("node", "pods"), [("node1", "10.244.1.0/24"), ("node3", "10.244.3.0/24")])
def test_with_nftables_flanneld_writes_two_tables_of_nft_and_no_chain(backend: str, node: str, pods: str) -> None:
    built = lab(f"{HEAD}backend: {backend}\nnftables: true\n{NODES}")
    assert plan_tables(built, node) == {}
    written = ruleset(NFT.replace("RANGE", pods), node)
    assert in_any_order(plan_ruleset(built, node)) == in_any_order(written)
    names = [item.name for item in plan_ruleset(built, node) if item.kind == "chain"]
    assert names == [item.name for item in written if item.kind == "chain"]  # in the order in which they are made


def test_with_nftables_and_without_masquerading_only_the_chain_for_it_is_missing() -> None:
    built = lab(f"{HEAD}ip_masq: false\nnftables: true\n{NODES}")
    kept = [item for item in ruleset(NFT, "node1") if item.name != "postrtg"]
    assert in_any_order(plan_ruleset(built)) == in_any_order(kept)


def test_every_rule_of_nft_has_a_reason() -> None:
    for item in plan_ruleset(lab(f"{HEAD}nftables: true\n{NODES}")):
        assert reason_of(item) is not None
        assert [entry for entry in item.entries if reason_of_rule(item, entry) is None] == []


def test_vxlan_asks_and_floods_nothing() -> None:
    built = lab(HEAD + NODES)
    device = next(item for item in built.plan if isinstance(item, Link) and str(item.at) == "node1/flannel.1")
    options = {"id": "1", "local": "192.168.0.1", "dev": "eth0", "dstport": "8472", "learning": "off"}
    assert (device.kind, device.mtu, dict(device.options)) == ("vxlan", 1450, options)
    assert "10.244.1.0/32 dev flannel.1" in resource_texts(built, Address)
    assert resource_texts(built, Route) == [
        "default via 192.168.0.254 dev eth0",
        "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
        "10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink",
    ]
    assert resource_texts(built, Neighbour) == [
        f"10.244.2.0 dev flannel.1 lladdr {VTEPS['node2']} nud permanent",
        f"10.244.3.0 dev flannel.1 lladdr {VTEPS['node3']} nud permanent",
    ]
    assert resource_texts(built, Fdb) == [
        f"{VTEPS['node2']} dev flannel.1 dst 192.168.0.2",
        f"{VTEPS['node3']} dev flannel.1 dst 192.168.1.3",
    ]
    macs = {item.at.ns: item.mac for item in built.plan if isinstance(item, Link) and item.at.dev == "flannel.1"}
    assert {node: macs[node] for node in VTEPS} == VTEPS


def test_direct_routing_tells_a_peer_on_the_same_ethernet_from_others() -> None:
    built = lab(f"{HEAD}direct_routing: true\n{NODES}")
    assert resource_texts(built, Route)[1:] == [
        "10.244.2.0/24 via 192.168.0.2 dev eth0",
        "10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink",
    ]
    assert [text.split()[0] for text in resource_texts(built, Neighbour)] == ["10.244.3.0"]
    assert [text.split()[-1] for text in resource_texts(built, Fdb)] == ["192.168.1.3"]
    ipip = lab(f"{HEAD}backend: ipip\ndirect_routing: true\n{NODES}")
    assert resource_texts(ipip, Route)[1:] == [
        "10.244.2.0/24 via 192.168.0.2 dev eth0 onlink",
        "10.244.3.0/24 via 192.168.1.3 dev flannel.ipip onlink",
    ]


def test_host_gw_has_routes_and_none_across_a_router() -> None:
    built = lab(f"{HEAD}backend: host-gw\n{NODES}")
    assert resource_texts(built, Route)[1:] == ["10.244.2.0/24 via 192.168.0.2 dev eth0"]
    assert resource_texts(built, Route, "node3")[1:] == []
    assert resource_texts(built, Address) == ["192.168.0.1/24 dev eth0", "10.244.1.1/24 dev cni0"]


def test_udp_routes_all_pods_to_a_program_that_knows_the_peers() -> None:
    built = lab(f"{HEAD}backend: udp\n{NODES}")
    assert "10.244.1.0/32 dev flannel0" in resource_texts(built, Address)
    assert resource_texts(built, Route)[1:] == ["10.244.0.0/16 dev flannel0 scope global"]
    program = next(item for item in built.plan if isinstance(item, Process) and item.ns == "node1")
    peers = ("10.244.2.0/24=192.168.0.2", "10.244.3.0/24=192.168.1.3")
    assert program.command == ("tunnel", "udp", "flannel0", "192.168.0.1", *peers)


@pytest.mark.parametrize(("backend", "mtu"), [("vxlan", 1450), ("host-gw", 1500), ("udp", 1472), ("ipip", 1480)])
def test_pods_are_told_what_the_tunnel_leaves(backend: str, mtu: int) -> None:
    built = lab(f"{HEAD}backend: {backend}\n{NODES}")
    ends = {item.at.ns: item for item in built.plan if isinstance(item, Link) and item.at.dev == "eth0"}
    links = [item for item in built.plan if isinstance(item, Link) and item.at.ns == "node1"]
    assert ends["a"].mtu == mtu
    assert {item.mtu for item in links if "cni0" in (item.at.dev, item.master)} == {mtu}
    assert [item.hairpin for item in links if item.master == "cni0"] == [True, True]
    assert ends["node1"].mtu == 1500


def test_a_pod_routes_all_by_its_bridge() -> None:
    built = lab(HEAD + NODES)
    assert resource_texts(built, Address, "b") == ["10.244.1.3/24 dev eth0"]
    assert resource_texts(built, Route, "b") == [
        "10.244.0.0/16 via 10.244.1.1 dev eth0",
        "default via 10.244.1.1 dev eth0",
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("backend: host-gw\ndirect_routing: true\n", "the backend host-gw has no such setting"),
        ("backend: vxlann\n", "did you mean 'vxlan'?"),
        ("pod_cidr: 10.244.0.0/23\n", "holds 1 ranges of /24 for nodes and there are 3"),
        ("pod_cidr: 192.168.0.0/16\n", "pod_cidr 192.168.0.0/16 overlaps"),
        ("pod_cidr: 10.244.0.0/26\n", "holds 0 ranges of /24 for nodes and there are 3"),
        ("max_pods: 1\n", "node1 has 2 pods, but max_pods is 1"),
    ],
)
def test_what_cannot_be_built_is_refused(lines: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        lab(HEAD + lines + NODES)
    assert says in str(caught.value)


def test_a_range_that_is_too_small_is_refused() -> None:
    pods = ", ".join(f"p{number}" for number in range(6))
    with pytest.raises(ScenarioError, match="node1 has 6 pods, but its /29 has 5 addresses"):
        lab(f"model: flannel\nnode_prefix: 29\nnodes: {{node1: {{pods: [{pods}]}}}}\n")
