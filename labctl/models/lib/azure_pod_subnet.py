"""Azure CNI Pod Subnet: pods have addresses of a second subnet of the virtual network, which each node gets in parts.

With dynamic allocation a part is a batch of 16 single addresses, and a node has as many batches as its pods need. With
static block allocation a part is a /28, and a node has enough of them for `max_pods` pods from the start. Either way
the part belongs to the node's NIC: Azure delivers packets to it there, without a route table. The first address of a
node's first part is kept for the node's network container.

No ip-masq-agent runs. A pod is seen with its own address everywhere, also behind the virtual network. Only the
platform's DNS and metadata services see the node's address, because they answer no other.

Follows Azure/azure-container-networking: cni/network/invoker_cns.go (the node's route to the pod subnet),
cns/restserver/internalapi_linux.go (SWIFT-POSTROUTING), cns/kubecontroller/nodenetworkconfig/conversion.go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.address_use import AddressUse
from labctl.core.resources import Resource, Route
from labctl.core.scenario_types import Scenario
from labctl.core.text import count
from labctl.core.why import Component, Source
from labctl.models.lib import azure_address_plan as address_plan
from labctl.models.lib import primitives
from labctl.models.lib.azure import Nic

DYNAMIC, STATIC_BLOCK = "pod-subnet", "pod-subnet-static-block"
MAX_NAMED_NODES = 4  # nodes that a table of addresses lists by name
CHAIN = "SWIFT-POSTROUTING"
ACN = "Azure/azure-container-networking"
CNS = Component("azure-cns", Source(ACN, "cns/restserver/internalapi_linux.go"))
_TO_NIC = Component("Azure's virtual network", Source(ACN, "cns/kubecontroller/nodenetworkconfig/conversion.go")).why(
    "Azure knows that the NIC of {via_machine} has {dst}, which its pods use ({dst_machines}). It is the node's part of"
    " the pod subnet, so no route table is needed."
)
_TO_SUBNET = CNS.why(
    "Packets of {ns} to pods of other nodes ({dst}) go to the gateway {via}: the node is in another subnet than its"
    " pods.",
    "cni/network/invoker_cns.go",
)
_JUMP = CNS.why("Packets that leave {ns} pass the chain of azure-cns.")
_CHAIN_WHY = CNS.why(
    "It translates the few packets of pods that must have the address of the node; all others keep theirs."
)
_PLATFORM_SNAT = CNS.why(
    "Azure's platform at {dst} answers the node's own address only. So a pod's packet to it gets that address, {to}."
)
_PLATFORM_SERVICES = (("168.63.129.16", "udp", 53), ("168.63.129.16", "tcp", 53), ("169.254.169.254", "tcp", 80))


@dataclass(frozen=True, slots=True)
class NodeAddresses:
    """What one node has of the pod subnet: single addresses from `first` on, or whole /28 blocks."""

    first: IPv4Address
    address_count: int
    blocks: tuple[IPv4Network, ...] = ()

    @property
    def first_pod_address(self) -> IPv4Address:
        """The address of the first pod; the one before it is the node's network container's."""
        return self.first + 1

    @property
    def prefixes(self) -> Iterator[IPv4Network]:
        """What the fabric delivers to the node's NIC: its blocks, or each of its addresses."""
        if self.blocks:
            yield from self.blocks
        else:
            yield from (primitives.host_prefix(self.first + number) for number in range(self.address_count))


def node_addresses(scenario: Scenario, pod_subnet: IPv4Network, allocation: str, max_pods: int) -> list[NodeAddresses]:
    """What each node has of the pod subnet, in order: a real allocation has gaps."""
    if allocation == STATIC_BLOCK:
        per_node = address_plan.blocks_per_node(max_pods)
        first = pod_subnet.network_address + address_plan.BLOCK  # the first block has addresses that Azure reserves
        found = []
        for number in range(len(scenario.nodes)):
            start = int(first) + number * per_node * address_plan.BLOCK
            blocks = tuple(
                IPv4Network((start + block * address_plan.BLOCK, address_plan.BLOCK_PREFIX_LENGTH))
                for block in range(per_node)
            )
            found.append(NodeAddresses(IPv4Address(start), per_node * address_plan.BLOCK, blocks))
        return found
    start = int(pod_subnet.network_address) + address_plan.FIRST_USABLE_OFFSET
    found = []
    for node in scenario.nodes:
        size = address_plan.dynamic_addresses(len(node.pods), max_pods)
        found.append(NodeAddresses(IPv4Address(start), size))
        start += size
    return found


def wiring(nic: Nic, addresses: NodeAddresses, pod_subnet: IPv4Network) -> Iterator[Resource]:
    """The fabric's routes to what a node has of the pod subnet, and the node's own route and rules for it.

    The next hop of the fabric's routes is the node's address, because a node does not answer ARP for its pods; Azure
    itself looks for the NIC that has the address or the block.
    """
    for prefix in addresses.prefixes:
        yield Route("fabric", prefix, nic.address, nic.fabric_device, onlink=True, why=_TO_NIC)
    yield Route(nic.machine, pod_subnet, nic.gateway, nic.address_device, why=_TO_SUBNET)
    yield primitives.chain(nic.machine, "nat", "POSTROUTING", (f"-j {CHAIN}", _JUMP))
    rules = (
        f"-s {pod_subnet} -d {address} -p {protocol} -m addrtype ! --dst-type LOCAL"
        f" -m {protocol} --dport {port} -j SNAT --to-source {nic.address}"
        for address, protocol, port in _PLATFORM_SERVICES
    )
    yield primitives.chain(nic.machine, "nat", CHAIN, *((rule, _PLATFORM_SNAT) for rule in rules), why=_CHAIN_WHY)


