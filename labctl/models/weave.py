r"""Weave Net: one Ethernet for all pods of all nodes, which VXLAN carries between the nodes.

`labctl plan weave --as shell` shows every command that builds it.

        a 10.32.0.2     b 10.32.0.3                     c 10.44.0.1
        | eth0          | eth0                          | eth0
    +-- node1 ---------------------------+          +-- node2 ---------------------------+
    | vethweplXXX    vethweplYYY         |          | vethweplZZZ                        |
    | +-- weave 10.32.0.1/12 --+         |          | +-- weave 10.44.0.0/12 --+         |
    |            vethwe-bridge           |          |            vethwe-bridge           |
    |                  |                 |          |                  |                 |
    |           vethwe-datapath          |          |           vethwe-datapath          |
    |           +- datapath -+           |          |           +- datapath -+           |
    |             vxlan-6784             |          |             vxlan-6784             |
    |       udp 6784   :                 |          |       udp 6784   :                 |
    |  eth0 192.168.0.1                  |          |  eth0 192.168.0.2                  |
    +--------|---------------------------+          +--------|---------------------------+
             +------------------- fabric ------------------+
                   | 192.168.0.253    | 8.8.8.50        eth0 of nodes elsewhere, behind the router
                  vm              internet 8.8.8.1

All pods are in one subnet, 10.32.0.0/12, and use ARP for each other's MAC addresses, also between nodes. Weave switches
where other networks route, so the TTL is 64 on every node. Each node has two bridges in a row. Pods and the node itself
are on the bridge `weave`. It has the node's address in the subnet, which is the gateway of its pods, and a MAC address
that never changes, because the peers identify each other by it. `datapath` connects that bridge to the tunnel: it
floods frames to an unknown MAC address to every other node, and learns from the answer. The peers divide the range
among themselves, so that a node assigns addresses without a request to the others. The MTU is 1376: the smallest
network that Weave expects has 1460, and VXLAN and encryption take the rest. Outside the subnet, also on other nodes, a
pod is seen with its node's address. Weave's policy controller filters sent packets on the sender's node, and received
packets on the receiver's node.

Follows weaveworks/weave 2.8.1 (archived in 2022): net/bridge.go, net/expose.go, net/veth.go, net/arp.go,
plugin/net/cni.go, router/fastdp.go, prog/weave-kube/launch.sh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, summarize_address_range

from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import Address, Fdb, Interface, IpSet, Link, Resource, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario, ScenarioNode, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, explained
from labctl.models.lib import datacenter, kubernetes, pods, primitives, weave_npc

FOLLOWS = "Weave Net 2.8.1 with weave-kube"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("the bridge weave with its address, pods' veths with hairpin on, one subnet for all, the MTU of 1376"),
    faithful("vethwe-bridge and vethwe-datapath, which connect the two bridges"),
    faithful("the rules of FORWARD and the chains WEAVE and WEAVE-EXPOSE; the IP set weaver-no-masq-local"),
    faithful("the policy controller's chains and IP sets for pods without a policy"),
    faithful("the sysctls of the neighbour tables, on weave and in pods; iptables for bridged frames"),
    approximation(
        "the fast datapath",
        "is a Linux bridge and one VXLAN device: it floods and learns, while Weave's router programs an Open vSwitch"
        " datapath with a flow for each destination; no third node forwards a frame",
    ),
    approximation("the VNI", "is 1 in every packet; Weave computes it from the numbers of both peers"),
    approximation(
        "the peers' ranges",
        "are those of nodes that join one after another and get a range from the first; a grown cluster has others",
    ),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    needs("vxlan", "vxlan-6784, between all nodes"),
    needs(
        "openvswitch",
        "the fast datapath itself (`datapath: ovs`)",
        "Weave's router decides packet by packet which flows it has",
        instead="a Linux bridge with a VXLAN device, as `datapath: vxlan` builds it",
    ),
    approximation("network policies", "are enforced by kube-router's rules, and not by those of Weave's controller"),
    skipped("the IP sets of selectors that match no pod"),
    skipped("encryption, and the fallback to UDP 6783 (sleeve)", "they use headers that only Weave has"),
    skipped("weaveDNS, portmap, the rules for docker0, IPv6"),
    *primitives.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
_PROJECT, _VERSION = "weaveworks/weave", "2.8.1"
_BRIDGE_CODE = Component("weave", Source(_PROJECT, "net/bridge.go", _VERSION))
_FASTDP = Component("weave (fast datapath)", Source(_PROJECT, "router/fastdp.go", _VERSION))
_PLUGIN = Component("the CNI plugin weave-net", Source(_PROJECT, "plugin/net/cni.go", _VERSION))
_IPAM = Component("weave (IPAM)", Source(_PROJECT, "ipam/allocator.go", _VERSION))
_ARP = Component("weave", Source(_PROJECT, "net/arp.go", _VERSION))
_EXPOSE = Component("weave (expose)", Source(_PROJECT, "net/expose.go", _VERSION))
_CALLS_IPTABLES = _BRIDGE_CODE.why(
    "Frames between pods pass iptables too: so the policy controller judges also what is only switched."
)
_BRIDGE = _BRIDGE_CODE.why(
    "It is the switch of {ns}, with its pods as ports: all pods of all nodes are on one Ethernet. Its MAC address never"
    " changes, because the peers know each other by it."
)
_BRIDGE_ADDRESS = _EXPOSE.why("It is the address of {ns} on the Ethernet of the pods, and the gateway of its own pods.")
_DATAPATH = _FASTDP.why(
    "It connects the switch of {ns} to the tunnel: it floods frames for an unknown MAC address to all nodes, and"
    " learns from the answer."
)
_VETH_BRIDGE = _BRIDGE_CODE.why("It connects the switch with the datapath: this end is a port of {master}.")
_VXLAN = _FASTDP.why(
    "It is the tunnel to the other nodes: it carries the frames of pods in UDP packets (port {dstport})."
)
_FLOOD = _FASTDP.why("Frames for an unknown MAC address go to {owner} ({dst}) too: the answer shows where the pod is.")
_NEIGHBOUR_SYSCTL = _ARP.why(
    "{ns} notices on {dev} within seconds that an address has another MAC address: pods come and go."
)
_ARP_ACCEPT = _ARP.why(
    "{ns} believes an announcement (gratuitous ARP) on {dev}, also of an address that it did not know."
)
_HOST_END = _PLUGIN.why(
    "It is the node's end of the cable of {peer_ns}, a port of {master}. It has hairpin mode, so that a pod can reach"
    " itself through a Service."
)
_POD_END = _PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_POD_ADDRESS = _IPAM.why(
    "It is the pod's address, from the part of the subnet that {ns}'s node has. All pods have one prefix."
)
_POD_DEFAULT = _PLUGIN.why("What is not for a pod goes to {via}, the node of the pod.")
_POST_JUMP = _EXPOSE.why("Packets that leave {ns} pass Weave's chain, which masquerades.")
_POST_CHAIN = _EXPOSE.why("It decides which packets get the address of {ns}.")
_LOCAL_SET = _EXPOSE.why(
    "It has the part of the subnet that belongs to {ns}: packets to its own pods keep their source."
)
_NOT_LOCAL = _EXPOSE.why(
    "A packet to a pod of {ns} itself keeps its source (NO_MASQ_LOCAL), so the pod sees the client."
)
_NOT_MULTICAST = _EXPOSE.why("Multicast of pods keeps its source.")
_MASQ_IN = _EXPOSE.why(
    "From outside to a pod of another node: with the address of {ns} as source, the answer comes back here."
)
_MASQ_OUT = _EXPOSE.why("What a pod sends to outside gets the address of {ns}: outside has no way back to a pod.")
VXLAN_PORT, VNI = 6784, 1
OVERHEAD_BYTES = 50  # of VXLAN: IP 20, UDP 8, VXLAN 8, Ethernet 14
MAX_IPV4 = 2**32 - 1  # the largest IPv4 address
ANY_MAC = "00:00:00:00:00:00"
BRIDGE_DEVICE, DATAPATH_DEVICE, VXLAN_DEVICE = "weave", "datapath", "vxlan-6784"
BRIDGE_VETH, DATAPATH_VETH = "vethwe-bridge", "vethwe-datapath"
NO_MASQ_LOCAL_SET = "weaver-no-masq-local"
_NEIGHBOURS = (("base_reachable_time", "5"), ("delay_first_probe_time", "2"), ("ucast_solicit", "1"))


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of a weave scenario."""

    pod_cidr: IPv4Network = option(cidr("10.32.0.0/12"), "IPALLOC_RANGE: the single subnet of all pods")
    weave_mtu: int = option(1376, "WEAVE_MTU: MTU of pods and of weave", minimum=1280, maximum=8950)
    datapath: str = option(
        "vxlan", "what connects the nodes: a bridge with VXLAN, or Open vSwitch's datapath", choices=("vxlan", "ovs")
    )
    policy_controller: bool = option(True, "EXPECT_NPC: whether Weave's policy controller runs")
    no_masq_local: bool = option(True, "NO_MASQ_LOCAL: packets to pods of the node itself keep their source")


