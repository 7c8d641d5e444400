"""What a node of Cilium is set to, word by word: iptables-save's text, and `ip rule` and `ip route` of each table.

The blocks are what cilium/cilium writes by its sources (pkg/datapath/iptables, pkg/datapath/linux), with this lab's
addresses.
"""

from __future__ import annotations

from labctl.core.resources import Address, Interface, IpSet, Link, Neighbour, Route, Rule, Sysctl
from labctl.core.scenario_types import Lab
from labctl.render.commands import commands
from tests.support.rule_tables import lab, parse_tables, plan_tables, resource_texts

CILIUM = "model: cilium\nnodes: {node1: {pods: {a: {identity: 12345}, b: {}}}, node2: {pods: [c]}}\n"
NATIVE = CILIUM + "routing: native\n"
A, B = "lxc86f7e437faa5", "lxce9d71f5ee7c9"

FORWARD = """
*filter
:CILIUM_FORWARD - [0:0]
-A FORWARD -m comment --comment "cilium-feeder: CILIUM_FORWARD" -j CILIUM_FORWARD
-A CILIUM_FORWARD -o cilium_host -m comment --comment "cilium: any->cluster on cilium_host forward accept" -j ACCEPT
-A CILIUM_FORWARD -i cilium_host -m comment --comment "cilium: cluster->any on cilium_host forward accept (nodeport)" -j ACCEPT
-A CILIUM_FORWARD -i lxc+ -m comment --comment "cilium: cluster->any on lxc+ forward accept" -j ACCEPT
-A CILIUM_FORWARD -i cilium_net -m comment --comment "cilium: cluster->any on cilium_net forward accept (nodeport)" -j ACCEPT
*nat
:CILIUM_POST_nat - [0:0]
-A POSTROUTING -m comment --comment "cilium-feeder: CILIUM_POST_nat" -j CILIUM_POST_nat
"""  # noqa: E501
TUNNEL = """
-A CILIUM_POST_nat -s 10.0.0.0/24 ! -d 10.0.0.0/24 ! -o cilium_+ -m comment --comment "cilium masquerade non-cluster" -j MASQUERADE
-A CILIUM_POST_nat -m mark --mark 0xa00/0xe00 -m comment --comment "exclude proxy return traffic from masquerade" -j ACCEPT
-A CILIUM_POST_nat ! -s 10.0.0.0/24 ! -d 10.0.0.0/24 -o cilium_host -m comment --comment "cilium host->cluster masquerade" -j SNAT --to-source 10.0.0.254
-A CILIUM_POST_nat -s 127.0.0.1/32 -o cilium_host -m comment --comment "cilium host->cluster from 127.0.0.1 masquerade" -j SNAT --to-source 10.0.0.254
-A CILIUM_POST_nat -o cilium_host -m mark --mark 0xf00/0xf00 -m conntrack --ctstate DNAT -m comment --comment "hairpin traffic that originated from a local pod" -j SNAT --to-source 10.0.0.254
"""  # noqa: E501
NATIVELY = """
-A CILIUM_POST_nat -s 10.0.0.0/24 -m set --match-set cilium_node_set_v4 dst -m comment --comment "exclude traffic to cluster nodes from masquerade" -j ACCEPT
-A CILIUM_POST_nat -s 10.0.0.0/24 ! -d 10.0.0.0/8 ! -o cilium_+ -m comment --comment "cilium masquerade non-cluster" -j MASQUERADE
-A CILIUM_POST_nat -m mark --mark 0xa00/0xe00 -m comment --comment "exclude proxy return traffic from masquerade" -j ACCEPT
-A CILIUM_POST_nat -s 127.0.0.1/32 -o cilium_host -m comment --comment "cilium host->cluster from 127.0.0.1 masquerade" -j SNAT --to-source 10.0.0.254
-A CILIUM_POST_nat -o cilium_host -m mark --mark 0xf00/0xf00 -m conntrack --ctstate DNAT -m comment --comment "hairpin traffic that originated from a local pod" -j SNAT --to-source 10.0.0.254
"""  # noqa: E501


def table(built: Lab, number: int, ns: str = "node1") -> list[str]:
    return [text for text in resource_texts(built, Route, ns) if f" table {number} " in f"{text} "]


def test_the_agent_writes_its_whole_rule_set() -> None:
    assert plan_tables(lab(CILIUM)) == parse_tables(FORWARD + TUNNEL)


def test_with_native_routing_nodes_are_a_set_that_is_exempt() -> None:
    built = lab(NATIVE)
    assert plan_tables(built) == parse_tables(FORWARD + NATIVELY)
    assert resource_texts(built, IpSet) == ["cilium_node_set_v4 hash:ip 192.168.0.1 192.168.0.2"]


def test_without_masquerading_its_chain_is_empty() -> None:
    assert plan_tables(lab(CILIUM + "masquerade: false\n"))["nat"]["CILIUM_POST_nat"] == []


