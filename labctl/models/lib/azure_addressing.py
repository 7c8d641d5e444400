"""AKS's address planning, shared by its models: the address of each node, what does not fit, and what would fit.

Azure reserves five addresses of every subnet. If pods are in the nodes' subnet, each node reserves addresses for
`max_pods` pods from the start, and an upgrade needs as many addresses as one more node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

from labctl.core.address_use import AddressUse
from labctl.core.options import address, cidr, option
from labctl.core.scenario_types import Scenario
from labctl.core.text import count
from labctl.models.lib import azure_address_plan as address_plan
from labctl.models.lib import primitives
from labctl.models.lib.azure import Nic
from labctl.models.lib.azure_address_plan import FIRST_USABLE_OFFSET as FIRST_USABLE_OFFSET
from labctl.models.lib.azure_address_plan import RESERVED_ADDRESSES as RESERVED_ADDRESSES
from labctl.models.lib.azure_address_plan import RESERVED_RANGES as RESERVED_RANGES
from labctl.models.lib.azure_egress_gateway import EgressGateway
from labctl.models.lib.azure_outbound_options import Outbound
from labctl.models.lib.azure_platform import Platform
from labctl.models.lib.primitives import refuse_public_ip as refuse_public_ip


@dataclass(frozen=True, slots=True)
class NodeSubnetOptions:
    """Options of a scenario with pods in a subnet of the virtual network. The model adds `max_pods`."""

    vnet_cidr: IPv4Network = option(cidr("10.224.0.0/12"), "the virtual network, in which pods keep their addresses")
    subnet: IPv4Network = option(cidr("10.224.0.0/16"), "the subnet of nodes and pods; node1 has the fourth address")
    vm_cidr: IPv4Network = option(cidr("10.225.0.0/16"), "the subnet of `vm`; it may be the same as `subnet`")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("203.0.113.50"), "public source address of outgoing traffic (SNAT by the load balancer)"
    )
    outbound: Outbound | None = option(None, "the cluster's way out: a type, or a section of options", form="section")
    platform: Platform | None = option(
        None, "the addresses of Azure's platform: true, or a section of options", form="section"
    )
    egress_gateway: EgressGateway | None = option(
        None, "a static egress gateway: its node, or a section of options", form="section"
    )
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=9000)


def subnet_use(key: str, subnet: IPv4Network, *taken: tuple[str, int]) -> AddressUse:
    """The use of a subnet, of which Azure reserves five addresses."""
    return AddressUse(key, subnet, address_plan.usable_addresses(subnet), taken)


def pod_range_use(pod_cidr: IPv4Network, nodes: int, prefix_length: int) -> AddressUse:
    """The use of a private range of pods, of which each node has a part."""
    part = 1 << 32 - prefix_length
    who = f"for {count(nodes, 'node')} (a /{prefix_length} each)"
    return AddressUse("pod_cidr", pod_cidr, pod_cidr.num_addresses, ((who, nodes * part),))


def node_nics(
    scenario: Scenario, subnet: IPv4Network, addresses_per_node: int = 1, bridge: str | None = None
) -> list[Nic]:
    """The nodes' NICs: the first free address of the subnet, then one after each `addresses_per_node`
    addresses. Pods have the addresses between."""
    first = subnet.network_address + FIRST_USABLE_OFFSET
    return [
        Nic(node.name, first + number * addresses_per_node, subnet, bridge)
        for number, node in enumerate(scenario.nodes)
    ]


def vm_nic(vm_cidr: IPv4Network, subnet: IPv4Network) -> Nic:
    """The NIC of `vm`: in a separate subnet, or at the end of the nodes' subnet."""
    return Nic("vm", primitives.address_at(vm_cidr, -2 if vm_cidr == subnet else FIRST_USABLE_OFFSET), vm_cidr)


def refuse_nodes_with_pods(subnet: IPv4Network, nodes: int, pods: int) -> Iterator[tuple[str, str, str]]:
    """Errors for a subnet of nodes that has too few addresses for them, their pods, and one more node for upgrades."""
    available = address_plan.usable_addresses(subnet)
    needed = address_plan.addresses_needed("node-subnet", nodes, pods).node_subnet
    if needed > available:
        what = f"subnet {subnet} has {available} addresses, but {nodes} nodes of {pods} pods need {needed}"
        sum_text = f"({nodes} + 1 for upgrades) x ({pods} + 1) = {needed}, and Azure reserves {RESERVED_ADDRESSES}"
        remedy = (
            f"a /{primitives.prefix_length_for(needed + RESERVED_ADDRESSES)} is large enough;"
            f" {_capacity_text(subnet, available // (pods + 1) - 1)}"
        )
        yield "subnet", what, f"{sum_text}: {remedy}"