@dataclass(frozen=True, slots=True)
class Peer:
    """A node as a Weave peer: its NIC, and the part of the pods' subnet that it assigns addresses from."""

    nic: datacenter.UnderlayNic
    bridge_address: IPv4Address  # the bridge's address
    range_end: IPv4Address  # the first address after the range
    ranges: tuple[IPv4Network, ...]

    @property
    def capacity(self) -> int:
        """The number of pods that its range has addresses for."""
        return int(self.range_end) - int(self.bridge_address) - 1


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The underlay, and the nodes with their two bridges and their pods."""
    options: Options = scenario.options
    use_openvswitch = options.datapath == "ovs" and "openvswitch" not in scenario.substitute_features
    peers = weave_peers(scenario)
    pod_addresses = [
        peer.bridge_address + number
        for peer, node in zip(peers, scenario.nodes, strict=True)
        for number in _pod_offsets(node)
    ]
    yield from datacenter.infrastructure(scenario)
    for peer, node in zip(peers, scenario.nodes, strict=True):
        yield Machine(node.name, "node", (peer.nic.address, peer.bridge_address))
        yield from primitives.node_netns(node.name)
        yield from primitives.forwarding_sysctls(node.name, True, rp_filter=0, devices=("eth0", BRIDGE_DEVICE))
        yield Sysctl(node.name, "net.bridge.bridge-nf-call-iptables", "1", why=_CALLS_IPTABLES)
        yield from _bridges(peer, options, use_openvswitch=use_openvswitch)
        if not use_openvswitch:
            yield from _tunnel(peer, peers, options.weave_mtu)
        yield from _pods(node, peer, options)
        yield from _filter(node.name, options, pod_addresses)
        yield from _nat(node.name, options, peer.ranges)
        yield from pods.pause_and_containers(node)


def weave_peers(scenario: Scenario) -> list[Peer]:
    """The nodes with their ranges: each node that joins gets a part of the first node's range, from its end.

    The part is the largest power of two in half of the first node's free addresses: 10.44.0.0/14 for the second node.
    """
    subnet: IPv4Network = scenario.options.pod_cidr
    start, end, range_end = int(subnet.network_address), int(subnet.broadcast_address) + 1, 0
    joined_ranges: list[tuple[int, int]] = []
    for _ in scenario.nodes[1:]:
        range_end, half = end, (end - start - 2) // 2
        end -= 1 << half.bit_length() - 1 if half > 0 else 0
        joined_ranges.append((end, range_end))
    ranges = [(start, end), *joined_ranges]
    peers = []
    for nic, (low, high) in zip(datacenter.node_nics(scenario), ranges, strict=False):
        low, high = min(low, MAX_IPV4), min(high, MAX_IPV4)
        last = IPv4Address(max(high - 1, low))
        first = IPv4Address(low + (low == start))  # no node has the network address of the subnet
        peers.append(Peer(nic, first, last + 1, tuple(summarize_address_range(IPv4Address(low), last))))
    return peers


def _bridges(peer: Peer, options: Options, *, use_openvswitch: bool) -> Iterator[Resource]:
    """The bridges weave and datapath, and the veth pair between them."""
    node, mtu = peer.nic.machine, options.weave_mtu
    weave = Interface(node, BRIDGE_DEVICE)
    address = primitives.with_prefix_length(peer.bridge_address, options.pod_cidr.prefixlen)
    reasons = {Link: _BRIDGE, Address: _BRIDGE_ADDRESS}
    yield from explained(reasons, primitives.bridge(weave, mtu=mtu, address=address))
    yield from _neighbours(weave)
    datapath = Interface(node, DATAPATH_DEVICE)
    kind = "openvswitch" if use_openvswitch else "bridge"
    yield Link(datapath, kind, mtu=mtu, mac=primitives.mac(str(datapath)), why=_DATAPATH)
    one, other = Interface(node, BRIDGE_VETH), Interface(node, DATAPATH_VETH)
    yield Link(one, "veth", other, BRIDGE_DEVICE, mtu, txqueuelen=primitives.NO_QUEUE, why=_VETH_BRIDGE)
    yield Link(other, "veth", one, DATAPATH_DEVICE, mtu, txqueuelen=primitives.NO_QUEUE, why=_VETH_BRIDGE)


def _tunnel(peer: Peer, all_peers: list[Peer], mtu: int) -> Iterator[Resource]:
    """The VXLAN device, with a forwarding entry for each other node to flood unknown destinations to."""
    at, nic = Interface(peer.nic.machine, VXLAN_DEVICE), peer.nic
    options = (("id", str(VNI)), ("local", str(nic.address)), ("dev", "eth0"), ("dstport", str(VXLAN_PORT)))
    yield Link(
        at,
        "vxlan",
        master=DATAPATH_DEVICE,
        mtu=mtu,
        mac=primitives.mac(str(at)),
        options=(*options, ("learning", "on")),
        why=_VXLAN,
    )
    for other in all_peers:
        if other is not peer:
            yield Fdb(at, ANY_MAC, other.nic.address, why=_FLOOD)


def _neighbours(interface: Interface) -> Iterator[Resource]:
    """Weave's neighbour sysctls: a changed MAC address is noticed soon, and gratuitous ARP is accepted."""
    for name, value in _NEIGHBOURS:
        yield Sysctl(interface.ns, f"net.ipv4.neigh.{interface.dev}.{name}", value, why=_NEIGHBOUR_SYSCTL)
    yield Sysctl(interface.ns, f"net.ipv4.conf.{interface.dev}.arp_accept", "1", why=_ARP_ACCEPT)


