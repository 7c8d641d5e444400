"""A small made-up lab as a comparison knows it: two nodes, a bridge on each, a router between. No kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from labctl.compare.measurements import (
    ExtraPod,
    Measurements,
    PathMtu,
    ProbeResult,
    ServiceProbe,
    Skipped,
    Timings,
)
from labctl.compare.roles import Roles
from labctl.core.fidelity import needs
from labctl.core.iptables import rule
from labctl.core.resources import Address, Chain, Interface, Link, Neighbour, Plan, Route
from labctl.core.results import Sighting
from labctl.core.scenario_types import Check, Lab, Machine

ADDRESSES = {
    "a/eth0": "10.1.0.2/24", "b/eth0": "10.1.0.3/24", "node1/br0": "10.1.0.1/24", "node1/eth0": "10.9.0.1/16",
    "c/eth0": "10.2.0.2/24", "node2/br0": "10.2.0.1/24", "node2/eth0": "10.9.0.2/16", "fabric/n1": "10.9.255.254/16",
    "vm/eth0": "10.9.0.9/16", "internet/eth0": "8.8.8.8/32", "fabric/out": "8.8.4.4/32",
}  # fmt: skip
CABLES = {
    "a/eth0": "node1/va", "b/eth0": "node1/vb", "c/eth0": "node2/vc", "node1/eth0": "fabric/n1",
    "node2/eth0": "fabric/n2", "vm/eth0": "fabric/vm", "internet/eth0": "fabric/out",
}  # fmt: skip
MASTERS = {"node1/va": "br0", "node1/vb": "br0", "node2/vc": "br0"}
MACHINES = tuple(
    Machine(name, role, (ip_interface(ADDRESSES[at]).ip,), on)  # type: ignore[arg-type]
    for name, role, at, on in (
        ("fabric", "fabric", "fabric/n1", None), ("node1", "node", "node1/eth0", None),
        ("node2", "node", "node2/eth0", None), ("a", "pod", "a/eth0", "node1"), ("b", "pod", "b/eth0", "node1"),
        ("c", "pod", "c/eth0", "node2"), ("vm", "vm", "vm/eth0", None), ("internet", "internet", "internet/eth0", None),
    )
)  # fmt: skip
CAST = Roles("a", "node1", "b", "c", "node2", "vm", "internet", ("a", "b", "c"))
MACS = {"node1/br0": "02:00:00:00:00:01"}
NEEDS = needs("vlan", "the tenants' VLANs", instead="a veth for each tenant")
LAB = Lab("compare-0", "kubenet", (), MACHINES, (), parts=(NEEDS,), substitute_features=("vlan",))


def port(text: str) -> Interface:
    return Interface(*text.split("/"))


def plan() -> Plan:
    links = {at: Link(port(at), "veth", port(peer), MASTERS.get(at), 1500) for at, peer in CABLES.items()}
    links |= {peer: Link(port(peer), "veth", port(at), MASTERS.get(peer), 1500) for at, peer in CABLES.items()}
    bridges = [Link(port(at), "bridge", mtu=1500, mac=MACS.get(at)) for at in ("node1/br0", "node2/br0")]
    addresses = [Address(port(at), ip_interface(text)) for at, text in ADDRESSES.items()]
    return (
        *links.values(), *bridges, *addresses,
        Neighbour(port("a/eth0"), ip_address("10.1.0.1"), MACS["node1/br0"], "reachable"),
        Route("a", ip_network("0.0.0.0/0"), ip_address("10.1.0.1"), "eth0"),
        Route("node1", ip_network("0.0.0.0/0"), ip_address("10.9.255.254"), "eth0"),
        Chain("node1", "nat", "POSTROUTING", (rule("-s 10.1.0.0/24 -j MASQUERADE"),), "ACCEPT"),
    )  # fmt: skip


def seen(
    at: str, direction: str, ttl: int = 64, src: str = "10.1.0.2", encap: str = "none", other: bool = False
) -> Sighting:
    way: Any = direction
    return Sighting(
        port(at), 0, way, ip_address(src), ip_address("10.2.0.2"), ttl, "icmp", False, encap, otherhost=other
    )


def came(source: str, target: str, *requests: Sighting) -> ProbeResult:
    return ProbeResult(Check("", "ping", source, target), "came", ("a reply",), requests)


def silent(source: str, target: str, *requests: Sighting, blocked: bool = False) -> ProbeResult:
    return ProbeResult(Check("", "ping", source, target), "silent", ("no reply",), requests, blocked)


def lost(source: str, target: str) -> ProbeResult:
    return ProbeResult(Check("", "ping", source, target), "inconclusive", ("3 frames were lost",))


ROUTED = (
    seen("a/eth0", "out"), seen("node1/va", "in"), seen("node1/eth0", "out", 63), seen("fabric/n1", "in", 63),
    seen("fabric/n2", "out", 62), seen("node2/eth0", "in", 62), seen("node2/vc", "out", 61), seen("c/eth0", "in", 61),
)  # fmt: skip
ASKED: dict[str, ProbeResult | str] = {
    "mate": came("a", "b", seen("a/eth0", "out"), seen("node1/va", "in"), seen("b/eth0", "in")),
    "far": came("a", "c", *ROUTED),
    "mate_far": "one pod on its node",
    "back": came("c", "a", seen("a/eth0", "in", 61, "10.2.0.2")),
    "beyond": "no node behind a router",
    "own_node": came("a", "node1", seen("node1/va", "in")),
    "other_node": came("a", "node2", seen("node2/eth0", "in", 62, "10.9.0.1")),
    "vm": came("a", "vm", seen("vm/eth0", "in", 62, "10.9.0.1")),
    "internet": came("a", "internet", seen("node1/eth0", "out", 63, "10.9.0.1"),
                     seen("internet/eth0", "in", 62, "8.8.4.4")),
    "from_vm": silent("vm", "a", seen("fabric/vm", "in", 64, "10.9.0.9")),
    "from_internet": silent("internet", "a", blocked=True),
}  # fmt: skip


def connection(answer: Any, *requests: Sighting, replies: tuple[Sighting, ...] = ()) -> ServiceProbe:
    """A connection to a Service of which the pod c is the backend."""
    return ServiceProbe(Check("", "tcp", "a", "c", 80), answer, "said", requests, replies)


SERVED: dict[str, ServiceProbe | str] = {
    "cluster_ip": connection("reply", seen("node1/va", "in"), seen("c/eth0", "in", 61)),
    "node_port": connection("reply", seen("c/eth0", "in", 61, "10.9.0.1")),
    "node_port_local": connection("timeout", seen("fabric/vm", "in", 64, "10.9.0.9")),
    "wrong_port": connection("refused", seen("node1/va", "in")),
    "node_port_loopback": connection("reply"),
    "ingress_instance": connection(
        "reply",
        seen("lb/eth0", "in"),
        seen("lb/eth0", "out", src="172.31.0.4"),
        seen("node1/eth0", "in"),
        seen("node2/eth0", "in", src="10.9.0.1"),
        seen("c/eth0", "in", src="10.9.0.1"),
    ),
    "ingress_ip": connection(
        "reply",
        seen("lb/eth0", "in"),
        seen("lb/eth0", "out", src="172.31.0.4"),
        seen("node2/eth0", "in", src="172.31.0.4"),
        seen("c/eth0", "in", src="172.31.0.4"),
    ),
    "denied": connection("timeout", seen("node2/eth0", "in", 62)),
}
SPACES = {name: number for number, name in enumerate(("node1", "node2", "a", "b", "c"), 1)}


def facts(**changes: Any) -> Measurements:
    """Everything about the lab, but for the changes; `probe_results` adds to what was asked."""
    more = Link(port("node1/vx"), "veth", port("one-more/eth0"), "br0", 1500)
    asked = {**ASKED, **changes.pop("probe_results", {})}
    whole = Measurements(
        "kubenet", LAB, CAST, plan(), {}, SPACES, asked, PathMtu(1500, ("1500 bytes: a reply", "1501: too big")),
        ExtraPod("one-more", "node1", (*plan(), more), MACHINES), Timings(30e-6, 8e9), SERVED, 2.0,
    )  # fmt: skip
    return replace(whole, **changes)


SKIPPED = Skipped("calico", "calico", "this kernel lacks ipip, needed for tunnels", 4)
