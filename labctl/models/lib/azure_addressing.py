"""AKS's address planning, which its models share: who gets which address, what does not fit, and how many would.

Azure keeps five addresses of every subnet. Where pods live in the nodes' subnet, each node has addresses for
`max_pods` pods reserved from the start, and an upgrade needs a whole further node's share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.core.options import address, cidr, option
from labctl.core.scenario_types import Scenario
from labctl.models.lib import primitives
from labctl.models.lib.azure import Nic
from labctl.models.lib.primitives import refuse_internet as refuse_internet

FIRST = 4  # Azure keeps the first four addresses of a subnet ...
KEPT = 5  # ... and the last
RESERVED = tuple(IPv4Network(text) for text in ("169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24"))


@dataclass(frozen=True, slots=True)
class SubnetOptions:
    """What a scenario may set whose pods live in the nodes' own subnet."""

    vnet_cidr: IPv4Network = option(cidr("10.224.0.0/12"), "the virtual network, which sees pods' own addresses")
    subnet: IPv4Network = option(cidr("10.224.0.0/16"), "the subnet of nodes and pods; node1 is the fourth address")
    vm_cidr: IPv4Network = option(cidr("10.225.0.0/16"), "the subnet of `vm`; the value of `subnet` puts it there")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(address("203.0.113.50"), "the load balancer's address, worn by all that leaves")
    max_pods: int = option(30, "addresses kept ready for pods on each node", minimum=10, maximum=250)
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=9000)


def nics(scenario: Scenario, subnet: IPv4Network, step: int = 1, bridge: str | None = None) -> list[Nic]:
    """The nodes' NICs: the first free address of the subnet, then every `step`-th; the rest is their pods'."""
    first = subnet.network_address + FIRST
    return [Nic(node.name, first + number * step, subnet, bridge) for number, node in enumerate(scenario.nodes)]


def vm_nic(vm_cidr: IPv4Network, subnet: IPv4Network) -> Nic:
    """The NIC of `vm`: in a subnet of its own, or in the nodes' at the far end."""
    return Nic("vm", primitives.within(vm_cidr, -2 if vm_cidr == subnet else FIRST), vm_cidr)


def refuse_subnet(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Refusals for `SubnetOptions`: a subnet that cannot hold nodes with their pods, ranges that do not go together."""
    options: SubnetOptions = scenario.options
    nodes, pods, subnet = len(scenario.nodes), options.max_pods, options.subnet
    held, need = max(subnet.num_addresses - KEPT, 0), (nodes + 1) * (pods + 1)
    if need > held:
        what = f"subnet {subnet} has {held} addresses and {nodes} nodes of {pods} pods need {need}"
        sum_ = f"({nodes} + 1 for upgrades) x ({pods} + 1) = {need}, and Azure keeps {KEPT}"
        would = f"a /{primitives.prefix_for(need + KEPT)} would do; {_fit(subnet, held // (pods + 1) - 1)}"
        yield "subnet", what, f"{sum_}: {would}"
    for key in ("subnet", "vm_cidr"):
        if not getattr(options, key).subnet_of(options.vnet_cidr):
            what = f"{key} {getattr(options, key)} is not in vnet_cidr {options.vnet_cidr}"
            yield key, what, "set vnet_cidr to the range that holds all subnets"
    yield from refuse_apart(options, "subnet", "vm_cidr")
    yield from primitives.overlaps({"vnet_cidr": options.vnet_cidr, "internet_cidr": options.internet_cidr})
    yield from refuse_internet(options.internet_cidr, options.public_ip)
    yield from refuse_ranges(options)


def refuse_nodes(node_cidr: IPv4Network, nodes: int) -> Iterator[tuple[str, str, str]]:
    """Refusals for a subnet of nodes alone that cannot hold them and the one more that an upgrade needs."""
    if nodes + 1 > node_cidr.num_addresses - KEPT:
        sum_ = (
            f"{nodes} + 1 for upgrades, and Azure keeps {KEPT}: a /{primitives.prefix_for(nodes + 1 + KEPT)} would do"
        )
        hint = f"{sum_}; {_fit(node_cidr, node_cidr.num_addresses - KEPT - 1)}"
        yield "node_cidr", f"node_cidr {node_cidr} is too small for {nodes} nodes", hint


def refuse_apart(options: Any, subnet: str, *others: str) -> Iterator[tuple[str, str, str]]:
    """Refusals for ranges that overlap, of the options so named. `vm_cidr` may be the nodes' `subnet` itself."""
    ranges = {name: getattr(options, name) for name in (subnet, *others)}
    if options.vm_cidr == ranges[subnet]:
        del ranges["vm_cidr"]
    elif options.vm_cidr.num_addresses <= KEPT:
        yield "vm_cidr", f"vm_cidr {options.vm_cidr} has no free address", f"Azure keeps {KEPT}: take a /29"
    yield from primitives.overlaps(ranges)


def refuse_ranges(options: Any, free: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Refusals for ranges that AKS keeps for itself, in whichever option; `free` names those that may be
    0.0.0.0/0."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        ranges = value if isinstance(value, tuple) else (value,)
        for network in ranges:
            if not isinstance(network, (IPv4Network, IPv4Address)):
                continue
            if field.name in free and isinstance(network, IPv4Network) and network.prefixlen == 0:
                continue
            for kept in RESERVED:
                if IPv4Network(network).overlaps(kept):
                    hint = "AKS refuses " + ", ".join(map(str, RESERVED)) + " and every range that holds or lies in one"
                    yield field.name, f"{field.name} {network} overlaps {kept}, which AKS reserves", hint


def _fit(subnet: IPv4Network, nodes: int) -> str:
    if nodes < 1:
        return f"not one fits in {subnet}"
    return f"{nodes} node{'s fit' if nodes > 1 else ' fits'} in {subnet}"