def _pod_offsets(node: ScenarioNode) -> range:
    """The offsets of a node's pods in its range, after the bridge's address."""
    return range(1, len(node.pods) + 1)


def _pods(node: ScenarioNode, peer: Peer, options: Options) -> Iterator[Resource | Machine]:
    """Pods on the bridge, with addresses in order from their node's range, and the node as their gateway."""
    devices = primitives.device_names("vethwepl", 7, node.pods)
    for number, name, device in zip(_pod_offsets(node), node.pods, devices, strict=True):
        address, inner, outer = peer.bridge_address + number, Interface(name, "eth0"), Interface(node.name, device)
        yield Machine(name, "pod", (address,), node.name)
        yield from primitives.container_netns(name)
        yield from primitives.veth_pair(
            outer,
            inner,
            mtu=options.weave_mtu,
            macs=(None, primitives.mac(name)),
            master=BRIDGE_DEVICE,
            hairpin=True,
            txqueuelen=primitives.NO_QUEUE,
            whys=(_HOST_END, _POD_END),
        )
        yield from _neighbours(inner)
        interface_address = primitives.with_prefix_length(address, options.pod_cidr.prefixlen)
        yield from explained(_POD_ADDRESS, primitives.addresses(inner, interface_address))
        yield primitives.default_route(name, peer.bridge_address, why=_POD_DEFAULT)


