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
from labctl.core.resources import Fdb, Interface, IpSet, Link, Neighbour, Resource, Route, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, explained
from labctl.models.lib import datacenter, kubernetes, pods, primitives

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
    skipped("NetworkPolicy", "labctl refuses it: frames between the pods of a node pass no iptables rule here"),
    skipped("Antrea's own policies, AntreaProxy, Egress, Traceflow, multicast"),
    skipped("GRE and STT, WireGuard, IPsec, networkPolicyOnly, FlexibleIPAM, IPv6"),
    *primitives.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
_PROJECT, _VERSION = "antrea-io/antrea", "2.x"
_ROUTES = Component("antrea-agent", Source(_PROJECT, "pkg/agent/route/route_linux.go", _VERSION))
_CONFIG = Component("antrea-agent", Source(_PROJECT, "pkg/agent/config/node_config.go", _VERSION))
_FLOWS = Component("antrea-agent (Open vSwitch)", Source(_PROJECT, "pkg/agent/openflow/pipeline.go", _VERSION))
_PLUGIN = Component("the CNI plugin antrea", Source(_PROJECT, "pkg/agent/cniserver", _VERSION))
_NO_IPTABLES = _FLOWS.why(
    "Frames inside Open vSwitch pass no iptables: with 1, the bridge that stands for it would ask them."
)
_SWITCH = _FLOWS.why("It is the switch of {ns}: pods, the node (antrea-gw0) and the tunnel are its ports.")
_SWITCH_PORT = _CONFIG.why("It is the switch's end of antrea-gw0.")
_GATEWAY = _CONFIG.why("It is the node's own port of the switch: packets between {ns} and pods pass it.")
_FLOW = _FLOWS.why(
    "The switch knows at which port this MAC address is ({owner}), by a flow: it learns nothing and floods nothing."
)
_GATEWAY_ADDRESS = _CONFIG.why("It is the gateway of the pods of {ns}, and the node's own address towards pods.")
_TUNNEL = _FLOWS.why(
    "It is the tunnel port of the switch: it puts frames for pods of other nodes into UDP packets between the nodes."
)
_TUNNEL_FDB = _FLOWS.why(
    "Frames for the gateway with this MAC address go through the tunnel to the node {owner} ({dst})."
)
_TUNNEL_FLOW = _FLOWS.why("The gateway of another node, which has this MAC address, is behind the tunnel.")
_PEER_NEIGHBOUR = _ROUTES.why(
    "{ns} knows the MAC address of the gateway of {owner}: no ARP request crosses the tunnel."
)
_PEER_ROUTE = _ROUTES.why(
    "It leads packets for {dst} ({dst_machines}) back into the switch, to the gateway of {via_machine}: that is"
    " behind the tunnel."
)
_DIRECT_ROUTE = _ROUTES.why(
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}), without a tunnel: this mode has"
    " none between nodes of one Ethernet."
)
_HOST_END = _PLUGIN.why("It is the node's end of the cable of {peer_ns}, a port of the switch {master}.")
_POD_END = _PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_POD_ADDRESS = _PLUGIN.why("It is the pod's address, the next free one of the range of its node.")
_POD_DEFAULT = _PLUGIN.why("The pod sends everything outside the range of its node to {via}, antrea-gw0.")
_POD_SET = _ROUTES.why("It has the ranges of the pods of all nodes: towards them, a pod keeps its address.")
_JUMP = _ROUTES.why("Packets pass Antrea's own chain {target}.")
_CHAIN = _ROUTES.why("It has the rules of Antrea for this place, apart from those of other programs.")
_UNTRACKED = _ROUTES.why("Tunnel packets between nodes are not tracked: the packet inside is.")
_MARK_LOCAL = _ROUTES.why("What {ns} itself sends to pods gets a mark, by which the switch always lets it pass.")
_FROM_PODS = _ROUTES.why("Packets from pods, which come out of the switch by {iif}, pass.")
_TO_PODS = _ROUTES.why("Packets to pods, which go into the switch by {oif}, pass.")
_MASQUERADE = _ROUTES.why(
    "What a pod sends to an address that does not belong to a pod gets the address of {ns}: outside has no way back"
    " to a pod."
)
_MASQUERADE_LOCAL = _ROUTES.why(
    "What {ns} sends into the switch with another address gets that of antrea-gw0, which pods can answer."
)
BRIDGE, GATEWAY_DEVICE, GATEWAY_PEER, TUNNEL_PREFIX = "br-int", "antrea-gw0", "antrea-gw0-br", "antrea-tun"
POD_IP_SET = "ANTREA-POD-IP"
TUNNEL_PORTS = {"geneve": 6081, "vxlan": 4789}
OVERHEAD_BYTES = 50  # bytes of either tunnel: IP, UDP, Geneve or VXLAN, and the inner Ethernet header
RESERVED_ADDRESSES = 3  # addresses of a node's range that no pod gets: the network's, the gateway's and the broadcast
NODE_PREFIX_LENGTH = 24


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of an antrea scenario."""

    pod_cidr: IPv4Network = option(cidr("10.10.0.0/16"), "addresses of all pods; each node gets a /24 of it")
    traffic_mode: str = option(
        "encap", "trafficEncapMode: tunnels to all nodes, to none, or only to nodes in `elsewhere`",
        choices=("encap", "no-encap", "hybrid"),
    )  # fmt: skip
    tunnel: str = option("geneve", "tunnelType", choices=tuple(TUNNEL_PORTS))
    max_pods: int = option(110, "maximum number of pods on one node", minimum=1, maximum=2**8 - RESERVED_ADDRESSES)


@dataclass(frozen=True, slots=True)
class NodeAddressing(datacenter.NodeAddressing):
    """A node with its NIC and its part of the pod CIDR, of which antrea-gw0 has the first address."""

    @property
    def gateway(self) -> IPv4Address:
        """The address of antrea-gw0, the first of the node's pod range."""
        return self.pod_range.network_address + 1

    @property
    def gateway_mac(self) -> str:
        """The MAC address of antrea-gw0."""
        return primitives.mac(f"{self.name}/{GATEWAY_DEVICE}")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Nodes with their switches and pods, on Ethernets that have no routes to pods."""
    options: Options = scenario.options
    nodes = _node_addressing(scenario)
    tunnel = "vxlan" if "geneve" in scenario.substitute_features else options.tunnel
    yield from datacenter.infrastructure(scenario)
    for node in nodes:
        peers = [other for other in nodes if other is not node]
        tunnel_peers = [other for other in peers if _uses_tunnel(options, node, other)]
        yield Machine(node.name, "node", (node.nic.address, node.gateway))
        yield from primitives.node_netns(node.name)
        yield from primitives.forwarding_sysctls(node.name, True, rp_filter=0, devices=("eth0", GATEWAY_DEVICE))
        yield Sysctl(node.name, "net.bridge.bridge-nf-call-iptables", "0", why=_NO_IPTABLES)
        yield from _switch(node, _mtu(options))
        if options.traffic_mode != "no-encap":
            yield from _tunnels(node, tunnel_peers, tunnel, _mtu(options))
        yield from _routes(node, peers, tunnel_peers)
        yield from _pods(node, _mtu(options))
        ranges = tuple(sorted(str(one.pod_range) for one in nodes))
        yield IpSet(node.name, POD_IP_SET, "hash:net", ranges, why=_POD_SET)
        yield from _chains(node, TUNNEL_PORTS[tunnel] if options.traffic_mode != "no-encap" else None)
        yield from pods.pause_and_containers(node.node)


def _node_addressing(scenario: Scenario) -> list[NodeAddressing]:
    ranges = kubernetes.node_pod_ranges(scenario.options.pod_cidr, NODE_PREFIX_LENGTH, len(scenario.nodes))
    return [
        NodeAddressing(*parts) for parts in zip(scenario.nodes, datacenter.node_nics(scenario), ranges, strict=True)
    ]


def _uses_tunnel(options: Options, one: NodeAddressing, other: NodeAddressing) -> bool:
    """Whether packets between the pods of two nodes use a tunnel."""
    return options.traffic_mode == "encap" or (options.traffic_mode == "hybrid" and not one.nic.same_subnet(other.nic))


def _mtu(options: Options) -> int:
    """The MTU of pods and of antrea-gw0: less the tunnel's headers in every mode that can have a tunnel."""
    return options.mtu - (0 if options.traffic_mode == "no-encap" else OVERHEAD_BYTES)


