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

from labctl.core.resources import Address, Interface, Link, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, ScenarioNode
from labctl.core.why import Component, Source, explained
from labctl.models.lib import primitives

PLUGINS = "containernetworking/plugins"
PLUGIN = Component("the CNI plugin bridge", Source(PLUGINS, "plugins/main/bridge/bridge.go", "1.1.1"))
IPAM = Component("the CNI plugin host-local", Source(PLUGINS, "plugins/ipam/host-local", "1.1.1"))
_BRIDGE = PLUGIN.why(
    "It connects the pods of {ns}: they are the machines of one Ethernet, and {dev} is its switch. Its MAC address is"
    " fixed, because otherwise a bridge takes the lowest one of its ports, which changes when pods come and go."
)
_PROMISC = Component(
    "the kubelet (kubenet)",
    Source("kubernetes/kubernetes", "pkg/kubelet/dockershim/network/kubenet/kubenet_linux.go", "1.23"),
)
_PROMISC_BRIDGE = _PROMISC.why(
    "It connects the pods of {ns}, as a switch. It is promiscuous (the hairpin mode promiscuous-bridge), so that a"
    " pod can reach itself through a Service: the node routes the packet back, and no port needs the hairpin flag."
    " Its MAC address is fixed, so that it does not change when pods come and go."
)
_GATEWAY = PLUGIN.why(
    "It is the gateway of the pods of {ns}: with an address, the bridge is also a device of the node, by which the node"
    " routes packets of its pods."
)
_CALLS_IPTABLES = Component(
    "the set-up of a Kubernetes node",
    Source("kubernetes/website", "docs/concepts/extend-kubernetes/compute-storage-net/network-plugins.md", "1.23"),
).why(
    "Frames between two pods of {ns} pass its iptables too. Kubernetes requires it: the answer of a pod to another"
    " pod of the node must be translated back, if the question went to a Service."
)
_HOST_END = PLUGIN.why("It is the node's end of the cable of {peer_ns}, a port of the bridge {master}.")
_POD_END = PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_ARP_NOTIFY = PLUGIN.why(
    "The pod announces its address when eth0 comes up, so that neighbours forget an earlier pod with the same address."
)
_ADDRESS = IPAM.why(
    "It is the pod's address: the next free one of the range of its node. Its prefix says that pods of the same node"
    " are on the same Ethernet."
)
_ROUTE = PLUGIN.why("The pod sends packets for {dst} to {via}, the bridge of its node, which routes them.")
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
    at = Interface(ns, config.name)
    reasons = {Link: _PROMISC_BRIDGE if config.promisc else _BRIDGE, Address: _GATEWAY}
    found = primitives.bridge(at, mtu=config.mtu, address=address, promisc=config.promisc)
    yield from explained(reasons, found)
    yield Sysctl(ns, "net.bridge.bridge-nf-call-iptables", "1", why=_CALLS_IPTABLES)


def pods_on_bridge(node: ScenarioNode, pod_range: IPv4Network, config: BridgeConfig) -> Iterator[Resource | Machine]:
    """A node's pods, each with a veth pair to the bridge."""
    devices = primitives.device_names("veth", 8, node.pods)
    for (name, address), device in zip(pod_addresses(node, pod_range), devices, strict=True):
        inner, outer = Interface(name, "eth0"), Interface(node.name, device)
        yield Machine(name, "pod", (address,), node.name)
        yield from primitives.container_netns(name)
        yield Sysctl(name, "net.ipv4.conf.eth0.arp_notify", "1", why=_ARP_NOTIFY)
        yield from primitives.veth_pair(
            outer,
            inner,
            mtu=config.mtu,
            macs=(None, primitives.mac(name)),
            master=config.name,
            hairpin=config.hairpin,
            txqueuelen=primitives.NO_QUEUE,
            whys=(_HOST_END, _POD_END),
        )
        interface_address = primitives.with_prefix_length(address, pod_range.prefixlen)
        yield from explained(_ADDRESS, primitives.addresses(inner, interface_address))
        for network in config.routes:
            yield Route(name, network, gateway_address(pod_range), "eth0", why=_ROUTE)


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
