r"""kube-router: pods on a bridge, routes to other nodes' pods by BGP, and tunnels only across a router.

`labctl plan kube-router --as shell` shows every command that builds it.

         a 10.244.0.2   b 10.244.0.3                     c 10.244.1.2
         | eth0         | eth0                           | eth0
    +-- node1 -----------------------------+      +-- node2 ---------------------+
    | vethXXX        vethYYY               |      | vethZZZ                      |
    | +-- kube-bridge 10.244.0.1/24 --+    |      | +-- kube-bridge .1.1/24 --+  |
    | 10.244.1.0/24 via node2              |      | 10.244.0.0/24 via node1      |
    | 10.244.2.0/24 dev tun-ebb17bddb2e    |      | 10.244.2.0/24 dev tun-...    |
    |  eth0 192.168.0.1                    |      |  eth0 192.168.0.2            |
    +--------|-----------------------------+      +--------|---------------------+
             +------------------- fabric -----------------+--------- eth0 192.168.1.3 [node3]
                   | 192.168.0.253    | 8.8.8.50                         d 10.244.2.2
                  vm              internet 8.8.8.1

Each node has a part of the pod CIDR, a bridge for it, and a route to every other node's part. A node on the same
Ethernet is the next hop, and packets travel without a tunnel. To a node behind a router they travel in IP in IP,
because that router has no routes to pods; for every such node there is a tunnel device with a name made from the node's
address. Packets from pods to the address of such a node also use the tunnel (table 77, by a rule for the node's own pod
range), and so do the answers. Every node sees a pod's own address, and every other machine sees its node's address. All
packets to or from a pod pass the pod's chain, which network policies need.

Follows cloudnativelabs/kube-router v2 (master of 2026): pkg/controllers/routing (network_routes_controller.go,
pod_egress.go), pkg/routes (linux_routes.go, pbr.go), pkg/tunnels/linux_tunnels.go, pkg/controllers/netpol; the
plugin bridge as daemonset/*.yaml configures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network

from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import Interface, Link, Process, Resource, Route, Rule
from labctl.core.scenario_types import Check, Machine, Scenario, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source
from labctl.models.lib import cni_bridge, datacenter, kube_router_node, kubernetes, pods, primitives

FOLLOWS = "kube-router v2, with its router and its firewall, without its service proxy"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("kube-bridge and pods as the CNI plugin bridge makes them, addresses in host-local's order"),
    faithful("routes to other nodes' pods, by next hop or into a tunnel, with their protocol and source"),
    faithful("the tunnels' names, table 77 and the rule that leads to it; the MTU of pods"),
    faithful("the IP sets and the rule that masquerade packets to the outside, but not packets to nodes"),
    faithful("the firewall of pods without a policy: a chain for each, all jumps, marks, log and digests in comments"),
    needs(
        "ipip",
        "tunnels to nodes behind a router",
        instead="a program on a TUN device of the same name, which sends and receives IP in IP packets",
    ),
    faithful("with policies and `policy_engine: kube-router-nftables`: its table of nft, chains, sets and comments"),
    approximation("BGP", "is left out: the routes that nodes would learn by it are there from the start"),
    approximation("names of pods' chains", "have no time of the last sync in their digest, so they stay the same"),
    approximation("the jump to KUBE-NWPLCY-COMMON", "has no comment here"),
    approximation("IP sets", "are made without `timeout 0`, which means no timeout"),
    approximation("a node without pods", "has its bridge's address too, so that it can get pods later"),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    skipped("the service proxy: IPVS, kube-dummy-if and its addresses, arp_ignore and arp_announce"),
    approximation(
        "network policies", "have kube-router's chains and IP sets, and the rules of the API where kube-router differs"
    ),
    skipped("the option to reject packets of pods that have no policies yet (netpol-default-deny)"),
    skipped("tunnels in UDP (fou), BGP with external peers, a separate egress address, hostPort, IPv6"),
    *primitives.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
_ROUTER = Component(
    "kube-router (router)",
    Source("cloudnativelabs/kube-router", "pkg/controllers/routing/network_routes_controller.go", "2"),
)
_TUNNEL_RULE = _ROUTER.why(
    "Packets of pods ({src}) look into table {table} first: it leads those for other nodes themselves into the"
    " tunnel, as their pods' packets go."
)
_ROUTE_TUNNEL = _ROUTER.why(
    "It leads packets for {dst} ({dst_machines}) into the tunnel to the node that announced this range by BGP."
)
_ROUTE_DIRECT = _ROUTER.why(
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}): that node has announced the"
    " range by BGP."
)
_TUNNEL = _ROUTER.why(
    "It is the tunnel to one node behind a router: it puts packets of pods into IP packets to it, because the router"
    " has no routes to pods. Its name is made from the address of that node."
)
_PROGRAM = Component("labctl", Source("labctl", "labctl/kernel/programs/tunnel.py")).why(
    "It takes the place of the kernel's IP in IP device, which this kernel does not have."
)
_TABLE_ROUTE = _ROUTER.why("Packets of pods to the node {dst_machines} itself use the tunnel too.")
# a route's protocol, the tunnels' table, the preference that the kernel gives to its rule
PROTO_GOBGP, TUNNEL_TABLE, TUNNEL_RULE_PREF = 17, 77, 32765
OVERHEAD_BYTES = 20  # bytes of the IP in IP header


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of a kube-router scenario."""

    pod_cidr: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; each node gets a part of it")
    node_prefix: int = option(24, "prefix length of each node's part of pod_cidr", minimum=16, maximum=29)
    service_cidr: IPv4Network = option(cidr("10.96.0.0/12"), "addresses of Services, for which the firewall is skipped")
    overlay: str = option(
        "subnet",
        "tunnels to nodes in other subnets, to all nodes (overlay-type), or to none (enable-overlay=false)",
        choices=("subnet", "full", "none"),
    )


