"""A virtual private cloud (VPC) of Google Cloud, as instances see it: a router next to each of them, and nothing else.

An instance has a /32, so nothing is on its link but its subnet's gateway, and every packet goes to that. The VPC
routes it by what it knows: the addresses of instances, the ranges that are aliases of one, and custom static
routes. Those last are the network's own: a peered network learns addresses and alias ranges, but no custom route.
Unless an instance may forward (`canIpForward`), it may send nothing but its own address and its alias ranges.

Follows Google Cloud's documentation of VPC networks (subnets and their unusable addresses, alias IP ranges, routes,
VPC Network Peering) and of Compute Engine (MAC addresses made of the address, `canIpForward`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from labctl.core.resources import Link, Port, Resource, Route, Rule
from labctl.models.lib import cloud_vpc, primitives
from labctl.models.lib.cloud_vpc import Nic as Nic

FIRST = 2  # Google Cloud keeps the first two addresses of a subnet ...
KEPT = 4  # ... and the last two
CUSTOM = 100  # the fabric's table of custom static routes, and the place of the rules that lead to it


def mac(address: IPv4Address) -> str:
    """The MAC address that goes with an address of a VPC: 42:01 and its four bytes."""
    return f"42:01:{address.packed.hex(':')}"


def fabric(nics: Iterable[Nic], mtu: int) -> Iterator[Resource]:
    """The VPC: a router with a link to each machine, on which it is that machine's gateway."""
    nics = tuple(nics)
    yield from primitives.netns("fabric")
    yield from primitives.forwarding("fabric", True, rp_filter=0, devices=(nic.device for nic in nics))
    for nic in nics:
        inner, outer = Port(nic.name, "eth0"), Port("fabric", nic.device)
        yield Link(outer, "veth", inner, None, mtu, mac(nic.gateway))
        yield Link(inner, "veth", outer, None, mtu, mac(nic.address))
        yield from primitives.addresses(outer, primitives.iface(nic.gateway, 32))
        yield Route("fabric", nic.only, dev=nic.device)


def plug(nic: Nic) -> Iterator[Resource]:
    """The machine's end as DHCP sets it up: a /32, the gateway on the link, and the default route."""
    yield from primitives.addresses(Port(nic.name, "eth0"), primitives.iface(nic.address, 32))
    yield Route(nic.name, IPv4Network((int(nic.gateway), 32)), dev="eth0")
    yield primitives.default(nic.name, nic.gateway)


def custom_routes(routes: Iterable[tuple[IPv4Network, Nic]], nics: Iterable[Nic]) -> Iterator[Resource]:
    """Custom static routes with an instance as their next hop, for the machines of this network alone."""
    for network, nic in routes:
        yield Route("fabric", network, nic.address, nic.device, CUSTOM, onlink=True)
    for nic in nics:
        yield Rule("fabric", CUSTOM, CUSTOM, iif=nic.device)


def alias(network: IPv4Network, nic: Nic) -> Route:
    """A range that is an alias of an instance. Google Cloud has no route to show for it."""
    return Route("fabric", network, nic.address, nic.device, onlink=True)


def no_spoofing(nic: Nic, *aliases: IPv4Network) -> Iterator[Resource]:
    """What an instance that may not forward can send: its own address, and its alias ranges."""
    own = (f"-s {network} -i {nic.device} -j ACCEPT" for network in (nic.only, *aliases))
    yield primitives.chain("fabric", "raw", "PREROUTING", *own, f"-i {nic.device} -j DROP")


def cloud_nat(public: IPv4Address) -> Iterator[Resource]:
    """Cloud NAT: whatever leaves wears its public address."""
    yield primitives.chain("fabric", "nat", "POSTROUTING", f"-o {cloud_vpc.GATEWAY} -j SNAT --to-source {public}")
