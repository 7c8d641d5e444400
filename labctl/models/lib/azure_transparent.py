"""The wiring of Azure CNI's transparent mode, for the models that route to each pod separately.

The node's end of a pod's veth has no address and is not in a bridge. The pod's only neighbour is a gateway
address that no machine has. The node answers ARP for it (proxy ARP), and has a route to each of its pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface

from labctl.core.resources import Address, Interface, Link, Neighbour, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, ScenarioNode
from labctl.models.lib import primitives

GATEWAY = IPv4Address("169.254.1.1")
GATEWAY_PREFIX = primitives.host_prefix(GATEWAY)
HOST_VETH_MAC = "aa:aa:aa:aa:aa:aa"  # of the node's end of every pod's veth


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
    yield Address(eth0, address, connected=False)
    yield Route(eth0.ns, GATEWAY_PREFIX, dev="eth0")
    yield Route(eth0.ns, primitives.ANYWHERE, GATEWAY, "eth0")
    yield Neighbour(eth0, GATEWAY, HOST_VETH_MAC, "probe")


def _host_end(interface: Interface, peer: Interface, pod_address: IPv4Address, mtu: int) -> Iterator[Resource]:
    """The node's side: a veth without an address that answers every ARP request, and the route to the pod."""
    yield Link(interface, "veth", peer, None, mtu, HOST_VETH_MAC)
    yield Link(peer, "veth", interface, None, mtu, primitives.mac(peer.ns))
    yield Sysctl(interface.ns, f"net.ipv4.conf.{interface.dev}.proxy_arp", "1")
    yield Route(interface.ns, primitives.host_prefix(pod_address), dev=interface.dev)
