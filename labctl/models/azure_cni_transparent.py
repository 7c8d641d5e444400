r"""Azure CNI, transparent mode: pods with addresses of the virtual network, without a bridge.

`labctl plan azure-cni-transparent --as shell` shows every command that builds it.

         a 10.224.0.5      b 10.224.0.6
         | eth0            | eth0      (gateway 169.254.1.1, on no machine)
         |                 |
    +-- node1 ------------------------+      +-- node2 ------------+
    |  azvXXXXXXXXXXX  azvYYYYYYYYYYY |      |  azvZZZZZZZZZZZ     |-- c 10.224.0.36
    |  aa:aa:aa:aa:aa:aa, proxy ARP   |      |                     |
    |  10.224.0.5/32  10.224.0.6/32   |      |  10.224.0.36/32     |
    |  eth0 10.224.0.4                |      |  eth0 10.224.0.35   |
    +----------|----------------------+      +----------|----------+
               |                                        |
        +----- fabric ---------------------------------------+
        |  10.224.0.5, .6 -> node1        10.224.0.36 -> node2 |
        +------|----------------------------------|----------+
               | eth0 10.225.0.4                  | 203.0.113.50
              vm                               internet 203.0.113.1

Azure knows the address of every pod: it is reserved as a secondary address of the node's NIC. So the
fabric routes to pods without a route table. The node has a /32 route to each pod, through a veth without an
address. A subnet route would make a pod look for its neighbours on its link, so that route is removed, and
every packet goes to 169.254.1.1, an address that no machine has. The node answers ARP for it (proxy ARP),
because its default route leads to another device. So even packets between pods of one node pass the node's
FORWARD chain (TTL 63), where policy can see them.

With `ip_allocation: node-subnet` (Azure CNI Node Subnet) each node reserves addresses for `max_pods` pods. With
`pod-subnet` (Azure CNI Pod Subnet, dynamic allocation) pods have addresses of `pod_subnet`, which a node gets 16 at a
time: the fabric has a route to each address. With `pod-subnet-static-block` a node gets whole /28 blocks of it, enough
for `max_pods` pods: the fabric has a route to each block. With a pod subnet nothing is masqueraded, so a pod's own
address leaves the node even towards the internet. docs/aks-addresses.md compares how many addresses each takes.

Follows Azure/azure-container-networking since August 2022 (pull request 1524):
network/transparent_endpointclient_linux.go, endpoint_linux.go, networkutils_linux.go; node settings as
Azure/AgentBaker writes them; Azure/ip-masq-agent-v2 with the virtual network's range exempt. For the pod subnet
cni/network/invoker_cns.go and cns/restserver/internalapi_linux.go of 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.core.address_use import AddressUse
from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import cidr, option
from labctl.core.resources import Resource
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.models.lib import (
    azure,
    azure_addressing,
    azure_egress_gateway,
    azure_outbound,
    azure_outbound_options,
    azure_platform,
    azure_pod_subnet,
    azure_transparent,
    kubernetes,
    pods,
    primitives,
)
from labctl.models.lib.azure_address_plan import LIMITS

FOLLOWS = "Azure CNI transparent mode since August 2022 (azure-container-networking, pull request 1524)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults(
    "pods_subnet", ("10.0.0.0/16",), refuse_service_cidr=azure_addressing.refuse_service_cidr
)
PARTS = (
    faithful("a route to each pod, and no bridge"),
    faithful("169.254.1.1: its neighbour entry, added in state PROBE, and proxy ARP, which answers for it"),
    faithful("one MAC on every host veth"),
    faithful("the pod's subnet route, which is removed"),
    faithful("the chains of ip-masq-agent"),
    faithful("address planning: what fits, what is reserved for pods, what Azure reserves"),
    faithful("with a pod subnet: batches and blocks, the node's route to it, SWIFT-POSTROUTING, no masquerading"),
    approximation("addresses of the pod subnet", "are allocated in order; Azure's batches and blocks have gaps"),
    approximation("blocks", "are all but the first and the last of the pod subnet: Azure reserves addresses in these"),
    approximation("MAC addresses", "of NICs and pods are made from names, so that a plan is always the same"),
    skipped("portmap, IPv6"),
    skipped("bridge-nf-call-iptables", "there is no bridge"),
    *azure_outbound.PARTS,
    *azure_platform.PARTS,
    *azure_egress_gateway.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
RESERVED_NAMES = (azure_outbound.FIREWALL, azure_egress_gateway.NAMESPACE)


@dataclass(frozen=True, slots=True)
class Options(azure_addressing.NodeSubnetOptions):
    """Options of an azure-cni-transparent scenario."""

    subnet: IPv4Network = option(
        cidr("10.224.0.0/16"), "the subnet of nodes, and of pods without pod_subnet; node1 has the fourth address"
    )
    max_pods: int | None = option(
        None,
        "maximum number of pods on one node (Azure's default: 30, or 110 with a pod subnet)",
        minimum=10,
        maximum=250,
    )
    ip_allocation: str = option(
        "node-subnet",
        "where pods get addresses: reserved in the nodes' subnet, or from pod_subnet in batches or in blocks",
        choices=("node-subnet", azure_pod_subnet.DYNAMIC, azure_pod_subnet.STATIC_BLOCK),
    )
    pod_subnet: IPv4Network = option(cidr("10.226.0.0/16"), "the pods' subnet, if ip_allocation needs one")

    @property
    def pods_subnet(self) -> IPv4Network:
        """The subnet from which pods get their addresses."""
        return self.subnet if self.ip_allocation == "node-subnet" else self.pod_subnet

    @property
    def pods_per_node(self) -> int:
        """The maximum number of pods on one node."""
        return self.max_pods if self.max_pods is not None else LIMITS[self.ip_allocation].default_max_pods  # type: ignore[index]


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric, nodes with a route to each of their pods, `vm` and the internet."""
    yield from azure_egress_gateway.with_gateway(scenario, _nics(scenario), _cluster(scenario))


