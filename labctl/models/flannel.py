r"""Flannel: each node has a pod range, a bridge for its pods, and a route to the pod range of every other node.

`labctl plan flannel --as shell` shows every command that builds it.

         a 10.244.1.2   b 10.244.1.3                c 10.244.2.2
         | eth0         | eth0                      | eth0
    +-- node1 ----------------------+      +-- node2 -----------------+
    |  veth            veth         |      |       veth               |
    |   +---- cni0 -----+           |      |       cni0               |
    |     10.244.1.1/24             |      |       10.244.2.1/24      |
    |  flannel.1 10.244.1.0/32      |      |  flannel.1 10.244.2.0/32 |
    |     :  udp 8472, VNI 1        |      |     :                    |
    |  eth0 192.168.0.1             |      |  eth0 192.168.0.2        |
    +-----|-------------------------+      +-----|--------------------+
          |                                      |
        +-+--- fabric ---------------------------+----------------+
        |  lan1 192.168.0.254/24       lan2 192.168.1.254/24      |
        +------|---------------------------------|------|---------+
               | 192.168.0.253                   |      | 8.8.8.50
              vm             node3 192.168.1.3 --+    internet 8.8.8.1

A daemon on each node, flanneld, learns which node has which pod range, and adds a route to it. The backend decides how.
`vxlan` routes each range to its first address, which is the other node's flannel.1. The MAC address of that flannel.1
is a permanent neighbour, and a permanent forwarding entry leads to the node's address, so there is no ARP and no
flooding. Both nodes route the packet inside the tunnel (TTL 62), and 50 bytes of headers leave an MTU of 1450.
`host-gw` has no tunnel: the other node is the gateway, and it must be on the same Ethernet, because the kernel accepts
no other gateway. `direct_routing` combines both: plain routes on the same Ethernet, a tunnel across a router. `udp`,
the oldest backend, passes packets to a program, which counts as one more router (TTL 61). `ipip` is a tunnel that adds
20 bytes. Packets that leave the pod CIDR are masqueraded to the node's address, even towards another node. A node
itself uses the address of flannel.1 towards pods of other nodes. With `nftables`, the same rules are two chains of a
separate table, at the same hooks as those of iptables.

Follows flannel-io/flannel, 2023 to 2026: pkg/backend/vxlan, hostgw, ipip, udp, route_network.go,
pkg/trafficmngr/iptables and nftables, Documentation/kube-flannel.yml; and containernetworking/plugins 1.1.1,
plugins/main/bridge, as flannel's CNI plugin calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import Resource, Route
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.core.why import LABCTL
from labctl.models.lib import cni_bridge, datacenter, flannel_nftables, flannel_node, kubernetes, pods, primitives

FOLLOWS = "flannel 0.22 and later (kube-flannel.yml), 0.28 with nftables, CNI plugins 1.1.1"
MACHINES = ("nodes", "pods")
PARTS = (
    needs("vxlan", "flannel.1: VNI 1, port 8472, learning off; a route, a neighbour and a forwarding entry per peer"),
    needs("tun", "flannel0 of the backend udp, and a program that carries its packets from and to port 8285"),
    needs(
        "ipip",
        "flannel.ipip of the backend ipip",
        instead="a TUN device of that name, and a program that sends and receives IP in IP packets as the kernel does",
    ),
    faithful("host-gw: routes via the other node; no route to a node behind a router, because the kernel refuses it"),
    faithful("cni0 and its pods: hairpin on, a default route and a route to all pods; arp_notify"),
    faithful("the chains FLANNEL-FWD and FLANNEL-POSTRTG; with `nftables`, the tables flannel-ipv4 and flannel-ipv6"),
    approximation("pod ranges", "are assigned in order, from the second one on: the first is the control plane's"),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    approximation("the program of the backend udp", "sends no ICMP error for a packet that it cannot send"),
    approximation("the router", "uses one public source address for all outgoing traffic, without port blocks"),
    skipped("WireGuard, IPsec, portmap, IPv6 (of nft, the table for it, which stays empty)"),
    *primitives.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
_ROUTED = LABCTL.why(
    "The scenario gives `vm` a route to the pods of {via_machine} ({dst_machines}), which it else has not."
)


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of a flannel scenario."""

    pod_cidr: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods (Network); each node gets a part")
    node_prefix: int = option(24, "prefix length of each node's part of pod_cidr (SubnetLen)", minimum=16, maximum=29)
    backend: str = option(
        "vxlan", "how packets reach other nodes (Backend.Type)", choices=tuple(flannel_node.OVERHEAD_BYTES)
    )
    direct_routing: bool = option(False, "vxlan and ipip: no tunnel between nodes on one Ethernet (DirectRouting)")
    ip_masq: bool = option(True, "packets that leave pod_cidr get the node's address as source (--ip-masq)")
    nftables: bool = option(False, "flanneld writes tables of nft in place of chains of iptables (EnableNFTables)")
    routed: bool = option(False, "`vm` has a route to the pods of each node on its Ethernet")
    max_pods: int = option(110, "maximum number of pods on one node", minimum=1, maximum=500)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The Ethernets with their router, and the nodes with their bridges, pods and routes to the other nodes."""
    options: Options = scenario.options
    yield from datacenter.infrastructure(scenario)
    leases = _leases(scenario)
    mtu = options.mtu - flannel_node.OVERHEAD_BYTES[options.backend]
    bridge = cni_bridge.BridgeConfig("cni0", mtu, hairpin=True, routes=(options.pod_cidr, primitives.ANYWHERE))
    for node, lease in zip(scenario.nodes, leases, strict=True):
        nic, pod_range = lease
        others = tuple(datacenter.peers(nic, leases))
        tunnel = (
            [flannel_node.TUNNEL_DEVICES[options.backend].replace(".", "/")]
            if options.backend in flannel_node.TUNNEL_DEVICES
            else []
        )
        yield Machine(node.name, "node", (nic.address, cni_bridge.gateway_address(pod_range)))
        yield from primitives.node_netns(node.name)
        yield from primitives.forwarding_sysctls(node.name, True, rp_filter=0, devices=("eth0", "cni0", *tunnel))
        yield from _backend(scenario, lease, others)
        rules = flannel_nftables.tables if options.nftables else flannel_node.iptables_chains
        yield from rules(node.name, pod_range, options.pod_cidr, masquerade=options.ip_masq)
        yield from cni_bridge.node_bridge(node.name, pod_range, bridge)
        yield from cni_bridge.pods_on_bridge(node, pod_range, bridge)
        yield from pods.pause_and_containers(node)
        if options.routed and nic.subnet == options.node_cidr:
            yield Route("vm", pod_range, nic.address, "eth0", why=_ROUTED)


def _backend(
    scenario: Scenario, lease: flannel_node.Lease, others: tuple[flannel_node.Lease, ...]
) -> Iterator[Resource]:
    """What the backend creates on one node."""
    options: Options = scenario.options
    if options.backend == "vxlan":
        yield from flannel_node.vxlan_backend(lease, others, options.mtu, direct_routing=options.direct_routing)
    elif options.backend == "host-gw":
        yield from flannel_node.host_gw_backend(lease, others)
    elif options.backend == "udp":
        yield from flannel_node.udp_backend(lease, others, options.pod_cidr, options.mtu)
    else:
        kernel_ipip = "ipip" not in scenario.substitute_features
        yield from flannel_node.ipip_backend(
            lease, others, options.mtu, direct_routing=options.direct_routing, kernel_ipip=kernel_ipip
        )


def checks(scenario: Scenario) -> Iterator[Check]:
    """How pods of one node reach each other, and Kubernetes' rules among the nodes that the backend can connect."""
    yield from kubernetes.same_node_check(scenario, kubernetes.SAME_BRIDGE_TEXT, 64)
    yield from pods.checks(scenario)
    separate_nodes = scenario.options.elsewhere if scenario.options.backend == "host-gw" else ()
    yield from kubernetes.network_model_checks(scenario, separate_nodes)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of settings that flannel does not have, and of ranges that are too small."""
    options: Options = scenario.options
    if options.direct_routing and options.backend not in ("vxlan", "ipip"):
        what = f"direct_routing: the backend {options.backend} has no such setting"
        yield "direct_routing", what, "vxlan and ipip have it; host-gw always routes directly"
    nodes = len(scenario.nodes)
    capacity = 2 ** (options.node_prefix - options.pod_cidr.prefixlen) - 1
    if capacity < nodes:
        what = f"pod_cidr {options.pod_cidr} holds {max(int(capacity), 0)} ranges of /{options.node_prefix} for nodes"
        prefix_length = max(options.node_prefix - nodes.bit_length(), 1)
        yield "pod_cidr", f"{what} and there are {nodes}", f"the first is the control plane's: use a /{prefix_length}"
    yield from cni_bridge.refuse_pod_ranges(scenario.nodes, options.node_prefix)
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)
    yield from datacenter.refuse(scenario, "pod_cidr")


def _leases(scenario: Scenario) -> list[flannel_node.Lease]:
    """Every node's NIC with its pod range."""
    options: Options = scenario.options
    nics = datacenter.node_nics(scenario)
    ranges = kubernetes.node_pod_ranges(options.pod_cidr, options.node_prefix, len(nics) + 1)[1:]
    return list(zip(nics, ranges, strict=True))
