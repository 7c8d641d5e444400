"""The way out of an AKS cluster as options of its models: `outbound:`, in Azure's own words, and what AKS refuses.

Follows outboundType, loadBalancerProfile and natGatewayProfile of Microsoft.ContainerService/managedClusters, and the
limits in load-balancer-standard.md, nat-gateway.md and egress-outboundtype.md of MicrosoftDocs/azure-aks-docs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.core.address_use import OverlapRefusal
from labctl.core.options import cidr, option
from labctl.core.scenario_types import NetworkRule
from labctl.models.lib import primitives

NAT_GATEWAYS = ("natGateway", "managedNATGateway", "userAssignedNATGateway")
TYPES = ("loadBalancer", *NAT_GATEWAYS, "userDefinedRouting", "none", "block")
FIRST_PORT = 1024  # the ports below are never source ports of a translation
PORTS_PER_ADDRESS = 64_000  # of a load balancer's public address: its ports from 1024 to 65023
PORT_STEP = 8  # a load balancer gives each node a multiple of this
MAX_NAT_GATEWAY_ADDRESSES = 16
DEFAULT_PORTS = ((50, 1024), (100, 512), (200, 256), (400, 128), (800, 64), (1000, 32))  # up to this many nodes
FIREWALL_PREFIX_LENGTH = 26  # the smallest AzureFirewallSubnet
_NOT_SUBNETS = ("vnet_cidr", "non_masquerade_cidr")  # ranges of options that may contain the firewall's subnet
_ALLOCATION_WITHOUT_SUBNET = "node-subnet"  # of an option `ip_allocation`: the option `pod_subnet` is not used


@dataclass(frozen=True, slots=True)
class Outbound:
    """The way out of a cluster: what lets packets leave the virtual network, and with which public addresses."""

    type: str = option(
        "loadBalancer",
        "what leads out: SNAT with a block of ports for each node (loadBalancer); SNAT with ports that all nodes share"
        " (natGateway, managedNATGateway, userAssignedNATGateway); a route to the machine `azure-firewall`"
        " (userDefinedRouting); nothing (none); a security rule that drops everything (block)",
        choices=TYPES,
    )
    outbound_ips: int = option(
        1, "the number of public addresses: `public_ip` and those after it", minimum=1, maximum=100
    )
    public_ips: tuple[IPv4Address, ...] = option((), "the public addresses, instead of a number of them", single=True)
    allocated_outbound_ports: int = option(
        0,
        "loadBalancer: the ports of each node, a multiple of 8; 0 means by the number of nodes: 1024 up to 50 nodes,"
        " 32 for 1000",
        minimum=0,
        maximum=PORTS_PER_ADDRESS,
    )
    firewall_cidr: IPv4Network = option(
        cidr("10.228.0.0/26"), "userDefinedRouting: the subnet of `azure-firewall`, which has its fourth address"
    )
    allow: tuple[NetworkRule, ...] = option(
        (), 'userDefinedRouting: what the firewall lets out, such as "tcp *:443"; it drops all other connections'
    )

    def addresses(self, public_ip: IPv4Address) -> tuple[IPv4Address, ...]:
        """The public addresses; `public_ip` is the first one if none are given."""
        return self.public_ips or tuple(public_ip + number for number in range(self.outbound_ips))

    def ports_per_node(self, node_count: int) -> int:
        """The number of ports that a load balancer gives each node; 0 for more nodes than it serves."""
        if self.allocated_outbound_ports:
            return self.allocated_outbound_ports
        return next((ports for nodes, ports in DEFAULT_PORTS if node_count <= nodes), 0)


def refuse(options: Any, node_count: int) -> Iterator[tuple[str, str, str]]:
    """Errors for an `outbound:` that Azure does not allow, or in which a key does not belong to its type."""
    outbound: Outbound | None = options.outbound
    if outbound is None:
        return
    yield from _refuse_keys(outbound)
    if outbound.type in ("none", "block"):
        return
    yield from _refuse_addresses(options, outbound)
    if outbound.type == "loadBalancer":
        yield from _refuse_ports(outbound, len(outbound.addresses(options.public_ip)), node_count)
    if outbound.type == "userDefinedRouting":
        yield from _refuse_firewall_subnet(options, outbound)


def _refuse_keys(outbound: Outbound) -> Iterator[tuple[str, str, str]]:
    """Errors for keys that the type of the way out does not use."""
    users = {
        "allocated_outbound_ports": ("loadBalancer",),
        "firewall_cidr": ("userDefinedRouting",),
        "allow": ("userDefinedRouting",),
        "public_ips": ("loadBalancer", *NAT_GATEWAYS, "userDefinedRouting"),
        "outbound_ips": ("loadBalancer", *NAT_GATEWAYS),
    }
    for field in dataclasses.fields(outbound):
        types = users.get(field.name, TYPES)
        if outbound.type not in types and getattr(outbound, field.name) != field.default:
            hint = f"it is for {', '.join(types)}: remove it"
            yield f"outbound/{field.name}", f"{field.name} does not apply to the outbound type {outbound.type}", hint
    if outbound.public_ips and outbound.outbound_ips != 1:
        yield "outbound/outbound_ips", "outbound_ips and public_ips cannot be used together", "keep one of them"


def _refuse_addresses(options: Any, outbound: Outbound) -> Iterator[tuple[str, str, str]]:
    internet: IPv4Network = options.internet_cidr
    key = "outbound/public_ips" if outbound.public_ips else "outbound/outbound_ips"
    found = outbound.addresses(options.public_ip)
    for address in found:
        if list(primitives.refuse_public_ip(internet, address)):
            what = f"{address} is not a free address of internet_cidr {internet}"
            hint = f"`internet` has {internet.network_address + 1}; the public addresses are others of that range"
            yield key, what, hint
            break
    if len(set(found)) < len(found):
        yield key, "public_ips has one address twice", "remove one of them"
    if outbound.type in NAT_GATEWAYS and len(found) > MAX_NAT_GATEWAY_ADDRESSES:
        what = f"a NAT gateway has at most {MAX_NAT_GATEWAY_ADDRESSES} public addresses, and here are {len(found)}"
        yield key, what, f"use {MAX_NAT_GATEWAY_ADDRESSES} or fewer"
    if outbound.type == "userDefinedRouting" and len(found) > 1:
        yield key, "azure-firewall has one public address in labctl", "give one address"


def _refuse_ports(outbound: Outbound, address_count: int, node_count: int) -> Iterator[tuple[str, str, str]]:
    key, ports = "outbound/allocated_outbound_ports", outbound.ports_per_node(node_count)
    if ports % PORT_STEP:
        below = ports // PORT_STEP * PORT_STEP
        what = f"allocated_outbound_ports {ports} is not a multiple of {PORT_STEP}"
        yield key, what, f"such as {below or PORT_STEP} or {below + PORT_STEP}"
        return
    if not ports:
        what = f"{node_count} nodes: a load balancer divides its ports by itself for at most {DEFAULT_PORTS[-1][0]}"
        yield key, what, "set allocated_outbound_ports"
        return
    capacity = PORTS_PER_ADDRESS // ports * address_count
    if node_count > capacity:
        what = (
            f"{node_count} nodes with {ports} ports each do not fit: {PORTS_PER_ADDRESS} / {ports} x {address_count} ="
            f" {capacity} nodes"
        )
        needed = -(-node_count // (PORTS_PER_ADDRESS // ports))
        yield key, what, f"use {needed} public addresses (outbound_ips), or fewer ports for each node"


def _refuse_firewall_subnet(options: Any, outbound: Outbound) -> Iterator[tuple[str, str, str]]:
    key, subnet = "outbound/firewall_cidr", outbound.firewall_cidr
    if subnet.prefixlen > FIREWALL_PREFIX_LENGTH:
        what = f"firewall_cidr {subnet} is too small: AzureFirewallSubnet is at least a /{FIREWALL_PREFIX_LENGTH}"
        yield key, what, f"such as {subnet.network_address}/{FIREWALL_PREFIX_LENGTH}"
    unused = ("pod_subnet",) if getattr(options, "ip_allocation", "") == _ALLOCATION_WITHOUT_SUBNET else ()
    names = (field.name for field in dataclasses.fields(options) if field.name not in (*_NOT_SUBNETS, *unused))
    ranges = {name: value for name in names if isinstance(value := getattr(options, name), IPv4Network)}
    for name, other in ranges.items():
        if subnet.overlaps(other):
            what = OverlapRefusal(f"firewall_cidr {subnet} overlaps {name} {other}")
            yield key, what, "give each a separate range"
    vnet = getattr(options, "vnet_cidr", None)
    if vnet is not None and not subnet.subnet_of(vnet):
        what = f"firewall_cidr {subnet} is not in vnet_cidr {vnet}"
        yield key, what, "set vnet_cidr to a range that contains all subnets"
