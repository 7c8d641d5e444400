r"""Calico: pods on routed cables, told to every node as blocks of addresses; no bridge, a tunnel only where it must be.

      a 10.244.0.1   b 10.244.0.2              c 10.244.0.65               d 10.244.0.129
      | eth0         | eth0                    | eth0                      | eth0
      |              |     (gateway 169.254.1.1, which nobody has)         |
   +-- node1 -------------------------+   +-- node2 ---------+   +-- node3 ---------+
   | caliXXX      caliYYY  ee:ee:ee...|   | caliZZZ          |   | caliUUU          |
   | vxlan.calico 10.244.0.0          |   | vxlan.calico     |   | vxlan.calico     |
   | 10.244.0.0/26 blackhole          |   | 10.244.0.64/26   |   | 10.244.0.128/26  |
   | eth0 192.168.0.1                 |   | eth0 192.168.0.2 |   | eth0 192.168.1.3 |
   +------|---------------------------+   +-----|------------+   +------|-----------+
          +----------------- lan1 -------------+------- fabric -------- lan2
                                                           |
                                                 8.8.8.50  |  internet 8.8.8.1

Every pod is a host on a link of its own. It has a /32 and asks for a gateway that nobody has; the node answers on
every cable with one MAC address, by proxy ARP, and routes. Nodes hold blocks of the pool and tell each other: BIRD by
BGP, or Felix from the datastore, where the way is VXLAN. In the same subnet a block is reached by its node; where a
router is between that knows nothing of pods, packets travel in VXLAN or in IP in IP, and with no encapsulation at all
the router has to learn the blocks too (`peer_with_router`). A node drops what is for an address of its own blocks that
no pod has. Felix asks the sender's and the receiver's policy about every packet, by chains of iptables for each cable;
without policies a namespace's profile allows all.

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
from labctl.models.lib import calico_node, datacenter, kubernetes, pods

FOLLOWS = "Calico 3.31 (iptables dataplane)"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("a cable and a /32 for each pod, 169.254.1.1 by proxy ARP, ee:ee:ee:ee:ee:ee, the settings of each cable"),
    faithful("blocks as routes, by who makes them: Felix (80), BIRD, a blackhole for a node's own"),
    faithful("natOutgoing with its sets and exclusions; the tunnel's own address for what a node sends into it"),
    faithful(
        "Felix's chains in all four tables: dispatch, a chain for each pod and direction, profiles, reverse paths"
    ),
    needs("vxlan", "vxlan.calico: VNI 4096, port 4789, a permanent neighbour and a forwarding entry for each node"),
    needs(
        "ipip",
        "tunl0, the kernel's own device for IP in IP",
        instead="a TUN device of that name, with a program that speaks IP in IP on the wire",
    ),
    approximation("BGP", "is not spoken: the routes are there that BIRD makes of it, on nodes and on the router"),
    approximation("blocks", "go to nodes in order; Calico begins at a place in the pool that a node's name gives"),
    approximation("pods", "are all in the namespace default, with its service account"),
    approximation("MAC addresses", "of pods are made from names, so that a plan is always the same"),
    approximation("the underlay", "is an Ethernet for each subnet with one router between, which masquerades"),
    skipped("NetworkPolicy, policies and endpoints of hosts, tiers, quality of service, flow logs"),
    skipped("the eBPF and nftables dataplanes, WireGuard, Typha, Services, hostPort, IPv6"),
    *pods.PARTS,
)
Container = pods.Pod


@dataclass(frozen=True, slots=True)
class Options(datacenter.UnderlayOptions):
    """What a calico scenario may set."""

    ippool: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; nodes hold blocks of it")
    block_size: int = option(26, "prefix length of a block of addresses", minimum=20, maximum=30)
    encapsulation: str = option(
        "vxlan-cross-subnet",
        "what packets between nodes travel in: always, across a router alone, or in nothing",
        choices=("none", "vxlan", "vxlan-cross-subnet", "ipip", "ipip-cross-subnet"),
    )
    nat_outgoing: bool = option(True, "what leaves the pool for elsewhere wears its node's address")
    nat_outgoing_exclusions: str = option(
        "ip-pools",
        "where pods keep their addresses: in pools, or towards nodes as well",
        choices=("ip-pools", "ip-pools-and-host-ips"),
    )
    default_endpoint_to_host_action: str = option(
        "accept",
        "what becomes of what a pod says to its own node, once its policies allow it",
        choices=("accept", "return", "drop", "reject"),
    )
    peer_with_router: bool = option(False, "the router learns the blocks by BGP")
    max_pods: int = option(110, "most pods on one node", minimum=1, maximum=500)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The router, what is around it, and the nodes."""
    options: Options = scenario.options
    yield from datacenter.surroundings(scenario)
    there = calico_node.homes(scenario)
    if options.peer_with_router:
        yield from calico_node.peering(there, options)
    for home, node in zip(there, scenario.nodes, strict=True):
        yield from calico_node.node(home, there, options, exact="ipip" not in scenario.approximate)
        yield from pods.processes(node)


def checks(scenario: Scenario) -> Iterator[Check]:
    """How far apart pods of one node are, Kubernetes' own rules, and what containers of a pod share."""
    options: Options = scenario.options
    yield from kubernetes.one_node(scenario, "pods of one node are one router apart", 63)
    ignorant = options.encapsulation == "none" and not options.peer_with_router
    yield from kubernetes.kubernetes_rules(scenario, options.elsewhere if ignorant else ())
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """What the pool and the subnets cannot hold, and ranges that are not apart."""
    options: Options = scenario.options
    yield from datacenter.refuse(scenario, "ippool")
    yield from calico_node.refuse(scenario)
    if calico_node.GATEWAY in options.ippool:
        what = f"ippool {options.ippool} holds {calico_node.GATEWAY}, which every pod asks for as its gateway"
        yield "ippool", what, "take a range that is not link-local"
    yield from kubernetes.refuse_pods(scenario, options.max_pods)
