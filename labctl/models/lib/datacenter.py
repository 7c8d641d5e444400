"""What clusters on machines of one's own stand on: Ethernets, a router between them, and an internet behind it. Pure.

The nodes are on one Ethernet, and those that `elsewhere` names on another, behind the router. The router is the
namespace `fabric`, one bridge for each Ethernet; it knows nothing of pods, and what goes on to the internet wears
its public address. `vm` is a machine beside the nodes that is none of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.options import address, cidr, option
from labctl.core.resources import Port, Resource, Sysctl
from labctl.core.scenario_types import Machine, Scenario
from labctl.models.lib import cloud_vpc, primitives

ROUTER, VM = -2, -3  # their places in a subnet, from its end
KEPT = 4  # addresses of a subnet that no node gets: its own, vm's, the router's and the broadcast


@dataclass(frozen=True, slots=True)
class UnderlayOptions:
    """What a scenario may set of the machines that its cluster runs on."""

    node_cidr: IPv4Network = option(cidr("192.168.0.0/24"), "the subnet of the nodes; node1 is its first address")
    other_cidr: IPv4Network = option(
        cidr("192.168.1.0/24"), "the subnet behind the router, of nodes that are elsewhere"
    )
    elsewhere: tuple[str, ...] = option((), "the nodes that are in other_cidr, behind a router", form="name")
    internet_cidr: IPv4Network = option(cidr("8.8.8.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(address("8.8.8.50"), "the router's public address, worn by all that leaves")
    mtu: int = option(1500, "MTU of the Ethernets that the nodes are on", minimum=1280, maximum=9000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is: its address and its subnet."""

    name: str
    address: IPv4Address
    subnet: IPv4Network

    @property
    def router(self) -> IPv4Address:
        """The subnet's last address but the broadcast: the way to everywhere else."""
        return primitives.within(self.subnet, ROUTER)

    def near(self, other: Place) -> bool:
        """Whether another node is on the same Ethernet."""
        return self.subnet == other.subnet


def places(scenario: Scenario) -> list[Place]:
    """Every node's place: the nodes' addresses follow their order, in whichever subnet they are."""
    options: UnderlayOptions = scenario.options
    found = []
    for number, node in enumerate(scenario.nodes):
        subnet = options.other_cidr if node.name in options.elsewhere else options.node_cidr
        found.append(Place(node.name, subnet.network_address + 1 + number, subnet))
    return found


def surroundings(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The router with its Ethernets, the machine beside the nodes, and the internet."""
    options: UnderlayOptions = scenario.options
    there = places(scenario)
    vm = Place("vm", primitives.within(options.node_cidr, VM), options.node_cidr)
    yield Machine("fabric", "fabric", (vm.router,))
    yield from primitives.netns("fabric")
    lans = [("lan1", options.node_cidr)] + ([("lan2", options.other_cidr)] if options.elsewhere else [])
    for lan, subnet in lans:
        gateway = primitives.iface(primitives.within(subnet, ROUTER), subnet.prefixlen)
        yield from primitives.bridge(Port("fabric", lan), mtu=options.mtu, address=gateway)
        for place in (*there, vm):
            if place.subnet == subnet:
                yield from _plug(place, lan, options.mtu)
    yield from primitives.forwarding("fabric", True, rp_filter=0, devices=(lan for lan, _ in lans))
    yield Sysctl("fabric", "net.bridge.bridge-nf-call-iptables", "0")
    yield from cloud_vpc.beside("vm", vm.address)
    yield from cloud_vpc.outside(options.internet_cidr, [options.public_ip], options.mtu)
    yield primitives.chain(
        "fabric", "nat", "POSTROUTING", f"-o {cloud_vpc.GATEWAY} -j SNAT --to-source {options.public_ip}"
    )


def _plug(place: Place, lan: str, mtu: int) -> Iterator[Resource]:
    """A machine's card: its cable to the switch, its address and its default route."""
    card = Port(place.name, "eth0")
    cable = Port("fabric", primitives.device(place.name))
    yield from primitives.veth(cable, card, mtu=mtu, macs=(None, primitives.mac(str(card))), master=lan)
    yield from primitives.addresses(card, primitives.iface(place.address, place.subnet.prefixlen))
    yield primitives.default(place.name, place.router)


def refuse(scenario: Scenario, *ranges: str) -> Iterator[tuple[str, str, str]]:
    """Subnets that are too small, ranges that are not apart (the options so named, too), unknown nodes elsewhere."""
    options: UnderlayOptions = scenario.options
    names = [node.name for node in scenario.nodes]
    for number, name in enumerate(options.elsewhere):
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"the nodes are {', '.join(names) or 'none'}"
            yield f"elsewhere/{number}", f"elsewhere: there is no node {name!r}", hint
    if names and set(names) <= set(options.elsewhere):
        yield "elsewhere", "every node is elsewhere, so none is", "leave one beside vm, or name none"
    used = ("node_cidr", *(("other_cidr",) if options.elsewhere else ()))
    for key in used:
        held = max(getattr(options, key).num_addresses - KEPT, 0)
        if len(names) > held:
            what = f"{key} {getattr(options, key)} has room for {held} nodes and there are {len(names)}"
            yield key, what, f"a /{primitives.prefix_for(len(names) + KEPT)} would do"
    yield from primitives.overlaps({name: getattr(options, name) for name in (*used, *ranges, "internet_cidr")})
    yield from primitives.refuse_internet(options.internet_cidr, options.public_ip)


def peers(place: Place, there: Iterable[tuple[Place, IPv4Network]]) -> Iterator[tuple[Place, IPv4Network]]:
    """The other nodes with their pods' ranges."""
    return ((other, pods) for other, pods in there if other.name != place.name)
