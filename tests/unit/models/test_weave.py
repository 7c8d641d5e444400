"""Weave Net: its rules and devices word by word, and the ranges of its peers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labctl.core.features import required_features
from labctl.core.resources import Address, Fdb, Interface, IpSet, Link, Route
from labctl.core.scenario_types import Lab
from labctl.errors import MissingError, ScenarioError
from labctl.lab.fallback import use_available_features
from labctl.render.commands import commands
from labctl.scenario import definition
from labctl.scenario.definition import parse_and_compile
from tests.support.missing_features import Kernel
from tests.support.rule_tables import parse_tables, plan_tables, resource_texts

TEXT = "model: weave\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\n"
RULES = """
*filter
:WEAVE-EXPOSE - [0:0]
-A FORWARD -i weave -o weave -j ACCEPT
-A FORWARD -o weave -j WEAVE-EXPOSE
-A FORWARD -i weave ! -o weave -j ACCEPT
-A FORWARD -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A WEAVE-EXPOSE -d 10.32.0.0/12 -j ACCEPT
*nat
:WEAVE - [0:0]
-A POSTROUTING -j WEAVE
-A WEAVE -s 10.32.0.0/12 -d 224.0.0.0/4 -j RETURN
-A WEAVE ! -s 10.32.0.0/12 -d 10.32.0.0/12 -j MASQUERADE
-A WEAVE -s 10.32.0.0/12 ! -d 10.32.0.0/12 -j MASQUERADE
"""
KEPT = (
    '-m set --match-set weaver-no-masq-local dst -m comment --comment "Prevent SNAT to locally running containers"'
    " -j RETURN"
)
INTO, OUT = "weave-;rGqyMIl1HN^cfDki~Z$3]6!N", "weave-s_+ChJId4Uy_$}G;WdH|~TK)I"  # as weave's own tests have them
NPC = f"""
*filter
:WEAVE-NPC - [0:0]
:WEAVE-NPC-DEFAULT - [0:0]
:WEAVE-NPC-INGRESS - [0:0]
:WEAVE-NPC-EGRESS - [0:0]
:WEAVE-NPC-EGRESS-DEFAULT - [0:0]
:WEAVE-NPC-EGRESS-CUSTOM - [0:0]
:WEAVE-NPC-EGRESS-ACCEPT - [0:0]
-A INPUT -i weave -j WEAVE-NPC-EGRESS
-A FORWARD -i weave -m comment --comment "NOTE: this must go before '-j KUBE-FORWARD'" -j WEAVE-NPC-EGRESS
-A FORWARD -o weave -m comment --comment "NOTE: this must go before '-j KUBE-FORWARD'" -j WEAVE-NPC
-A FORWARD -o weave -m state --state NEW -j NFLOG --nflog-group 86
-A FORWARD -o weave -j DROP
-A FORWARD -i weave ! -o weave -j ACCEPT
-A FORWARD -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A WEAVE-NPC -m state --state RELATED,ESTABLISHED -j ACCEPT
-A WEAVE-NPC -d 224.0.0.0/4 -j ACCEPT
-A WEAVE-NPC -m physdev --physdev-out vethwe-bridge --physdev-is-bridged -j ACCEPT
-A WEAVE-NPC -m state --state NEW -j WEAVE-NPC-DEFAULT
-A WEAVE-NPC -m state --state NEW -j WEAVE-NPC-INGRESS
-A WEAVE-NPC-DEFAULT -m set --match-set {INTO} dst -m comment --comment "DefaultAllow ingress isolation for namespace: default" -j ACCEPT
-A WEAVE-NPC-EGRESS -m state --state RELATED,ESTABLISHED -j ACCEPT
-A WEAVE-NPC-EGRESS -m physdev --physdev-in vethwe-bridge --physdev-is-bridged -j RETURN
-A WEAVE-NPC-EGRESS -m addrtype --dst-type LOCAL -j RETURN
-A WEAVE-NPC-EGRESS -d 224.0.0.0/4 -j RETURN
-A WEAVE-NPC-EGRESS -m state --state NEW -j WEAVE-NPC-EGRESS-DEFAULT
-A WEAVE-NPC-EGRESS -m state --state NEW -m mark ! --mark 0x40000/0x40000 -j WEAVE-NPC-EGRESS-CUSTOM
-A WEAVE-NPC-EGRESS-DEFAULT -m set --match-set {OUT} src -m comment --comment "DefaultAllow egress isolation for namespace: default" -j WEAVE-NPC-EGRESS-ACCEPT
-A WEAVE-NPC-EGRESS-DEFAULT -m set --match-set {OUT} src -m comment --comment "DefaultAllow egress isolation for namespace: default" -j RETURN
-A WEAVE-NPC-EGRESS-ACCEPT -j MARK --set-xmark 0x40000/0x40000
"""  # noqa: E501


def built(more: str = "", text: str = TEXT) -> Lab:
    return parse_and_compile(text + more, "t.yaml")[1]


def refused(more: str, text: str = TEXT) -> str:
    with pytest.raises(ScenarioError) as caught:
        built(more, text)
    return str(caught.value)


def test_the_rules_are_weaves() -> None:
    bare = "policy_controller: false\n"
    assert plan_tables(built(f"{bare}no_masq_local: false\n")) == parse_tables(RULES)
    kept = plan_tables(built(bare))
    assert kept["nat"]["WEAVE"] == [KEPT, *parse_tables(RULES)["nat"]["WEAVE"]]
    assert kept["filter"] == parse_tables(RULES)["filter"]
    assert resource_texts(built(f"{bare}no_masq_local: false\n"), IpSet) == []


def test_the_policy_controllers_rules_are_weaves() -> None:
    made = built()
    assert plan_tables(made)["filter"] == parse_tables(NPC)["filter"]
    assert plan_tables(made)["nat"]["WEAVE"] == [KEPT, *parse_tables(RULES)["nat"]["WEAVE"]]
    assert resource_texts(made, IpSet)[:2] == [f"{name} hash:ip 10.32.0.2 10.32.0.3 10.44.0.1" for name in (INTO, OUT)]


def test_a_shell_takes_the_names_of_sets_as_they_are() -> None:
    typed_in = "\n".join(commands(IpSet("node1", OUT, "hash:ip", ("10.32.0.2",))))
    heard = subprocess.run(
        ["sh", "-c", 'ipset() { echo "$*"; }\n' + typed_in], capture_output=True, text=True, timeout=9
    )
    assert heard.stdout.splitlines() == [f"create {OUT} hash:ip", f"add {OUT} 10.32.0.2"]


def test_two_bridges_stand_in_a_row() -> None:
    links = {item.at.dev: item for item in built().plan if isinstance(item, Link) and item.at.ns == "node1"}
    kinds = {name: (item.kind, item.master, item.mtu) for name, item in links.items() if name not in ("lo", "eth0")}
    pods = {name: found for name, found in kinds.items() if name.startswith("vethwepl")}
    assert set(pods.values()) == {("veth", "weave", 1376)}
    assert [len(name) for name in pods] == [15, 15]
    assert all(links[name].hairpin for name in pods)
    assert {name: found for name, found in kinds.items() if name not in pods} == {
        "weave": ("bridge", None, 1376),
        "datapath": ("bridge", None, 1376),
        "vethwe-bridge": ("veth", "weave", 1376),
        "vethwe-datapath": ("veth", "datapath", 1376),
        "vxlan-6784": ("vxlan", "datapath", 1376),
    }
    assert links["vethwe-bridge"].peer == Interface("node1", "vethwe-datapath")
    assert dict(links["vxlan-6784"].options)["dstport"] == "6784"


def test_every_other_node_is_where_unknown_frames_go() -> None:
    three = built("elsewhere: [node3]\n", TEXT.replace("[c]}}", "[c]}, node3: {pods: [d]}}"))
    assert resource_texts(three, Fdb) == [
        f"00:00:00:00:00:00 dev vxlan-6784 dst {far}" for far in ("192.168.0.2", "192.168.1.3")
    ]


def test_all_pods_are_in_one_subnet_and_their_node_is_the_way_out() -> None:
    made = built()
    assert resource_texts(made, Address, "b") == ["10.32.0.3/12 dev eth0"]
    assert resource_texts(made, Route, "b") == ["default via 10.32.0.1 dev eth0"]
    assert resource_texts(made, Address, "c") == ["10.44.0.1/12 dev eth0"]
    assert resource_texts(made, Route, "c") == ["default via 10.44.0.0 dev eth0"]
    assert "10.44.0.0/12 dev weave" in resource_texts(made, Address, "node2")


RANGES = [
    ("weaver-no-masq-local hash:net 10.32.0.0/12", "10.32.0.1"),
    ("weaver-no-masq-local hash:net 10.44.0.0/14", "10.44.0.0"),
    ("weaver-no-masq-local hash:net 10.40.0.0/14", "10.40.0.0"),
    ("weaver-no-masq-local hash:net 10.38.0.0/15", "10.38.0.0"),
]


def test_who_joins_is_given_what_the_first_can_spare() -> None:
    """The second node's 10.44.0.0/14 and the first's 10.32.0.1 are what logs of Weave 2.8.1 show."""
    assert resource_texts(built(text="model: weave\nnodes: {node1: {pods: 1}}\n"), IpSet)[2:] == [RANGES[0][0]]
    four = built(text="model: weave\nnodes: {count: 4, pods: 1}\n")
    assert resource_texts(four, IpSet)[2:] == ["weaver-no-masq-local hash:net 10.32.0.0/14 10.36.0.0/15"]
    assert [resource_texts(four, IpSet, f"node{number}")[2:] for number in (2, 3, 4)] == [
        [words] for words, _ in RANGES[1:]
    ]
    first = {item.ns: str(item.addr.ip) for item in four.plan if isinstance(item, Address) and item.at.dev == "weave"}
    assert list(first.values()) == [ip for _, ip in RANGES]


def test_a_range_that_is_too_small_for_its_pods_is_told() -> None:
    assert "node2 has 1 pods and its part of 10.32.0.0/30 is nothing: room for 0" in refused("pod_cidr: 10.32.0.0/30\n")
    assert "pod_cidr 0.0.0.0/0 overlaps node_cidr" in refused("pod_cidr: 0.0.0.0/0\n")
    assert "pod_cidr 192.168.0.0/16 overlaps node_cidr" in refused("pod_cidr: 192.168.0.0/16\n")
    assert "node1 has 1023 pods, but the limit is 1022" in refused("", "model: weave\nnodes: {count: 1, pods: 1023}\n")


def test_a_tunnel_that_does_not_fit_is_told() -> None:
    assert "weave_mtu 1451 and 50 bytes of VXLAN are more than mtu 1500" in refused("weave_mtu: 1451\n")
    assert built("weave_mtu: 1450\n").plan


def test_the_fast_datapath_needs_open_vswitch_and_a_bridge_may_stand_in_for_it(tmp_path: Path) -> None:
    path = f"{tmp_path}/ovs.yaml"
    with open(path, "w") as file:
        file.write(TEXT + "datapath: ovs\n")
    wanted = definition.define(path)
    assert required_features(built("datapath: ovs\n").plan)["openvswitch"].key == ("link", "node1", "datapath")
    with pytest.raises(MissingError, match="lacks openvswitch, needed for the fast datapath itself"):
        use_available_features(wanted, Kernel("openvswitch"))
    _, instead = use_available_features(wanted, Kernel("openvswitch"), approximate=True)
    assert instead.plan == built().plan
    assert [part.feature for part in instead.approximations] == ["openvswitch"]
