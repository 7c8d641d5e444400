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
routes a pod's packets to other nodes by a table for the pod's identity. Rules 201 route the node's own packets, and
those to its nodePorts that it sends to other nodes, by the table for the identity remote-node, because for the
receiver they come from a remote node. A pod is reached by a /32 route to its veth and a permanent neighbour.

Follows cilium/cilium of 2024 to 2026: pkg/datapath/loader/netlink.go, pkg/datapath/linux/node.go, linux_defaults.go,
pkg/datapath/iptables/iptables.go, bpf/lib/encap.h, Documentation/network/concepts/routing.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import Interface, IpSet, Link, Neighbour, Resource, Route, Rule, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, Why, explained
from labctl.models.lib import datacenter, kubernetes, pods, primitives

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
        " directly to cilium_vxlan, and do not pass cilium_host or the rules for it; so a pod behind a nodePort of"
        " another node sees that node's own address, and not the one of its cilium_host",
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
    approximation("network policies", "are enforced by Calico's iptables rules, and not by eBPF programs"),
    skipped("connection tracking and masquerading in eBPF, socket load balancing, Hubble, XDP"),
    skipped("the replacement of kube-proxy: Services need kube-proxy itself"),
    skipped("the health endpoint, chains for the L7 proxy and for marks, Geneve, IPsec, WireGuard, ENI mode, IPv6"),
    *primitives.PARTS,
    *pods.PARTS,
)
_PROJECT, _VERSION = "cilium/cilium", "1.16"
_LOADER = Component("cilium-agent", Source(_PROJECT, "pkg/datapath/loader/netlink.go", _VERSION))
_NODES = Component("cilium-agent", Source(_PROJECT, "pkg/datapath/linux/node.go", _VERSION))
_PLUGIN = Component("the CNI plugin cilium-cni", Source(_PROJECT, "plugins/cilium-cni", _VERSION))
_IPTABLES = Component("cilium-agent", Source(_PROJECT, "pkg/datapath/iptables/iptables.go", _VERSION))
_EBPF = Component("Cilium's eBPF programs", Source(_PROJECT, "bpf/lib/encap.h", _VERSION))
_ACCEPT_LOCAL = _LOADER.why(
    "Packets with an address of {ns} itself as their source may come in by {dev}: the node sends to its pods through"
    " it."
)
_HOST_LINK = _LOADER.why(
    "It has the address of {ns} in the range of its pods, and is the node's way to pods. Its other end is cilium_net."
)
_NET_LINK = _LOADER.why("It is the other end of cilium_host, where Cilium's programs take the node's packets over.")
_ROUTER_ADDRESS = _LOADER.why("It is the gateway of the pods of {ns}, and the node's own address towards pods.")
_ROUTER_ROUTE = _NODES.why("The gateway {dst} of the pods is on cilium_host.")
_RANGE_ROUTE = _NODES.why("Packets for the range of {ns} ({dst}) that are for no known pod go to cilium_host.")
_PROXY_RULE = _LOADER.why(
    "Packets that Cilium marked for its L7 proxy ({mark}) use table {table}, whatever their target is."
)
_PROXY_ROUTE = _LOADER.why("In table {table} every address is local, so a marked packet reaches the L7 proxy on {ns}.")
_LOCAL_RULE = _LOADER.why(
    "The lookup of the local table moves from 0 to {pref}: so Cilium's own rules can come before it."
)
_HOST_END = _PLUGIN.why(
    "It is the node's end of the cable of {peer_ns}: Cilium's programs see every packet of the pod here, and no"
    " bridge is needed."
)
_POD_END = _PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_POD_ADDRESS = _PLUGIN.why(
    "It is the pod's address, from the range of its node. With a /32, the pod has no neighbours but the node."
)
_POD_NEIGHBOUR = _EBPF.why(
    "The pod knows the MAC address of its gateway {ip}: a program answers ARP, here a fixed entry does."
)
_POD_GATEWAY = _PLUGIN.why("The gateway {dst}, the address of cilium_host, is behind eth0 directly.")
_POD_DEFAULT = _PLUGIN.why("The pod sends everything to {via}, its node.")
_TO_POD_NEIGHBOUR = _EBPF.why("{ns} knows the MAC address of its pod {owner}, as Cilium's map of endpoints does.")
_TO_POD_ROUTE = _EBPF.why(
    "It leads packets for {dst_machines} into its cable. In Cilium a program redirects them there; here the kernel"
    " routes."
)
_VXLAN = _LOADER.why(
    "It is the tunnel to all other nodes: it takes the VNI and the remote address from each packet, so one device is"
    " enough and the VNI can be the identity of the sender."
)
_PEER_NEIGHBOUR = _EBPF.why("{ns} knows the MAC address of the tunnel of {owner}: no ARP request crosses it.")
_PEER_ROUTE = _NODES.why(
    "Cilium's own route for the pods of another node ({dst_machines}); its programs send them into the tunnel."
)
_IDENTITY_RULE = _EBPF.why(
    "Packets of the pod {src_machine} use table {table}, which puts them into the tunnel with the identity of the"
    " pod: the receiving node decides by it what the pod may send."
)
_NODE_RULE = _EBPF.why(
    "Packets that come from {iif} are the node's own: they get the identity remote-node (table {table})."
)
_NODE_PORT_RULE = _EBPF.why(
    "Packets that come from {iif} and go on to a pod of another node are those of another machine to a nodePort of"
    " {ns}: the node sends them on with the identity remote-node (table {table})."
)
_ENCAP_ROUTE = _EBPF.why(
    "It leads packets for {dst} ({dst_machines}) into the tunnel, and gives each the VNI of its sender's identity and"
    " the address of the other node."
)
_NATIVE_ROUTE = _NODES.why(
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}), without a tunnel:"
    " auto-direct-node-routes."
)
_NODE_SET_WHY = _IPTABLES.why("It has the addresses of all nodes: packets to them are not masqueraded.")
_FEEDER = _IPTABLES.why("Packets pass Cilium's own chain {target}.")
_FORWARD_CHAIN = _IPTABLES.why("It lets packets from and to pods pass, whatever policy FORWARD has.")
_FORWARD_RULE = _IPTABLES.why("Packets of pods pass here: Cilium's programs have decided about them before.")
_POST_CHAIN = _IPTABLES.why("It decides which packets get another source address.")
_TO_NODES = _IPTABLES.why("A pod keeps its address towards nodes: they have a route back to it.")
_MASQUERADE = _IPTABLES.why(
    "A packet of a pod that leaves the cluster gets the address of {ns}: outside has no way back to a pod."
)
_PROXY_RETURN = _IPTABLES.why("What the L7 proxy sends keeps its source.")
_HOST_SNAT = _IPTABLES.why(
    "What {ns} itself sends to pods gets the address of cilium_host, {to}, which pods of all nodes can answer."
)
_LOOPBACK_SNAT = _IPTABLES.why(
    "A packet of {ns} from 127.0.0.1 to a pod gets the address {to}: in a pod 127.0.0.1 is the pod itself."
)
_HAIRPIN_SNAT = _IPTABLES.why(
    "A pod reaches itself through a Service: with the address {to} as source, its answer passes the node."
)
HOST_DEVICE, NET_DEVICE, VXLAN_DEVICE = "cilium_host", "cilium_net", "cilium_vxlan"
NODE_SET = "cilium_node_set_v4"
PROTO_KERNEL = 2  # the protocol of Cilium's routes (proto kernel), so that no other program removes them
PROXY_PREF, LOCAL_PREF, POD_PREF, NODE_PREF = 9, 100, 200, 201
PROXY_TABLE, LOCAL_TABLE, IDENTITY_TABLE_BASE = 2004, 255, 100000
PROXY_FWMARK, PROXY_FWMARK_MASK = 0x200, 0xF00
REMOTE_NODE_IDENTITY, FIRST_IDENTITY = 6, 256  # below 256 are the reserved ones: host 1, world 2, ... remote-node 6
OVERHEAD_BYTES = 50  # bytes: IP, UDP, VXLAN and the inner Ethernet header
RESERVED_ADDRESSES = 3  # addresses of a node's range that no pod gets: its own, cilium_host's and the broadcast


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of a cilium scenario."""

    pod_cidr: IPv4Network = option(cidr("10.0.0.0/8"), "addresses of all pods; each node gets a part of it")
    node_prefix: int = option(24, "prefix length of each node's part of pod_cidr", minimum=16, maximum=29)
    routing: str = option("tunnel", "routing-mode: VXLAN, or routes between nodes", choices=("tunnel", "native"))
    masquerade: bool = option(True, "enable-ipv4-masquerade: outside, a pod is seen with its node's address")
    max_pods: int = option(110, "maximum number of pods on one node", minimum=1, maximum=500)


@dataclass(frozen=True, slots=True)
class PodSettings(pods.PodSettings):
    """The settings of a pod in a scenario file."""

    identity: int | None = option(
        None, "its security identity, which pods may share (default: the next from 256)", minimum=256, maximum=65535
    )


Container = PodSettings


@dataclass(frozen=True, slots=True)
class NodeAddressing(datacenter.NodeAddressing):
    """A node with its NIC and its part of the pod CIDR, of which cilium_host has the last address."""

    @property
    def router_ip(self) -> IPv4Address:
        """The address of cilium_host: the node's address in its pod range, and the pods' gateway."""
        return primitives.address_at(self.pod_range, -2)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Nodes with their pods, on Ethernets that have no routes to pods."""
    options: Options = scenario.options
    nodes, identities = _node_addressing(scenario), _identities(scenario)
    yield from datacenter.infrastructure(scenario)
    for node in nodes:
        peers = [other for other in nodes if other is not node]
        devices = primitives.device_names("lxc", 12, node.node.pods)
        yield Machine(node.name, "node", (node.nic.address, node.router_ip))
        yield from primitives.node_netns(node.name)
        cilium_devices = (HOST_DEVICE, NET_DEVICE, *((VXLAN_DEVICE,) if options.routing == "tunnel" else ()))
        yield from primitives.forwarding_sysctls(
            node.name, True, rp_filter=0, devices=("eth0", *cilium_devices, *devices)
        )
        for device in cilium_devices:
            yield Sysctl(node.name, f"net.ipv4.conf.{device}.accept_local", "1", why=_ACCEPT_LOCAL)
        yield from _devices(node, options.mtu)
        yield from _policy_rules(node.name)
        yield from _pods(node, devices, options)
        if options.routing == "tunnel":
            yield from _tunnel(node, peers, identities, options.mtu)
        else:
            yield from _direct_node_routes(node, peers)
            addresses = tuple(sorted(str(one.nic.address) for one in nodes))
            yield IpSet(node.name, NODE_SET, "hash:ip", addresses, why=_NODE_SET_WHY)
        yield from _chains(node, options)
        yield from pods.pause_and_containers(node.node)


