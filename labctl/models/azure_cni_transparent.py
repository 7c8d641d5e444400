r"""Azure CNI, transparent mode: pods in the virtual network's own subnet, and no bridge at all.

         a 10.224.0.5      b 10.224.0.6
         | eth0            | eth0      (gateway 169.254.1.1, which is nowhere)
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

Every pod has an address that Azure itself knows, kept ready as a further address of its node's NIC, so
the fabric routes to pods with no route table. On the node they are routed one by one: a /32 route to a
veth that holds no address. A pod could believe that its subnet is on its link, so that route is taken
away, and everything goes to 169.254.1.1, an address that nobody has: the node answers for it by proxy
ARP because its default route leads elsewhere. So even pods of one node meet through the node's FORWARD
chain (TTL 63), where policy can see them.

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
PARTS = (
    faithful("a route to each pod, and no bridge"),
    faithful("169.254.1.1, its neighbour entered in state PROBE, answered for by proxy ARP"),
    faithful("one MAC on every host veth"),
    faithful("the pod's subnet route, which is taken away"),
    faithful("the chains of ip-masq-agent"),
    faithful("address planning: what fits, what is kept ready, what Azure reserves"),
    approximation("MAC addresses", "of NICs and pods are made from names, so that a plan is always the same"),
    approximation("the load balancer", "is one SNAT rule without port blocks"),
    skipped("portmap, IPv6"),
    skipped("bridge-nf-call-iptables", "there is no bridge that it could speak of"),
    *pods.PARTS,
)
Container = pods.Pod


@dataclass(frozen=True, slots=True)
class Options(azure_addressing.SubnetOptions):
    """What an azure-cni-transparent scenario may set."""


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric, nodes with a route to each of their pods, the machine beside and the internet."""
    options: Options = scenario.options
    nics = azure_addressing.nics(scenario, options.subnet, options.max_pods + 1)
    vm = azure_addressing.vm_nic(options.vm_cidr, options.subnet)
    yield Machine("fabric", "fabric", (options.subnet.network_address + 1, options.public_ip))
    yield from azure.fabric([*nics, vm], options.mtu)
    yield from azure.outside(options.internet_cidr, options.public_ip, options.mtu)
    for nic, node in zip(nics, scenario.nodes, strict=True):
        yield Machine(nic.name, "node", (nic.address,))
        yield from primitives.netns(nic.name)
        yield from azure.plug(nic)
        yield from azure.node_settings(nic.name, ("eth0",))
        yield from kubernetes.masq_agent(nic.name, (options.vnet_cidr,))
        yield from azure_transparent.pods(node, nic.address + 1, options.subnet.prefixlen, options.mtu)
        yield from pods.processes(node)
        yield from azure.secondary(nic, len(node.pods))
    yield from azure.vm(vm)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Kubernetes' own rules, and what containers of a pod share."""
    yield from kubernetes.kubernetes_rules(scenario)
    yield from pods.checks(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """What AKS refuses, and a subnet that cannot hold the nodes and their pods."""
    yield from azure_addressing.refuse_subnet(scenario)
    yield from kubernetes.refuse_pods(scenario, scenario.options.max_pods)
