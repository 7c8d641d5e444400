"""What flannel makes on a node, word by word, by its sources; and what its options change."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

import labctl.lab
from labctl.checks import runner
from labctl.core.resources import Address, Fdb, Interface, Link, Neighbour, Process, Route
from labctl.core.scenario_types import Check, Lab, See
from labctl.core.topology import Topology
from labctl.errors import ScenarioError
from labctl.kernel.host import paths
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.request import question_of
from labctl.tracing.run import trace_packet
from tests.test_cloud_rules import lab, said, saved
from tests.test_docker_rules import block

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
    assert saved(built, node) == block(FLANNELD.replace("RANGE", pods))


def test_who_does_not_masquerade_has_no_such_chain() -> None:
    assert saved(lab(f"{HEAD}ip_masq: false\n{NODES}")) == {"filter": block(FLANNELD)["filter"]}


def test_vxlan_asks_and_floods_nothing() -> None:
    built = lab(HEAD + NODES)
    device = next(item for item in built.plan if isinstance(item, Link) and str(item.at) == "node1/flannel.1")
    options = {"id": "1", "local": "192.168.0.1", "dev": "eth0", "dstport": "8472", "learning": "off"}
    assert (device.kind, device.mtu, dict(device.options)) == ("vxlan", 1450, options)
    assert "10.244.1.0/32 dev flannel.1" in said(built, Address)
    assert said(built, Route) == [
        "default via 192.168.0.254 dev eth0",
        "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
        "10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink",
    ]
    assert said(built, Neighbour) == [
        f"10.244.2.0 dev flannel.1 lladdr {VTEPS['node2']} nud permanent",
        f"10.244.3.0 dev flannel.1 lladdr {VTEPS['node3']} nud permanent",
    ]
    assert said(built, Fdb) == [
        f"{VTEPS['node2']} dev flannel.1 dst 192.168.0.2",
        f"{VTEPS['node3']} dev flannel.1 dst 192.168.1.3",
    ]
    macs = {item.at.ns: item.mac for item in built.plan if isinstance(item, Link) and item.at.dev == "flannel.1"}
    assert {node: macs[node] for node in VTEPS} == VTEPS


def test_direct_routing_tells_a_peer_on_the_same_ethernet_from_others() -> None:
    built = lab(f"{HEAD}direct_routing: true\n{NODES}")
    assert said(built, Route)[1:] == [
        "10.244.2.0/24 via 192.168.0.2 dev eth0",
        "10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink",
    ]
    assert [text.split()[0] for text in said(built, Neighbour)] == ["10.244.3.0"]
    assert [text.split()[-1] for text in said(built, Fdb)] == ["192.168.1.3"]
    ipip = lab(f"{HEAD}backend: ipip\ndirect_routing: true\n{NODES}")
    assert said(ipip, Route)[1:] == [
        "10.244.2.0/24 via 192.168.0.2 dev eth0 onlink",
        "10.244.3.0/24 via 192.168.1.3 dev flannel.ipip onlink",
    ]


def test_host_gw_has_routes_and_none_across_a_router() -> None:
    built = lab(f"{HEAD}backend: host-gw\n{NODES}")
    assert said(built, Route)[1:] == ["10.244.2.0/24 via 192.168.0.2 dev eth0"]
    assert said(built, Route, "node3")[1:] == []
    assert said(built, Address) == ["192.168.0.1/24 dev eth0", "10.244.1.1/24 dev cni0"]


def test_udp_routes_all_pods_to_a_program_that_knows_the_peers() -> None:
    built = lab(f"{HEAD}backend: udp\n{NODES}")
    assert "10.244.1.0/32 dev flannel0" in said(built, Address)
    assert said(built, Route)[1:] == ["10.244.0.0/16 dev flannel0 scope global"]
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
    assert said(built, Address, "b") == ["10.244.1.3/24 dev eth0"]
    assert said(built, Route, "b") == ["10.244.0.0/16 via 10.244.1.1 dev eth0", "default via 10.244.1.1 dev eth0"]


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


# ---- in real namespaces ------------------------------------------------------------------------------


@contextmanager
def running(name: str, *sets: str) -> Iterator[Lab]:
    """A built-in scenario that is up, with some options."""
    definition = labctl.lab.define(name, sets=sets)
    labctl.lab.up(definition)
    try:
        yield labctl.lab.recall(name)
    finally:
        labctl.lab.down(name)


def typed(name: str, node: str, command: str) -> subprocess.CompletedProcess[str]:
    words = ["ip", "netns", "exec", paths.netns_name(name, node), *command.split()]
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)


def proven(compiled: Lab, *claims: Check) -> list[str]:
    report = runner.run(replace(compiled, checks=claims), "")
    return [outcome.verdict for outcome in report.outcomes]


@pytest.mark.root
def test_a_trace_tells_the_hop_that_the_program_takes() -> None:
    options: dict[str, object] = {"icmp": False, "tcp": None, "udp": None, "size": None, "fragment": False}
    with running("flannel-udp") as compiled:
        who = Topology(compiled)
        evidence, _ = trace_packet(who.lab, question_of(who, "a", "c", {**options, "listen": False}), listen=False)
    request = diagnose(evidence).legs[0].steps
    assert [(step.node, step.ttl) for step in request] == [
        ("a", 64), ("node1", 62), ("fabric", 62), ("node2", 61), ("c", 61),
    ]  # fmt: skip
    assert request[1].devices[-2:] == ("flannel0", "eth0")
    assert [step.tunnel.split()[:1] for step in request] == [[], ["udp"], ["udp"], [], []]


def seen(at: str, *, negate: bool = False, **what: str) -> See:
    return See(Interface(*at.split("/")), negate=negate, **what)


@pytest.mark.root
def test_host_gw_has_no_route_across_a_router_because_the_kernel_takes_none() -> None:
    with running("flannel-host-gw"):
        near = typed("flannel-host-gw", "node1", "ip route replace 10.244.2.0/24 via 192.168.0.2 dev eth0")
        far = typed("flannel-host-gw", "node1", "ip route replace 10.244.3.0/24 via 192.168.1.3 dev eth0")
    assert (near.returncode, near.stderr) == (0, "")
    assert far.returncode != 0
    assert "invalid gateway" in far.stderr or "unreachable" in far.stderr


@pytest.mark.root
def test_a_forgotten_peer_is_silence_on_the_wire() -> None:
    lost = (seen("node1/flannel.1", src="a", dst="c"), seen("node1/eth0", negate=True, src="a"))
    claim = Check("nothing is flooded", "ping", "a", "c", expect="fail", sees=lost)
    with running("flannel") as compiled:
        before = proven(compiled, claim)
        gone = typed("flannel", "node1", f"bridge fdb del {VTEPS['node2']} dev flannel.1 dst 192.168.0.2 self")
        wanted = tuple(item for item in compiled.plan if not (isinstance(item, Fdb) and item.mac == VTEPS["node2"]))
        after = proven(replace(compiled, plan=wanted), claim)  # a lab that has drifted proves no silence
    assert (gone.returncode, before, after) == (0, ["fail"], ["pass"])


@pytest.mark.root
def test_who_does_not_masquerade_shows_nodes_the_pod_and_never_leaves() -> None:
    node = Check("node2 sees a", "ping", "a", "node2", sees=(seen("node2/eth0", src="a", dst="node2"),))
    way = (seen("fabric/node1", src="a", dst="internet"), seen("internet/eth0", src="fabric/igw"))
    out = Check("no answer finds a", "ping", "a", "internet", expect="fail", sees=way)
    with running("flannel", "ip_masq=false") as compiled:
        assert proven(compiled, node, out) == ["pass", "pass"]
