"""The network below clusters outside of clouds: Ethernets, a router between them, and the internet behind it. Pure.

The nodes are on one Ethernet. The nodes in `elsewhere` are on another one, behind the router. The router is the
namespace `fabric`, with one bridge for each Ethernet. It has no routes to pods. Packets to the internet leave it with
its public address. `vm` is another machine on the Ethernet of the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.names import did_you_mean
from labctl.core.options import address, cidr, option
from labctl.core.resources import Address, Interface, Link, Resource, Sysctl
from labctl.core.scenario_types import Machine, Scenario, ScenarioNode
from labctl.core.why import LABCTL, Component, Source, explained
from labctl.models.lib import cloud_vpc, common_reasons, primitives

_ROUTER = Component("the router of the data centre", Source("labctl", "labctl/models/lib/datacenter.py"))
_HOST = Component("the node's own set-up (DHCP)", Source("labctl", "labctl/models/lib/datacenter.py"))
_FABRIC = _ROUTER.why(
    "It is the router between the Ethernets of the nodes, and to the internet. It knows the nodes, and has no routes to"
    " pods."
)
_LAN = LABCTL.why("It is one Ethernet of the data centre: {dev} is its switch.")
_GATEWAY = _ROUTER.why("It is the gateway of the machines on {dev}.")
_NO_IPTABLES = LABCTL.why("A real switch has no iptables: frames between two nodes pass none.")
_SNAT = _ROUTER.why("Packets to the internet get the public address {to}: private addresses have no way back.")
_ADDRESS = _HOST.why("It is the address of {ns} in its Ethernet, the one that other machines know.")
_DEFAULT = _HOST.why("{ns} sends everything that it has no other route for to the router, {via}.")
ROUTER_OFFSET, VM_OFFSET = -2, -3  # their offsets in a subnet, counted from its end
RESERVED_ADDRESSES = 4  # addresses of a subnet that no node gets: network, vm, router and broadcast


@dataclass(frozen=True, slots=True)
class UnderlayOptions:
    """Options for the machines that a cluster runs on."""

    node_cidr: IPv4Network = option(cidr("192.168.0.0/24"), "the subnet of the nodes; node1 has its first address")
    other_cidr: IPv4Network = option(
        cidr("192.168.1.0/24"), "the subnet behind the router, for the nodes in `elsewhere`"
    )
    elsewhere: tuple[str, ...] = option((), "the nodes in other_cidr, behind the router", form="name")
    internet_cidr: IPv4Network = option(cidr("8.8.8.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("8.8.8.50"), "public source address of outgoing traffic (SNAT by the router)"
    )
    mtu: int = option(1500, "MTU of the nodes' Ethernets", minimum=1280, maximum=9000)


@dataclass(frozen=True, slots=True)
class UnderlayNic:
    """A node's address and its subnet."""

    machine: str
    address: IPv4Address
    subnet: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        """The router's address, the last of the subnet before the broadcast address: the default gateway."""
        return primitives.address_at(self.subnet, ROUTER_OFFSET)

    def same_subnet(self, other: UnderlayNic) -> bool:
        """Whether another node is on the same Ethernet."""
        return self.subnet == other.subnet


@dataclass(frozen=True, slots=True)
class NodeAddressing:
    """A node with its NIC and its part of the pod CIDR."""

    node: ScenarioNode
    nic: UnderlayNic
    pod_range: IPv4Network

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name


def node_nics(scenario: Scenario) -> list[UnderlayNic]:
    """The NIC of every node. The addresses follow the order of the nodes, in both subnets."""
    options: UnderlayOptions = scenario.options
    found = []
    for number, node in enumerate(scenario.nodes):
        subnet = options.other_cidr if node.name in options.elsewhere else options.node_cidr
        found.append(UnderlayNic(node.name, subnet.network_address + 1 + number, subnet))
    return found