def node_subnet_use(subnet: IPv4Network, nodes: int, max_pods: int) -> Iterator[AddressUse]:
    """The use of a subnet in which each node reserves addresses for its pods."""
    upgrade = address_plan.addresses_needed("node-subnet", 0, max_pods).node_subnet
    reserved = ("reserved for pods", nodes * max_pods)
    yield subnet_use("subnet", subnet, (count(nodes, "node").split()[1], nodes), reserved, ("for upgrades", upgrade))


def refuse_vnet_ranges(options: Any, subnet_key: str, *others: str) -> Iterator[tuple[str, str, str]]:
    """Errors for subnets that overlap or are not in `vnet_cidr`, and for ranges that cannot be a virtual network."""
    if options.vnet_cidr.prefixlen < address_plan.SHORTEST_VNET_PREFIX:
        what = f"vnet_cidr {options.vnet_cidr} is too large for a virtual network"
        yield "vnet_cidr", what, f"Azure's largest is a /{address_plan.SHORTEST_VNET_PREFIX}"
    for key in (subnet_key, *others):
        if not getattr(options, key).subnet_of(options.vnet_cidr):
            what = f"{key} {getattr(options, key)} is not in vnet_cidr {options.vnet_cidr}"
            yield key, what, "set vnet_cidr to a range that contains all subnets"
    yield from refuse_overlapping_ranges(options, subnet_key, *others)
    yield from primitives.refuse_overlaps({"vnet_cidr": options.vnet_cidr, "internet_cidr": options.internet_cidr})
    yield from refuse_public_ip(options.internet_cidr, options.public_ip)
    yield from refuse_reserved_ranges(options)


def refuse_node_cidr(node_cidr: IPv4Network, node_count: int, key: str = "node_cidr") -> Iterator[tuple[str, str, str]]:
    """Errors for a subnet of nodes that is too small for them and for the one more that an upgrade needs. `key` is the
    name of the option."""
    if node_count + 1 > node_cidr.num_addresses - RESERVED_ADDRESSES:
        sum_text = (
            f"{node_count} + 1 for upgrades, and Azure reserves {RESERVED_ADDRESSES}: a"
            f" /{primitives.prefix_length_for(node_count + 1 + RESERVED_ADDRESSES)}"
        )
        hint = (
            f"{sum_text} is large enough; {_capacity_text(node_cidr, node_cidr.num_addresses - RESERVED_ADDRESSES - 1)}"
        )
        yield key, f"{key} {node_cidr} is too small for {node_count} nodes", hint


def refuse_overlapping_ranges(options: Any, subnet_key: str, *others: str) -> Iterator[tuple[str, str, str]]:
    """Errors for overlapping ranges among the named options. `vm_cidr` may be equal to the nodes' `subnet`."""
    ranges = {name: getattr(options, name) for name in (subnet_key, *others)}
    if options.vm_cidr == ranges[subnet_key]:
        del ranges["vm_cidr"]
    elif options.vm_cidr.num_addresses <= RESERVED_ADDRESSES:
        what = f"vm_cidr {options.vm_cidr} has no free address"
        yield "vm_cidr", what, f"Azure reserves {RESERVED_ADDRESSES}: use a /29"
    yield from primitives.refuse_overlaps(ranges)


def refuse_reserved_ranges(options: Any, may_be_any: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Errors for ranges that AKS reserves, in any option; the options in `may_be_any` may be 0.0.0.0/0."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        ranges = value if isinstance(value, tuple) else (value,)
        for network in ranges:
            if not isinstance(network, (IPv4Network, IPv4Address)):
                continue
            if field.name in may_be_any and isinstance(network, IPv4Network) and network.prefixlen == 0:
                continue
            for reserved in RESERVED_RANGES:
                if IPv4Network(network).overlaps(reserved):
                    hint = "AKS refuses " + ", ".join(map(str, RESERVED_RANGES)) + " and ranges that overlap them"
                    yield field.name, f"{field.name} {network} overlaps {reserved}, which AKS reserves", hint


def refuse_service_cidr(service_cidr: IPv4Network | IPv6Network, options: Any) -> Iterator[tuple[str, str]]:
    """What AKS refuses in a range of Services: each reason and a hint. Overlaps with networks of machines are refused
    for every model, so only the virtual network and the private range of pods are compared here."""
    if isinstance(service_cidr, IPv4Network):
        ranges = {key: getattr(options, key) for key in ("vnet_cidr", "pod_cidr") if hasattr(options, key)}
        yield from address_plan.service_range_problems(service_cidr, None, ranges)


def _capacity_text(subnet: IPv4Network, node_count: int) -> str:
    if node_count < 1:
        return f"no node fits in {subnet}"
    return f"{node_count} node{'s fit' if node_count > 1 else ' fits'} in {subnet}"