def _node_addressing(scenario: Scenario) -> list[NodeAddressing]:
    options: Options = scenario.options
    ranges = kubernetes.node_pod_ranges(options.pod_cidr, options.node_prefix, len(scenario.nodes))
    return [
        NodeAddressing(*parts) for parts in zip(scenario.nodes, datacenter.node_nics(scenario), ranges, strict=True)
    ]


def _identities(scenario: Scenario) -> dict[str, int]:
    """Each pod's identity: the number from the file, else the next free number."""
    given = {
        pod: settings.identity
        for node in scenario.nodes
        for pod, settings in node.settings
        if settings.identity is not None
    }
    unused = (number for number in range(FIRST_IDENTITY, 65536) if number not in given.values())
    return {pod: given[pod] if pod in given else next(unused) for _, pod in scenario.pods}


def _devices(addressing: NodeAddressing, mtu: int) -> Iterator[Resource]:
    """The veth pair cilium_host and cilium_net, and the routes in the main table that lead to it."""
    host, net = Interface(addressing.name, HOST_DEVICE), Interface(addressing.name, NET_DEVICE)
    yield Link(host, "veth", net, None, mtu, primitives.mac(str(host)), arp=False, why=_HOST_LINK)
    yield Link(net, "veth", host, None, mtu, primitives.mac(str(net)), arp=False, why=_NET_LINK)
    router, proto = addressing.router_ip, PROTO_KERNEL
    yield from explained(_ROUTER_ADDRESS, primitives.addresses(host, primitives.with_prefix_length(router, 32)))
    prefix = primitives.host_prefix(router)
    yield Route(addressing.name, prefix, dev=HOST_DEVICE, proto=proto, why=_ROUTER_ROUTE)
    pod_range = addressing.pod_range
    yield Route(addressing.name, pod_range, router, HOST_DEVICE, src=router, proto=proto, why=_RANGE_ROUTE)


