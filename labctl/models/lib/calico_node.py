"""A Calico node: its address blocks, its routes to the other nodes, its tunnel device, its pods. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from typing import Any

from labctl.core.resources import Address, Fdb, Link, Neighbour, Port, Process, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine, Scenario
from labctl.models.lib import calico_felix, datacenter, primitives
from labctl.models.lib.datacenter import Place

GATEWAY = IPv4Address("169.254.1.1")
HOST_MAC = "ee:ee:ee:ee:ee:ee"  # of the node's end of every pod's veth pair
FELIX, BIRD = 80, 12  # a route's protocol (rt_protos); Felix's routes to its devices have `boot`, the default
VNI, PORT = 4096, 4789
HEADERS = {calico_felix.VXLAN: 50, calico_felix.IPIP: 20, None: 0}  # bytes of headers that a tunnel adds to a packet


@dataclass(frozen=True, slots=True)
class Home:
    """A node's place and its addresses of the pool: its blocks, the address of its tunnel device, and its pods'."""

    place: Place
    blocks: tuple[IPv4Network, ...]
    tunnel: IPv4Address | None
    pods: tuple[tuple[str, str, IPv4Address], ...]  # pod, the node's device to it, the pod's address

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def vtep(self) -> str:
        """The MAC address of its VXLAN device: 66, then bytes of the SHA-1 of the node's name."""
        return primitives.mac(self.name, "66")


def device(options: Any) -> str | None:
    """The name of the encapsulation's tunnel device, or None."""
    return {"vxlan": calico_felix.VXLAN, "ipip": calico_felix.IPIP}.get(options.encapsulation.split("-")[0])


