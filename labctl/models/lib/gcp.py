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
from labctl.core.why import Component, Source, explained
from labctl.models.lib import cloud_vpc, primitives
from labctl.models.lib.cloud_vpc import Nic as Nic

DOCS = "Google Cloud documentation"
VPC = Component("the VPC of Google Cloud", Source(DOCS, "VPC networks, routes"))
DHCP = Component("the guest agent of Google Cloud (DHCP)", Source("GoogleCloudPlatform/guest-agent"))
_NAT = Component("Cloud NAT", Source(DOCS, "Cloud NAT overview"))
_FABRIC = VPC.why("It is the VPC: it is not a switch, but a router that knows each instance and its ranges.")
_FABRIC_END = VPC.why("It is the VPC's end of the network interface of {peer_ns}: its only neighbour.")
_NIC = VPC.why("It is the network interface of {ns}. Its MAC address is made from its IP address.")
_GATEWAY = VPC.why(
    "It is the gateway of the subnet of {dev_machine}. In reality no machine has it: the VPC answers for it."
)
_TO_INSTANCE = VPC.why("The VPC knows at which instance {dst} is: {dst_machines}.")
_ADDRESS = DHCP.why(
    "It is the address of {ns}. With a /32 no other address is on its link, so every packet goes to the VPC."
)
_GATEWAY_ROUTE = DHCP.why("Only the gateway {dst} is on the link of {ns}.")
_DEFAULT = DHCP.why("{ns} sends everything to the VPC, even packets for a machine of its own subnet.")
_CUSTOM = Component(
    "the cloud controller manager of Google Cloud",
    Source("kubernetes/cloud-provider-gcp", "providers/gce/gce_routes.go"),
).why(
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}). It is a custom static route, of"
    " which each node needs one: the VPC itself knows only the address of the instance."
)
_CUSTOM_RULE = VPC.why(
    "Custom static routes belong to this network: packets of {iif_machine} use them, those of a peered network do not."
)
_ALIAS = VPC.why(
    "{dst} is an alias range of the instance {via_machine}: the VPC leads packets for its pods ({dst_machines}) there"
    " by itself, and no route is visible."
)
_MAY_SEND = VPC.why("{iif_machine} may send from {src}: its own address, or an alias range of it.")
_MAY_NOT_SEND = VPC.why("{iif_machine} may not forward (canIpForward is off): the VPC drops any other source.")
_WHY_NAT = _NAT.why("Packets to the internet get the public address {to}: private addresses have no way back.")
FIRST_USABLE_OFFSET = 2  # Google Cloud reserves the first two addresses of a subnet ...
RESERVED_ADDRESSES = 4  # ... and the last two
CUSTOM_ROUTES_TABLE = 100  # the fabric's table of custom static routes, and the priority of the rules for it


def mac(address: IPv4Address) -> str:
    """The MAC address for an address of a VPC: 42:01 and the four bytes of the address."""
    return f"42:01:{address.packed.hex(':')}"


def fabric(nics: Iterable[Nic], mtu: int) -> Iterator[Resource]:
    """The VPC: a router with a link to each machine, and the gateway of each machine."""
    nics = tuple(nics)
    yield from primitives.netns("fabric", why=_FABRIC)
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=(nic.fabric_device for nic in nics))
    for nic in nics:
        inner, outer = Interface(nic.machine, "eth0"), Interface("fabric", nic.fabric_device)
        yield Link(outer, "veth", inner, None, mtu, mac(nic.gateway), why=_FABRIC_END)
        yield Link(inner, "veth", outer, None, mtu, mac(nic.address), why=_NIC)
        yield from explained(_GATEWAY, primitives.addresses(outer, primitives.with_prefix_length(nic.gateway, 32)))
        yield Route("fabric", nic.host_prefix, dev=nic.fabric_device, why=_TO_INSTANCE)


def attach_nic(nic: Nic) -> Iterator[Resource]:
    """The machine's side as DHCP sets it up: a /32, the gateway on the link, and the default route."""
    address = primitives.with_prefix_length(nic.address, 32)
    yield from explained(_ADDRESS, primitives.addresses(Interface(nic.machine, "eth0"), address))
    yield Route(nic.machine, primitives.host_prefix(nic.gateway), dev="eth0", why=_GATEWAY_ROUTE)
    yield primitives.default_route(nic.machine, nic.gateway, why=_DEFAULT)


def custom_routes(routes: Iterable[tuple[IPv4Network, Nic]], nics: Iterable[Nic]) -> Iterator[Resource]:
    """Custom static routes with an instance as their next hop, for the machines of this network only."""
    for network, nic in routes:
        device, table = nic.fabric_device, CUSTOM_ROUTES_TABLE
        yield Route("fabric", network, nic.address, device, table, onlink=True, why=_CUSTOM)
    for nic in nics:
        yield Rule("fabric", CUSTOM_ROUTES_TABLE, CUSTOM_ROUTES_TABLE, iif=nic.fabric_device, why=_CUSTOM_RULE)


def alias_range_route(network: IPv4Network, nic: Nic) -> Route:
    """The route to an alias range of an instance. Google Cloud does not show such a route."""
    return Route("fabric", network, nic.address, nic.fabric_device, onlink=True, why=_ALIAS)


def anti_spoofing(nic: Nic, *aliases: IPv4Network) -> Iterator[Resource]:
    """An instance that may not forward can send only from its own address and its alias ranges."""
    device = nic.fabric_device
    accept_rules = ((f"-s {network} -i {device} -j ACCEPT", _MAY_SEND) for network in (nic.host_prefix, *aliases))
    yield primitives.chain("fabric", "raw", "PREROUTING", *accept_rules, (f"-i {device} -j DROP", _MAY_NOT_SEND))


def cloud_nat(public_ip: IPv4Address) -> Iterator[Resource]:
    """Cloud NAT: it translates the source of outgoing traffic to its public address."""
    rule = f"-o {cloud_vpc.INTERNET_GATEWAY} -j SNAT --to-source {public_ip}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", (rule, _WHY_NAT))