@dataclass(frozen=True, slots=True)
class NodeAddressing(datacenter.NodeAddressing):
    """A node with its NIC and its part of the pod CIDR, and the name of the tunnel devices that lead to it."""

    @property
    def tunnel_device(self) -> str:
        """The tunnel device of other nodes towards this node: upstream's name, a digest of the address without dots."""
        return "tun-" + sha256(str(self.nic.address).replace(".", "").encode()).hexdigest()[:11]


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The underlay, and the nodes with their bridge, pods, routes and firewall."""
    options: Options = scenario.options
    nodes = _node_addressing(scenario)
    mtu = options.mtu - (OVERHEAD_BYTES if options.overlay != "none" else 0)
    bridge = cni_bridge.BridgeConfig(kube_router_node.BRIDGE, mtu)
    yield from datacenter.infrastructure(scenario)
    for addressing, node in zip(nodes, scenario.nodes, strict=True):
        yield Machine(
            addressing.name, "node", (addressing.nic.address, cni_bridge.gateway_address(addressing.pod_range))
        )
        yield from primitives.node_netns(addressing.name)
        tunnel_peers = [other for other in nodes if _uses_tunnel(addressing, other, options)]
        devices = ("eth0", kube_router_node.BRIDGE, *(other.tunnel_device for other in tunnel_peers))
        yield from primitives.forwarding_sysctls(addressing.name, True, rp_filter=2, devices=devices)
        yield from cni_bridge.node_bridge(addressing.name, addressing.pod_range, bridge)
        yield from cni_bridge.pods_on_bridge(node, addressing.pod_range, bridge)
        yield from _routes(addressing, nodes, options)
        for other in tunnel_peers:
            yield from _tunnel(addressing, other, mtu, kernel_ipip="ipip" not in scenario.substitute_features)
        if options.overlay != "none":
            src = addressing.pod_range
            yield Rule(addressing.name, TUNNEL_RULE_PREF, TUNNEL_TABLE, src=src, why=_TUNNEL_RULE)
        yield from kube_router_node.egress_masquerade(
            addressing.name, (other.pod_range for other in nodes), (other.nic.address for other in nodes)
        )
        yield from kube_router_node.pod_firewall_chains(
            addressing.name, options.service_cidr, cni_bridge.pod_addresses(node, addressing.pod_range)
        )
        yield from pods.pause_and_containers(node)


def checks(scenario: Scenario) -> Iterator[Check]:
    """How pods of one node and of two nodes reach each other; and Kubernetes' rules."""
    options, nodes = scenario.options, _node_addressing(scenario)
    yield from kubernetes.same_node_check(scenario, kubernetes.SAME_BRIDGE_TEXT, 64)
    all_connected = options.overlay != "none" or all(one.nic.same_subnet(nodes[0].nic) for one in nodes)
    ends = [(node.name, node.pods[0]) for node in scenario.nodes if node.pods][:2]
    if all_connected and len(ends) > 1:
        (_, source), (target_node, target) = ends
        sees = (See(Interface(target, "eth0"), src=source, dst=target, ttl=62),)
        yield Check(
            sentence("two routers are between pods of two nodes"), "ping", source, target, sees=sees, origin="model"
        )
        sees = (See(Interface(target_node, kube_router_node.BRIDGE), src=source, dst=target, ttl=62, direction="out"),)
        yield Check(sentence("these routers are the two nodes"), "ping", source, target, sees=sees, origin="model")
    yield from kubernetes.network_model_checks(scenario, () if options.overlay != "none" else options.elsewhere)
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of ranges that are too small or overlap, and of tunnels that would have the same name."""
    options: Options = scenario.options
    prefix_length = options.node_prefix
    yield from datacenter.refuse(scenario, "pod_cidr", "service_cidr")
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, prefix_length, len(scenario.nodes))
    yield from kubernetes.refuse_pod_counts(
        scenario,
        min(2 ** (32 - prefix_length) - cni_bridge.RESERVED_ADDRESSES, primitives.MAX_BRIDGE_PORTS),
        max_pods_fixed=True,
    )
    names: dict[str, NodeAddressing] = {}
    for addressing in _node_addressing(scenario) if options.overlay != "none" else ():
        if addressing.tunnel_device in names:
            one, other = names[addressing.tunnel_device].nic, addressing.nic
            ends = f"{one.machine} ({one.address}) and {other.machine} ({other.address})"
            what = f"the tunnels to {ends} have the same name, {addressing.tunnel_device}"
            yield "node_cidr", what, "kube-router makes it from the digits only: use another range"
        names[addressing.tunnel_device] = addressing


def _node_addressing(scenario: Scenario) -> list[NodeAddressing]:
    options: Options = scenario.options
    ranges = kubernetes.node_pod_ranges(options.pod_cidr, options.node_prefix, len(scenario.nodes))
    return [
        NodeAddressing(*parts) for parts in zip(scenario.nodes, datacenter.node_nics(scenario), ranges, strict=False)
    ]


def _uses_tunnel(addressing: NodeAddressing, other: NodeAddressing, options: Options) -> bool:
    """Whether a node has a tunnel to another."""
    wanted = options.overlay == "full" or (options.overlay == "subnet" and not addressing.nic.same_subnet(other.nic))
    return wanted and addressing != other


def _routes(addressing: NodeAddressing, nodes: list[NodeAddressing], options: Options) -> Iterator[Resource]:
    """The routes to other nodes' pods. A node behind a router, without a tunnel, gets none: the router must do it."""
    for other in nodes:
        if _uses_tunnel(addressing, other, options):
            source, device = addressing.nic.address, other.tunnel_device
            dst, proto = other.pod_range, PROTO_GOBGP
            yield Route(addressing.name, dst, dev=device, src=source, scope="global", proto=proto, why=_ROUTE_TUNNEL)
        elif other != addressing and addressing.nic.same_subnet(other.nic):
            dst, via = other.pod_range, other.nic.address
            yield Route(addressing.name, dst, via, "eth0", proto=PROTO_GOBGP, why=_ROUTE_DIRECT)


def _tunnel(addressing: NodeAddressing, other: NodeAddressing, mtu: int, *, kernel_ipip: bool) -> Iterator[Resource]:
    """The tunnel to a node, and the route in table 77 for packets from pods to that node itself."""
    at = Interface(addressing.name, other.tunnel_device)
    local, remote = addressing.nic.address, other.nic.address
    if kernel_ipip:
        yield Link(at, "ipip", mtu=mtu, options=(("local", str(local)), ("remote", str(remote))), why=_TUNNEL)
    else:
        yield Link(at, "tun", mtu=mtu, why=_TUNNEL)
        command = ("tunnel", "ipip", at.dev, str(local), f"0.0.0.0/0={remote}")
        yield Process(addressing.name, at.dev, command, why=_PROGRAM)
    prefix = primitives.host_prefix(remote)
    yield Route(addressing.name, prefix, dev=at.dev, table=TUNNEL_TABLE, why=_TABLE_ROUTE)