def _policy_rules(node: str) -> Iterator[Resource]:
    """Rules before the local table: marked packets go to the L7 proxy, whatever their destination is."""
    table, proto = PROXY_TABLE, PROTO_KERNEL
    yield Rule(node, PROXY_PREF, table, mark=PROXY_FWMARK, mask=PROXY_FWMARK_MASK, why=_PROXY_RULE)
    yield Route(node, primitives.ANYWHERE, dev="lo", table=table, kind="local", proto=proto, why=_PROXY_ROUTE)
    yield Rule(node, LOCAL_PREF, LOCAL_TABLE, why=_LOCAL_RULE)


def _pods(addressing: NodeAddressing, devices: tuple[str, ...], options: Options) -> Iterator[Resource | Machine]:
    """Pods of which the only neighbour is the router, and a route to each; both sides have a permanent neighbour."""
    first, mtu = int(addressing.pod_range.network_address) + 1, _route_mtu(options)
    for number, (name, device) in enumerate(zip(addressing.node.pods, devices, strict=True)):
        address, inner, outer = IPv4Address(first + number), Interface(name, "eth0"), Interface(addressing.name, device)
        macs = (primitives.mac(str(outer)), primitives.mac(name))
        yield Machine(name, "pod", (address,), addressing.name)
        yield from primitives.container_netns(name)
        yield from primitives.veth_pair(outer, inner, mtu=options.mtu, macs=macs, whys=(_HOST_END, _POD_END))
        yield from explained(_POD_ADDRESS, primitives.addresses(inner, primitives.with_prefix_length(address, 32)))
        router, prefix = addressing.router_ip, primitives.host_prefix(address)
        yield Neighbour(inner, router, macs[0], why=_POD_NEIGHBOUR)
        yield Route(name, primitives.host_prefix(router), dev="eth0", why=_POD_GATEWAY)
        yield Route(name, primitives.ANYWHERE, router, "eth0", mtu=mtu, why=_POD_DEFAULT)
        yield Neighbour(outer, address, macs[1], why=_TO_POD_NEIGHBOUR)
        yield Route(addressing.name, prefix, dev=device, src=router, why=_TO_POD_ROUTE)


