r"""Cilium: each pod on a separate veth pair, and packets between nodes that carry the identity of their sender.

`labctl plan cilium --as shell` shows every command that builds it.

         a 10.0.0.1   b 10.0.0.2                   c 10.0.1.1
         | eth0       | eth0                       | eth0
    +-- node1 ---------------------+      +-- node2 ---------------------+
    |  lxcXXX       lxcYYY         |      |  lxcZZZ                      |
    |  cilium_host 10.0.0.254      |      |  cilium_host 10.0.1.254      |
    |   +-- cilium_net             |      |   +-- cilium_net             |
    |  cilium_vxlan  (no address)  |      |  cilium_vxlan                |
    |  eth0 192.168.0.1            |      |  eth0 192.168.0.2            |
    +----------|-------------------+      +----------|-------------------+
               |       VXLAN 8472, VNI = identity    |
        +----- fabric ---------------------------------------+
        +------|----------------------------------|----------+
              vm 192.168.0.253              internet 8.8.8.1

A pod has a security identity, a number that all pods with the same labels share. Cilium's eBPF programs on the veths
decide by it, and a tunnelled packet carries its sender's identity as the VNI: one flow-based device (`external`) sends
to every node and gets the VNI and the remote address with each packet. With `routing: native` there is no tunnel, and
nodes of one Ethernet have routes to each other's pods (auto-direct-node-routes). Every node moves the lookup of the
local table from rule 0 to rule 100, to have room for rules before it.

The model has no eBPF programs. Rules, routing tables and neighbours do their work, separate from Cilium's: rule 200
routes a pod's packets to other nodes by a table for the pod's identity. Rule 201 routes the node's own packets by the
table for the identity remote-node, because for the receiver they come from a remote node. A pod is reached by a /32
route to its veth and a permanent neighbour.

Follows cilium/cilium of 2024 to 2026: pkg/datapath/loader/netlink.go, pkg/datapath/linux/node.go, linux_defaults.go,
pkg/datapath/iptables/iptables.go, bpf/lib/encap.h, Documentation/network/concepts/routing.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import IpSet, Link, Neighbour, Port, Resource, Route, Rule, Sysctl
from labctl.core.scenario_types import Check, Machine, Node, Scenario
from labctl.models.lib import datacenter, kubernetes, primitives
from labctl.models.lib import pods as pods_

FOLLOWS = "Cilium 1.16 and later (iptables masquerading)"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("cilium_host and cilium_net without ARP, cilium_vxlan (flow-based, port 8472), veths, /32 addresses, MTU"),
    faithful("the nodes' routes in the main table, with proto kernel, and a pod's two routes"),
    faithful("rule 9 with its table 2004, and the local table's lookup moved to rule 100"),
    faithful("the chains CILIUM_FORWARD and CILIUM_POST_nat, and the IP set of nodes with native routing"),
    approximation(
        "the eBPF programs on the veths (tc, TCX, bpf_redirect)",
        "are rules 200 and 201 with one table for each identity (number 100000 + identity), /32 routes to veths and"
        " permanent neighbours, in the nodes' IP stacks, as with Cilium's host routing; packets to other nodes go"
        " directly to cilium_vxlan, and do not pass cilium_host or the rules for it",
    ),
    approximation(
        "the TTL of a tunnelled packet",
        "is 62 in the receiving pod, one router for each node; Cilium's programs decrement it only at delivery",
    ),
    approximation(
        "an identity", "is a number from the file or the next from 256, not derived from labels; it has no effect"
    ),
    approximation("addresses", "are assigned in order and cilium_host has the last; Cilium assigns them at random"),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    skipped("network policy, connection tracking and masquerading in eBPF, socket load balancing, Hubble, XDP"),
    skipped("kube-proxy or its replacement, Services"),
    skipped("the health endpoint, chains for the L7 proxy and for marks, Geneve, IPsec, WireGuard, ENI mode, IPv6"),
    *pods_.PARTS,
)
HOST, NET, VXLAN = "cilium_host", "cilium_net", "cilium_vxlan"
NODES_SET = "cilium_node_set_v4"
KERNEL = 2  # the protocol of Cilium's routes (proto kernel), so that no other program removes them
PROXY_PREF, LOCAL_PREF, POD_PREF, NODE_PREF = 9, 100, 200, 201
PROXY_TABLE, LOCAL_TABLE, IDENTITY_TABLES = 2004, 255, 100000
PROXY_MARK, PROXY_MASK = 0x200, 0xF00
REMOTE_NODE, FIRST_IDENTITY = 6, 256  # below are Cilium's reserved identities: host 1, world 2, ... remote-node 6
OVERHEAD = 50  # bytes: IP, UDP, VXLAN and the inner Ethernet header
KEPT = 3  # addresses of a node's range that no pod gets: its own, cilium_host's and the broadcast


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of a cilium scenario."""

    pod_cidr: IPv4Network = option(cidr("10.0.0.0/8"), "addresses of all pods; each node gets a part of it")
    node_prefix: int = option(24, "prefix length of each node's part of pod_cidr", minimum=16, maximum=29)
    routing: str = option("tunnel", "routing-mode: VXLAN, or routes between nodes", choices=("tunnel", "native"))
    masquerade: bool = option(True, "enable-ipv4-masquerade: outside, a pod is seen with its node's address")
    max_pods: int = option(110, "maximum number of pods on one node", minimum=1, maximum=500)


