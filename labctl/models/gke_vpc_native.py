r"""GKE, VPC-native: each node's network interface has a range of alias addresses for its pods.

`labctl plan gke-vpc-native --as shell` shows every command that builds it.

         a 10.4.0.2        b 10.4.0.3                 c 10.4.1.2
         | eth0            | eth0                     | eth0
         |                 |                          |
    +-- node1 ------------------------+      +-- node2 ------------+
    |  vethXXX         vethYYY        |      |  vethZZZ            |
    |  10.4.0.1/32     10.4.0.1/32    |      |  10.4.1.1/32        |
    |  eth0 10.128.0.2/32             |      |  eth0 10.128.0.3/32 |
    +----------|----------------------+      +----------|----------+
               |                                        |
        +----- fabric -----------------------------------------+
        |  aliases: 10.4.0.0/24 -> node1  10.4.1.0/24 -> node2 |
        +------|------------------|---------------|------------+
               | 10.132.0.2       | 10.200.0.2    | 8.8.8.50
              vm                 peer         internet 8.8.8.1

The node has a veth pair to each pod: no bridge, no proxy ARP, no tunnel. The node's ends of all pairs have the same
address, the first of the node's range, which is the gateway of every pod. A pod's range is not on its link either,
so the node routes even between two of its pods (TTL 63). A node has a /32 itself and sends all packets to the VPC. The
VPC has the alias ranges like the nodes' own addresses, and announces them to peered networks. Pods keep their
addresses for private and reserved destinations. For others they are seen with their node's address, and then with
Cloud NAT's. Pods in a public range are such destinations too: each sees its own node's address instead of another
pod's. With `intranode_visibility`, netd sends even packets between two pods of one node through the VPC, where
flow logs and firewall rules see them (TTL 61).

Follows containernetworking/plugins, plugins/main/ptp/ptp.go, as GoogleCloudPlatform/netd configures it (netd.yaml);
netd's pkg/config/config_policy_routing.go of 2025; kubernetes-sigs/ip-masq-agent 2.10 and later; GKE's documentation
of VPC-native clusters, of pods per node, and of IP masquerading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import option
from labctl.core.resources import Resource
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.models.lib import cni_bridge, gcp, gke_node, kubernetes, pods, primitives

FOLLOWS = "GKE without Dataplane V2 (ptp, netd of 2025, ip-masq-agent 2.10)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults("pod_cidr", ("34.118.224.0/20",))
PARTS = (
    faithful("ptp's wiring: a veth pair for each pod, one gateway address on all of them, routes of scope host"),
    faithful("a node's /32 and its gateway on the link; MAC addresses made from addresses"),
    faithful("the size of a node's range, which follows from max_pods"),
    faithful("the chains of ip-masq-agent, with all reserved ranges or the private ones"),
    faithful("netd's policy routing: rules, table, mangle chains"),
    approximation(
        "the VPC",
        "is one router, which counts as a hop; alias ranges are routes in it, and what a machine may send are rules",
    ),
    approximation("the chain of ip-masq-agent", "has upstream's name; GKE starts it with --masq-chain=IP-MASQ"),
    approximation("Cloud NAT", "is one SNAT rule without port blocks"),
    approximation("MAC addresses", "of pods are made from names, so that a plan is always the same"),
    skipped("netd's exemptions for DNS and UDP (rules 71 to 73)"),
    skipped("Dataplane V2, portmap, firewall rules of the VPC, IPv6"),
    *primitives.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings


@dataclass(frozen=True, slots=True)
class Options(gke_node.ClusterOptions):
    """Options of a gke-vpc-native scenario."""

    max_pods: int = option(
        110, "maximum of pods on a node; its range has twice as many addresses", minimum=8, maximum=256
    )
    intranode_visibility: bool = option(False, "packets between pods of one node pass the VPC")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC with its alias ranges, nodes with a veth pair to each of their pods, `vm`, `peer` and the internet."""
    options: Options = scenario.options
    yield from gke_node.infrastructure(scenario)
    for nic, node, pod_range in zip(gke_node.node_nics(scenario), scenario.nodes, _ranges(scenario), strict=True):
        yield gcp.alias_range_route(pod_range, nic)
        yield from gcp.anti_spoofing(nic, pod_range)
        yield from gke_node.node_resources(
            nic, node, pod_range, options, intranode_visibility=options.intranode_visibility
        )


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks of the routers between pods of one node, and Kubernetes' own rules."""
    yield from gke_node.checks(scenario, _ranges(scenario), intranode_visibility=scenario.options.intranode_visibility)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what GKE does not allow, and for ranges that are too small."""
    max_pods: int = scenario.options.max_pods
    yield from gke_node.refuse(scenario, _prefix_length(max_pods), max_pods, max_pods_fixed=False)
    options: Options = scenario.options
    exempt = gke_node.exempt_ranges(options)
    if options.intranode_visibility and cni_bridge.masqueraded_pods(scenario.nodes, _ranges(scenario), exempt):
        what = f"pod_cidr {options.pod_cidr} has pods for which ip-masq-agent masquerades, with intranode_visibility"
        hint = "packets between pods of one node come back from the VPC with the node's own address, and it drops them"
        yield "pod_cidr", what, f"{hint}: use a range in {', '.join(map(str, gke_node.RFC1918))}"


def _prefix_length(max_pods: int) -> int:
    """The prefix length of a node's range: the smallest range with at least two addresses for each possible pod."""
    return 32 - (2 * max_pods - 1).bit_length()


def _ranges(scenario: Scenario) -> list[IPv4Network]:
    options: Options = scenario.options
    return kubernetes.node_pod_ranges(options.pod_cidr, _prefix_length(options.max_pods), len(scenario.nodes))
