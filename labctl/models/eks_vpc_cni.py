r"""Amazon EKS with its VPC CNI: pods have addresses of the VPC itself, spread over several network interfaces.

         a .5      b .7                                c .9
         | eth0    | eth0   (gateway 169.254.1.1)      |
    +-- node1 -----------------+            +-- node2 -----------------+
    |  eniXXX    eniYYY        |            |  eniZZZ                  |
    |  main      table 2       |            |  main      table 2       |
    |  eth0 .4   eth1 .6       |            |  eth0 .8   eth1 .10      |
    +----|----------|----------+            +----|----------|----------+
         |          |                            |          |
       +----- fabric, router 10.0.0.1 -------------------------------+
       |  .4 .5 -> node1-eth0          .8 .9 -> node2-eth0           |
       |  .6 .7 -> node1-eth1          .10 .11 -> node2-eth1         |
       +-----|----------------------------------|--------------------+
             | eth0 10.0.16.4                   | 203.0.113.50, .51
            vm                               internet 203.0.113.1

An instance may have several network interfaces (ENIs), and each ENI several addresses. The first address of an
ENI is the node's; the others are on no device at all: they are pods', and the VPC carries them to that ENI. Since
it also checks that an ENI sends only its own addresses, a node must send what a pod says by the pod's ENI, and so
routes by source: rule 1536 sends the pods of eth1 to table 2, whose only way is eth1. Before it stand 512, for
what goes to a pod, and 1024, for what has to leave by eth0 whoever sent it: packets for the internet, which wear
eth0's address there, and answers to connections that came in by eth0. A mark on the connection tells those. So a
packet and its answer may take different ways, and only the pair of them shows that all is right.

Follows aws/amazon-vpc-cni-k8s of 2026: pkg/networkutils (network.go, iptables_connmark.go, names.go),
cmd/routed-eni-cni-plugin/driver/driver.go, cmd/aws-vpc-cni-init/main.go, docs/cni-proposal.md; for ports of the
node the plugin portmap, which its network list (misc/10-aws.conflist) chains after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import Resource
from labctl.core.scenario_types import Check, Machine, Publish, Scenario
from labctl.models.lib import aws, cloud_vpc, eks_node, kubernetes, pods, portmap, primitives

FOLLOWS = "amazon-vpc-cni-k8s of 2026, iptables in legacy mode"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("ENIs: secondary addresses on no device, a routing table for each, no subnet route but eth0's"),
    faithful("the policy-routing rules 512, 1024, 1535, 1536 and 32765"),
    faithful("the AWS chains of mangle and nat, whole and in their order; with external SNAT what is left of them"),
    faithful("pods: a /32, 169.254.1.1 and its permanent neighbour; the names of their veths"),
    faithful("loose reverse-path filtering on eth0, strict elsewhere"),
    faithful("`hostPort`: portmap's chains, with its own mark"),
    approximation(
        "the VPC",
        "is a bridge for each subnet and a router, which counts as a hop; ebtables answer for"
        " addresses and check what an ENI sends and gets",
    ),
    approximation("which pod is at which ENI", "is settled, the first free address first; the agent takes any ENI"),
    approximation(
        "spare addresses", "are one ENI more than is needed (WARM_ENI_TARGET=1), each with all its addresses"
    ),
    approximation("internet and NAT gateways", "are rules of the fabric's firewall"),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    skipped("prefix delegation, custom networking, several network cards, security groups for pods"),
    skipped("IPv6, and the settings of it that the driver writes for each veth"),
    skipped("Services", "a port of the node shows what a NodePort meets"),
    *pods.PARTS,
)


@dataclass(frozen=True, slots=True)
class Container(pods.Pod):
    """What a file may say of a pod."""

    host_ports: tuple[Publish, ...] = option((), "ports of its node that lead to it (hostPort): NODE'S:POD'S")


@dataclass(frozen=True, slots=True)
class Options:
    """What an eks-vpc-cni scenario may set."""

    vpc_cidr: IPv4Network = option(cidr("10.0.0.0/16"), "the VPC, in which pods keep their addresses")
    subnet: IPv4Network = option(cidr("10.0.0.0/20"), "the subnet of nodes and pods; node1 is the fourth address")
    vm_cidr: IPv4Network = option(cidr("10.0.16.0/20"), "the subnet of `vm`; the value of `subnet` puts it there")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("203.0.113.50"), "the first node's public address, the next node's follows; or the NAT gateway's"
    )
    enis: int = option(3, "ENIs that an instance may have (a t3.medium has 3, a t3.micro 2)", minimum=1, maximum=15)
    ips_per_eni: int = option(6, "addresses that an ENI may have, the node's among them", minimum=2, maximum=50)
    external_snat: bool = option(False, "AWS_VPC_K8S_CNI_EXTERNALSNAT: a NAT gateway translates, and no node does")
    exclude_snat_cidrs: tuple[IPv4Network, ...] = option((), "ranges outside where pods keep their addresses as well")
    external_service_cidrs: tuple[IPv4Network, ...] = option((), "ranges that are reached by eth0, whoever sends")
    randomize_snat: str = option("prng", "how ports are drawn", choices=("prng", "hashrandom", "none"))
    node_port_support: bool = option(True, "AWS_VPC_CNI_NODE_PORT_SUPPORT: answers leave as their questions came")
    source_dest_check: bool = option(True, "the VPC's check of what an ENI sends and gets")
    mtu: int = option(9001, "MTU of ENIs and pods", minimum=576, maximum=9001)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC, nodes with their ENIs and pods, the machine beside and the internet."""
    options: Options = scenario.options
    vm = eks_node.vm(options)
    nodes = [eks_node.enis(scenario, number) for number in range(len(scenario.nodes))]
    public = {enis[0].primary: options.public_ip + number for number, enis in enumerate(nodes)}
    yield Machine("fabric", "fabric", (options.subnet.network_address + 1, options.public_ip))
    cards = [*(eni for enis in nodes for eni in enis), vm]
    yield from aws.fabric(cards, options.mtu, checked=options.source_dest_check)
    if options.external_snat:
        yield from cloud_vpc.outside(options.internet_cidr, (options.public_ip,), 1500)
        yield from aws.nat_gateway(options.vpc_cidr, options.public_ip)
    else:
        yield from cloud_vpc.outside(options.internet_cidr, public.values(), 1500)
        yield from aws.elastic(public)
    for enis, node in zip(nodes, scenario.nodes, strict=True):
        yield Machine(node.name, "node", tuple(eni.primary for eni in enis))
        yield from primitives.netns(node.name)
        yield from eks_node.cards(enis)
        yield from eks_node.rules(node.name, options)
        yield from eks_node.firewall(enis[0], options, eks_node.mapped(node, enis))
        yield from eks_node.pods(node, enis, options.mtu)
        yield from pods.processes(node)
    yield from cloud_vpc.beside("vm", vm.primary)
    yield from aws.plug(vm)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Kubernetes' own rules, what containers of a pod share, and who is seen as whom at a node's ports."""
    yield from kubernetes.kubernetes_rules(scenario)
    yield from pods.checks(scenario)
    for number, node in enumerate(scenario.nodes):
        yield from portmap.checks(node.name, eks_node.mapped(node, eks_node.enis(scenario, number)), "vm", node.name)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """More pods than the ENIs have addresses for, more ENIs than the subnet has, and ranges that are not apart."""
    yield from eks_node.refuse(scenario)
    yield from pods.refuse(scenario)
