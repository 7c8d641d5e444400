r"""Azure CNI, bridge mode: pods in the nodes' subnet, on a bridge that hides their MAC addresses.

`labctl plan azure-cni-bridge --as shell` shows every command that builds it.

         a 10.224.0.5      b 10.224.0.6           c 10.224.0.36
         | eth0            | eth0                 | eth0   (gateway 10.224.0.1)
    +-- node1 ------------------------+      +-- node2 ------------+
    |  azvXXXXXXXXXXX  azvYYYYYYYYYYY |      |  azvZZZZZZZZZZZ     |
    |    +---- azure0 -----+          |      |    +-- azure0       |
    |          10.224.0.4             |      |       10.224.0.35   |
    |          | ebtables             |      |       | ebtables    |
    |          eth0, no address       |      |       eth0          |
    +----------|----------------------+      +-------|-------------+
               |                                     |
        +----- fabric -----------------------------------------------+
        |  10.224.0.5, .6 -> node1            10.224.0.36 -> node2   |
        +------|----------------------------------|------------------+
               | eth0 10.225.0.4                  | 203.0.113.50
              vm                               internet 203.0.113.1

The node's NIC becomes a port of azure0, which takes over its address and its routes. Pods are other ports
of the bridge, and configured like plain machines of the subnet. But Azure's network knows one MAC address
per NIC and accepts no frames from another one, so ebtables translates: frames that leave by eth0 get eth0's
MAC address, frames that come in for a pod's IP address get the pod's, ARP replies from the fabric become
broadcasts so that the pod that sent the request receives them, and the node answers ARP for itself and for
its pods. Pods of one node reach each other over the bridge (TTL 64). Between nodes only the fabric routes
(TTL 63), because a node bridges what its pods send. Bridged packets pass iptables too
(bridge-nf-call-iptables), which masquerades all that leaves the virtual network. Answers reach their pod
through a permanent neighbour entry of azure0. With `mode: tunnel`, a node does not switch the frames of its
pods: it sends each to the fabric's MAC address, so that Azure's policy sees even packets between pods of one
node (TTL 63), and the fabric sends them back.

Follows Azure/azure-container-networking: network/{network,bridge_networkclient,bridge_endpointclient}_linux.go
and ebtables/ebtables.go, the default of AKS until October 2020; node settings as Azure/AgentBaker writes
them; Azure/ip-masq-agent-v2 with the virtual network's range exempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.address_use import AddressUse
from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import option
from labctl.core.resources import Chain, Interface, Link, Neighbour, Resource, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario, ScenarioNode
from labctl.core.why import Component, Source, Why, explained
from labctl.models.lib import (
    azure,
    azure_addressing,
    azure_egress_gateway,
    azure_outbound,
    azure_outbound_options,
    azure_platform,
    kubernetes,
    pods,
    primitives,
)

FOLLOWS = "Azure CNI bridge mode, AKS's default until October 2020 (azure-container-networking)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults(
    "subnet", ("10.0.0.0/16",), refuse_service_cidr=azure_addressing.refuse_service_cidr
)
PARTS = (
    faithful("azure0, which takes over eth0's address and routes"),
    faithful("the ebtables rules in their order, in bridge and in tunnel mode"),
    faithful("hairpin on every port"),
    faithful("permanent neighbours for pods (none in tunnel mode)"),
    faithful("the chains of ip-masq-agent"),
    faithful("address planning: what fits, what is reserved for pods, what Azure reserves"),
    approximation("azure0's MAC", "is set to eth0's; the real bridge has it if it is the lowest of its ports"),
    approximation("the fabric's MAC filter", "is an iptables rule that drops IP packets from another MAC address"),
    approximation("the fabric's ARP in tunnel mode", "is done with proxy_arp_pvlan"),
    approximation("MAC addresses", "of NICs and pods are made from names, so that a plan is always the same"),
    skipped("the broute rules for node-local DNS", "ebtables on nftables has no such table"),
    skipped("portmap, IPv6"),
    *azure_outbound.PARTS,
    *azure_platform.PARTS,
    *azure_egress_gateway.PARTS,
    *pods.PARTS,
)
Container = pods.PodSettings
ACN = "Azure/azure-container-networking"
_PLUGIN = Component("Azure CNI (azure-vnet)", Source(ACN, "network/bridge_endpointclient_linux.go"))
_EBTABLES = Component("Azure CNI (azure-vnet)", Source(ACN, "ebtables/ebtables.go"))
_BRIDGE = _PLUGIN.why(
    "It connects the pods of {ns} with its NIC: eth0 is one of its ports, and the bridge has the address of the node."
    " So pods look like machines of the subnet.",
    "network/bridge_networkclient_linux.go",
)
_CALLS_IPTABLES = azure.IMAGE.why(
    "Frames that the bridge forwards pass iptables too. Else no rule could masquerade the packets of pods: {ns} bridges"
    " them and does not route them.",
    "parts/linux/cloud-init/artifacts/cse_config.sh (99-force-bridge-forward.conf)",
)
_HIDE = _EBTABLES.why(
    "Frames that leave by eth0 get its MAC address as their source: Azure accepts no other MAC address from a NIC."
)
_ARP_FOR_NODE = _EBTABLES.why("It answers ARP requests for the node's own address with the MAC address of the NIC.")
_ARP_REPLIES = _EBTABLES.why(
    "Answers of the fabric to ARP requests come to the MAC address of the NIC, because it hid that of the pod which"
    " asked. As broadcasts they reach that pod."
)
_TUNNEL = _EBTABLES.why(
    "What a pod sends goes to the fabric's MAC address, even if it is for a pod of the same node: so Azure's policy"
    " sees every packet (mode tunnel)."
)
_HOST_END = _PLUGIN.why(
    "It is the node's end of the cable of {peer_ns}, a port of the bridge {master}. It has hairpin mode, so that a"
    " pod can reach itself through a Service."
)
_POD_END = _PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_ADDRESS = _PLUGIN.why("It is the pod's address in the subnet of the nodes, a secondary address of the node's NIC.")
_DEFAULT = _PLUGIN.why(
    "The pod uses the gateway of the subnet, {via}, as a machine of the subnet does: its node bridges, and does not"
    " route."
)
_ARP_FOR_POD = _EBTABLES.why(
    "It answers ARP requests for the address of a pod of {ns}: the fabric, and the other pods, never ask the pod"
    " itself."
)
_DELIVER = _EBTABLES.why(
    "Frames from the fabric have the MAC address of the NIC, the only one that Azure knows. Those for the IP address"
    " {dst} get the MAC address of the pod {dst_machines}, so that the bridge finds its port."
)
_NEIGHBOUR = _PLUGIN.why(
    "{ns} knows the MAC address of its pod {owner} from the start: the rules of ebtables drop the ARP request for it."
)
_ARP_PVLAN = azure.VNET.why(
    "The virtual network answers the ARP request for a pod on the cable where it came from: both pods are behind one"
    " NIC."
)
RESERVED_NAMES = (azure_outbound.FIREWALL, azure_egress_gateway.NAMESPACE)
_ARP_REPLY_RULE = "-p ARP --arp-op Request --arp-ip-dst {} -j arpreply --arpreply-mac {} --arpreply-target DROP"


@dataclass(frozen=True, slots=True)
class Options(azure_addressing.NodeSubnetOptions):
    """Options of an azure-cni-bridge scenario."""

    max_pods: int = option(30, "addresses reserved for pods on each node", minimum=10, maximum=250)
    mode: str = option(
        "bridge",
        "what forwards between pods of one node: the node's bridge, or the fabric (tunnel)",
        choices=("bridge", "tunnel"),
    )


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric, nodes with NIC and pods on one bridge, `vm` and the internet."""
    yield from azure_egress_gateway.with_gateway(scenario, _nics(scenario), _cluster(scenario))


