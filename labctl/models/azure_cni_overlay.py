r"""Azure CNI Overlay: pods in a separate range that only the cluster's nodes can reach, without a tunnel.

`labctl plan azure-cni-overlay --as shell` shows every command that builds it.

         a 10.244.0.1      b 10.244.0.2
         | eth0            | eth0      (gateway 169.254.1.1, on no machine)
         |                 |
    +-- node1 ------------------------+      +-- node2 ------------+
    |  azvXXXXXXXXXXX  azvYYYYYYYYYYY |      |  azvZZZZZZZZZZZ     |-- c 10.244.1.1
    |  aa:aa:aa:aa:aa:aa, proxy ARP   |      |                     |
    |  10.244.0.1/32  10.244.0.2/32   |      |  10.244.1.1/32      |
    |  eth0 10.224.0.4                |      |  eth0 10.224.0.5    |
    +----------|----------------------+      +----------|----------+
               |                                        |
        +----- fabric ---------------------------------------------+
        |  from nodes only:  10.244.0.0/24 via 10.224.0.4          |
        |                    10.244.1.0/24 via 10.224.0.5          |
        |  from all others:  10.244.0.0/16 unreachable             |
        +------|----------------------------------|----------------+
               | eth0 10.225.0.4                  | 203.0.113.50
              vm                               internet 203.0.113.1

On the node this is transparent mode: one veth and one route per pod, no bridge, a gateway that no machine has.
The addresses differ: each node gets a /24 of the pod CIDR, so pods use no addresses of the virtual network.
Packets are not encapsulated: the fabric has a second routing domain for each cluster, with each node's /24,
and only the cluster's NICs use it. So there is no visible route table, and no limit of 400 routes. For all
other machines the pod CIDR does not exist. So packets that leave it are masqueraded to the node's address, even
those to another node, and no machine outside can open a connection to a pod.

Follows Azure/azure-container-networking: cni/azure-linux-swift-overlay.conflist, cni/network/invoker_cns.go,
cns/kubecontroller/nodenetworkconfig/conversion.go and network/transparent_endpointclient_linux.go; node
settings as Azure/AgentBaker writes them; Azure/ip-masq-agent-v2 with the pod CIDR exempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.address_use import AddressUse
from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import Resource, Route, Rule
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.core.why import Component, Source
from labctl.models.lib import (
    azure,
    azure_addressing,
    azure_egress_gateway,
    azure_outbound,
    azure_outbound_options,
    azure_platform,
    azure_transparent,
    kubernetes,
    pods,
    primitives,
)
from labctl.models.lib import azure_address_plan as address_plan
from labctl.models.lib.azure_egress_gateway import EgressGateway
from labctl.models.lib.azure_outbound_options import Outbound
from labctl.models.lib.azure_platform import Platform

FOLLOWS = "Azure CNI Overlay (azure-container-networking, mode transparent with overlay addresses)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults(
    "pod_cidr", ("10.0.0.0/16",), refuse_service_cidr=azure_addressing.refuse_service_cidr
)
PARTS = (
    faithful("a route to each pod, and no bridge"),
    faithful("169.254.1.1: its neighbour entry, added in state PROBE, and proxy ARP, which answers for it"),
    faithful("one MAC on every host veth"),
    faithful("a /24 of the pod CIDR for each node, and no encapsulation"),
    faithful("the chains of ip-masq-agent"),
    approximation("the cluster's routing domain", "is a table of the fabric and one rule for each NIC"),
    approximation("pods' addresses", "are assigned in order; Azure assigns any of the 256"),
    approximation("MAC addresses", "of NICs and pods are made from names, so that a plan is always the same"),
    skipped("a second cluster with the same pod CIDR"),
    skipped("network security groups, portmap, IPv6 and dual stack"),
    *azure_outbound.PARTS,
    *azure_platform.PARTS,
    *azure_egress_gateway.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
RESERVED_NAMES = (azure_outbound.FIREWALL, azure_egress_gateway.NAMESPACE)
DOMAIN = Component(
    "Azure's virtual network (overlay routing domain)",
    Source("MicrosoftDocs/azure-aks-docs", "articles/aks/concepts-network-azure-cni-overlay.md"),
)
_NO_PODS = DOMAIN.why(
    "For all other machines of the virtual network, the addresses of pods ({dst}) do not exist: they are in a routing"
    " domain of the cluster only."
)
_DOMAIN_RULE = DOMAIN.why(
    "Packets of {iif_machine} to the addresses of pods use the routing domain of the cluster, because {iif_machine}"
    " is a node of it."
)
_DOMAIN_ROUTE = DOMAIN.why(
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}). Azure makes it by itself when"
    " the node joins: no route table shows it, and the limit of 400 routes does not count."
)
ROUTING_DOMAIN_TABLE = 100  # the fabric's routing table for the routing domain of the cluster
NODE_PREFIX_LENGTH = address_plan.NODE_RANGE_PREFIX_LENGTH  # of each node's part of the pod CIDR
MAX_NODES = address_plan.LIMITS["overlay"].max_nodes


@dataclass(frozen=True, slots=True)
class Options:
    """Options of an azure-cni-overlay scenario."""

    pod_cidr: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; each node gets a /24 of it")
    node_cidr: IPv4Network = option(cidr("10.224.0.0/16"), "the subnet of the nodes; node1 has the fourth address")
    vm_cidr: IPv4Network = option(cidr("10.225.0.0/16"), "the subnet of `vm`; it may be the same as node_cidr")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("203.0.113.50"), "public source address of outgoing traffic (SNAT by the load balancer)"
    )
    outbound: Outbound | None = option(None, "the cluster's way out: a type, or a section of options", form="section")
    platform: Platform | None = option(
        None, "the addresses of Azure's platform: true, or a section of options", form="section"
    )
    egress_gateway: EgressGateway | None = option(
        None, "a static egress gateway: its node, or a section of options", form="section"
    )
    max_pods: int = option(250, "maximum number of pods on one node", minimum=10, maximum=250)
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=9000)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric with the cluster's routing domain, nodes with a route to each pod, `vm` and the internet."""
    yield from azure_egress_gateway.with_gateway(
        scenario, azure_addressing.node_nics(scenario, scenario.options.node_cidr), _cluster(scenario)
    )


