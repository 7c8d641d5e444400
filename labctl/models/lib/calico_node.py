"""A Calico node: its address blocks, its routes to the other nodes, its tunnel device, its pods. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from typing import Any

from labctl.core.resources import Address, Fdb, Interface, Link, Neighbour, Process, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, Scenario
from labctl.core.why import Component, Source, explained
from labctl.models.lib import calico_felix, datacenter, primitives
from labctl.models.lib.datacenter import UnderlayNic

_PROJECT, _VERSION = "projectcalico/calico", "3.31"
_PLUGIN = Component(
    "the CNI plugin calico", Source(_PROJECT, "cni-plugin/pkg/dataplane/linux/dataplane_linux.go", _VERSION)
)
_IPAM = Component("the CNI plugin calico-ipam", Source(_PROJECT, "libcalico-go/lib/ipam/ipam.go", _VERSION))
_FELIX = Component("Felix (calico-node)", Source(_PROJECT, "felix/dataplane/linux/endpoint_mgr.go", _VERSION))
_FELIX_ROUTES = Component("Felix (calico-node)", Source(_PROJECT, "felix/dataplane/linux/vxlan_mgr.go", _VERSION))
_BIRD = Component(
    "BIRD (calico-node)", Source(_PROJECT, "confd/etc/calico/confd/templates/bird_ipam.cfg.template", _VERSION)
)
_BLACKHOLE = (
    "{ns} has this block of addresses, and a separate route to each pod. A packet for an address without a pod ends"
    " here: else it would follow the default route, come back, and loop."
)
_OWN_BLOCK = {80: _FELIX_ROUTES.why(_BLACKHOLE), 12: _BIRD.why(_BLACKHOLE)}
_DIRECT = (
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}). The node is on the same"
    " Ethernet, so no tunnel is needed."
)
_DIRECT_FELIX = _FELIX_ROUTES.why(_DIRECT)
_DIRECT_BIRD = _BIRD.why(
    "It leads packets for {dst} to the pods {dst_machines} by {via} ({via_machine}), because their node has announced"
    " the block by BGP."
)
_INTO_VXLAN = _FELIX_ROUTES.why(
    "It leads packets for {dst} ({dst_machines}) into the tunnel: {via} is the tunnel's address of {via_machine}."
)
_INTO_IPIP = _BIRD.why(
    "It leads packets for {dst} ({dst_machines}) into the tunnel, which sends them to the node {via_machine}."
)
_TUNNEL_ADDRESS = _FELIX_ROUTES.why(
    "It is the address of {ns} in the tunnel, from its own block: the source of what the node itself sends to pods of"
    " other nodes."
)
_VXLAN = _FELIX_ROUTES.why(
    "It is the tunnel to other nodes (VNI {id}): it puts packets of pods into UDP packets between nodes, so that the"
    " network below needs no routes to pods."
)
_IPIP = Component("Felix (calico-node)", Source(_PROJECT, "felix/dataplane/linux/ipip_mgr.go", _VERSION)).why(
    "It is the tunnel to other nodes: it puts packets of pods into IP packets between nodes, so that the network below"
    " needs no routes to pods."
)
_TUNNEL_PROGRAM = Component("labctl", Source("labctl", "labctl/kernel/programs/tunnel.py")).why(
    "It takes the place of the kernel's IP in IP device, which this kernel does not have."
)
_VTEP_NEIGHBOUR = _FELIX_ROUTES.why("{ns} knows the MAC address of {owner} in the tunnel: no ARP request crosses it.")
_VTEP_FDB = _FELIX_ROUTES.why("Frames for this MAC address go to the node {owner} ({dst}): the tunnel floods nothing.")
_HOST_END = _PLUGIN.why(
    "It is the node's end of the cable of {peer_ns}. It has no address and is in no bridge: {ns} routes each packet"
    " of the pod. The MAC address is the same on every cable."
)
_POD_END = _PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_POD_ADDRESS = _IPAM.why(
    "It is the pod's address, from a block of its node. With a /32, the pod has no neighbours at all."
)
_GATEWAY_ROUTE = _PLUGIN.why(
    "The gateway {dst} is behind eth0 directly. No machine has this address: the node answers for it."
)
_DEFAULT = _PLUGIN.why("The pod sends everything to {via}, which means: to its node, whatever the node's address is.")
_VETH_SYSCTLS = {
    "route_localnet": _FELIX.why(
        "Packets from 127.0.0.1 of the node may go to the pod {dev_machine}, as kube-proxy needs."
    ),
    "proxy_arp": _FELIX.why(
        "The pod {dev_machine} asks for the MAC address of 169.254.1.1, which no machine has: {ns} answers for it."
    ),
    "forwarding": _FELIX.why("{ns} forwards packets that come from the pod {dev_machine}."),
}
_PROXY_DELAY = _FELIX.why("{ns} answers ARP requests of the pod {dev_machine} at once, and not after up to 0.8 s.")
_POD_ROUTE = _FELIX.why("It leads packets for {dst_machines} into the cable of this pod: there is no bridge to ask.")
_LEARNED = Component("the router (BGP)", Source(_PROJECT, "the peering guide", _VERSION)).why(
    "The router has learned by BGP that {via_machine} has the block {dst} ({dst_machines})."
)
GATEWAY = IPv4Address("169.254.1.1")
HOST_VETH_MAC = "ee:ee:ee:ee:ee:ee"  # of the node's end of every pod's veth pair
# a route's protocol (rt_protos); Felix's routes to its devices have `boot`, the default
PROTO_FELIX, PROTO_BIRD = 80, 12
VNI, VXLAN_PORT = 4096, 4789
# bytes of headers that a tunnel adds to a packet
OVERHEAD_BYTES = {calico_felix.VXLAN_DEVICE: 50, calico_felix.IPIP_DEVICE: 20, None: 0}


@dataclass(frozen=True, slots=True)
class NodeAddressing:
    """A node's NIC and its addresses of the pool: its blocks, the address of its tunnel device, and its pods'."""

    nic: UnderlayNic
    blocks: tuple[IPv4Network, ...]
    tunnel_address: IPv4Address | None
    pods: tuple[tuple[str, str, IPv4Address], ...]  # pod, the node's device to it, the pod's address

    @property
    def name(self) -> str:
        return self.nic.machine

    @property
    def vtep_mac(self) -> str:
        """The MAC address of its VXLAN device: 66, then bytes of the SHA-1 of the node's name."""
        return primitives.mac(self.name, "66")