@dataclass(frozen=True, slots=True)
class Pod(pods_.Pod):
    """The settings of a pod in a scenario file."""

    identity: int | None = option(
        None, "its security identity, which pods may share (default: the next from 256)", minimum=256, maximum=65535
    )


Container = Pod


@dataclass(frozen=True, slots=True)
class Seat:
    """A node in its place, with its part of the pods' addresses."""

    node: Node
    place: datacenter.Place
    pods: IPv4Network

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def router(self) -> IPv4Address:
        """The address of cilium_host: the node's address in its pod range, and the pods' gateway."""
        return primitives.within(self.pods, -2)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Nodes with their pods, on Ethernets that have no routes to pods."""
    options: Options = scenario.options
    seats, identities = _seats(scenario), _identities(scenario)
    yield from datacenter.surroundings(scenario)
    for seat in seats:
        peers = [other for other in seats if other is not seat]
        devices = primitives.hashed("lxc", 12, seat.node.pods)
        yield Machine(seat.name, "node", (seat.place.address, seat.router))
        yield from primitives.netns(seat.name)
        own = (HOST, NET, *((VXLAN,) if options.routing == "tunnel" else ()))
        yield from primitives.forwarding(seat.name, True, rp_filter=0, devices=("eth0", *own, *devices))
        yield from (Sysctl(seat.name, f"net.ipv4.conf.{device}.accept_local", "1") for device in own)
        yield from _devices(seat, options.mtu)
        yield from _rules(seat.name)
        yield from _pods(seat, devices, options)
        if options.routing == "tunnel":
            yield from _tunnel(seat, peers, identities, options.mtu)
        else:
            yield from _native(seat, peers)
            yield IpSet(seat.name, NODES_SET, "hash:ip", tuple(sorted(str(one.place.address) for one in seats)))
        yield from _chains(seat, options)
        yield from pods_.processes(seat.node)


def _seats(scenario: Scenario) -> list[Seat]:
    options: Options = scenario.options
    ranges = kubernetes.node_ranges(options.pod_cidr, options.node_prefix, len(scenario.nodes))
    return [Seat(*those) for those in zip(scenario.nodes, datacenter.places(scenario), ranges, strict=True)]


def _identities(scenario: Scenario) -> dict[str, int]:
    """Each pod's identity: the number from the file, else the next free number."""
    said = {pod: own.identity for node in scenario.nodes for pod, own in node.settings if own.identity is not None}
    free = (number for number in range(FIRST_IDENTITY, 65536) if number not in said.values())
    return {pod: said[pod] if pod in said else next(free) for _, pod in scenario.pods}


