"""A node's pods as the CNI plugin `bridge` connects them, with addresses from `host-local`. Pure.

The bridge has the first address of the node's range and is the gateway of the pods, which get the next addresses in
order. Networks differ in the name of the bridge, in whether a port may send a frame back where it came from
(`hairpin`), and in the ranges that a pod routes through its gateway besides the default route.

Follows containernetworking/plugins 1.1.1, plugins/main/bridge/bridge.go and plugins/ipam/host-local.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.resources import Link, Port, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, Node
from labctl.models.lib import primitives

KEPT = 3  # addresses of a range that no pod gets: network, bridge and broadcast


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge of a network's configuration: its name, its MTU, and the settings of the plugin."""

    name: str
    mtu: int
    hairpin: bool = False
    promisc: bool = False
    routes: tuple[IPv4Network, ...] = (primitives.ANYWHERE,)


def gateway(pods: IPv4Network) -> IPv4Address:
    """The bridge's address, the first of the node's range."""
    return pods.network_address + 1


def addressed(node: Node, pods: IPv4Network) -> Iterator[tuple[str, IPv4Address]]:
    """Each pod of a node with its address, in host-local's order: the first after the bridge's, then the next."""
    first = int(pods.network_address) + 2
    return ((name, IPv4Address(first + number)) for number, name in enumerate(node.pods))


def bridge(ns: str, pods: IPv4Network, made: Bridge) -> Iterator[Resource]:
    """The bridge of a node, with its address; bridged frames pass iptables, as the kubelet requires."""
    own = primitives.iface(gateway(pods), pods.prefixlen)
    yield from primitives.bridge(Port(ns, made.name), mtu=made.mtu, address=own, promisc=made.promisc)
    yield Sysctl(ns, "net.bridge.bridge-nf-call-iptables", "1")


def wired(node: Node, pods: IPv4Network, made: Bridge) -> Iterator[Resource | Machine]:
    """A node's pods, each with a veth pair to the bridge."""
    devices = primitives.hashed("veth", 8, node.pods)
    for (name, own), device in zip(addressed(node, pods), devices, strict=True):
        inner, outer = Port(name, "eth0"), Port(node.name, device)
        yield Machine(name, "pod", (own,), node.name)
        yield from primitives.endpoint(name)
        yield Sysctl(name, "net.ipv4.conf.eth0.arp_notify", "1")  # announce a new address
        yield Link(outer, "veth", inner, made.name, made.mtu, hairpin=made.hairpin)
        yield Link(inner, "veth", outer, None, made.mtu, primitives.mac(name))
        yield from primitives.addresses(inner, primitives.iface(own, pods.prefixlen))
        for network in made.routes:
            yield Route(name, network, gateway(pods), "eth0")


def refuse(nodes: Iterable[Node], length: int, *, key: str = "node_prefix") -> Iterator[tuple[str, str, str]]:
    """Errors for nodes with more pods than addresses in their range; `length` is its prefix length."""
    room = max(2 ** (32 - length) - KEPT, 0)
    for node in nodes:
        if len(node.pods) > room:
            what = f"{node.name} has {len(node.pods)} pods, but its /{length} has {room} addresses for them"
            hint = f"pods + network, bridge and broadcast: a /{primitives.prefix_for(len(node.pods) + KEPT)}"
            yield key, what, hint
