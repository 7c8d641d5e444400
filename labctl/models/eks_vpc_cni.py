r"""Amazon EKS with its VPC CNI: pods have addresses of the VPC, on several network interfaces per node.

`labctl plan eks-vpc-cni --as shell` shows every command that builds it.

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
ENI is the node's. The others are on no device: they are the addresses of pods, and the VPC delivers their packets
to that ENI. The VPC also checks that an ENI sends only from its own addresses. So a node must send a pod's packets
through the pod's ENI, and routes by source: rule 1536 sends packets from the pods of eth1 to table 2, which has only
routes through eth1. Rules 512 and 1024 come before it: 512 is for packets to a pod, 1024 for packets that must leave
through eth0, from any pod. These are packets to the internet, which get eth0's address, and answers to connections
that came in through eth0; a mark on the connection identifies them. So a packet and its answer may take different
paths, and only both together show that everything is right. Up to release 1.22 the rules that set this mark are chains
of iptables at priority -100, where kube-proxy translates Services too; `release: "1.23"` has them in a table of nft,
`ip aws-cni`, at -90, so that no order is left to chance.

Follows aws/amazon-vpc-cni-k8s of 2026: pkg/networkutils (network.go, iptables_connmark.go, nftables_connmark.go of
v1.23.0, names.go), cmd/routed-eni-cni-plugin/driver/driver.go, cmd/aws-vpc-cni-init/main.go, docs/cni-proposal.md; for
ports of the node the plugin portmap, which its network list (misc/10-aws.conflist) chains after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import Resource
from labctl.core.scenario_types import Check, Machine, PublishedPort, Scenario
from labctl.models.lib import aws, cloud_vpc, eks_node, kubernetes, pods, portmap, primitives

FOLLOWS = "amazon-vpc-cni-k8s 1.22 of 2026; 1.23 on request"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults(None, ("172.20.0.0/16",), load_balancer="Proxy")
PARTS = (
    faithful("ENIs: secondary addresses on no device, a routing table for each, no subnet route except eth0's"),
    faithful("the policy-routing rules 512, 1024, 1535, 1536 and 32765"),
    faithful("the AWS chains of mangle and nat, complete and in order; with external SNAT, those that remain"),
    faithful("`release: 1.23`: the table `ip aws-cni` at priority -90 in place of AWS-CONNMARK-CHAIN-0"),
    approximation(
        "the order of exempt ranges in snat-mark",
        "is that of AWS-SNAT-CHAIN-0; the real agent writes them in any order",
    ),
    faithful("pods: a /32, 169.254.1.1 and its permanent neighbour; the names of their veths"),
    faithful("loose reverse-path filtering on eth0, strict elsewhere"),
    faithful(
        "`hostPort`: portmap's chains, with its own mark, or its table of nft; compared with the CNI plugin's text"
    ),
    approximation(
        "the VPC",
        "is a bridge for each subnet and a router, which counts as a hop; ebtables rules answer ARP"
        " and check what an ENI sends and receives",
    ),
    approximation("which pod is at which ENI", "is fixed: the next free address; the real agent takes any ENI"),
    approximation("spare addresses", "are those of one spare ENI (WARM_ENI_TARGET=1); each ENI has all its addresses"),
    approximation("internet and NAT gateways", "are rules of the fabric's firewall"),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    skipped("prefix delegation, custom networking, several network cards, security groups for pods"),
    skipped("IPv6, and the IPv6 sysctls that the driver sets for each veth"),
    *primitives.PARTS,
    *pods.PARTS,
)


@dataclass(frozen=True, slots=True)
class Container(pods.PodSettings):
    """The settings of a pod in a scenario."""

    host_ports: tuple[PublishedPort, ...] = option((), "host ports (hostPort): NODE_PORT:POD_PORT")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of an eks-vpc-cni scenario."""

    vpc_cidr: IPv4Network = option(cidr("10.0.0.0/16"), "the VPC, in which pods keep their addresses")
    subnet: IPv4Network = option(cidr("10.0.0.0/20"), "the subnet of nodes and pods; node1 has the fourth address")
    vm_cidr: IPv4Network = option(cidr("10.0.16.0/20"), "the subnet of `vm`; it may be the same as `subnet`")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("203.0.113.50"), "the first node's public address (the next nodes' follow), or the NAT gateway's"
    )
    enis: int = option(3, "ENIs that an instance may have (a t3.medium has 3, a t3.micro 2)", minimum=1, maximum=15)
    ips_per_eni: int = option(6, "addresses that an ENI may have, including the node's", minimum=2, maximum=50)
    external_snat: bool = option(False, "AWS_VPC_K8S_CNI_EXTERNALSNAT: a NAT gateway does SNAT, the nodes do not")
    exclude_snat_cidrs: tuple[IPv4Network, ...] = option(
        (), "ranges outside the VPC for which pods keep their addresses"
    )
    external_service_cidrs: tuple[IPv4Network, ...] = option((), "ranges that all pods reach through eth0")
    release: str = option(
        "1.22",
        "release of the VPC CNI: 1.23 marks connections in a table of nft, as it does where iptables is iptables-nft",
        choices=eks_node.RELEASES,
    )
    portmap_backend: str = option(
        "iptables",
        "`backend` of the plugin portmap in the network list, for host ports (nftables: CNI plugins 1.6 and later)",
        choices=("iptables", "nftables"),
    )
    randomize_snat: str = option("prng", "how SNAT chooses ports", choices=("prng", "hashrandom", "none"))
    node_port_support: bool = option(True, "AWS_VPC_CNI_NODE_PORT_SUPPORT: answers leave the way that requests came")
    source_dest_check: bool = option(True, "the VPC checks what an ENI sends and receives")
    mtu: int = option(9001, "MTU of ENIs and pods", minimum=576, maximum=9001)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC, nodes with their ENIs and pods, `vm` and the internet."""
    options: Options = scenario.options
    vm = eks_node.vm_eni(options)
    nodes = [eks_node.node_enis(scenario, number) for number in range(len(scenario.nodes))]
    public = {enis[0].primary_address: options.public_ip + number for number, enis in enumerate(nodes)}
    yield Machine("fabric", "fabric", (options.subnet.network_address + 1, options.public_ip))
    cards = [*(eni for enis in nodes for eni in enis), vm]
    yield from aws.fabric(cards, options.mtu, source_dest_check=options.source_dest_check)
    if options.external_snat:
        yield from cloud_vpc.internet_uplink(options.internet_cidr, (options.public_ip,), 1500)
        yield from aws.nat_gateway(options.vpc_cidr, options.public_ip)
    else:
        yield from cloud_vpc.internet_uplink(options.internet_cidr, public.values(), 1500)
        yield from aws.elastic_ips(public)
    for enis, node in zip(nodes, scenario.nodes, strict=True):
        yield Machine(node.name, "node", tuple(eni.primary_address for eni in enis))
        yield from primitives.node_netns(node.name)
        yield from eks_node.attach_enis(enis)
        yield from eks_node.policy_routing_rules(node.name, options)
        yield from eks_node.firewall(enis[0], options, eks_node.host_port_pods(node, enis))
        yield from eks_node.routed_pods(node, enis, options.mtu)
        yield from pods.pause_and_containers(node)
    yield from cloud_vpc.vm_without_nic("vm", vm.primary_address)
    yield from aws.attach_primary_eni(vm)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks of Kubernetes' own rules, of what containers of a pod share, and of host ports."""
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)
    for number, node in enumerate(scenario.nodes):
        enis = eks_node.node_enis(scenario, number)
        host_port_pods = eks_node.host_port_pods(node, enis)
        yield from portmap.checks(node.name, enis[0].primary_address, host_port_pods, "vm", node.name)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for too few addresses for pods on ENIs, or for ENIs in the subnet, and for ranges that overlap."""
    yield from eks_node.refuse(scenario)
    yield from pods.refuse(scenario)