def _devices(seat: Seat, mtu: int) -> Iterator[Resource]:
    """The veth pair cilium_host and cilium_net, and the routes in the main table that lead to it."""
    host, net = Port(seat.name, HOST), Port(seat.name, NET)
    yield Link(host, "veth", net, None, mtu, primitives.mac(str(host)), arp=False)
    yield Link(net, "veth", host, None, mtu, primitives.mac(str(net)), arp=False)
    yield from primitives.addresses(host, primitives.iface(seat.router, 32))
    yield Route(seat.name, _only(seat.router), dev=HOST, proto=KERNEL)
    yield Route(seat.name, seat.pods, seat.router, HOST, src=seat.router, proto=KERNEL)


def _rules(node: str) -> Iterator[Resource]:
    """Rules before the local table: marked packets go to the L7 proxy, whatever their destination is."""
    yield Rule(node, PROXY_PREF, PROXY_TABLE, mark=PROXY_MARK, mask=PROXY_MASK)
    yield Route(node, primitives.ANYWHERE, dev="lo", table=PROXY_TABLE, kind="local", proto=KERNEL)
    yield Rule(node, LOCAL_PREF, LOCAL_TABLE)


def _pods(seat: Seat, devices: tuple[str, ...], options: Options) -> Iterator[Resource | Machine]:
    """Pods of which the only neighbour is the router, and a route to each; both sides have a permanent neighbour."""
    first, mtu = int(seat.pods.network_address) + 1, _route_mtu(options)
    for number, (name, device) in enumerate(zip(seat.node.pods, devices, strict=True)):
        own, inner, outer = IPv4Address(first + number), Port(name, "eth0"), Port(seat.name, device)
        macs = (primitives.mac(str(outer)), primitives.mac(name))
        yield Machine(name, "pod", (own,), seat.name)
        yield from primitives.endpoint(name)
        yield from primitives.veth(outer, inner, mtu=options.mtu, macs=macs)
        yield from primitives.addresses(inner, primitives.iface(own, 32))
        yield Neighbour(inner, seat.router, macs[0])
        yield Route(name, _only(seat.router), dev="eth0")
        yield Route(name, primitives.ANYWHERE, seat.router, "eth0", mtu=mtu)
        yield Neighbour(outer, own, macs[1])
        yield Route(seat.name, _only(own), dev=device, src=seat.router)


def _tunnel(seat: Seat, peers: list[Seat], identities: dict[str, int], mtu: int) -> Iterator[Resource]:
    """The flow-based device, Cilium's routes to other nodes' pods, and the tables of identities that replace them."""
    device = Port(seat.name, VXLAN)
    options = (("external", "on"), ("learning", "off"), ("dstport", "8472"))
    yield Link(device, "vxlan", mtu=mtu, mac=primitives.mac(str(device)), options=options)
    for peer in peers:
        yield Neighbour(device, peer.router, primitives.mac(str(Port(peer.name, VXLAN))))
        yield Route(seat.name, peer.pods, seat.router, HOST, src=seat.router, mtu=mtu - OVERHEAD, proto=KERNEL)
    senders = {pod: identities[pod] for pod in seat.node.pods}
    for number, pod in enumerate(seat.node.pods):
        own = seat.pods.network_address + 1 + number
        yield Rule(seat.name, POD_PREF, IDENTITY_TABLES + senders[pod], src=_only(own))
    yield Rule(seat.name, NODE_PREF, IDENTITY_TABLES + REMOTE_NODE, iif="lo")
    for identity in dict.fromkeys((*senders.values(), REMOTE_NODE)):
        for peer in peers:
            yield Route(
                seat.name, peer.pods, peer.router, VXLAN, IDENTITY_TABLES + identity, onlink=True,
                src=seat.router if identity == REMOTE_NODE else None, mtu=mtu - OVERHEAD,
                encap=(identity, peer.place.address),
            )  # fmt: skip


def _native(seat: Seat, peers: list[Seat]) -> Iterator[Resource]:
    """auto-direct-node-routes: nodes of one Ethernet have routes to each other's pods."""
    for peer in peers:
        yield Route(seat.name, peer.pods, peer.place.address, "eth0", proto=KERNEL)


