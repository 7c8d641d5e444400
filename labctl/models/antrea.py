r"""Antrea: one switch on each node for its pods, and tunnels between the nodes' switches.

`labctl plan antrea --as shell` shows every command that builds it.

         a 10.10.0.2  b 10.10.0.3                   c 10.10.1.2
         | eth0       | eth0                        | eth0
    +-- node1 ----------------------+      +-- node2 ----------------------+
    |  a-XXXXXX    b-YYYYYY         |      |  c-ZZZZZZ                     |
    |  br-int                       |      |  br-int                       |
    |    +-- antrea-gw0 10.10.0.1   |      |    +-- antrea-gw0 10.10.1.1   |
    |    +-- antrea-tun0            |      |    +-- antrea-tun0            |
    |  eth0 192.168.0.1             |      |  eth0 192.168.0.2             |
    +----------|--------------------+      +----------|--------------------+
               |           Geneve or VXLAN            |
        +----- fabric ---------------------------------------+
        +------|----------------------------------|----------+
              vm 192.168.0.253              internet 8.8.8.1

Pods of a node are on its switch, and so is the node, by antrea-gw0. The address of antrea-gw0 is the pods' gateway, and
the node's source address towards them. A packet to another node's pod goes back into the switch (via that node's
gateway, on antrea-gw0), and through the tunnel to the other switch. In `hybrid` mode, nodes of one Ethernet route to
each other via their own addresses, and the tunnel is for nodes behind a router; with `no-encap` there is no tunnel. A
packet to a pod of any node keeps its source, because iptables checks the IP set ANTREA-POD-IP. To all other
destinations, nodes included, a pod is seen with its node's address.

In the model the switch is a Linux bridge and not Open vSwitch. Its forwarding entries have the port of each pod and
gateway, as flows by MAC address do (L2ForwardingCalcTable). The entry for each peer's gateway replaces the flows that
would send a pod's packet directly to the tunnel: here the packet passes the node's IP stack first.

Follows antrea-io/antrea of 2024 to 2026: pkg/agent/route/route_linux.go, pkg/agent/openflow/pipeline.go,
pkg/agent/config/node_config.go, docs/design/architecture.md, docs/noencap-hybrid-modes.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import Fdb, IpSet, Link, Neighbour, Port, Resource, Route, Sysctl
from labctl.core.scenario_types import Check, Machine, Node, Scenario
from labctl.models.lib import datacenter, kubernetes, primitives
from labctl.models.lib import pods as pods_

FOLLOWS = "Antrea 2.x (AntreaProxy without proxyAll)"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("names of devices and ports, the gateway's address on antrea-gw0, pods' addresses and routes, MTU"),
    faithful("the routes to peers: via their gateways on antrea-gw0, or via their own addresses"),
    faithful("the switch has the port of each pod and of the gateway, and floods no packet to them"),
    faithful("the chains ANTREA-FORWARD, -POSTROUTING, -PREROUTING, -OUTPUT and -MANGLE, the IP set ANTREA-POD-IP"),
    approximation(
        "br-int",
        "is a Linux bridge without an OpenFlow pipeline; antrea-gw0 is one end of a veth and not an internal port",
    ),
    approximation(
        "the path to another node's pods",
        "passes the IP stacks of both nodes, while Antrea's flows send it from port to port; the TTL is the same",
    ),
    approximation("a peer's gateway", "has its own MAC address; Antrea uses one, aa:bb:cc:dd:ee:ff, for all peers"),
    approximation(
        "antrea-tun0",
        "finds the remote nodes by forwarding entries, as OVS's flow-based port does by flows; a Geneve device has only"
        " one remote node, so antrea-tun1 leads to the next one, and each of them is an isolated port",
    ),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    needs("geneve", "Geneve tunnels, which are Antrea's default", instead="VXLAN, which is also an option of Antrea"),
    skipped("the ARP responder and the spoof guard of the pipeline, conntrack zones of OVS"),
    skipped("NetworkPolicy and Antrea's own policies, AntreaProxy, Services, Egress, Traceflow, multicast"),
    skipped("GRE and STT, WireGuard, IPsec, networkPolicyOnly, FlexibleIPAM, IPv6"),
    *pods_.PARTS,
)
Container = pods_.Pod
BRIDGE, GATEWAY, GATEWAY_PORT, TUNNEL = "br-int", "antrea-gw0", "antrea-gw0-br", "antrea-tun"
PODS_SET = "ANTREA-POD-IP"
DSTPORT = {"geneve": 6081, "vxlan": 4789}
OVERHEAD = 50  # bytes of either tunnel: IP, UDP, Geneve or VXLAN, and the inner Ethernet header
KEPT = 3  # addresses of a node's range that no pod gets: the network's, the gateway's and the broadcast
PREFIX = 24


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of an antrea scenario."""

    pod_cidr: IPv4Network = option(cidr("10.10.0.0/16"), "addresses of all pods; each node gets a /24 of it")
    traffic_mode: str = option(
        "encap", "trafficEncapMode: tunnels to all nodes, to none, or only to nodes in `elsewhere`",
        choices=("encap", "no-encap", "hybrid"),
    )  # fmt: skip
    tunnel: str = option("geneve", "tunnelType", choices=tuple(DSTPORT))
    max_pods: int = option(110, "maximum number of pods on one node", minimum=1, maximum=2**8 - KEPT)