def _cluster(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The lab without an egress gateway."""
    options: Options = scenario.options
    nics = azure_addressing.node_nics(scenario, options.node_cidr)
    vm = azure_addressing.vm_nic(options.vm_cidr, options.node_cidr)
    ranges = kubernetes.node_pod_ranges(options.pod_cidr, NODE_PREFIX_LENGTH, len(nics))
    yield Machine("fabric", "fabric", (options.node_cidr.network_address + 1, options.public_ip))
    yield from azure.fabric([*nics, vm, *azure_outbound.firewall_nics(options)], options.mtu)
    yield from azure_outbound.way_out(options, azure_outbound.exits(nics), (vm,))
    yield from azure_platform.services(options, (*nics, vm))
    yield Route("fabric", options.pod_cidr, kind="unreachable", why=_NO_PODS)
    for nic, node, pod_range in zip(nics, scenario.nodes, ranges, strict=True):
        table, device = ROUTING_DOMAIN_TABLE, nic.fabric_device
        yield Rule("fabric", table, table, dst=options.pod_cidr, iif=device, why=_DOMAIN_RULE)
        yield Route("fabric", pod_range, nic.address, device, table, onlink=True, why=_DOMAIN_ROUTE)
        yield Machine(nic.machine, "node", (nic.address,))
        yield from primitives.node_netns(nic.machine)
        yield from azure.attach_nic(nic)
        yield from azure.node_sysctls(nic.machine, ("eth0",))
        yield from azure_platform.imds_restriction(options, nic)
        yield from kubernetes.ip_masq_agent(nic.machine, (*azure_platform.exempt_ranges(options), options.pod_cidr))
        yield from azure_transparent.routed_pods(
            node, pod_range.network_address + 1, options.pod_cidr.prefixlen, options.mtu
        )
        yield from pods.pause_and_containers(node)
    yield from azure.vm_machine(vm)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks of Kubernetes' own rules, and of what containers of a pod share."""
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)
    nics = azure_addressing.node_nics(scenario, scenario.options.node_cidr)
    yield from azure_outbound.checks(scenario, azure_outbound.exits(nics))
    yield from azure_platform.checks(scenario)
    yield from azure_egress_gateway.checks(scenario)


def address_use(scenario: Scenario) -> Iterator[AddressUse]:
    """The addresses of the nodes' subnet, and of the private range of pods."""
    options: Options = scenario.options
    nodes = len(scenario.nodes)
    yield azure_addressing.subnet_use("node_cidr", options.node_cidr, ("nodes", nodes), ("for upgrades", 1))
    yield azure_addressing.pod_range_use(options.pod_cidr, nodes, NODE_PREFIX_LENGTH)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what AKS does not allow, and for ranges that are too small."""
    options: Options = scenario.options
    nodes = len(scenario.nodes)
    if nodes > MAX_NODES:
        yield "nodes", f"{nodes} nodes: AKS allows at most {MAX_NODES}", "use several clusters"
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, NODE_PREFIX_LENGTH, nodes)
    yield from azure_addressing.refuse_node_cidr(options.node_cidr, nodes)
    yield from azure_addressing.refuse_overlapping_ranges(options, "node_cidr", "pod_cidr", "vm_cidr", "internet_cidr")
    yield from azure_addressing.refuse_public_ip(options.internet_cidr, options.public_ip)
    yield from azure_addressing.refuse_reserved_ranges(options)
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)
    yield from azure_outbound_options.refuse(options, nodes)
    yield from azure_egress_gateway.refuse(scenario)