def tunnel_device(options: Any) -> str | None:
    """The name of the encapsulation's tunnel device, or None."""
    devices = {"vxlan": calico_felix.VXLAN_DEVICE, "ipip": calico_felix.IPIP_DEVICE}
    return devices.get(options.encapsulation.split("-")[0])


def block_count(pod_count: int, options: Any) -> int:
    """The number of blocks of a node with this many pods: at least one. A tunnel device takes one address."""
    size: int = 2 ** (32 - options.block_size)
    return max(1, -(-(pod_count + (tunnel_device(options) is not None)) // size))


def node_addressing(scenario: Scenario) -> list[NodeAddressing]:
    """Every node's blocks and addresses: first one block for each node, in order, then the additional blocks.

    Addresses are assigned in order from a block's first address. The tunnel device gets the first, if there is one.
    """
    options, nodes = scenario.options, scenario.nodes
    size, base = 2 ** (32 - options.block_size), int(options.ippool.network_address)
    next_block, found = len(nodes), []
    for number, (nic, node) in enumerate(zip(datacenter.node_nics(scenario), nodes, strict=True)):
        additional = block_count(len(node.pods), options) - 1
        numbers = [number, *range(next_block, next_block + additional)]
        next_block += additional
        blocks = tuple(IPv4Network((base + at * size, options.block_size)) for at in numbers)
        unused = chain.from_iterable(map(IPv4Address, range(int(one[0]), int(one[-1]) + 1)) for one in blocks)
        tunnel = next(unused) if tunnel_device(options) is not None else None
        devices = primitives.device_names("cali", 11, (f"default.{pod}" for pod in node.pods))
        found.append(NodeAddressing(nic, blocks, tunnel, tuple(zip(node.pods, devices, unused, strict=False))))
    return found


def node_resources(
    addressing: NodeAddressing, all_nodes: Sequence[NodeAddressing], options: Any, *, kernel_ipip: bool
) -> Iterator[Resource | Machine]:
    """A node with its pods. Without `kernel_ipip`, a program encapsulates packets on a TUN device."""
    tunnel = tunnel_device(options)
    addresses = [ip for ip in (addressing.nic.address, addressing.tunnel_address) if ip is not None]
    yield Machine(addressing.name, "node", tuple(addresses))
    yield from primitives.node_netns(addressing.name)
    devices = ["eth0", *([tunnel.replace(".", "/")] if tunnel else []), *(name for _, name, _ in addressing.pods)]
    yield from primitives.forwarding_sysctls(addressing.name, True, rp_filter=2, devices=devices)
    if addressing.tunnel_address is not None:
        yield from _tunnel(addressing, addressing.tunnel_address, all_nodes, options, kernel_ipip)
    for block in addressing.blocks:
        proto = PROTO_FELIX if tunnel == calico_felix.VXLAN_DEVICE else PROTO_BIRD
        yield Route(addressing.name, block, kind="blackhole", proto=proto, why=_OWN_BLOCK[proto])
    for other in all_nodes:
        for block in other.blocks if other != addressing else ():
            yield _block_route(addressing, other, block, options)
    yield from calico_felix.firewall(_felix_config(addressing, all_nodes, options))
    yield from _pods(addressing, options.mtu - OVERHEAD_BYTES[tunnel])


def _block_route(addressing: NodeAddressing, other: NodeAddressing, block: IPv4Network, options: Any) -> Route:
    """A node's route to a block of another node: direct, through the tunnel, or via the router, which must have a route
    to the block."""
    same_subnet, name, encapsulation = addressing.nic.same_subnet(other.nic), addressing.name, options.encapsulation
    direct = encapsulation == "none" or (encapsulation.endswith("-cross-subnet") and same_subnet)
    if encapsulation.startswith("vxlan"):
        if direct:
            return Route(name, block, other.nic.address, "eth0", onlink=True, proto=PROTO_FELIX, why=_DIRECT_FELIX)
        device, mtu = calico_felix.VXLAN_DEVICE, options.mtu - OVERHEAD_BYTES[calico_felix.VXLAN_DEVICE]
        return Route(name, block, other.tunnel_address, device, onlink=True, mtu=mtu, why=_INTO_VXLAN)
    if direct:
        via = other.nic.address if same_subnet else addressing.nic.gateway
        return Route(name, block, via, "eth0", proto=PROTO_BIRD, why=_DIRECT_BIRD)
    device = calico_felix.IPIP_DEVICE
    return Route(name, block, other.nic.address, device, onlink=True, proto=PROTO_BIRD, why=_INTO_IPIP)


def _tunnel(
    addressing: NodeAddressing,
    tunnel_address: IPv4Address,
    all_nodes: Sequence[NodeAddressing],
    options: Any,
    kernel_ipip: bool,
) -> Iterator[Resource | Machine]:
    """The tunnel device: vxlan.calico with a neighbour and a forwarding entry for each other node, or tunl0."""
    name = tunnel_device(options) or ""
    at, mtu = Interface(addressing.name, name), options.mtu - OVERHEAD_BYTES[name]
    yield Address(at, primitives.with_prefix_length(tunnel_address, 32), None, why=_TUNNEL_ADDRESS)
    others = [other for other in all_nodes if other != addressing]
    if name == calico_felix.VXLAN_DEVICE:
        local = str(addressing.nic.address)
        vxlan_options = (
            ("id", str(VNI)),
            ("dev", "eth0"),
            ("local", local),
            ("learning", "off"),
            ("dstport", str(VXLAN_PORT)),
        )
        yield Link(at, "vxlan", mtu=mtu, mac=addressing.vtep_mac, options=vxlan_options, why=_VXLAN)
        for other in others:
            if other.tunnel_address is not None:
                yield Neighbour(at, other.tunnel_address, other.vtep_mac, why=_VTEP_NEIGHBOUR)
            yield Fdb(at, other.vtep_mac, other.nic.address, why=_VTEP_FDB)
    elif kernel_ipip:
        yield Link(at, "ipip", mtu=mtu, why=_IPIP)
    else:
        yield Link(at, "tun", mtu=mtu, why=_IPIP)
        remotes = (f"{block}={other.nic.address}" for other in others for block in other.blocks)
        command = ("tunnel", "ipip", name, str(addressing.nic.address), *remotes)
        yield Process(addressing.name, "ipip", command, why=_TUNNEL_PROGRAM)


def _felix_config(
    addressing: NodeAddressing, all_nodes: Sequence[NodeAddressing], options: Any
) -> calico_felix.FelixConfig:
    """Felix's configuration for one node."""
    return calico_felix.FelixConfig(
        addressing.name,
        tunnel_device(options),
        tuple(calico_felix.WorkloadEndpoint(device) for _, device, _ in addressing.pods),
        tuple(str(other.nic.address) for other in all_nodes),
        tuple(str(other.nic.address) for other in all_nodes if other != addressing),
        str(options.ippool),
        options.nat_outgoing,
        options.nat_outgoing_exclusions != "ip-pools",
        options.default_endpoint_to_host_action.upper(),
    )


def _pods(addressing: NodeAddressing, mtu: int) -> Iterator[Resource | Machine]:
    """The pods: each has a veth pair, on which the node answers ARP requests for every address (proxy ARP)."""
    gateway_prefix = primitives.host_prefix(GATEWAY)
    for name, device, address in addressing.pods:
        inner, outer = Interface(name, "eth0"), Interface(addressing.name, device)
        yield Machine(name, "pod", (address,), addressing.name)
        yield from primitives.container_netns(name)
        macs = (HOST_VETH_MAC, primitives.mac(name))
        yield from primitives.veth_pair(outer, inner, mtu=mtu, macs=macs, whys=(_HOST_END, _POD_END))
        yield from explained(_POD_ADDRESS, primitives.addresses(inner, primitives.with_prefix_length(address, 32)))
        yield Route(name, gateway_prefix, dev="eth0", why=_GATEWAY_ROUTE)
        yield Route(name, primitives.ANYWHERE, GATEWAY, "eth0", why=_DEFAULT)
        for setting, why in _VETH_SYSCTLS.items():
            yield Sysctl(addressing.name, f"net.ipv4.conf.{device}.{setting}", "1", why=why)
        yield Sysctl(addressing.name, f"net.ipv4.neigh.{device}.proxy_delay", "0", why=_PROXY_DELAY)
        yield Route(addressing.name, primitives.host_prefix(address), dev=device, why=_POD_ROUTE)


def bgp_routes(all_nodes: Sequence[NodeAddressing], options: Any) -> Iterator[Resource]:
    """The routes that the router learns by BGP: each block via its node."""
    for node in all_nodes:
        lan = "lan1" if node.nic.subnet == options.node_cidr else "lan2"
        for block in node.blocks:
            yield Route("fabric", block, node.nic.address, lan, proto=PROTO_BIRD, why=_LEARNED)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of a pool that is too small for the blocks."""
    options = scenario.options
    block_size, pool = options.block_size, options.ippool
    if pool.prefixlen > block_size:
        what = f"block_size: blocks of /{block_size} are larger than ippool {pool}"
        yield "block_size", what, f"use {pool.prefixlen} or more"
        return
    total = sum(block_count(len(node.pods), options) for node in scenario.nodes)
    capacity = 2 ** (block_size - pool.prefixlen)
    if total > capacity:
        prefix_length = block_size - (total - 1).bit_length()
        what = f"ippool {pool} holds {capacity} blocks of /{block_size} and the nodes need {total}"
        yield "ippool", what, f"use a /{prefix_length}"