def _switch(addressing: NodeAddressing, mtu: int) -> Iterator[Resource]:
    """The switch, and the node's port of it. The bridge device has ARP off, or it would answer for antrea-gw0."""
    gateway, port, switch = (Interface(addressing.name, dev) for dev in (GATEWAY_DEVICE, GATEWAY_PEER, BRIDGE))
    yield Link(switch, "bridge", mtu=mtu, mac=primitives.mac(str(switch)), arp=False, why=_SWITCH)
    macs, whys = (primitives.mac(str(port)), addressing.gateway_mac), (_SWITCH_PORT, _GATEWAY)
    yield from primitives.veth_pair(port, gateway, mtu=mtu, macs=macs, master=BRIDGE, whys=whys)
    yield Fdb(port, addressing.gateway_mac, why=_FLOW)
    address = primitives.with_prefix_length(addressing.gateway, NODE_PREFIX_LENGTH)
    yield from explained(_GATEWAY_ADDRESS, primitives.addresses(gateway, address))


def _tunnels(addressing: NodeAddressing, tunnel_peers: list[NodeAddressing], kind: str, mtu: int) -> Iterator[Resource]:
    """The tunnel port with the peers' gateways behind it; one port for each peer if a device has only one remote node.
    Those ports are isolated: none forwards frames from another one, as a single tunnel port never sends a frame back.
    Otherwise broadcast frames, which each node floods to its peers, would loop between three nodes for ever."""
    port = ("dstport", str(TUNNEL_PORTS[kind]))
    if kind == "vxlan":
        at = Interface(addressing.name, f"{TUNNEL_PREFIX}0")
        local = (("id", "0"), ("local", str(addressing.nic.address)), ("learning", "off"), port)
        yield Link(at, kind, None, BRIDGE, mtu, primitives.mac(str(at)), options=local, why=_TUNNEL)
        for peer in tunnel_peers:
            yield Fdb(at, peer.gateway_mac, peer.nic.address, why=_TUNNEL_FDB)
            yield Fdb(at, peer.gateway_mac, why=_TUNNEL_FLOW)
        return
    for number, peer in enumerate(tunnel_peers):
        at = Interface(addressing.name, f"{TUNNEL_PREFIX}{number}")
        remote = (("id", "0"), ("remote", str(peer.nic.address)), port)
        yield Link(at, kind, None, BRIDGE, mtu, primitives.mac(str(at)), isolated=True, options=remote, why=_TUNNEL)
        yield Fdb(at, peer.gateway_mac, why=_TUNNEL_FLOW)