def need(pods: int, options: Any) -> int:
    """The number of blocks of a node with this many pods: at least one. A tunnel device takes one address."""
    size: int = 2 ** (32 - options.block_size)
    return max(1, -(-(pods + (device(options) is not None)) // size))


def homes(scenario: Scenario) -> list[Home]:
    """Every node's blocks and addresses: first one block for each node, in order, then the additional blocks.

    Addresses are assigned in order from a block's first address. The tunnel device gets the first, if there is one.
    """
    options, nodes = scenario.options, scenario.nodes
    size, base = 2 ** (32 - options.block_size), int(options.ippool.network_address)
    more, found = len(nodes), []
    for number, (place, node) in enumerate(zip(datacenter.places(scenario), nodes, strict=True)):
        extra = need(len(node.pods), options) - 1
        numbers = [number, *range(more, more + extra)]
        more += extra
        blocks = tuple(IPv4Network((base + at * size, options.block_size)) for at in numbers)
        free = chain.from_iterable(map(IPv4Address, range(int(one[0]), int(one[-1]) + 1)) for one in blocks)
        tunnel = next(free) if device(options) is not None else None
        devices = primitives.hashed("cali", 11, (f"default.{pod}" for pod in node.pods))
        found.append(Home(place, blocks, tunnel, tuple(zip(node.pods, devices, free, strict=False))))
    return found


def node(home: Home, there: Sequence[Home], options: Any, *, exact: bool) -> Iterator[Resource | Machine]:
    """A node with its pods. Without `exact` (a kernel without IP in IP), a program encapsulates on a TUN device."""
    tunnel = device(options)
    own = (home.place.address,) if home.tunnel is None else (home.place.address, home.tunnel)
    yield Machine(home.name, "node", own)
    yield from primitives.netns(home.name)
    devices = ["eth0", *([tunnel.replace(".", "/")] if tunnel else []), *(name for _, name, _ in home.pods)]
    yield from primitives.forwarding(home.name, True, rp_filter=2, devices=devices)
    if home.tunnel is not None:
        yield from _tunnel(home, home.tunnel, there, options, exact)
    for block in home.blocks:
        maker = FELIX if tunnel == calico_felix.VXLAN else BIRD
        yield Route(home.name, block, kind="blackhole", proto=maker)
    for other in there:
        for block in other.blocks if other != home else ():
            yield _way(home, other, block, options)
    yield from calico_felix.firewall(_told(home, there, options))
    yield from _pods(home, options.mtu - HEADERS[tunnel])


def _way(home: Home, other: Home, block: IPv4Network, options: Any) -> Route:
    """A node's route to a block of another node: direct, through the tunnel, or via the router, which must have a route
    to the block."""
    near, name, encapsulation = home.place.near(other.place), home.name, options.encapsulation
    straight = encapsulation == "none" or (encapsulation.endswith("-cross-subnet") and near)
    if encapsulation.startswith("vxlan"):
        if straight:
            return Route(name, block, other.place.address, "eth0", onlink=True, proto=FELIX)
        return Route(
            name, block, other.tunnel, calico_felix.VXLAN, onlink=True, mtu=options.mtu - HEADERS[calico_felix.VXLAN]
        )
    if straight:
        return Route(name, block, other.place.address if near else home.place.router, "eth0", proto=BIRD)
    return Route(name, block, other.place.address, calico_felix.IPIP, onlink=True, proto=BIRD)


def _tunnel(
    home: Home, own: IPv4Address, there: Sequence[Home], options: Any, exact: bool
) -> Iterator[Resource | Machine]:
    """The tunnel device: vxlan.calico with a neighbour and a forwarding entry for each other node, or tunl0."""
    name = device(options) or ""
    at, mtu = Port(home.name, name), options.mtu - HEADERS[name]
    yield Address(at, primitives.iface(own, 32), None)
    others = [other for other in there if other != home]
    if name == calico_felix.VXLAN:
        local = str(home.place.address)
        made = (("id", str(VNI)), ("dev", "eth0"), ("local", local), ("learning", "off"), ("dstport", str(PORT)))
        yield Link(at, "vxlan", mtu=mtu, mac=home.vtep, options=made)
        for other in others:
            if other.tunnel is not None:
                yield Neighbour(at, other.tunnel, other.vtep)
            yield Fdb(at, other.vtep, other.place.address)
    elif exact:
        yield Link(at, "ipip", mtu=mtu)
    else:
        yield Link(at, "tun", mtu=mtu)
        far = (f"{block}={other.place.address}" for other in others for block in other.blocks)
        yield Process(home.name, "ipip", ("tunnel", "ipip", name, str(home.place.address), *far))


def _told(home: Home, there: Sequence[Home], options: Any) -> calico_felix.Felix:
    """Felix's configuration for one node."""
    return calico_felix.Felix(
        home.name,
        device(options),
        tuple(calico_felix.Endpoint(device) for _, device, _ in home.pods),
        tuple(str(other.place.address) for other in there),
        tuple(str(other.place.address) for other in there if other != home),
        str(options.ippool),
        options.nat_outgoing,
        options.nat_outgoing_exclusions != "ip-pools",
        options.default_endpoint_to_host_action.upper(),
    )


def _pods(home: Home, mtu: int) -> Iterator[Resource | Machine]:
    """The pods: each has a veth pair, on which the node answers ARP requests for every address (proxy ARP)."""
    only = IPv4Network((int(GATEWAY), 32))
    for name, outside, own in home.pods:
        inner, outer = Port(name, "eth0"), Port(home.name, outside)
        yield Machine(name, "pod", (own,), home.name)
        yield from primitives.endpoint(name)
        yield from primitives.veth(outer, inner, mtu=mtu, macs=(HOST_MAC, primitives.mac(name)))
        yield from primitives.addresses(inner, primitives.iface(own, 32))
        yield Route(name, only, dev="eth0")
        yield Route(name, primitives.ANYWHERE, GATEWAY, "eth0")
        for setting in ("route_localnet", "proxy_arp", "forwarding"):
            yield Sysctl(home.name, f"net.ipv4.conf.{outside}.{setting}", "1")
        yield Sysctl(home.name, f"net.ipv4.neigh.{outside}.proxy_delay", "0")
        yield Route(home.name, IPv4Network((int(own), 32)), dev=outside)


def peering(there: Sequence[Home], options: Any) -> Iterator[Resource]:
    """The routes that the router learns by BGP: each block via its node."""
    for home in there:
        lan = "lan1" if home.place.subnet == options.node_cidr else "lan2"
        yield from (Route("fabric", block, home.place.address, lan, proto=BIRD) for block in home.blocks)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals of a pool that is too small for the blocks."""
    options = scenario.options
    length, pool = options.block_size, options.ippool
    if pool.prefixlen > length:
        what = f"block_size: blocks of /{length} are larger than ippool {pool}"
        yield "block_size", what, f"use {pool.prefixlen} or more"
        return
    total, held = sum(need(len(node.pods), options) for node in scenario.nodes), 2 ** (length - pool.prefixlen)
    if total > held:
        fits = length - (total - 1).bit_length()
        what = f"ippool {pool} holds {held} blocks of /{length} and the nodes need {total}"
        yield "ippool", what, f"use a /{fits}"
