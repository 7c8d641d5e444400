"""A Calico node: its address blocks, its routes to the other nodes, its tunnel device, its pods. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from typing import Any

from labctl.core.resources import Address, Fdb, Interface, Link, Neighbour, Process, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, Scenario
from labctl.models.lib import calico_felix, datacenter, primitives
from labctl.models.lib.datacenter import UnderlayNic

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
    yield from primitives.netns(addressing.name)
    devices = ["eth0", *([tunnel.replace(".", "/")] if tunnel else []), *(name for _, name, _ in addressing.pods)]
    yield from primitives.forwarding_sysctls(addressing.name, True, rp_filter=2, devices=devices)
    if addressing.tunnel_address is not None:
        yield from _tunnel(addressing, addressing.tunnel_address, all_nodes, options, kernel_ipip)
    for block in addressing.blocks:
        proto = PROTO_FELIX if tunnel == calico_felix.VXLAN_DEVICE else PROTO_BIRD
        yield Route(addressing.name, block, kind="blackhole", proto=proto)
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
            return Route(name, block, other.nic.address, "eth0", onlink=True, proto=PROTO_FELIX)
        mtu = options.mtu - OVERHEAD_BYTES[calico_felix.VXLAN_DEVICE]
        return Route(name, block, other.tunnel_address, calico_felix.VXLAN_DEVICE, onlink=True, mtu=mtu)
    if direct:
        return Route(
            name, block, other.nic.address if same_subnet else addressing.nic.gateway, "eth0", proto=PROTO_BIRD
        )
    return Route(name, block, other.nic.address, calico_felix.IPIP_DEVICE, onlink=True, proto=PROTO_BIRD)


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
    yield Address(at, primitives.with_prefix_length(tunnel_address, 32), None)
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
        yield Link(at, "vxlan", mtu=mtu, mac=addressing.vtep_mac, options=vxlan_options)
        for other in others:
            if other.tunnel_address is not None:
                yield Neighbour(at, other.tunnel_address, other.vtep_mac)
            yield Fdb(at, other.vtep_mac, other.nic.address)
    elif kernel_ipip:
        yield Link(at, "ipip", mtu=mtu)
    else:
        yield Link(at, "tun", mtu=mtu)
        remotes = (f"{block}={other.nic.address}" for other in others for block in other.blocks)
        yield Process(addressing.name, "ipip", ("tunnel", "ipip", name, str(addressing.nic.address), *remotes))


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
        yield from primitives.veth_pair(outer, inner, mtu=mtu, macs=(HOST_VETH_MAC, primitives.mac(name)))
        yield from primitives.addresses(inner, primitives.with_prefix_length(address, 32))
        yield Route(name, gateway_prefix, dev="eth0")
        yield Route(name, primitives.ANYWHERE, GATEWAY, "eth0")
        for setting in ("route_localnet", "proxy_arp", "forwarding"):
            yield Sysctl(addressing.name, f"net.ipv4.conf.{device}.{setting}", "1")
        yield Sysctl(addressing.name, f"net.ipv4.neigh.{device}.proxy_delay", "0")
        yield Route(addressing.name, primitives.host_prefix(address), dev=device)


def bgp_routes(all_nodes: Sequence[NodeAddressing], options: Any) -> Iterator[Resource]:
    """The routes that the router learns by BGP: each block via its node."""
    for node in all_nodes:
        lan = "lan1" if node.nic.subnet == options.node_cidr else "lan2"
        yield from (Route("fabric", block, node.nic.address, lan, proto=PROTO_BIRD) for block in node.blocks)


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
