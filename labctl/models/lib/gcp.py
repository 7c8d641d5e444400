"""A virtual private cloud (VPC) of Google Cloud, as instances see it: a router is the only neighbour of each.

An instance has a /32, so only its subnet's gateway is on its link, and every packet goes to the gateway. The VPC has
routes to the addresses of instances, to the alias ranges of instances, and custom static routes. Custom static routes
belong to one network: a peered network learns addresses and alias ranges, but no custom routes. Unless an instance may
forward (`canIpForward`), it may send only from its own address and its alias ranges.

Follows Google Cloud's documentation of VPC networks (subnets and their unusable addresses, alias IP ranges, routes,
VPC Network Peering) and of Compute Engine (MAC addresses made from the address, `canIpForward`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from labctl.core.resources import Interface, Link, Resource, Route, Rule
from labctl.models.lib import cloud_vpc, primitives
from labctl.models.lib.cloud_vpc import Nic as Nic

FIRST_USABLE_OFFSET = 2  # Google Cloud reserves the first two addresses of a subnet ...
RESERVED_ADDRESSES = 4  # ... and the last two
CUSTOM_ROUTES_TABLE = 100  # the fabric's table of custom static routes, and the priority of the rules for it


def mac(address: IPv4Address) -> str:
    """The MAC address for an address of a VPC: 42:01 and the four bytes of the address."""
    return f"42:01:{address.packed.hex(':')}"


def fabric(nics: Iterable[Nic], mtu: int) -> Iterator[Resource]:
    """The VPC: a router with a link to each machine, and the gateway of each machine."""
    nics = tuple(nics)
    yield from primitives.netns("fabric")
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=(nic.fabric_device for nic in nics))
    for nic in nics:
        inner, outer = Interface(nic.machine, "eth0"), Interface("fabric", nic.fabric_device)
        yield Link(outer, "veth", inner, None, mtu, mac(nic.gateway))
        yield Link(inner, "veth", outer, None, mtu, mac(nic.address))
        yield from primitives.addresses(outer, primitives.with_prefix_length(nic.gateway, 32))
        yield Route("fabric", nic.host_prefix, dev=nic.fabric_device)


def attach_nic(nic: Nic) -> Iterator[Resource]:
    """The machine's side as DHCP sets it up: a /32, the gateway on the link, and the default route."""
    yield from primitives.addresses(Interface(nic.machine, "eth0"), primitives.with_prefix_length(nic.address, 32))
    yield Route(nic.machine, primitives.host_prefix(nic.gateway), dev="eth0")
    yield primitives.default_route(nic.machine, nic.gateway)


def custom_routes(routes: Iterable[tuple[IPv4Network, Nic]], nics: Iterable[Nic]) -> Iterator[Resource]:
    """Custom static routes with an instance as their next hop, for the machines of this network only."""
    for network, nic in routes:
        yield Route("fabric", network, nic.address, nic.fabric_device, CUSTOM_ROUTES_TABLE, onlink=True)
    for nic in nics:
        yield Rule("fabric", CUSTOM_ROUTES_TABLE, CUSTOM_ROUTES_TABLE, iif=nic.fabric_device)


def alias_range_route(network: IPv4Network, nic: Nic) -> Route:
    """The route to an alias range of an instance. Google Cloud does not show such a route."""
    return Route("fabric", network, nic.address, nic.fabric_device, onlink=True)


def anti_spoofing(nic: Nic, *aliases: IPv4Network) -> Iterator[Resource]:
    """An instance that may not forward can send only from its own address and its alias ranges."""
    accept_rules = (f"-s {network} -i {nic.fabric_device} -j ACCEPT" for network in (nic.host_prefix, *aliases))
    yield primitives.chain("fabric", "raw", "PREROUTING", *accept_rules, f"-i {nic.fabric_device} -j DROP")


def cloud_nat(public_ip: IPv4Address) -> Iterator[Resource]:
    """Cloud NAT: it translates the source of outgoing traffic to its public address."""
    yield primitives.chain(
        "fabric", "nat", "POSTROUTING", f"-o {cloud_vpc.INTERNET_GATEWAY} -j SNAT --to-source {public_ip}"
    )