@dataclass(frozen=True, slots=True)
class Seat:
    """A node in its place, with its part of the pod CIDR."""

    node: Node
    place: datacenter.Place
    pods: IPv4Network

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def gateway(self) -> IPv4Address:
        """The address of antrea-gw0, the first of the node's pod range."""
        return self.pods.network_address + 1

    @property
    def mac(self) -> str:
        """The MAC address of antrea-gw0."""
        return primitives.mac(f"{self.name}/{GATEWAY}")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Nodes with their switches and pods, on Ethernets that have no routes to pods."""
    options: Options = scenario.options
    seats = _seats(scenario)
    tunnel = "vxlan" if "geneve" in scenario.approximate else options.tunnel
    yield from datacenter.surroundings(scenario)
    for seat in seats:
        peers = [other for other in seats if other is not seat]
        far = [other for other in peers if _encapsulated(options, seat, other)]
        yield Machine(seat.name, "node", (seat.place.address, seat.gateway))
        yield from primitives.netns(seat.name)
        yield from primitives.forwarding(seat.name, True, rp_filter=0, devices=("eth0", GATEWAY))
        yield Sysctl(seat.name, "net.bridge.bridge-nf-call-iptables", "0")  # frames in Open vSwitch pass no iptables
        yield from _switch(seat, _mtu(options))
        if options.traffic_mode != "no-encap":
            yield from _tunnels(seat, far, tunnel, _mtu(options))
        yield from _routes(seat, peers, far)
        yield from _pods(seat, _mtu(options))
        yield IpSet(seat.name, PODS_SET, "hash:net", tuple(sorted(str(one.pods) for one in seats)))
        yield from _chains(seat, DSTPORT[tunnel] if options.traffic_mode != "no-encap" else None)
        yield from pods_.processes(seat.node)


def _seats(scenario: Scenario) -> list[Seat]:
    ranges = kubernetes.node_ranges(scenario.options.pod_cidr, PREFIX, len(scenario.nodes))
    return [Seat(*those) for those in zip(scenario.nodes, datacenter.places(scenario), ranges, strict=True)]


def _encapsulated(options: Options, one: Seat, other: Seat) -> bool:
    """Whether packets between the pods of two nodes use a tunnel."""
    return options.traffic_mode == "encap" or (options.traffic_mode == "hybrid" and not one.place.near(other.place))


def _mtu(options: Options) -> int:
    """The MTU of pods and of antrea-gw0: less the tunnel's headers in every mode that can have a tunnel."""
    return options.mtu - (0 if options.traffic_mode == "no-encap" else OVERHEAD)


def _switch(seat: Seat, mtu: int) -> Iterator[Resource]:
    """The switch, and the node's port of it. The bridge device has ARP off, or it would answer for antrea-gw0."""
    gateway, port, switch = Port(seat.name, GATEWAY), Port(seat.name, GATEWAY_PORT), Port(seat.name, BRIDGE)
    yield Link(switch, "bridge", mtu=mtu, mac=primitives.mac(str(switch)), arp=False)
    yield from primitives.veth(port, gateway, mtu=mtu, macs=(primitives.mac(str(port)), seat.mac), master=BRIDGE)
    yield Fdb(port, seat.mac)
    yield from primitives.addresses(gateway, primitives.iface(seat.gateway, PREFIX))


def _tunnels(seat: Seat, far: list[Seat], kind: str, mtu: int) -> Iterator[Resource]:
    """The tunnel port with the peers' gateways behind it; one port for each peer if a device has only one remote node.
    Those ports are isolated: none forwards frames from another one, as a single tunnel port never sends a frame back.
    Otherwise broadcast frames, which each node floods to its peers, would loop between three nodes for ever."""
    port = ("dstport", str(DSTPORT[kind]))
    if kind == "vxlan":
        at = Port(seat.name, f"{TUNNEL}0")
        local = (("id", "0"), ("local", str(seat.place.address)), ("learning", "off"), port)
        yield Link(at, kind, None, BRIDGE, mtu, primitives.mac(str(at)), options=local)
        for peer in far:
            yield Fdb(at, peer.mac, peer.place.address)
            yield Fdb(at, peer.mac)
        return
    for number, peer in enumerate(far):
        at = Port(seat.name, f"{TUNNEL}{number}")
        remote = (("id", "0"), ("remote", str(peer.place.address)), port)
        yield Link(at, kind, None, BRIDGE, mtu, primitives.mac(str(at)), isolated=True, options=remote)
        yield Fdb(at, peer.mac)