def _filter(ns: str, options: Options, pod_addresses: list[IPv4Address]) -> Iterator[Resource]:
    """Weave's FORWARD rules, with or without the policy controller."""
    if options.policy_controller:
        yield from weave_npc.builtin_chain_rules(ns, BRIDGE_DEVICE)
        yield from weave_npc.npc_chains(ns, BRIDGE_VETH, pod_addresses)
    else:
        first = (f"-i {BRIDGE_DEVICE} -o {BRIDGE_DEVICE} -j ACCEPT", f"-o {BRIDGE_DEVICE} -j WEAVE-EXPOSE")
        shapes = weave_npc.RULES
        yield primitives.chain(ns, "filter", "FORWARD", *first, shapes=shapes)
        yield primitives.chain(ns, "filter", "WEAVE-EXPOSE", f"-d {options.pod_cidr} -j ACCEPT", shapes=shapes)
    yield primitives.chain(
        ns,
        "filter",
        "FORWARD",
        f"-i {BRIDGE_DEVICE} ! -o {BRIDGE_DEVICE} -j ACCEPT",
        f"-o {BRIDGE_DEVICE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        shapes=weave_npc.RULES,
    )


def _nat(ns: str, options: Options, ranges: tuple[IPv4Network, ...]) -> Iterator[Resource]:
    """Weave's masquerade rules."""
    pod_cidr = options.pod_cidr
    yield primitives.chain(ns, "nat", "POSTROUTING", ("-j WEAVE", _POST_JUMP))
    if options.no_masq_local:
        members = tuple(sorted(str(one).removesuffix("/32") for one in ranges))
        yield IpSet(ns, NO_MASQ_LOCAL_SET, members=members, why=_LOCAL_SET)
        about = '-m comment --comment "Prevent SNAT to locally running containers"'
        rule = f"-m set --match-set {NO_MASQ_LOCAL_SET} dst {about} -j RETURN"
        yield primitives.chain(ns, "nat", "WEAVE", (rule, _NOT_LOCAL), why=_POST_CHAIN)
    yield primitives.chain(
        ns,
        "nat",
        "WEAVE",
        (f"-s {pod_cidr} -d 224.0.0.0/4 -j RETURN", _NOT_MULTICAST),
        (f"! -s {pod_cidr} -d {pod_cidr} -j MASQUERADE", _MASQ_IN),
        (f"-s {pod_cidr} ! -d {pod_cidr} -j MASQUERADE", _MASQ_OUT),
        why=_POST_CHAIN,
    )


