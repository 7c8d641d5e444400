"""kube-router: its firewall word by word, its routes and its tunnels."""

from __future__ import annotations

import pytest

from labctl.core.resources import Interface, IpSet, Link, Process, Route, Rule
from labctl.core.scenario_types import Lab
from labctl.errors import ScenarioError
from labctl.lab.fallback import use_available_features
from labctl.scenario import definition
from labctl.scenario.definition import parse_and_compile
from tests.support.missing_features import Kernel
from tests.support.rule_tables import parse_tables, plan_tables, resource_texts

ONE = "model: kube-router\nnodes: {node1: {pods: [a]}, node2: {pods: [c]}}\n"
TWO = f"{ONE}elsewhere: [node2]\n"
OVERLAY = "kube-router-overlay"
MINE = "KUBE-POD-FW-JWDFVDRJ7ROGHPUU"
FILTER = """
*filter
:KUBE-ROUTER-INPUT - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-ROUTER-OUTPUT - [0:0]
:KUBE-NWPLCY-COMMON - [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-NWPLCY-TAIL - [0:0]
:MINE - [0:0]
-A INPUT -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-INPUT
-A FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD
-A FORWARD -o eth0 -m comment --comment "allow outbound node port traffic on node interface with which node ip is associated" -j ACCEPT
-A FORWARD -o kube-bridge -m comment --comment "allow inbound traffic to pods" -j ACCEPT
-A FORWARD -i kube-bridge -m comment --comment "allow outbound traffic from pods" -j ACCEPT
-A OUTPUT -m comment --comment "kube-router netpol - VEAAIY32XVBHCSCY" -j KUBE-ROUTER-OUTPUT
-A KUBE-ROUTER-INPUT -d 10.96.0.0/12 -m comment --comment "allow traffic to primary/secondary cluster IP range - SERVICES" -j RETURN
-A KUBE-ROUTER-INPUT -p tcp -m comment --comment "allow LOCAL TCP traffic to node ports - LR7XO7NXDBGQJD2M" -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN
-A KUBE-ROUTER-INPUT -p udp -m comment --comment "allow LOCAL UDP traffic to node ports - 76UCBPIZNGJNWNUZ" -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN
-A KUBE-ROUTER-INPUT -s 10.244.0.2/32 -m comment --comment "FROM" -j MINE
-A KUBE-ROUTER-INPUT -m comment --comment "rule to explicitly handle traffic for network policies ACCEPT/REJECT decision" -j KUBE-NWPLCY-TAIL
-A KUBE-ROUTER-FORWARD -d 10.244.0.2/32 -m comment --comment "INTO" -j MINE
-A KUBE-ROUTER-FORWARD -d 10.244.0.2/32 -m physdev --physdev-is-bridged -m comment --comment "INTO" -j MINE
-A KUBE-ROUTER-FORWARD -s 10.244.0.2/32 -m comment --comment "FROM" -j MINE
-A KUBE-ROUTER-FORWARD -s 10.244.0.2/32 -m physdev --physdev-is-bridged -m comment --comment "FROM" -j MINE
-A KUBE-ROUTER-FORWARD -m comment --comment "rule to explicitly handle traffic for network policies ACCEPT/REJECT decision" -j KUBE-NWPLCY-TAIL
-A KUBE-ROUTER-OUTPUT -d 10.244.0.2/32 -m comment --comment "INTO" -j MINE
-A KUBE-ROUTER-OUTPUT -s 10.244.0.2/32 -m comment --comment "FROM" -j MINE
-A KUBE-ROUTER-OUTPUT -m comment --comment "rule to explicitly handle traffic for network policies ACCEPT/REJECT decision" -j KUBE-NWPLCY-TAIL
-A KUBE-NWPLCY-COMMON -m comment --comment "rule to drop invalid state for pod" -m conntrack --ctstate INVALID -j DROP
-A KUBE-NWPLCY-COMMON -m comment --comment "rule for stateful firewall for pod" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NWPLCY-COMMON -p icmp -m comment --comment "allow icmp echo requests" -m icmp --icmp-type 8 -j ACCEPT
-A KUBE-NWPLCY-COMMON -p icmp -m comment --comment "allow icmp destination unreachable messages" -m icmp --icmp-type 3 -j ACCEPT
-A KUBE-NWPLCY-COMMON -p icmp -m comment --comment "allow icmp time exceeded messages" -m icmp --icmp-type 11 -j ACCEPT
-A KUBE-NWPLCY-DEFAULT -m comment --comment "rule to mark traffic matching a network policy" -j MARK --set-xmark 0x10000/0x10000
-A KUBE-NWPLCY-TAIL -m comment --comment "accept netpol-ok" -m mark --mark 0x20000/0x20000 -j ACCEPT
-A MINE -j KUBE-NWPLCY-COMMON
-A MINE -d 10.244.0.2/32 -m comment --comment "rule to permit the traffic traffic to pods when source is the pod's local node" -m addrtype --src-type LOCAL -j ACCEPT
-A MINE -s 10.244.0.2/32 -m comment --comment "run through default egress network policy  chain" -j KUBE-NWPLCY-DEFAULT
-A MINE -d 10.244.0.2/32 -m comment --comment "run through default ingress network policy  chain" -j KUBE-NWPLCY-DEFAULT
-A MINE -m comment --comment "rule to log dropped traffic POD name:a namespace: default" -m mark ! --mark 0x10000/0x10000 -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100
-A MINE -m comment --comment "rule to REJECT traffic destined for POD name:a namespace: default" -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable
-A MINE -j MARK --set-xmark 0x0/0x10000
-A MINE -m comment --comment "set mark to ACCEPT traffic that comply to network policies" -j MARK --set-xmark 0x20000/0x20000
*nat
-A POSTROUTING -m set --match-set kube-router-pod-subnets src -m set ! --match-set kube-router-pod-subnets dst -m set ! --match-set kube-router-node-ips dst -j MASQUERADE --random-fully
"""  # noqa: E501
WORDS = {
    "INTO": f"rule to jump traffic destined to POD name:a namespace: default to chain {MINE}",
    "FROM": f"rule to jump traffic from POD name:a namespace: default to chain {MINE}",
    "MINE": MINE,
    "SERVICES": "BVHX2PIHDXXEO43X",
}