def _cluster(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The lab without an egress gateway."""
    options: Options = scenario.options
    in_node_subnet = options.ip_allocation == "node-subnet"
    nics = _nics(scenario)
    vm = azure_addressing.vm_nic(options.vm_cidr, options.subnet)
    yield Machine("fabric", "fabric", (options.subnet.network_address + 1, options.public_ip))
    yield from azure.fabric([*nics, vm, *azure_outbound.firewall_nics(options)], options.mtu)
    yield from azure_outbound.way_out(options, _exits(scenario), (vm,))
    yield from azure_platform.services(options, (*nics, vm))
    of_nodes = () if in_node_subnet else _node_addresses(scenario)
    for number, (nic, node) in enumerate(zip(nics, scenario.nodes, strict=True)):
        yield Machine(nic.machine, "node", (nic.address,))
        yield from primitives.node_netns(nic.machine)
        yield from azure.attach_nic(nic)
        yield from azure.node_sysctls(nic.machine, ("eth0",))
        yield from azure_platform.imds_restriction(options, nic)
        if in_node_subnet:
            exempt = (*azure_platform.exempt_ranges(options), options.vnet_cidr)
            yield from kubernetes.ip_masq_agent(nic.machine, exempt)
            yield from azure_transparent.routed_pods(node, nic.address + 1, options.subnet.prefixlen, options.mtu)
            yield from pods.pause_and_containers(node)
            yield from azure.secondary_address_routes(nic, len(node.pods))
        else:
            addresses, prefix_length = of_nodes[number], options.pod_subnet.prefixlen
            yield from azure_pod_subnet.wiring(nic, addresses, options.pod_subnet)
            yield from azure_transparent.routed_pods(node, addresses.first_pod_address, prefix_length, options.mtu)
            yield from pods.pause_and_containers(node)
    yield from azure.vm_machine(vm)


def _node_addresses(scenario: Scenario) -> tuple[azure_pod_subnet.NodeAddresses, ...]:
    options: Options = scenario.options
    return tuple(
        azure_pod_subnet.node_addresses(scenario, options.pod_subnet, options.ip_allocation, options.pods_per_node)
    )


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks of Kubernetes' own rules, and of what containers of a pod share."""
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)
    yield from azure_outbound.checks(scenario, _exits(scenario))
    yield from azure_platform.checks(scenario)
    yield from azure_egress_gateway.checks(scenario)


def address_use(scenario: Scenario) -> Iterator[AddressUse]:
    """The addresses of the nodes' subnet, and of the pods' if they have one."""
    options: Options = scenario.options
    nodes, most = len(scenario.nodes), options.pods_per_node
    if options.ip_allocation == "node-subnet":
        yield from azure_addressing.node_subnet_use(options.subnet, nodes, most)
    else:
        yield azure_addressing.subnet_use("subnet", options.subnet, ("nodes", nodes), ("for upgrades", 1))
        yield azure_pod_subnet.address_use(scenario, options.pod_subnet, options.ip_allocation, most)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what AKS does not allow, and for subnets that are too small for the nodes and their pods."""
    options: Options = scenario.options
    if options.ip_allocation == "node-subnet":
        yield from azure_addressing.refuse_nodes_with_pods(options.subnet, len(scenario.nodes), options.pods_per_node)
        yield from azure_addressing.refuse_vnet_ranges(options, "subnet", "vm_cidr")
    else:
        yield from azure_addressing.refuse_node_cidr(options.subnet, len(scenario.nodes), "subnet")
        yield from azure_pod_subnet.refuse(scenario, options.pod_subnet, options.ip_allocation, options.pods_per_node)
        yield from azure_addressing.refuse_vnet_ranges(options, "subnet", "pod_subnet", "vm_cidr")
    yield from kubernetes.refuse_pod_counts(scenario, options.pods_per_node)
    yield from azure_outbound_options.refuse(options, len(scenario.nodes))
    yield from azure_egress_gateway.refuse(scenario)
    if options.egress_gateway is not None and options.ip_allocation != "node-subnet":
        yield "egress_gateway", "AKS has no static egress gateway with a pod subnet", "use ip_allocation: node-subnet"
    not_masqueraded = options.platform is not None and not options.platform.masq_link_local
    if not_masqueraded and options.ip_allocation != "node-subnet":
        what = "masq_link_local is an option of ip-masq-agent, which does not run with a pod subnet"
        yield "platform/masq_link_local", what, "remove it: the node translates requests to the metadata service"


def _nics(scenario: Scenario) -> list[azure.Nic]:
    options: Options = scenario.options
    in_node_subnet = options.ip_allocation == "node-subnet"
    return azure_addressing.node_nics(scenario, options.subnet, options.pods_per_node + 1 if in_node_subnet else 1)


def _exits(scenario: Scenario) -> tuple[azure_outbound.Exit, ...]:
    """Where packets for the internet come into the fabric, and their sources: pods of a pod subnet keep theirs."""
    options: Options = scenario.options
    nics = _nics(scenario)
    found = list(azure_outbound.exits(nics))
    if options.ip_allocation != "node-subnet":
        for nic, node, addresses in zip(nics, scenario.nodes, _node_addresses(scenario), strict=True):
            sources = tuple(addresses.first_pod_address + number for number in range(len(node.pods)))
            found.append(azure_outbound.Exit(node.name, nic.fabric_device, sources, options.pod_subnet))
    return tuple(found)