def _tunnel(
    addressing: NodeAddressing, peers: list[NodeAddressing], identities: dict[str, int], mtu: int
) -> Iterator[Resource]:
    """The flow-based device, Cilium's routes to other nodes' pods, and the tables of identities that replace them."""
    device, router, pod_mtu = Interface(addressing.name, VXLAN_DEVICE), addressing.router_ip, mtu - OVERHEAD_BYTES
    options = (("external", "on"), ("learning", "off"), ("dstport", "8472"))
    yield Link(device, "vxlan", mtu=mtu, mac=primitives.mac(str(device)), options=options, why=_VXLAN)
    for peer in peers:
        peer_mac = primitives.mac(str(Interface(peer.name, VXLAN_DEVICE)))
        yield Neighbour(device, peer.router_ip, peer_mac, why=_PEER_NEIGHBOUR)
        yield Route(
            addressing.name, peer.pod_range, router, HOST_DEVICE, src=router, mtu=pod_mtu, proto=PROTO_KERNEL,
            why=_PEER_ROUTE,
        )  # fmt: skip
    identity_of = {pod: identities[pod] for pod in addressing.node.pods}
    for number, pod in enumerate(addressing.node.pods):
        address = addressing.pod_range.network_address + 1 + number
        table, src = IDENTITY_TABLE_BASE + identity_of[pod], primitives.host_prefix(address)
        yield Rule(addressing.name, POD_PREF, table, src=src, why=_IDENTITY_RULE)
    # the node's own packets, and those to its nodePorts that it sends on
    for device_in, why in (("lo", _NODE_RULE), ("eth0", _NODE_PORT_RULE)):
        table = IDENTITY_TABLE_BASE + REMOTE_NODE_IDENTITY
        yield Rule(addressing.name, NODE_PREF, table, iif=device_in, why=why)
    for identity in dict.fromkeys((*identity_of.values(), REMOTE_NODE_IDENTITY)):
        for peer in peers:
            yield Route(
                addressing.name, peer.pod_range, peer.router_ip, VXLAN_DEVICE, IDENTITY_TABLE_BASE + identity,
                onlink=True, src=router if identity == REMOTE_NODE_IDENTITY else None, mtu=pod_mtu,
                encap=(identity, peer.nic.address), why=_ENCAP_ROUTE,
            )  # fmt: skip


def _direct_node_routes(addressing: NodeAddressing, peers: list[NodeAddressing]) -> Iterator[Resource]:
    """auto-direct-node-routes: nodes of one Ethernet have routes to each other's pods."""
    for peer in peers:
        dst, via = peer.pod_range, peer.nic.address
        yield Route(addressing.name, dst, via, "eth0", proto=PROTO_KERNEL, why=_NATIVE_ROUTE)