def _routes(seat: Seat, peers: Iterable[Seat], far: Iterable[Seat]) -> Iterator[Resource]:
    """The routes to the other nodes' pods: through the switch, or directly to the node."""
    for peer in peers:
        if peer in far:
            yield Neighbour(Port(seat.name, GATEWAY), peer.gateway, peer.mac)
            yield Route(seat.name, peer.pods, peer.gateway, GATEWAY, onlink=True)
        else:
            yield Route(seat.name, peer.pods, peer.place.address, "eth0")


def _pods(seat: Seat, mtu: int) -> Iterator[Resource | Machine]:
    """Pods in host-local's order; a port's name is the first 8 letters of the pod's name, a dash and six digits."""
    names, first = seat.node.pods, int(seat.gateway) + 1
    for number, (name, digits) in enumerate(zip(names, primitives.hashed("-", 6, names), strict=True)):
        own, inner = IPv4Address(first + number), Port(name, "eth0")
        yield Machine(name, "pod", (own,), seat.name)
        yield from primitives.endpoint(name)
        port, mac = Port(seat.name, name[:8] + digits), primitives.mac(name)
        yield from primitives.veth(port, inner, mtu=mtu, macs=(None, mac), master=BRIDGE)
        yield Fdb(port, mac)
        yield from primitives.addresses(inner, primitives.iface(own, PREFIX))
        yield Route(name, primitives.ANYWHERE, seat.gateway, "eth0")


def _chains(seat: Seat, dstport: int | None) -> Iterator[Resource]:
    """The iptables rules of Antrea's agent; `dstport` is the tunnel's UDP port, None without a tunnel."""

    def about(why: str) -> str:
        return f'-m comment --comment "Antrea: {why}"'

    for table, builtin, chain, word in (
        ("raw", "PREROUTING", "ANTREA-PREROUTING", "prerouting"), ("raw", "OUTPUT", "ANTREA-OUTPUT", "output"),
        ("filter", "FORWARD", "ANTREA-FORWARD", "forwarding"),
        ("nat", "POSTROUTING", "ANTREA-POSTROUTING", "postrouting"),
        ("mangle", "PREROUTING", "ANTREA-MANGLE", "mangle"), ("mangle", "OUTPUT", "ANTREA-OUTPUT", "output"),
    ):  # fmt: skip
        yield primitives.chain(seat.name, table, builtin, f"{about(f'jump to Antrea {word} rules')} -j {chain}")
        yield primitives.chain(seat.name, table, chain)
    if dstport is not None:
        for chain, way, end in (("ANTREA-PREROUTING", "incoming", "dst"), ("ANTREA-OUTPUT", "outgoing", "src")):
            why = about(f"do not track {way} encapsulation packets")
            rule = f"-p udp {why} -m udp --dport {dstport} -m addrtype --{end}-type LOCAL -j CT --notrack"
            yield primitives.chain(seat.name, "raw", chain, rule)
    local = f"-o {GATEWAY} {about('mark LOCAL output packets')} -m addrtype --src-type LOCAL"
    yield primitives.chain(seat.name, "mangle", "ANTREA-OUTPUT", f"{local} -j MARK --set-xmark 0x80000000/0x80000000")
    yield primitives.chain(
        seat.name, "filter", "ANTREA-FORWARD",
        f"-i {GATEWAY} {about('accept packets from local Pods')} -j ACCEPT",
        f"-o {GATEWAY} {about('accept packets to local Pods')} -j ACCEPT",
    )  # fmt: skip
    strangers = f"{about('masquerade Pod to external packets')} -m set ! --match-set {PODS_SET} dst"
    not_its = "-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL"
    yield primitives.chain(
        seat.name, "nat", "ANTREA-POSTROUTING",
        f"-s {seat.pods} ! -o {GATEWAY} {strangers} -j MASQUERADE",
        f"-o {GATEWAY} {about('masquerade LOCAL traffic')} {not_its} -j MASQUERADE --random-fully",
    )  # fmt: skip


def checks(scenario: Scenario) -> Iterator[Check]:
    """Pods of one node are on its switch; and Kubernetes' rules."""
    yield from kubernetes.one_node(scenario, "pods of one node are switched, not routed: TTL 64", 64)
    yield from kubernetes.kubernetes_rules(scenario)
    yield from pods_.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of ranges that are too small, and of `no-encap` with nodes behind a router without routes to pods."""
    options: Options = scenario.options
    yield from datacenter.refuse(scenario, "pod_cidr")
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, PREFIX, len(scenario.nodes))
    yield from kubernetes.refuse_pods(scenario, options.max_pods)
    if options.traffic_mode == "no-encap" and options.elsewhere:
        what = f"traffic_mode: no-encap leaves pods of {options.elsewhere[0]} to the router, which has no route to them"
        yield "traffic_mode", what, "use hybrid, which has tunnels to nodes that are elsewhere"