def test_a_node_looks_into_the_local_table_late() -> None:
    kept = ["pref 9 from all fwmark 0x200/0xf00 lookup 2004", "pref 100 from all lookup local"]
    assert resource_texts(lab(NATIVE), Rule) == kept
    assert resource_texts(lab(CILIUM), Rule) == [
        *kept,
        "pref 200 from 10.0.0.1/32 lookup 112345",
        "pref 200 from 10.0.0.2/32 lookup 100256",
        "pref 201 from all iif lo lookup 100006",
        "pref 201 from all iif eth0 lookup 100006",
    ]
    assert table(lab(CILIUM), 2004) == ["local default dev lo table 2004 proto kernel"]


def test_by_hand_the_new_rule_comes_before_the_old_one_goes() -> None:
    rule = next(item for item in lab(CILIUM).plan if isinstance(item, Rule) and item.pref == 100)
    assert commands(rule) == ("ip rule add pref 100 from all lookup local", "ip rule del pref 0")


def test_the_main_table_is_ciliums() -> None:
    ours = [f"10.0.0.1 dev {A} src 10.0.0.254", f"10.0.0.2 dev {B} src 10.0.0.254"]
    for text, way in (
        (CILIUM, "10.0.1.0/24 via 10.0.0.254 dev cilium_host proto kernel src 10.0.0.254 mtu 1450"),
        (NATIVE, "10.0.1.0/24 via 192.168.0.2 dev eth0 proto kernel"),
    ):
        routes = [words for words in resource_texts(lab(text), Route) if " table " not in words]
        assert sorted(routes) == sorted([
            "default via 192.168.0.254 dev eth0",
            "10.0.0.254 dev cilium_host proto kernel",
            "10.0.0.0/24 via 10.0.0.254 dev cilium_host proto kernel src 10.0.0.254",
            way,
            *ours,
        ])  # fmt: skip


def test_an_identity_is_the_number_of_the_tunnel() -> None:
    built = lab(CILIUM)
    way = "10.0.1.0/24 encap ip id {} dst 192.168.0.2 via 10.0.1.254 dev cilium_vxlan table {}{} mtu 1450 onlink"
    assert table(built, 112345) == [way.format(12345, 112345, "")]
    assert table(built, 100256) == [way.format(256, 100256, "")]
    assert table(built, 100006) == [way.format(6, 100006, " src 10.0.0.254")]
    assert resource_texts(built, Rule, "node2")[2] == "pref 200 from 10.0.1.1/32 lookup 100257"


def test_pods_may_share_an_identity_and_none_is_given_twice() -> None:
    built = lab("model: cilium\nnodes: {node1: {pods: {a: {}, b: {identity: 256}, c: {identity: 256}}}}\n")
    assert [text.split()[-1] for text in resource_texts(built, Rule)[2:-2]] == ["100257", "100256", "100256"]
    assert len(table(built, 100256)) == 0  # there is no other node


def test_devices_and_their_neighbours() -> None:
    built = lab(CILIUM)
    links = {item.at: item for item in built.plan if isinstance(item, Link)}
    for name in ("cilium_host", "cilium_net"):
        assert not links[Interface("node1", name)].arp
    assert links[Interface("node1", "cilium_host")].peer == Interface("node1", "cilium_net")
    vxlan, far = links[Interface("node1", "cilium_vxlan")], links[Interface("node2", "cilium_vxlan")]
    assert dict(vxlan.options) == {"external": "on", "learning": "off", "dstport": "8472"}
    assert vxlan.mac != far.mac  # or each would take the other's frames for its own
    assert f"10.0.1.254 dev cilium_vxlan lladdr {far.mac} nud permanent" in resource_texts(built, Neighbour)
    assert resource_texts(built, Address) == ["192.168.0.1/24 dev eth0", "10.0.0.254/32 dev cilium_host"]
    settings = resource_texts(built, Sysctl)
    for name in ("cilium_host", "cilium_net", "cilium_vxlan"):
        assert f"net.ipv4.conf.{name}.rp_filter = 0" in settings
        assert f"net.ipv4.conf.{name}.accept_local = 1" in settings
    assert Interface("node1", "cilium_vxlan") not in {item.at for item in lab(NATIVE).plan if isinstance(item, Link)}


def test_a_pod_knows_its_router_for_good() -> None:
    built = lab(CILIUM)
    end = next(item for item in built.plan if isinstance(item, Link) and item.peer == Interface("a", "eth0"))
    assert end.at.dev == A
    assert resource_texts(built, Address, "a") == ["10.0.0.1/32 dev eth0"]
    assert resource_texts(built, Route, "a") == ["10.0.0.254 dev eth0", "default via 10.0.0.254 dev eth0 mtu 1450"]
    assert resource_texts(built, Neighbour, "a") == [f"10.0.0.254 dev eth0 lladdr {end.mac} nud permanent"]
    assert resource_texts(lab(NATIVE), Route, "a")[1] == "default via 10.0.0.254 dev eth0 mtu 1500"
