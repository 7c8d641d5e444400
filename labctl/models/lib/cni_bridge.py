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

from labctl.core.resources import Interface, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, ScenarioNode
from labctl.models.lib import primitives

RESERVED_ADDRESSES = 3  # addresses of a range that no pod gets: network, bridge and broadcast


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """The bridge of a network's configuration: its name, its MTU, and the settings of the plugin."""

    name: str
    mtu: int
    hairpin: bool = False
    promisc: bool = False
    routes: tuple[IPv4Network, ...] = (primitives.ANYWHERE,)


def gateway_address(pod_range: IPv4Network) -> IPv4Address:
    """The bridge's address, the first of the node's range."""
    return pod_range.network_address + 1


def pod_addresses(node: ScenarioNode, pod_range: IPv4Network) -> Iterator[tuple[str, IPv4Address]]:
    """Each pod of a node with its address, in host-local's order: the first after the bridge's, then the next."""
    first = int(pod_range.network_address) + 2
    return ((name, IPv4Address(first + number)) for number, name in enumerate(node.pods))


def masqueraded_pods(
    nodes: Iterable[ScenarioNode], ranges: Iterable[IPv4Network], exempt: Iterable[IPv4Network]
) -> dict[str, IPv4Address]:
    """The pods to which no pod keeps its address, because their own is in no exempt range: each with the address that
    it sees. The last node that masquerades a packet is its own, which uses its gateway's address towards it."""
    exempt = tuple(exempt)
    return {
        name: gateway_address(pod_range)
        for node, pod_range in zip(nodes, ranges, strict=False)  # a small pod CIDR has too few, which is refused
        for name, address in pod_addresses(node, pod_range)
        if not any(address in network for network in exempt)
    }


def node_bridge(ns: str, pod_range: IPv4Network, config: BridgeConfig) -> Iterator[Resource]:
    """The bridge of a node, with its address; bridged frames pass iptables, as the kubelet requires."""
    address = primitives.with_prefix_length(gateway_address(pod_range), pod_range.prefixlen)
    yield from primitives.bridge(Interface(ns, config.name), mtu=config.mtu, address=address, promisc=config.promisc)
    yield Sysctl(ns, "net.bridge.bridge-nf-call-iptables", "1")


def pods_on_bridge(node: ScenarioNode, pod_range: IPv4Network, config: BridgeConfig) -> Iterator[Resource | Machine]:
    """A node's pods, each with a veth pair to the bridge."""
    devices = primitives.device_names("veth", 8, node.pods)
    for (name, address), device in zip(pod_addresses(node, pod_range), devices, strict=True):
        inner, outer = Interface(name, "eth0"), Interface(node.name, device)
        yield Machine(name, "pod", (address,), node.name)
        yield from primitives.container_netns(name)
        yield Sysctl(name, "net.ipv4.conf.eth0.arp_notify", "1")  # announce a new address
        yield from primitives.veth_pair(
            outer,
            inner,
            mtu=config.mtu,
            macs=(None, primitives.mac(name)),
            master=config.name,
            hairpin=config.hairpin,
            txqueuelen=primitives.NO_QUEUE,
        )
        yield from primitives.addresses(inner, primitives.with_prefix_length(address, pod_range.prefixlen))
        for network in config.routes:
            yield Route(name, network, gateway_address(pod_range), "eth0")


def refuse_pod_ranges(
    nodes: Iterable[ScenarioNode], prefix_length: int, *, key: str = "node_prefix"
) -> Iterator[tuple[str, str, str]]:
    """Errors for nodes with more pods than addresses in their range."""
    capacity = max(2 ** (32 - prefix_length) - RESERVED_ADDRESSES, 0)
    for node in nodes:
        if len(node.pods) > capacity:
            what = f"{node.name} has {len(node.pods)} pods, but its /{prefix_length} has {capacity} addresses for them"
            hint = (
                "pods + network, bridge and broadcast: a"
                f" /{primitives.prefix_length_for(len(node.pods) + RESERVED_ADDRESSES)}"
            )
            yield key, what, hint
