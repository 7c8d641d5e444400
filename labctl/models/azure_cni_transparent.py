r"""Azure CNI, transparent mode: pods in the nodes' subnet, without a bridge.

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

Follows Azure/azure-container-networking since August 2022 (pull request 1524):
network/transparent_endpointclient_linux.go, endpoint_linux.go, networkutils_linux.go; node settings as
Azure/AgentBaker writes them; Azure/ip-masq-agent-v2 with the virtual network's range exempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.resources import Resource
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.models.lib import azure, azure_addressing, azure_transparent, kubernetes, pods, primitives

FOLLOWS = "Azure CNI transparent mode since August 2022 (azure-container-networking, pull request 1524)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults("subnet", ("10.0.0.0/16",))
PARTS = (
    faithful("a route to each pod, and no bridge"),
    faithful("169.254.1.1: its neighbour entry, added in state PROBE, and proxy ARP, which answers for it"),
    faithful("one MAC on every host veth"),
    faithful("the pod's subnet route, which is removed"),
    faithful("the chains of ip-masq-agent"),
    faithful("address planning: what fits, what is reserved for pods, what Azure reserves"),
    approximation("MAC addresses", "of NICs and pods are made from names, so that a plan is always the same"),
    approximation("the load balancer", "is one SNAT rule without port blocks"),
    skipped("portmap, IPv6"),
    skipped("bridge-nf-call-iptables", "there is no bridge"),
    *pods.PARTS,
)
Container = pods.PodSettings


@dataclass(frozen=True, slots=True)
class Options(azure_addressing.NodeSubnetOptions):
    """Options of an azure-cni-transparent scenario."""


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric, nodes with a route to each of their pods, `vm` and the internet."""
    options: Options = scenario.options
    nics = azure_addressing.node_nics(scenario, options.subnet, options.max_pods + 1)
    vm = azure_addressing.vm_nic(options.vm_cidr, options.subnet)
    yield Machine("fabric", "fabric", (options.subnet.network_address + 1, options.public_ip))
    yield from azure.fabric([*nics, vm], options.mtu)
    yield from azure.internet_uplink(options.internet_cidr, options.public_ip, options.mtu)
    for nic, node in zip(nics, scenario.nodes, strict=True):
        yield Machine(nic.machine, "node", (nic.address,))
        yield from primitives.netns(nic.machine)
        yield from azure.attach_nic(nic)
        yield from azure.node_sysctls(nic.machine, ("eth0",))
        yield from kubernetes.ip_masq_agent(nic.machine, (options.vnet_cidr,))
        yield from azure_transparent.routed_pods(node, nic.address + 1, options.subnet.prefixlen, options.mtu)
        yield from pods.pause_and_containers(node)
        yield from azure.secondary_address_routes(nic, len(node.pods))
    yield from azure.vm_machine(vm)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks of Kubernetes' own rules, and of what containers of a pod share."""
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what AKS does not allow, and for a subnet that is too small for the nodes and their pods."""
    yield from azure_addressing.refuse_node_subnet(scenario)
    yield from kubernetes.refuse_pod_counts(scenario, scenario.options.max_pods)