def _chains(seat: Seat, options: Options) -> Iterator[Resource]:
    """The iptables rules of Cilium's agent; a feeder rule jumps to each chain."""
    feeder = '-m comment --comment "cilium-feeder: {0}" -j {0}'
    accept = '-{} {} -m comment --comment "cilium: {} forward accept{}" -j ACCEPT'
    yield primitives.chain(seat.name, "filter", "FORWARD", feeder.format("CILIUM_FORWARD"))
    yield primitives.chain(
        seat.name, "filter", "CILIUM_FORWARD",
        accept.format("o", HOST, f"any->cluster on {HOST}", ""),
        accept.format("i", HOST, f"cluster->any on {HOST}", " (nodeport)"),
        accept.format("i", "lxc+", "cluster->any on lxc+", ""),
        accept.format("i", NET, f"cluster->any on {NET}", " (nodeport)"),
    )  # fmt: skip
    yield primitives.chain(seat.name, "nat", "POSTROUTING", feeder.format("CILIUM_POST_nat"))
    rules = _masquerading(seat, options) if options.masquerade else ()
    yield primitives.chain(seat.name, "nat", "CILIUM_POST_nat", *rules)


def _masquerading(seat: Seat, options: Options) -> Iterator[str]:
    """CILIUM_POST_nat: with a tunnel, other nodes see the address of the pod's node; without, the pod's address."""
    tunnel, snat = options.routing == "tunnel", f"-j SNAT --to-source {seat.router}"
    if not tunnel:
        why = "exclude traffic to cluster nodes from masquerade"
        yield f'-s {seat.pods} -m set --match-set {NODES_SET} dst -m comment --comment "{why}" -j ACCEPT'
    inside = seat.pods if tunnel else options.pod_cidr
    why = "cilium masquerade non-cluster"
    yield f'-s {seat.pods} ! -d {inside} ! -o cilium_+ -m comment --comment "{why}" -j MASQUERADE'
    why = "exclude proxy return traffic from masquerade"
    yield f'-m mark --mark 0xa00/0xe00 -m comment --comment "{why}" -j ACCEPT'
    if tunnel:
        why = "cilium host->cluster masquerade"
        yield f'! -s {seat.pods} ! -d {seat.pods} -o {HOST} -m comment --comment "{why}" {snat}'
    why = "cilium host->cluster from 127.0.0.1 masquerade"
    yield f'-s 127.0.0.1/32 -o {HOST} -m comment --comment "{why}" {snat}'
    mark = "-m mark --mark 0xf00/0xf00 -m conntrack --ctstate DNAT"
    yield f'-o {HOST} {mark} -m comment --comment "hairpin traffic that originated from a local pod" {snat}'


def _route_mtu(options: Options) -> int:
    """The MTU of a pod's default route: the device's MTU, less the headers of the tunnel."""
    return options.mtu - (OVERHEAD if options.routing == "tunnel" else 0)


def _only(address: IPv4Address) -> IPv4Network:
    return IPv4Network((int(address), 32))


def checks(scenario: Scenario) -> Iterator[Check]:
    """Pods of one node are routed by their node; and Kubernetes' rules."""
    yield from kubernetes.one_node(scenario, "pods of one node are routed by their node: TTL 63", 63)
    yield from kubernetes.kubernetes_rules(scenario)
    yield from pods_.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of ranges that are too small, and of native routing across a router, for which nodes have no routes."""
    options: Options = scenario.options
    yield from datacenter.refuse(scenario, "pod_cidr")
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, options.node_prefix, len(scenario.nodes))
    yield from kubernetes.refuse_pods(scenario, options.max_pods)
    room = 2 ** (32 - options.node_prefix) - KEPT
    for node in scenario.nodes:
        if room < len(node.pods) <= options.max_pods:
            what = f"{node.name} has {len(node.pods)} pods and a /{options.node_prefix} has room for {room}"
            yield "node_prefix", what, f"use a /{primitives.prefix_for(len(node.pods) + KEPT)}"
    if options.routing == "native" and options.elsewhere:
        what = f"routing: native needs all nodes on one Ethernet, and {options.elsewhere[0]} is elsewhere"
        yield "routing", what, "auto-direct-node-routes reach nodes of the same Ethernet only: use routing: tunnel"