def built(text: str = ONE) -> Lab:
    return parse_and_compile(text, "t.yaml")[1]


def refused(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        built(text)
    return str(caught.value)


def test_the_rules_are_kube_routers() -> None:
    text = FILTER
    for word, meaning in WORDS.items():
        text = text.replace(word, meaning)
    assert plan_tables(built()) == parse_tables(text)


def test_who_is_a_pod_and_who_is_a_node_is_in_two_sets() -> None:
    assert resource_texts(built(), IpSet) == [
        "kube-router-pod-subnets hash:net 10.244.0.0/24 10.244.1.0/24",
        "kube-router-node-ips hash:ip 192.168.0.1 192.168.0.2",
    ]


NEAR, FAR = "10.244.1.0/24 via 192.168.0.2 dev eth0 proto 17", "default via 192.168.0.254 dev eth0"


def test_on_one_ethernet_a_node_is_the_next_hop_to_its_pods() -> None:
    subnet, none = (built(f"{ONE}overlay: {overlay}\n") for overlay in ("subnet", "none"))
    assert resource_texts(subnet, Route) == resource_texts(none, Route) == [FAR, NEAR]
    assert resource_texts(subnet, Rule) == ["pref 32765 from 10.244.0.0/24 lookup 77"]
    assert resource_texts(none, Rule) == []


@pytest.mark.parametrize(
    ("text", "device", "to"),
    [
        (f"{ONE}overlay: full\n", "tun-1ae221a51fb", "192.168.0.2"),
        (TWO, "tun-ddd1d46f933", "192.168.1.2"),
        (f"{TWO}overlay: full\n", "tun-ddd1d46f933", "192.168.1.2"),
    ],
)
def test_behind_a_router_a_node_is_at_the_end_of_a_tunnel(text: str, device: str, to: str) -> None:
    made = built(text)
    (tunnel,) = (item for item in made.plan if isinstance(item, Link) and item.kind == "ipip" and item.ns == "node1")
    assert (tunnel.at.dev, tunnel.mtu) == (device, 1480)
    assert tunnel.options == (("local", "192.168.0.1"), ("remote", to))
    assert resource_texts(made, Route) == [
        FAR,
        f"10.244.1.0/24 dev {device} proto 17 src 192.168.0.1 scope global",
        f"{to} dev {device} table 77",
    ]


def test_without_an_overlay_the_router_has_to_know_and_here_it_does_not() -> None:
    made = built(f"{TWO}overlay: none\n")
    assert resource_texts(made, Route) == [FAR]
    own = (((("node1",), ("a",)), (("node2",), ("c",))),)
    assert tuple(check.groups for check in made.checks if check.probe == "mesh") == own
    more = "model: kube-router\noverlay: none\nelsewhere: [node3]\nnodes: {count: 3, pods: 1}\n"
    (sides,) = (check.groups for check in built(more).checks if "subnet" in check.say)
    assert sides == ((("pod1-1", "pod2-1"), ("pod1-1", "pod2-1")),)
    assert [check.probe for check in built(TWO).checks if check.probe == "mesh"] == ["mesh", "mesh"]


def test_pods_leave_room_for_a_tunnel_unless_there_can_be_none() -> None:
    def sizes(text: str) -> set[int | None]:
        return {item.mtu for item in built(text).plan if isinstance(item, Link) and item.at.ns in ("a", "c")}

    assert sizes(ONE) == sizes(TWO) == {None, 1480}
    assert sizes(f"{ONE}overlay: none\n") == {None, 1500}
    assert sizes(f"{TWO}mtu: 9000\n") == {None, 8980}


def test_a_program_may_stand_in_for_the_tunnel() -> None:
    made = definition.define(OVERLAY)
    exact, same = (
        use_available_features(made, Kernel())[1],
        use_available_features(made, Kernel("ipip"), approximate=True)[1],
    )

    def tunnels(found: Lab) -> set[tuple[Interface, str]]:
        return {(item.at, item.kind) for item in found.plan if isinstance(item, Link) and item.at.dev[:4] == "tun-"}

    assert {at for at, _ in tunnels(exact)} == {at for at, _ in tunnels(same)}
    assert {kind for _, kind in tunnels(exact)} == {"ipip"}
    assert {kind for _, kind in tunnels(same)} == {"tun"}
    (one,) = (item for item in same.plan if isinstance(item, Process) and item.ns == "node1")
    assert one.command == ("tunnel", "ipip", "tun-ebb17bddb2e", "192.168.0.1", "0.0.0.0/0=192.168.1.3")


def test_what_cannot_be_built_is_told() -> None:
    assert "pod_cidr 10.244.0.0/24 holds 1 ranges of /24, but there are 2 nodes" in refused(
        f"{ONE}pod_cidr: 10.244.0.0/24\n"
    )
    assert "pod_cidr 10.244.0.1/32 holds 0 ranges of /24" in refused(f"{ONE}pod_cidr: 10.244.0.1\n")
    assert "service_cidr 10.244.0.0/16 overlaps pod_cidr" in refused(f"{ONE}service_cidr: 10.244.0.0/16\n")
    assert "node1 has 14 pods, but the limit is 13" in refused(
        "model: kube-router\nnode_prefix: 28\nnodes: {count: 1, pods: 14}\n"
    )


def test_two_tunnels_of_one_name_are_told() -> None:
    """192.168.1.11 and 192.168.11.1 are the same digits."""
    text = (
        "model: kube-router\nnode_cidr: 192.168.1.0/24\nother_cidr: 192.168.11.0/24\nelsewhere: [node1]\n"
        "nodes: {count: 11, pods: 0}\n"
    )
    assert "the tunnels to node1 (192.168.11.1) and node11 (192.168.1.11) have the same name, tun-" in refused(text)
    assert built(f"{text}overlay: none\n").plan
