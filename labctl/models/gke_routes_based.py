r"""GKE, routes-based: pods in a range outside of the VPC, and a custom static route to each node's part of it.

`labctl plan gke-routes-based --as shell` shows every command that builds it.

         a 10.4.0.2        b 10.4.0.3                 c 10.4.1.2
         |                 |                          |
    +-- node1 ------------------------+      +-- node2 ------------+
    |  10.4.0.1/32     10.4.0.1/32    |      |  10.4.1.1/32        |
    |  eth0 10.128.0.2/32             |      |  eth0 10.128.0.3/32 |
    +----------|----------------------+      +----------|----------+
               |                                        |
        +----- fabric ---------------------------------------+
        |  routes of this VPC:  10.4.0.0/24 via 10.128.0.2   |
        |                       10.4.1.0/24 via 10.128.0.3   |
        +------|------------------|---------------|----------+
               | 10.132.0.2       | 10.200.0.2    | 8.8.8.50
              vm                 peer         internet 8.8.8.1

A node is the same as in a VPC-native cluster. But the pods' range does not belong to the VPC. So nodes must be
allowed to forward (`canIpForward`), because they send from addresses that are not theirs, and each node's /24 needs
a route with that node as its next hop; the number of such routes in a network is limited. Peered networks do not
get these routes: `peer` reaches every node but no pod, and cannot even answer a pod.

Follows what gke-vpc-native follows, and GKE's documentation of routes-based clusters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import option
from labctl.core.resources import Resource
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.models.lib import gcp, gke_node, kubernetes, pods, primitives

FOLLOWS = "GKE's routes-based clusters (ptp, ip-masq-agent 2.10)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults("pod_cidr", ("34.118.224.0/20",))
PARTS = (
    faithful("ptp's wiring: a veth pair for each pod, one gateway address on all of them, routes of scope host"),
    faithful("a node's /32 and its gateway on the link; MAC addresses made from addresses"),
    faithful("a /24 and a static route for each node, and the quota of routes"),
    faithful("the chains of ip-masq-agent, with all reserved ranges or the private ones"),
    approximation(
        "the VPC",
        "is one router, which counts as a hop; its custom routes are a table, and a rule for each of its machines",
    ),
    approximation("the chain of ip-masq-agent", "has upstream's name; GKE starts it with --masq-chain=IP-MASQ"),
    approximation("Cloud NAT", "is one SNAT rule without port blocks"),
    approximation("MAC addresses", "of pods are made from names, so that a plan is always the same"),
    skipped("portmap, firewall rules of the VPC, export of custom routes to peers, IPv6"),
    *primitives.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
NODE_PREFIX_LENGTH, MAX_PODS = 24, 110  # fixed in such clusters


@dataclass(frozen=True, slots=True)
class Options(gke_node.ClusterOptions):
    """Options of a gke-routes-based scenario."""

    route_quota: int = option(200, "custom static routes that the VPC may have; each node takes one", minimum=1)
    ip_forwarding: bool = option(True, "canIpForward of the nodes; if off, the VPC drops what pods send")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC with its custom routes, nodes with a veth pair to each of their pods, `vm`, `peer` and the internet."""
    options: Options = scenario.options
    nics, ranges = gke_node.node_nics(scenario), _ranges(scenario)
    yield from gke_node.infrastructure(scenario)
    yield from gcp.custom_routes(zip(ranges, nics, strict=True), [*nics, gke_node.vm_nic(options)])
    for nic, node, pod_range in zip(nics, scenario.nodes, ranges, strict=True):
        if not options.ip_forwarding:
            yield from gcp.anti_spoofing(nic)
        yield from gke_node.node_resources(nic, node, pod_range, options)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Kubernetes' own rules. Without IP forwarding, pods of two nodes cannot reach each other: no such checks."""
    if scenario.options.ip_forwarding or len(scenario.nodes) == 1:
        yield from gke_node.checks(scenario, _ranges(scenario), intranode_visibility=False)
    else:
        yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for more nodes than the VPC's quota of routes, and for ranges that are too small."""
    nodes, quota = len(scenario.nodes), scenario.options.route_quota
    if nodes > quota:
        what = f"{nodes} nodes: the VPC may have {quota} custom static routes, and each node takes one"
        yield "nodes", what, "use gke-vpc-native, which needs no routes, or raise route_quota"
    yield from gke_node.refuse(scenario, NODE_PREFIX_LENGTH, MAX_PODS, max_pods_fixed=True)


def _ranges(scenario: Scenario) -> list[IPv4Network]:
    return kubernetes.node_pod_ranges(scenario.options.pod_cidr, NODE_PREFIX_LENGTH, len(scenario.nodes))