def _chains(addressing: NodeAddressing, options: Options) -> Iterator[Resource]:
    """The iptables rules of Cilium's agent; a feeder rule jumps to each chain."""
    feeder = '-m comment --comment "cilium-feeder: {0}" -j {0}'
    accept = '-{} {} -m comment --comment "cilium: {} forward accept{}" -j ACCEPT'
    yield primitives.chain(addressing.name, "filter", "FORWARD", (feeder.format("CILIUM_FORWARD"), _FEEDER))
    accepts = (
        accept.format("o", HOST_DEVICE, f"any->cluster on {HOST_DEVICE}", ""),
        accept.format("i", HOST_DEVICE, f"cluster->any on {HOST_DEVICE}", " (nodeport)"),
        accept.format("i", "lxc+", "cluster->any on lxc+", ""),
        accept.format("i", NET_DEVICE, f"cluster->any on {NET_DEVICE}", " (nodeport)"),
    )
    forward = ((text, _FORWARD_RULE) for text in accepts)
    yield primitives.chain(addressing.name, "filter", "CILIUM_FORWARD", *forward, why=_FORWARD_CHAIN)
    yield primitives.chain(addressing.name, "nat", "POSTROUTING", (feeder.format("CILIUM_POST_nat"), _FEEDER))
    rules = _masquerading(addressing, options) if options.masquerade else iter(())
    yield primitives.chain(addressing.name, "nat", "CILIUM_POST_nat", *rules, why=_POST_CHAIN)


def _masquerading(addressing: NodeAddressing, options: Options) -> Iterator[tuple[str, Why]]:
    """CILIUM_POST_nat: with a tunnel, other nodes see the address of the pod's node; without, the pod's address."""
    tunnel, snat = options.routing == "tunnel", f"-j SNAT --to-source {addressing.router_ip}"
    if not tunnel:
        comment = "exclude traffic to cluster nodes from masquerade"
        match = f"-s {addressing.pod_range} -m set --match-set {NODE_SET} dst"
        yield f'{match} -m comment --comment "{comment}" -j ACCEPT', _TO_NODES
    inside = addressing.pod_range if tunnel else options.pod_cidr
    comment = "cilium masquerade non-cluster"
    match = f"-s {addressing.pod_range} ! -d {inside} ! -o cilium_+"
    yield f'{match} -m comment --comment "{comment}" -j MASQUERADE', _MASQUERADE
    comment = "exclude proxy return traffic from masquerade"
    yield f'-m mark --mark 0xa00/0xe00 -m comment --comment "{comment}" -j ACCEPT', _PROXY_RETURN
    if tunnel:
        comment = "cilium host->cluster masquerade"
        yield (
            (
                f"! -s {addressing.pod_range} ! -d {addressing.pod_range} -o {HOST_DEVICE} -m comment --comment"
                f' "{comment}" {snat}'
            ),
            _HOST_SNAT,
        )
    comment = "cilium host->cluster from 127.0.0.1 masquerade"
    yield f'-s 127.0.0.1/32 -o {HOST_DEVICE} -m comment --comment "{comment}" {snat}', _LOOPBACK_SNAT
    mark = "-m mark --mark 0xf00/0xf00 -m conntrack --ctstate DNAT"
    comment = "hairpin traffic that originated from a local pod"
    yield f'-o {HOST_DEVICE} {mark} -m comment --comment "{comment}" {snat}', _HAIRPIN_SNAT


def _route_mtu(options: Options) -> int:
    """The MTU of a pod's default route: the device's MTU, less the headers of the tunnel."""
    return options.mtu - (OVERHEAD_BYTES if options.routing == "tunnel" else 0)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Pods of one node are routed by their node; and Kubernetes' rules."""
    yield from kubernetes.same_node_check(scenario, sentence("pods of one node are routed by their node: TTL 63"), 63)
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of ranges that are too small, and of native routing across a router, for which nodes have no routes."""
    options: Options = scenario.options
    yield from datacenter.refuse(scenario, "pod_cidr")
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, options.node_prefix, len(scenario.nodes))
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)
    capacity = 2 ** (32 - options.node_prefix) - RESERVED_ADDRESSES
    for node in scenario.nodes:
        if capacity < len(node.pods) <= options.max_pods:
            what = f"{node.name} has {len(node.pods)} pods and a /{options.node_prefix} has room for {capacity}"
            yield "node_prefix", what, f"use a /{primitives.prefix_length_for(len(node.pods) + RESERVED_ADDRESSES)}"
    if options.routing == "native" and options.elsewhere:
        what = f"routing: native needs all nodes on one Ethernet, and {options.elsewhere[0]} is elsewhere"
        yield "routing", what, "auto-direct-node-routes reach nodes of the same Ethernet only: use routing: tunnel"