def _routes(
    addressing: NodeAddressing, peers: Iterable[NodeAddressing], tunnel_peers: Iterable[NodeAddressing]
) -> Iterator[Resource]:
    """The routes to the other nodes' pods: through the switch, or directly to the node."""
    for peer in peers:
        if peer in tunnel_peers:
            at = Interface(addressing.name, GATEWAY_DEVICE)
            yield Neighbour(at, peer.gateway, peer.gateway_mac, why=_PEER_NEIGHBOUR)
            yield Route(addressing.name, peer.pod_range, peer.gateway, at.dev, onlink=True, why=_PEER_ROUTE)
        else:
            yield Route(addressing.name, peer.pod_range, peer.nic.address, "eth0", why=_DIRECT_ROUTE)


def _pods(addressing: NodeAddressing, mtu: int) -> Iterator[Resource | Machine]:
    """Pods in host-local's order; a port's name is the first 8 letters of the pod's name, a dash and six digits."""
    names, first = addressing.node.pods, int(addressing.gateway) + 1
    for number, (name, digits) in enumerate(zip(names, primitives.device_names("-", 6, names), strict=True)):
        address, inner = IPv4Address(first + number), Interface(name, "eth0")
        yield Machine(name, "pod", (address,), addressing.name)
        yield from primitives.container_netns(name)
        port, mac = Interface(addressing.name, name[:8] + digits), primitives.mac(name)
        yield from primitives.veth_pair(
            port, inner, mtu=mtu, macs=(None, mac), master=BRIDGE, txqueuelen=primitives.NO_QUEUE,
            whys=(_HOST_END, _POD_END),
        )  # fmt: skip
        yield Fdb(port, mac, why=_FLOW)
        interface_address = primitives.with_prefix_length(address, NODE_PREFIX_LENGTH)
        yield from explained(_POD_ADDRESS, primitives.addresses(inner, interface_address))
        yield Route(name, primitives.ANYWHERE, addressing.gateway, "eth0", why=_POD_DEFAULT)


