"""A virtual private cloud (VPC) of AWS, as instances see it: their network interfaces (ENIs), and the mapping service.

A VPC is not a switch. Its mapping service knows which address is at which ENI. It answers every ARP request itself
and delivers the frame to that ENI, so an instance never receives an ARP request for its addresses, and need not
answer one. Each ENI sends only packets from its addresses and receives only packets to its addresses, unless this
check is switched off. So an address works at one ENI only, and an instance must send packets through the right ENI.

Follows the Amazon VPC user guide (the first four addresses of a subnet and its last are kept) and the EC2 user
guide (source/destination checking).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.resources import MAIN, Chain, Fdb, Neighbour, Port, Resource, Route, Sysctl
from labctl.models.lib import cloud_vpc, primitives

FIRST = 4  # AWS reserves the first four addresses of a subnet ...
KEPT = 5  # ... and the last


@dataclass(frozen=True, slots=True)
class Eni:
    """A network interface of an instance: its number there, its subnet, and its addresses, the primary one first.

    `bridge` is the fabric's bridge for the subnet.
    """

    instance: str
    number: int
    subnet: IPv4Network
    bridge: str
    addresses: tuple[IPv4Address, ...]

    @property
    def at(self) -> Port:
        """The instance's device."""
        return Port(self.instance, f"eth{self.number}")

    @property
    def port(self) -> Port:
        """The fabric's end, named after both: `node1-eth1`."""
        name = f"{self.at.ns}-{self.at.dev}"
        return Port("fabric", name if len(name) <= 15 else primitives.hashed("eni-", 11, (name,))[0])

    @property
    def mac(self) -> str:
        """The MAC address of the instance's device."""
        return primitives.mac(str(self.at))

    @property
    def primary(self) -> IPv4Address:
        """The only address that the instance has on its device."""
        return self.addresses[0]

    @property
    def gateway(self) -> IPv4Address:
        """The subnet's first address, which the VPC's router has."""
        return self.subnet.network_address + 1

    @property
    def table(self) -> int:
        """The instance's routing table for packets from this ENI's addresses: 2 for eth1, main for eth0."""
        return self.number + 1 if self.number else MAIN


def fabric(enis: Iterable[Eni], mtu: int, *, checked: bool) -> Iterator[Resource]:
    """The VPC: a router with a bridge for each subnet, the mapping service, and, if `checked`, the check of ENIs."""
    enis = tuple(enis)
    subnets = {eni.bridge: primitives.iface(eni.gateway, eni.subnet.prefixlen) for eni in enis}
    yield from primitives.netns("fabric")
    for bridge, gateway in subnets.items():
        yield from primitives.bridge(Port("fabric", bridge), mtu=mtu, address=gateway)
    yield from primitives.forwarding("fabric", True, rp_filter=0, devices=subnets)
    yield Sysctl("fabric", "net.bridge.bridge-nf-call-iptables", "0")
    for eni in enis:
        yield from primitives.veth(eni.port, eni.at, mtu=mtu, macs=(None, eni.mac), master=eni.bridge)
        yield Fdb(eni.port, eni.mac)
    yield from _mapping(enis)
    if checked:
        for eni in enis:
            yield from _check(eni)


def _mapping(enis: Iterable[Eni]) -> Iterator[Resource]:
    """The mapping service: it answers ARP for every address of every ENI, and forwards no ARP request."""
    for eni in enis:
        answer = f"-j arpreply --arpreply-mac {eni.mac} --arpreply-target DROP"
        asked = (f"-p ARP --arp-op Request --arp-ip-dst {address} {answer}" for address in eni.addresses)
        yield _ebtables("nat", "PREROUTING", *asked)
        for address in eni.addresses:
            yield Neighbour(Port("fabric", eni.bridge), address, eni.mac)
    yield _ebtables("filter", "FORWARD", "-p ARP -j DROP")


def _check(eni: Eni) -> Iterator[Resource]:
    """The source/destination check of an ENI, for packets to the network or the router, and for those it receives."""
    port = eni.port.dev
    for chain, flag in ((f"SRC-{port}", "--ip-src"), (f"DST-{port}", "--ip-dst")):
        own = (f"-p IPv4 {flag} {address} -j RETURN" for address in eni.addresses)
        yield _ebtables("filter", chain, *own, "-p IPv4 -j DROP")
    yield _ebtables("filter", "INPUT", f"-i {port} -j SRC-{port}")
    yield _ebtables("filter", "FORWARD", f"-i {port} -j SRC-{port}", f"-o {port} -j DST-{port}")
    yield _ebtables("filter", "OUTPUT", f"-o {port} -j DST-{port}")


def _ebtables(table: str, name: str, *rules: str) -> Chain:
    return Chain("fabric", table, name, tuple(primitives.words(text, "bridge") for text in rules), family="bridge")


def plug(eni: Eni) -> Iterator[Resource]:
    """An instance's first ENI as DHCP sets it up: its primary address, and the default route."""
    yield from primitives.addresses(eni.at, primitives.iface(eni.primary, eni.subnet.prefixlen))
    yield Route(eni.instance, primitives.ANYWHERE, eni.gateway, eni.at.dev)


def elastic(public: dict[IPv4Address, IPv4Address]) -> Iterator[Resource]:
    """The internet gateway: it translates each address in `public` to its public address, and back. Packets from
    other addresses do not leave."""
    out = cloud_vpc.GATEWAY
    for own, worn in public.items():
        yield primitives.chain("fabric", "nat", "PREROUTING", f"-d {worn} -i {out} -j DNAT --to-destination {own}")
        yield primitives.chain("fabric", "nat", "POSTROUTING", f"-s {own} -o {out} -j SNAT --to-source {worn}")
        yield primitives.chain("fabric", "filter", "FORWARD", f"-s {own} -o {out} -j ACCEPT")
    yield primitives.chain("fabric", "filter", "FORWARD", f"-o {out} -j DROP")


def nat_gateway(network: IPv4Network, public: IPv4Address) -> Iterator[Resource]:
    """A NAT gateway: it translates the source of packets that leave the VPC to its public address."""
    rule = f"-s {network} -o {cloud_vpc.GATEWAY} -j SNAT --to-source {public}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", rule)
