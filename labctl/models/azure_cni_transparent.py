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

faithful        per-pod routes, 169.254.1.1 with its neighbour entered in state PROBE, proxy ARP, one MAC on
                every host veth, the removed subnet route, the agent's chains, address planning
approximation   MAC addresses of NICs and pods are made from names; the load balancer is one SNAT rule
skipped         portmap, IPv6, bridge-nf-call-iptables (there is no bridge that it could speak of)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.models import _azure as azure
from labctl.models import _kubernetes as kubernetes
from labctl.models import _parts as parts
from labctl.options import address, cidr, option
from labctl.plan import Address, Link, Neighbour, Port, Resource, Route, Sysctl
from labctl.scenario import Check, Machine, Node, Scenario

FOLLOWS = "Azure CNI transparent mode since August 2022 (azure-container-networking, pull request 1524)"
MACHINES = ("nodes", "pods")
GATEWAY = IPv4Address("169.254.1.1")
GATEWAY_ONLY = IPv4Network((int(GATEWAY), 32))
HOST_MAC = "aa:aa:aa:aa:aa:aa"  # of every host end of every pod's veth


@dataclass(frozen=True, slots=True)
class Options:
    """What an azure-cni-transparent scenario may set."""

    vnet_cidr: IPv4Network = option(cidr("10.224.0.0/12"), "the virtual network, which sees pods' own addresses")
    subnet: IPv4Network = option(cidr("10.224.0.0/16"), "the subnet of nodes and pods; node1 is the fourth address")
    vm_cidr: IPv4Network = option(cidr("10.225.0.0/16"), "the subnet of `vm`; the value of `subnet` puts it there")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(address("203.0.113.50"), "the load balancer's address, worn by all that leaves")
    max_pods: int = option(30, "addresses kept ready for pods on each node", minimum=10, maximum=250)
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=9000)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric, nodes with a route to each of their pods, the machine beside and the internet."""
    options: Options = scenario.options
    nics, vm = _nics(scenario), _vm(options)
    yield Machine("fabric", "fabric", (options.subnet.network_address + 1, options.public_ip))
    yield from azure.fabric([*nics, vm], options.mtu)
    yield from azure.outside(options.internet_cidr, options.public_ip, options.mtu)
    for nic, node in zip(nics, scenario.nodes, strict=True):
        yield Machine(nic.name, "node", (nic.address,))
        yield from parts.netns(nic.name)
        yield from azure.plug(nic)
        yield from azure.node_settings(nic.name, ("eth0",))
        yield from kubernetes.masq_agent(nic.name, (options.vnet_cidr,))
        yield from _pods(nic, node, options)
    yield Machine("vm", "vm", (vm.address,))
    yield from parts.netns("vm")
    yield from azure.plug(vm)
    yield from parts.forwarding("vm", False, rp_filter=0)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Kubernetes' own rules."""
    yield from kubernetes.kubernetes_rules(scenario)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """What AKS refuses, and a subnet that cannot hold the nodes and their pods."""
    options: Options = scenario.options
    nodes, pods = len(scenario.nodes), options.max_pods
    need = (nodes + 1) * (pods + 1)
    if need + azure.KEPT > options.subnet.num_addresses:
        held = max(options.subnet.num_addresses - azure.KEPT, 0)
        what = f"subnet {options.subnet} has {held} addresses and {nodes} nodes of {pods} pods need {need}"
        total = need + azure.KEPT
        sum_ = f"({nodes} + 1 for upgrades) x ({pods} + 1) = {need}, and Azure keeps {azure.KEPT}"
        yield "subnet", what, f"{sum_}: a /{parts.prefix_for(total)} would do"
    for key in ("subnet", "vm_cidr"):
        if not getattr(options, key).subnet_of(options.vnet_cidr):
            what = f"{key} {getattr(options, key)} is not in vnet_cidr {options.vnet_cidr}"
            yield key, what, "set vnet_cidr to the range that holds all subnets"
    ranges = {"subnet": options.subnet, "vm_cidr": options.vm_cidr}
    if options.vm_cidr == options.subnet:
        del ranges["vm_cidr"]
    elif options.vm_cidr.num_addresses <= azure.KEPT:
        yield "vm_cidr", f"vm_cidr {options.vm_cidr} has no free address", f"Azure keeps {azure.KEPT}: take a /29"
    yield from parts.overlaps(ranges)
    yield from parts.overlaps({"vnet_cidr": options.vnet_cidr, "internet_cidr": options.internet_cidr})
    yield from azure.refuse_internet(options.internet_cidr, options.public_ip)
    yield from azure.refuse_ranges(options)
    yield from kubernetes.refuse_pods(scenario, pods)


def _nics(scenario: Scenario) -> list[azure.Nic]:
    """The nodes' NICs. Each takes its primary address and, right after it, those of max_pods pods."""
    subnet, step = scenario.options.subnet, scenario.options.max_pods + 1
    first = subnet.network_address + azure.FIRST
    return [azure.Nic(node.name, first + number * step, subnet) for number, node in enumerate(scenario.nodes)]


def _vm(options: Options) -> azure.Nic:
    if options.vm_cidr == options.subnet:
        return azure.Nic("vm", parts.within(options.subnet, -2), options.subnet)
    return azure.Nic("vm", parts.within(options.vm_cidr, azure.FIRST), options.vm_cidr)


def _pods(nic: azure.Nic, node: Node, options: Options) -> Iterator[Resource | Machine]:
    for number, (name, device) in enumerate(zip(node.pods, parts.hashed("azv", 11, node.pods), strict=True), 1):
        own = nic.address + number
        yield Machine(name, "pod", (own,), node.name)
        yield from _pod(Port(name, "eth0"), own, options)
        yield from _host_end(Port(node.name, device), Port(name, "eth0"), own, options.mtu)
        yield Route("fabric", IPv4Network((int(own), 32)), nic.address, nic.device, onlink=True)


def _pod(eth0: Port, own: IPv4Address, options: Options) -> Iterator[Resource]:
    """The pod's side: an address of the subnet, no route to the subnet, a gateway that is nowhere."""
    yield from parts.endpoint(eth0.ns)
    yield Address(eth0, parts.iface(own, options.subnet.prefixlen), connected=False)
    yield Route(eth0.ns, GATEWAY_ONLY, dev="eth0")
    yield Route(eth0.ns, parts.ANYWHERE, GATEWAY, "eth0")
    yield Neighbour(eth0, GATEWAY, HOST_MAC, "probe")


def _host_end(at: Port, peer: Port, own: IPv4Address, mtu: int) -> Iterator[Resource]:
    """The node's side: a veth without an address that answers ARP for everyone, and the route to the pod."""
    yield Link(at, "veth", peer, None, mtu, HOST_MAC)
    yield Link(peer, "veth", at, None, mtu, parts.mac(peer.ns))
    yield Sysctl(at.ns, f"net.ipv4.conf.{at.dev}.proxy_arp", "1")
    yield Route(at.ns, IPv4Network((int(own), 32)), dev=at.dev)