def _chains(addressing: NodeAddressing, dstport: int | None) -> Iterator[Resource]:
    """The iptables rules of Antrea's agent; `dstport` is the tunnel's UDP port, None without a tunnel."""

    def about(comment: str) -> str:
        return f'-m comment --comment "Antrea: {comment}"'

    for table, builtin, chain, hook_name in (
        ("raw", "PREROUTING", "ANTREA-PREROUTING", "prerouting"), ("raw", "OUTPUT", "ANTREA-OUTPUT", "output"),
        ("filter", "FORWARD", "ANTREA-FORWARD", "forwarding"),
        ("nat", "POSTROUTING", "ANTREA-POSTROUTING", "postrouting"),
        ("mangle", "PREROUTING", "ANTREA-MANGLE", "mangle"), ("mangle", "OUTPUT", "ANTREA-OUTPUT", "output"),
    ):  # fmt: skip
        jump = f"{about(f'jump to Antrea {hook_name} rules')} -j {chain}"
        yield primitives.chain(addressing.name, table, builtin, (jump, _JUMP))
        yield primitives.chain(addressing.name, table, chain, why=_CHAIN)
    if dstport is not None:
        for chain, direction, end in (("ANTREA-PREROUTING", "incoming", "dst"), ("ANTREA-OUTPUT", "outgoing", "src")):
            comment = about(f"do not track {direction} encapsulation packets")
            rule = f"-p udp {comment} -m udp --dport {dstport} -m addrtype --{end}-type LOCAL -j CT --notrack"
            yield primitives.chain(addressing.name, "raw", chain, (rule, _UNTRACKED))
    local = f"-o {GATEWAY_DEVICE} {about('mark LOCAL output packets')} -m addrtype --src-type LOCAL"
    mark = (f"{local} -j MARK --set-xmark 0x80000000/0x80000000", _MARK_LOCAL)
    yield primitives.chain(addressing.name, "mangle", "ANTREA-OUTPUT", mark)
    yield primitives.chain(
        addressing.name, "filter", "ANTREA-FORWARD",
        (f"-i {GATEWAY_DEVICE} {about('accept packets from local Pods')} -j ACCEPT", _FROM_PODS),
        (f"-o {GATEWAY_DEVICE} {about('accept packets to local Pods')} -j ACCEPT", _TO_PODS),
    )  # fmt: skip
    external = f"{about('masquerade Pod to external packets')} -m set ! --match-set {POD_IP_SET} dst"
    other_source = "-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL"
    yield primitives.chain(
        addressing.name, "nat", "ANTREA-POSTROUTING",
        (f"-s {addressing.pod_range} ! -o {GATEWAY_DEVICE} {external} -j MASQUERADE", _MASQUERADE),
        (
            f"-o {GATEWAY_DEVICE} {about('masquerade LOCAL traffic')} {other_source} -j MASQUERADE --random-fully",
            _MASQUERADE_LOCAL,
        ),
    )  # fmt: skip


def checks(scenario: Scenario) -> Iterator[Check]:
    """Pods of one node are on its switch; and Kubernetes' rules."""
    yield from kubernetes.same_node_check(scenario, sentence("pods of one node are switched, not routed: TTL 64"), 64)
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of ranges that are too small, and of `no-encap` with nodes behind a router without routes to pods."""
    options: Options = scenario.options
    yield from datacenter.refuse(scenario, "pod_cidr")
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, NODE_PREFIX_LENGTH, len(scenario.nodes))
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)
    if options.traffic_mode == "no-encap" and options.elsewhere:
        what = f"traffic_mode: no-encap leaves pods of {options.elsewhere[0]} to the router, which has no route to them"
        yield "traffic_mode", what, "use hybrid, which has tunnels to nodes that are elsewhere"