def _cluster(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The lab without an egress gateway."""
    options: Options = scenario.options
    nics = _nics(scenario)
    vm = azure_addressing.vm_nic(options.vm_cidr, options.subnet)
    yield Machine("fabric", "fabric", (options.subnet.network_address + 1, options.public_ip))
    for nic in nics:
        yield Link(Interface(nic.machine, "azure0"), "bridge", mtu=options.mtu, mac=nic.mac, why=_BRIDGE)
    yield from azure.fabric([*nics, vm, *azure_outbound.firewall_nics(options)], options.mtu)
    yield from azure_outbound.way_out(options, azure_outbound.exits(nics), (vm,))
    yield from azure_platform.services(options, (*nics, vm))
    for nic, node in zip(nics, scenario.nodes, strict=True):
        yield Machine(nic.machine, "node", (nic.address,))
        yield from primitives.node_netns(nic.machine)
        yield from azure.attach_nic(nic)
        yield from azure.node_sysctls(nic.machine, ("eth0", "azure0"))
        yield Sysctl(nic.machine, "net.bridge.bridge-nf-call-iptables", "1", why=_CALLS_IPTABLES)
        yield from azure_platform.imds_restriction(options, nic)
        yield from kubernetes.ip_masq_agent(nic.machine, (*azure_platform.exempt_ranges(options), options.vnet_cidr))
        yield from _nic_rules(nic, options)
        yield from _pods(nic, node, options)
        yield from pods.pause_and_containers(node)
        yield from azure.secondary_address_routes(nic, len(node.pods))
        yield from azure.mac_filter(nic)
        if options.mode == "tunnel":  # the fabric must answer ARP for pods on the link of the request
            name = f"net.ipv4.conf.{nic.fabric_device}.proxy_arp_pvlan"
            yield Sysctl("fabric", name, "1", why=_ARP_PVLAN)
    yield from azure.vm_machine(vm)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks of Kubernetes' own rules, and of what containers of a pod share."""
    yield from kubernetes.network_model_checks(scenario)
    yield from pods.checks(scenario)
    yield from azure_outbound.checks(scenario, azure_outbound.exits(_nics(scenario)))
    yield from azure_platform.checks(scenario)
    yield from azure_egress_gateway.checks(scenario)


def address_use(scenario: Scenario) -> Iterator[AddressUse]:
    """The addresses of the subnet of nodes and pods."""
    options: Options = scenario.options
    yield from azure_addressing.node_subnet_use(options.subnet, len(scenario.nodes), options.max_pods)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what AKS does not allow, and for a subnet that is too small for the nodes and their pods."""
    options: Options = scenario.options
    yield from azure_addressing.refuse_nodes_with_pods(options.subnet, len(scenario.nodes), options.max_pods)
    yield from azure_addressing.refuse_vnet_ranges(options, "subnet", "vm_cidr")
    yield from azure_outbound_options.refuse(options, len(scenario.nodes))
    yield from azure_egress_gateway.refuse(scenario)
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)


def _nics(scenario: Scenario) -> list[azure.Nic]:
    options: Options = scenario.options
    return azure_addressing.node_nics(scenario, options.subnet, options.max_pods + 1, bridge="azure0")


def _nic_rules(nic: azure.Nic, options: Options) -> Iterator[Resource]:
    """The ebtables rules at the NIC: hide MAC addresses, answer ARP for the node, make ARP replies broadcasts."""
    hide = f"-s unicast -o eth0 -j snat --to-src {nic.mac} --snat-arp --snat-target ACCEPT"
    yield _ebtables_nat_chain(nic.machine, "POSTROUTING", hide, _HIDE)
    own = _ARP_REPLY_RULE.format(nic.address, nic.mac)
    yield _ebtables_nat_chain(nic.machine, "PREROUTING", own, _ARP_FOR_NODE)
    replies = "-p ARP -i eth0 --arp-op Reply -j dnat --to-dst ff:ff:ff:ff:ff:ff --dnat-target ACCEPT"
    yield _ebtables_nat_chain(nic.machine, "PREROUTING", replies, _ARP_REPLIES)
    if options.mode == "tunnel":
        to_fabric = f"-i az+ -j dnat --to-dst {azure.FABRIC_MAC} --dnat-target ACCEPT"
        yield _ebtables_nat_chain(nic.machine, "PREROUTING", to_fabric, _TUNNEL)


def _pods(nic: azure.Nic, node: ScenarioNode, options: Options) -> Iterator[Resource | Machine]:
    """Pods as ports of azure0, with ebtables rules and a neighbour entry for each."""
    tunnel = options.mode == "tunnel"
    for number, (name, device) in enumerate(
        zip(node.pods, primitives.device_names("azv", 11, node.pods), strict=True), 1
    ):
        address, mac = nic.address + number, primitives.mac(name)
        inner, outer = Interface(name, "eth0"), Interface(node.name, device)
        yield Machine(name, "pod", (address,), node.name)
        yield from primitives.container_netns(name)
        yield Link(outer, "veth", inner, "azure0", options.mtu, hairpin=True, why=_HOST_END)
        yield Link(inner, "veth", outer, None, options.mtu, mac, why=_POD_END)
        interface_address = primitives.with_prefix_length(address, options.subnet.prefixlen)
        yield from explained(_ADDRESS, primitives.addresses(inner, interface_address))
        yield primitives.default_route(name, nic.gateway, why=_DEFAULT)
        answer = _ARP_REPLY_RULE.format(address, azure.FABRIC_MAC if tunnel else mac)
        yield _ebtables_nat_chain(node.name, "PREROUTING", answer, _ARP_FOR_POD)
        frames = f"-p IPv4 -i eth0 --ip-dst {address} -j dnat --to-dst {mac} --dnat-target ACCEPT"
        yield _ebtables_nat_chain(node.name, "PREROUTING", frames, _DELIVER)
        if not tunnel:
            yield Neighbour(Interface(node.name, "azure0"), address, mac, why=_NEIGHBOUR)


def _ebtables_nat_chain(ns: str, chain: str, text: str, why: Why) -> Chain:
    return primitives.chain(ns, "nat", chain, (text, why), family="bridge")
