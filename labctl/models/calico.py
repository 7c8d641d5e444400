r"""Calico: pods on routed veth pairs without a bridge, and routes to each node's address blocks, by a tunnel if needed.

`labctl plan calico --as shell` shows every command that builds it.

      a 10.244.0.1   b 10.244.0.2              c 10.244.0.65               d 10.244.0.129
      | eth0         | eth0                    | eth0                      | eth0
      |              |    (gateway 169.254.1.1, which no device has)       |
   +-- node1 -------------------------+   +-- node2 ---------+   +-- node3 ---------+
   | caliXXX      caliYYY  ee:ee:ee...|   | caliZZZ          |   | caliUUU          |
   | vxlan.calico 10.244.0.0          |   | vxlan.calico     |   | vxlan.calico     |
   | 10.244.0.0/26 blackhole          |   | 10.244.0.64/26   |   | 10.244.0.128/26  |
   | eth0 192.168.0.1                 |   | eth0 192.168.0.2 |   | eth0 192.168.1.3 |
   +------|---------------------------+   +-----|------------+   +------|-----------+
          +----------------- lan1 -------------+------- fabric -------- lan2
                                                           |
                                                 8.8.8.50  |  internet 8.8.8.1

Every pod is a host on a separate link. It has a /32 address and a gateway address that no device has. The node answers
the ARP request for the gateway on every veth with one MAC address (proxy ARP), and routes. Each node has blocks of the
pool, and the other nodes have routes to them: BIRD learns the blocks by BGP, or, with VXLAN, Felix reads them from the
datastore. In the same subnet a block is routed via its node. Across a router that has no routes to pods, packets travel
in VXLAN or in IP in IP; without encapsulation the router must learn the blocks too (`peer_with_router`). A node drops
packets to an address of its own blocks that no pod has. Felix applies the sender's and the receiver's policies to every
packet, by iptables chains for each veth; without policies the profile of the namespace allows all.

Follows projectcalico/calico 3.31: felix (rules/static.go, endpoints.go, dispatch.go, nat.go; dataplane/linux:
route_mgr.go, vxlan_mgr.go, ipip_mgr.go, masq_mgr.go), cni-plugin/pkg/dataplane/linux, confd's templates of BIRD.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import Resource
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.core.sentence import sentence
from labctl.models.lib import calico_node, datacenter, kubernetes, pods, primitives

FOLLOWS = "Calico 3.31 (iptables dataplane)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults("ippool", ("10.96.0.0/16",))
PARTS = (
    faithful("a veth pair and a /32 for each pod, 169.254.1.1 by proxy ARP, ee:ee:ee:ee:ee:ee, the veth's sysctls"),
    faithful("a route for each block with the protocol of Felix (80) or BIRD (12), a blackhole for a node's own block"),
    faithful("natOutgoing with its IP sets and exclusions; the tunnel's address as source of a node's own packets"),
    faithful(
        "Felix's chains in all four tables: dispatch, a chain for each pod and direction, profiles, reverse path check"
    ),
    needs("vxlan", "vxlan.calico: VNI 4096, port 4789, a permanent neighbour and a forwarding entry for each node"),
    needs(
        "ipip",
        "tunl0, the kernel's device for IP in IP",
        instead="a TUN device of that name, with a program that sends and receives IP in IP packets",
    ),
    approximation("BGP", "does not run: nodes and router have the routes that BIRD would learn by it"),
    approximation("blocks", "are assigned to nodes in order; Calico starts at a place that depends on the node's name"),
    approximation("pods", "are all in the namespace default, with its service account"),
    approximation("MAC addresses", "of pods are made from names, so that a plan is always the same"),
    approximation("the underlay", "is one Ethernet for each subnet, with one router between them, which masquerades"),
    faithful(
        "NetworkPolicies: Felix's chains, IP sets, their names and comments; ClusterNetworkPolicies as two more tiers"
    ),
    skipped("Calico's own kinds of policies, host policies and host endpoints, quality of service, flow logs"),
    faithful("`policy_engine: calico-nftables`: Felix's table of nft, with its verdict maps, sets and base chains"),
    approximation("digests in comments of nft", "are computed as Felix's source says, not compared with a real node"),
    skipped("nftables without policies; the eBPF dataplane, WireGuard, Typha, hostPort, IPv6"),
    *primitives.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """The options of a calico scenario."""

    ippool: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; each node has blocks of it")
    block_size: int = option(26, "prefix length of an address block", minimum=20, maximum=30)
    encapsulation: str = option(
        "vxlan-cross-subnet",
        "tunnel for packets between nodes: always, only across a router (cross-subnet), or none",
        choices=("none", "vxlan", "vxlan-cross-subnet", "ipip", "ipip-cross-subnet"),
    )
    nat_outgoing: bool = option(True, "packets from the pool to other destinations get the node's address as source")
    nat_outgoing_exclusions: str = option(
        "ip-pools",
        "destinations that see the pod's address: pools, or pools and nodes (natOutgoingExclusions)",
        choices=("ip-pools", "ip-pools-and-host-ips"),
    )
    default_endpoint_to_host_action: str = option(
        "accept",
        "action for packets from a pod to its own node, after its policies (Felix DefaultEndpointToHostAction)",
        choices=("accept", "return", "drop", "reject"),
    )
    peer_with_router: bool = option(False, "the router learns the blocks by BGP")
    max_pods: int = option(110, "maximum number of pods on one node", minimum=1, maximum=500)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The router and its surroundings, and the nodes."""
    options: Options = scenario.options
    yield from datacenter.infrastructure(scenario)
    nodes = calico_node.node_addressing(scenario)
    if options.peer_with_router:
        yield from calico_node.bgp_routes(nodes, options)
    for addressing, node in zip(nodes, scenario.nodes, strict=True):
        yield from calico_node.node_resources(
            addressing, nodes, options, kernel_ipip="ipip" not in scenario.substitute_features
        )
        yield from pods.pause_and_containers(node)


def checks(scenario: Scenario) -> Iterator[Check]:
    """How pods of one node reach each other, Kubernetes' rules, and what the containers of a pod share."""
    options: Options = scenario.options
    yield from kubernetes.same_node_check(scenario, sentence("pods of one node are routed by their node: TTL 63"), 63)
    router_has_no_routes = options.encapsulation == "none" and not options.peer_with_router
    yield from kubernetes.network_model_checks(scenario, options.elsewhere if router_has_no_routes else ())
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of a pool or subnets that are too small, and of ranges that overlap."""
    options: Options = scenario.options
    yield from datacenter.refuse(scenario, "ippool")
    yield from calico_node.refuse(scenario)
    if calico_node.GATEWAY in options.ippool:
        what = f"ippool {options.ippool} contains {calico_node.GATEWAY}, the gateway address of every pod"
        yield "ippool", what, "use a range that is not link-local"
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)