def address_use(scenario: Scenario, pod_subnet: IPv4Network, allocation: str, max_pods: int) -> AddressUse:
    """The use of the pod subnet: who has batches or blocks of it, and what a new node of an upgrade needs first."""
    static = allocation == STATIC_BLOCK
    usable, first = address_plan.usable_addresses(pod_subnet), address_plan.dynamic_addresses(0, max_pods)
    if static:
        usable = address_plan.usable_blocks(pod_subnet) * address_plan.BLOCK
        first = address_plan.blocks_per_node(max_pods) * address_plan.BLOCK
    sizes = [own.address_count for own in node_addresses(scenario, pod_subnet, allocation, max_pods)]
    if len(sizes) <= MAX_NAMED_NODES:
        taken = [
            (f"for {node.name} ({_parts(size, static)})", size)
            for node, size in zip(scenario.nodes, sizes, strict=True)
        ]
    else:
        taken = [
            (f"for {count(nodes, 'node')} ({_parts(size, static)} each)", size * nodes)
            for size, nodes in sorted(Counter(sizes).items())
        ]
    return AddressUse("pod_subnet", pod_subnet, usable, (*taken, ("for upgrades", first)))


def _parts(addresses: int, static: bool) -> str:
    """So many addresses as batches or blocks."""
    return count(-(-addresses // address_plan.BATCH), "block" if static else "batch")


def refuse(
    scenario: Scenario, pod_subnet: IPv4Network, allocation: str, max_pods: int
) -> Iterator[tuple[str, str, str]]:
    """Errors for a pod subnet that AKS does not allow, or that has too few addresses for the nodes."""
    limit = address_plan.LIMITS["pod-subnet" if allocation == DYNAMIC else "pod-subnet-static-block"].shortest_prefix
    if limit is not None and pod_subnet.prefixlen < limit:
        way, advice = (
            ("dynamic allocation", f"use ip_allocation: {STATIC_BLOCK}")
            if allocation == DYNAMIC
            else ("static block allocation", "use several node pools, each with its own pod subnet")
        )
        what = f"pod_subnet {pod_subnet} is larger than the /{limit} that {way} allows"
        yield "pod_subnet", what, f"a /{limit} has {2 ** (32 - limit)} addresses; {advice}, or a smaller range"
    if allocation == DYNAMIC:
        yield from _refuse_batches(scenario, pod_subnet, max_pods)
    else:
        yield from _refuse_blocks(len(scenario.nodes), pod_subnet, max_pods)


def _refuse_batches(scenario: Scenario, pod_subnet: IPv4Network, max_pods: int) -> Iterator[tuple[str, str, str]]:
    """An error at the first node for which the batches do not fit. One more node, for upgrades, needs a first batch."""
    available = address_plan.usable_addresses(pod_subnet)
    sizes = [address_plan.dynamic_addresses(len(node.pods), max_pods) for node in scenario.nodes]
    for_upgrade = address_plan.dynamic_addresses(0, max_pods)
    total, left = sum(sizes) + for_upgrade, available
    hint = (
        f"{sum(sizes)} for {count(len(sizes), 'node')} + {for_upgrade} for upgrades = {total}, and Azure reserves"
        f" {address_plan.RESERVED_ADDRESSES}: a /{address_plan.prefix_length_for(total)} is large enough"
    )
    for node, size in zip(scenario.nodes, sizes, strict=True):
        if size > left:
            batches = -(-(size - left) // address_plan.BATCH) if left else -(-size // address_plan.BATCH)
            more = f"{batches} more batch{'es' if batches > 1 else ''} of {address_plan.BATCH}"
            have = f"{left} address{'' if left == 1 else 'es'} left"
            yield (
                "pod_subnet",
                f"{node.name} needs {more} for its {count(len(node.pods), 'pod')}, but pod_subnet"
                + (f" {pod_subnet} has {have}"),
                hint,
            )
            return
        left -= size
    if for_upgrade > left:
        what = f"pod_subnet {pod_subnet} has {left} addresses left for upgrades, and a new node needs {for_upgrade}"
        yield "pod_subnet", what, hint


def _refuse_blocks(nodes: int, pod_subnet: IPv4Network, max_pods: int) -> Iterator[tuple[str, str, str]]:
    """An error for a pod subnet with fewer blocks than the nodes, and one more for upgrades, need."""
    per_node, available = address_plan.blocks_per_node(max_pods), address_plan.usable_blocks(pod_subnet)
    needed = (nodes + 1) * per_node
    if needed > available:
        what = (
            f"pod_subnet {pod_subnet} has {available} blocks of /{address_plan.BLOCK_PREFIX_LENGTH}, but {nodes} nodes"
            f" of {max_pods} pods need {needed}"
        )
        hint = (
            f"({nodes} + 1 for upgrades) x {per_node} = {needed}, and the first and the last block have addresses that"
            f" Azure reserves: a /{address_plan.prefix_length_for_blocks(needed)} is large enough"
        )
        yield "pod_subnet", what, hint
