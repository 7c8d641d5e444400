"""The wiring of Azure CNI's transparent mode, for the models that route to each pod separately.

The node's end of a pod's veth has no address and is not in a bridge. The pod's only neighbour is a gateway
address that no machine has. The node answers ARP for it (proxy ARP), and has a route to each of its pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface

from labctl.core.resources import Address, Interface, Link, Neighbour, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, ScenarioNode
from labctl.core.why import Component, Source
from labctl.models.lib import primitives

GATEWAY = IPv4Address("169.254.1.1")
GATEWAY_PREFIX = primitives.host_prefix(GATEWAY)
HOST_VETH_MAC = "aa:aa:aa:aa:aa:aa"  # of the node's end of every pod's veth

PLUGIN = Component(
    "Azure CNI (azure-vnet)",
    Source("Azure/azure-container-networking", "network/transparent_endpointclient_linux.go"),
)
CNS = Component("azure-cns", Source("Azure/azure-container-networking", "cns/ipampool"))
ADDRESS = CNS.why(
    "It is the pod's address, which azure-cns has for this node. Its prefix is that of the subnet, but the plugin"
    " deletes the route to the subnet: else the pod would look for its neighbours on its cable, where only the node"
    " is."
)
GATEWAY_ROUTE = PLUGIN.why(
    "The gateway {dst} is reached by eth0 directly. No machine has this address: the node answers ARP for it."
)
DEFAULT = PLUGIN.why("The pod sends everything to {via}, which means: to its node, whatever the node's address is.")
GATEWAY_NEIGHBOUR = PLUGIN.why(
    "The pod knows the MAC address of its gateway from the start: {mac} is that of the node's end of every pod's cable."
)
HOST_END = PLUGIN.why(
    "It is the node's end of the cable of {peer_ns}. It has no address and is in no bridge: the node routes each"
    " packet of the pod, even to another pod beside it."
)
POD_END = PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
PROXY_ARP = PLUGIN.why(
    "The pod of this device ({dev_machine}) asks for the MAC address of its gateway, an address that no machine has."
    " {ns} answers for it."
)
POD_ROUTE = PLUGIN.why("It leads packets for {dst_machines} into the cable of this pod: there is no bridge to ask.")


def routed_pods(
    node: ScenarioNode, first_address: IPv4Address, prefix_length: int, mtu: int
) -> Iterator[Resource | Machine]:
    """The pods of a node, connected to it, with addresses from `first_address` on."""
    for number, (name, device) in enumerate(zip(node.pods, primitives.device_names("azv", 11, node.pods), strict=True)):
        inner, outer = Interface(name, "eth0"), Interface(node.name, device)
        address = primitives.with_prefix_length(first_address + number, prefix_length)
        yield Machine(name, "pod", (address.ip,), node.name)
        yield from _pod_end(inner, address)
        yield from _host_end(outer, inner, address.ip, mtu)


def _pod_end(eth0: Interface, address: IPv4Interface) -> Iterator[Resource]:
    """The pod's side: an address of a subnet, no route to that subnet, and a gateway that no machine has."""
    yield from primitives.container_netns(eth0.ns)
    yield Address(eth0, address, connected=False, why=ADDRESS)
    yield Route(eth0.ns, GATEWAY_PREFIX, dev="eth0", why=GATEWAY_ROUTE)
    yield Route(eth0.ns, primitives.ANYWHERE, GATEWAY, "eth0", why=DEFAULT)
    yield Neighbour(eth0, GATEWAY, HOST_VETH_MAC, "probe", why=GATEWAY_NEIGHBOUR)


def _host_end(interface: Interface, peer: Interface, pod_address: IPv4Address, mtu: int) -> Iterator[Resource]:
    """The node's side: a veth without an address that answers every ARP request, and the route to the pod."""
    yield Link(interface, "veth", peer, None, mtu, HOST_VETH_MAC, why=HOST_END)
    yield Link(peer, "veth", interface, None, mtu, primitives.mac(peer.ns), why=POD_END)
    yield Sysctl(interface.ns, f"net.ipv4.conf.{interface.dev}.proxy_arp", "1", why=PROXY_ARP)
    yield Route(interface.ns, primitives.host_prefix(pod_address), dev=interface.dev, why=POD_ROUTE)
