"""How many addresses an AKS cluster takes, in each of Azure's ways to give addresses to pods. Pure arithmetic.

    overlay                 each node has a /24 of a private range; the virtual network has addresses of nodes only
    node-subnet             each node reserves one address for itself and `max_pods` for pods, in the nodes' subnet
    pod-subnet              nodes get addresses of a second subnet in batches of 16, when they need them (dynamic
                            allocation): another batch when fewer than 8 of a node's addresses are free
    pod-subnet-static-block each node gets whole /28 blocks of a second subnet, enough for `max_pods` pods
    kubenet                 each node has a part of a private range, and a route in the nodes' route table

Follows MicrosoftDocs/azure-aks-docs of 2026: concepts-network-ip-address-planning.md, concepts-network-cni-overview.md,
concepts-network-azure-cni-overlay.md, concepts-network-azure-cni-pod-subnet.md, concepts-network-legacy-cni.md and
configure-azure-cni-dynamic-ip-allocation.md; for batches Azure/azure-container-networking:
docs/feature/subnet-scarcity/phase-2/2-scalingmath.md and cns/ipampool/v2/monitor.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType
from typing import Literal, TypeAlias

Allocation: TypeAlias = Literal["overlay", "node-subnet", "pod-subnet", "pod-subnet-static-block", "kubenet"]
FIRST_USABLE_OFFSET = 4  # Azure reserves the first four addresses of a subnet ...
RESERVED_ADDRESSES = 5  # ... and the last
RESERVED_RANGES = tuple(
    IPv4Network(text) for text in ("169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24")
)
MIN_MAX_PODS, MAX_MAX_PODS = 10, 250  # the values that AKS takes for a node's maximum of pods
MIN_POOL_PODS = 30  # a node pool must have room for so many pods
MAX_VNET_ADDRESSES = 65_536  # configured addresses of one virtual network; a block counts as one
SHORTEST_VNET_PREFIX = 8
SHORTEST_SERVICE_PREFIX = 13  # the range of Services must be smaller than a /12
BATCH = 16  # addresses that a node requests at once
MIN_FREE = BATCH // 2  # with fewer free addresses, a node requests another batch
BLOCK_PREFIX_LENGTH = 28
BLOCK = 1 << 32 - BLOCK_PREFIX_LENGTH
NODE_RANGE_PREFIX_LENGTH = 24  # of each node's range in an overlay; AKS has no other


@dataclass(frozen=True, slots=True)
class Limits:
    """What AKS allows in one way of allocation: nodes of a cluster, the default of `max_pods`, and the shortest prefix
    length of the range from which pods get addresses (None: no such limit)."""

    max_nodes: int
    default_max_pods: int
    shortest_prefix: int | None = None


LIMITS: MappingProxyType[Allocation, Limits] = MappingProxyType({
    "overlay": Limits(5000, 250),
    "node-subnet": Limits(5000, 30),
    "pod-subnet": Limits(5000, 110, 16),
    "pod-subnet-static-block": Limits(5000, 110, 12),
    "kubenet": Limits(400, 110),  # an Azure route table has so many routes
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class AddressCount:
    """Addresses that a cluster takes: in the nodes' subnet, and in the separate range of pods (0 if there is none).

    What Azure reserves of each subnet is not included.
    """

    node_subnet: int
    pod_range: int = 0


def addresses_needed(
    allocation: Allocation, nodes: int, max_pods: int, *, surge: int = 1, node_prefix: int = NODE_RANGE_PREFIX_LENGTH
) -> AddressCount:
    """The addresses for `nodes` nodes with as many pods as they may have, and `surge` nodes more during an upgrade.

    `node_prefix` is the prefix length of a node's part of kubenet's range of pods.
    """
    count = nodes + surge
    if allocation == "node-subnet":
        return AddressCount(count * (max_pods + 1))
    if allocation == "pod-subnet":
        return AddressCount(count, count * dynamic_addresses(max_pods, max_pods))
    if allocation == "pod-subnet-static-block":
        return AddressCount(count, count * blocks_per_node(max_pods) * BLOCK)
    length = NODE_RANGE_PREFIX_LENGTH if allocation == "overlay" else node_prefix
    return AddressCount(count, count << 32 - length)


def dynamic_addresses(pods: int, max_pods: int) -> int:
    """The addresses of the pod subnet that a node with so many pods has: whole batches, of which at least half a batch
    is free, but no more than it can use. One of them is the primary address of the node's network container."""
    batches = -(-(pods + MIN_FREE) // BATCH)
    return min(batches * BATCH, max_pods + 1)


def blocks_per_node(max_pods: int) -> int:
    """The /28 blocks of a node. One address of all its blocks is kept for the node, so 16 x N - 1 pods waste none."""
    return -(-(max_pods + 1) // BLOCK)


def usable_addresses(subnet: IPv4Network) -> int:
    """The addresses of a subnet that Azure does not reserve."""
    return max(subnet.num_addresses - RESERVED_ADDRESSES, 0)


def usable_blocks(subnet: IPv4Network) -> int:
    """The /28 blocks of a subnet without addresses that Azure reserves: all but the first and the last."""
    return max(subnet.num_addresses // BLOCK - 2, 0)


def prefix_length_for(addresses: int) -> int:
    """The longest prefix length of a subnet with so many usable addresses."""
    return 32 - (addresses + RESERVED_ADDRESSES - 1).bit_length()


def prefix_length_for_blocks(blocks: int) -> int:
    """The longest prefix length of a subnet with so many usable blocks."""
    return BLOCK_PREFIX_LENGTH - (blocks + 1).bit_length()


def reserved_ranges_in(network: IPv4Network | IPv4Address) -> tuple[IPv4Network, ...]:
    """The ranges that AKS keeps for itself and that a range or an address overlaps."""
    return tuple(reserved for reserved in RESERVED_RANGES if IPv4Network(network).overlaps(reserved))


def service_range_problems(
    service_cidr: IPv4Network, dns_service_ip: IPv4Address | None, ranges: dict[str, IPv4Network]
) -> list[tuple[str, str]]:
    """What AKS refuses in the range of Services and the address of the cluster's DNS, each with a hint.

    `ranges` are the other ranges of the cluster, by name.
    """
    found = []
    if service_cidr.prefixlen < SHORTEST_SERVICE_PREFIX:
        what = f"the Service range {service_cidr} is too large"
        found.append((what, f"AKS allows ranges smaller than a /12: a /{SHORTEST_SERVICE_PREFIX} or smaller"))
    for reserved in reserved_ranges_in(service_cidr):
        hint = "AKS refuses " + ", ".join(map(str, RESERVED_RANGES)) + " and ranges that overlap them"
        found.append((f"the Service range {service_cidr} overlaps {reserved}, which AKS reserves", hint))
    for name, network in ranges.items():
        if service_cidr.overlaps(network):
            what = f"the Service range {service_cidr} overlaps {name} {network}"
            found.append((what, "nothing in the virtual network or connected to it may use this range"))
    if dns_service_ip is not None:
        first = service_cidr.network_address + 1
        if dns_service_ip not in service_cidr:
            what = f"the DNS address {dns_service_ip} is not in the Service range {service_cidr}"
            found.append((what, f"use {service_cidr.network_address + 10}" if service_cidr.prefixlen < 29 else ""))
        elif dns_service_ip == first:
            what = f"the DNS address {dns_service_ip} is the first address of the Service range"
            found.append((what, f"{first} is that of kubernetes.default: use a later one"))
    return found
