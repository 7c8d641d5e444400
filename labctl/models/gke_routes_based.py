r"""GKE, routes-based: pods in a range that the VPC does not own, and a custom static route to each node's part of it.

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

On the node all is as in a VPC-native cluster. But to the VPC the pods' range is nothing of its own: nodes have to be
allowed to forward (`canIpForward`), for they send what is not theirs, and each node's /24 needs a route with that
node as its next hop, of which a network has a limited number. Such routes are not told to peered networks:
`peer` reaches every node and no pod, and cannot even answer one.

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
from labctl.models.lib import gcp, gke_node, kubernetes
from labctl.models.lib import pods as pods_

FOLLOWS = "GKE's routes-based clusters (ptp, ip-masq-agent 2.10)"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("ptp's wiring: a cable for each pod, one gateway address on all of them, routes of scope host"),
    faithful("a node's /32 and its gateway on the link; MAC addresses made of addresses"),
    faithful("a /24 and a static route for each node, and the quota of routes"),
    faithful("the chains of ip-masq-agent, with all reserved ranges or the private ones"),
    approximation(
        "the VPC",
        "is one router, which counts as a hop; its custom routes are a table, and a rule for each of its machines",
    ),
    approximation("the chain of ip-masq-agent", "has upstream's name; GKE starts it with --masq-chain=IP-MASQ"),
    approximation("Cloud NAT", "is one SNAT rule without port blocks"),
    approximation("MAC addresses", "of pods are made from names, so that a plan is always the same"),
    skipped("Services, load balancing, portmap, firewall rules of the VPC, export of custom routes to peers, IPv6"),
    *pods_.PARTS,
)
Container = pods_.Pod
NODE_PREFIX, MAX_PODS = 24, 110  # such clusters have no other


@dataclass(frozen=True, slots=True)
class Options(gke_node.ClusterOptions):
    """What a gke-routes-based scenario may set."""

    route_quota: int = option(200, "custom static routes that the VPC may have; each node takes one", minimum=1)
    ip_forwarding: bool = option(True, "canIpForward of the nodes; off, the VPC drops what pods send")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC with its custom routes, nodes with a cable to each of their pods, machines beside and the internet."""
    options: Options = scenario.options
    nics, ranges = gke_node.nics(scenario), _ranges(scenario)
    yield from gke_node.surroundings(scenario)
    yield from gcp.custom_routes(zip(ranges, nics, strict=True), [*nics, gke_node.vm(options)])
    for nic, node, pods in zip(nics, scenario.nodes, ranges, strict=True):
        if not options.ip_forwarding:
            yield from gcp.no_spoofing(nic)
        yield from gke_node.node(nic, node, pods, options)


def checks(scenario: Scenario) -> Iterator[Check]:
    """What is true of every Kubernetes. Without forwarding pods of two nodes cannot meet, and that is the point."""
    if scenario.options.ip_forwarding or len(scenario.nodes) == 1:
        yield from gke_node.checks(scenario, visible=False)
    else:
        yield from pods_.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """What the VPC's quota and the ranges cannot hold."""
    nodes, quota = len(scenario.nodes), scenario.options.route_quota
    if nodes > quota:
        what = f"{nodes} nodes: the VPC may have {quota} custom static routes, and each node takes one"
        yield "nodes", what, "gke-vpc-native needs no routes; or have the quota raised (route_quota)"
    yield from gke_node.refuse(scenario, NODE_PREFIX, MAX_PODS, fixed=True)


def _ranges(scenario: Scenario) -> list[IPv4Network]:
    return kubernetes.node_ranges(scenario.options.pod_cidr, NODE_PREFIX, len(scenario.nodes))