def infrastructure(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The router with its Ethernets, `vm`, and the internet."""
    options: UnderlayOptions = scenario.options
    nics = node_nics(scenario)
    vm = UnderlayNic("vm", primitives.address_at(options.node_cidr, VM_OFFSET), options.node_cidr)
    yield Machine("fabric", "fabric", (vm.gateway,))
    yield from primitives.netns("fabric", why=_FABRIC)
    lans = [("lan1", options.node_cidr)] + ([("lan2", options.other_cidr)] if options.elsewhere else [])
    for lan, subnet in lans:
        gateway = primitives.with_prefix_length(primitives.address_at(subnet, ROUTER_OFFSET), subnet.prefixlen)
        made = primitives.bridge(Interface("fabric", lan), mtu=options.mtu, address=gateway)
        yield from explained({Link: _LAN, Address: _GATEWAY}, made)
        for nic in (*nics, vm):
            if nic.subnet == subnet:
                yield from _attach_nic(nic, lan, options.mtu)
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=(lan for lan, _ in lans))
    yield Sysctl("fabric", "net.bridge.bridge-nf-call-iptables", "0", why=_NO_IPTABLES)
    yield from cloud_vpc.vm_without_nic("vm", vm.address)
    yield from cloud_vpc.internet_uplink(options.internet_cidr, [options.public_ip], options.mtu)
    snat = f"-o {cloud_vpc.INTERNET_GATEWAY} -j SNAT --to-source {options.public_ip}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", (snat, _SNAT))


def _attach_nic(nic: UnderlayNic, lan: str, mtu: int) -> Iterator[Resource]:
    """A machine's NIC: its veth pair to the bridge, its address and its default route."""
    eth0 = Interface(nic.machine, "eth0")
    fabric_interface = Interface("fabric", primitives.device_name(nic.machine))
    macs, whys = (None, primitives.mac(str(eth0))), (common_reasons.SWITCH_PORT, common_reasons.CABLE)
    yield from primitives.veth_pair(fabric_interface, eth0, mtu=mtu, macs=macs, master=lan, whys=whys)
    address = primitives.with_prefix_length(nic.address, nic.subnet.prefixlen)
    yield from explained(_ADDRESS, primitives.addresses(eth0, address))
    yield primitives.default_route(nic.machine, nic.gateway, why=_DEFAULT)


def refuse(scenario: Scenario, *ranges: str) -> Iterator[tuple[str, str, str]]:
    """Errors for small subnets, overlapping ranges (also of the options in `ranges`), unknown nodes in `elsewhere`."""
    options: UnderlayOptions = scenario.options
    names = [node.name for node in scenario.nodes]
    for number, name in enumerate(options.elsewhere):
        if name not in names:
            hint = did_you_mean(name, names, quote=repr) or f"the nodes are {', '.join(names) or 'none'}"
            yield f"elsewhere/{number}", f"elsewhere: there is no node {name!r}", hint
    if names and set(names) <= set(options.elsewhere):
        yield "elsewhere", "elsewhere names every node, but one must be in node_cidr", "remove a node, or the list"
    used = ("node_cidr", *(("other_cidr",) if options.elsewhere else ()))
    for key in used:
        available = max(getattr(options, key).num_addresses - RESERVED_ADDRESSES, 0)
        if len(names) > available:
            what = f"{key} {getattr(options, key)} has addresses for {available} nodes, but there are {len(names)}"
            yield key, what, f"a /{primitives.prefix_length_for(len(names) + RESERVED_ADDRESSES)} is large enough"
    yield from primitives.refuse_overlaps({name: getattr(options, name) for name in (*used, *ranges, "internet_cidr")})
    yield from primitives.refuse_public_ip(options.internet_cidr, options.public_ip)


def peers(
    nic: UnderlayNic, leases: Iterable[tuple[UnderlayNic, IPv4Network]]
) -> Iterator[tuple[UnderlayNic, IPv4Network]]:
    """The other nodes, each with the range of its pods."""
    return ((other, pods) for other, pods in leases if other.machine != nic.machine)