def checks(scenario: Scenario) -> Iterator[Check]:
    """Pods of one node and of two nodes are switched, not routed; and Kubernetes' rules."""
    yield from kubernetes.same_node_check(scenario, kubernetes.SAME_BRIDGE_TEXT, 64)
    ends = [(node.name, node.pods[0]) for node in scenario.nodes if node.pods][:2]
    if len(ends) > 1:
        (source_node, source), (_, target) = ends
        see_on_wire = See(
            Interface(source_node, "eth0"), src=source, dst=target, ttl=64, encap=f"vxlan {VNI}", direction="out"
        )
        sees = (see_on_wire, See(Interface(target, "eth0"), src=source, dst=target, ttl=64))
        say = sentence("pods of two nodes are on one Ethernet too, which VXLAN carries: TTL 64")
        yield Check(say, "ping", source, target, sees=sees, origin="model")
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of ranges that are too small or overlap, and of an MTU too large for VXLAN on the underlay."""
    options: Options = scenario.options
    yield from datacenter.refuse(scenario, "pod_cidr")
    yield from kubernetes.refuse_pod_counts(scenario, primitives.MAX_BRIDGE_PORTS - 1, max_pods_fixed=True)
    if options.weave_mtu > options.mtu - OVERHEAD_BYTES:
        what = f"weave_mtu {options.weave_mtu} and {OVERHEAD_BYTES} bytes of VXLAN are more than mtu {options.mtu}"
        yield "weave_mtu", what, f"use at most {options.mtu - OVERHEAD_BYTES}, or a larger mtu"
    for peer, node in zip(weave_peers(scenario), scenario.nodes, strict=False):
        if len(node.pods) > peer.capacity:
            what = f"{node.name} has {len(node.pods)} pods and its part of {options.pod_cidr}"
            ranges_text = ", ".join(map(str, peer.ranges)) if peer.capacity > 0 else "nothing"
            yield "pod_cidr", f"{what} is {ranges_text}: room for {max(peer.capacity, 0)}", "use a larger pod_cidr"
