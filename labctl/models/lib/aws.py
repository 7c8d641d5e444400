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

from labctl.core.resources import RT_TABLE_MAIN, Chain, Fdb, Interface, Neighbour, Resource, Route, Sysctl
from labctl.models.lib import cloud_vpc, primitives

FIRST_USABLE_OFFSET = 4  # AWS reserves the first four addresses of a subnet ...
RESERVED_ADDRESSES = 5  # ... and the last


@dataclass(frozen=True, slots=True)
class Eni:
    """A network interface of an instance: its number there, its subnet, and its addresses, the primary one first.

    `subnet_bridge` is the fabric's bridge for the subnet.
    """

    instance: str
    device_index: int
    subnet: IPv4Network
    subnet_bridge: str
    addresses: tuple[IPv4Address, ...]

    @property
    def interface(self) -> Interface:
        """The instance's device."""
        return Interface(self.instance, f"eth{self.device_index}")

    @property
    def fabric_interface(self) -> Interface:
        """The fabric's end, named after both: `node1-eth1`."""
        name = f"{self.interface.ns}-{self.interface.dev}"
        return Interface("fabric", name if len(name) <= 15 else primitives.device_names("eni-", 11, (name,))[0])

    @property
    def mac(self) -> str:
        """The MAC address of the instance's device."""
        return primitives.mac(str(self.interface))

    @property
    def primary_address(self) -> IPv4Address:
        """The only address that the instance has on its device."""
        return self.addresses[0]

    @property
    def gateway(self) -> IPv4Address:
        """The subnet's first address, which the VPC's router has."""
        return self.subnet.network_address + 1

    @property
    def routing_table(self) -> int:
        """The instance's routing table for packets from this ENI's addresses: 2 for eth1, main for eth0."""
        return self.device_index + 1 if self.device_index else RT_TABLE_MAIN


def fabric(enis: Iterable[Eni], mtu: int, *, source_dest_check: bool) -> Iterator[Resource]:
    """The VPC: a router with a bridge for each subnet, the mapping service, and with
    `source_dest_check` the check of ENIs."""
    enis = tuple(enis)
    subnets = {eni.subnet_bridge: primitives.with_prefix_length(eni.gateway, eni.subnet.prefixlen) for eni in enis}
    yield from primitives.netns("fabric")
    for bridge, gateway in subnets.items():
        yield from primitives.bridge(Interface("fabric", bridge), mtu=mtu, address=gateway)
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=subnets)
    yield Sysctl("fabric", "net.bridge.bridge-nf-call-iptables", "0")
    for eni in enis:
        yield from primitives.veth_pair(
            eni.fabric_interface, eni.interface, mtu=mtu, macs=(None, eni.mac), master=eni.subnet_bridge
        )
        yield Fdb(eni.fabric_interface, eni.mac)
    yield from _mapping_service(enis)
    if source_dest_check:
        for eni in enis:
            yield from _source_dest_check(eni)


def _mapping_service(enis: Iterable[Eni]) -> Iterator[Resource]:
    """The mapping service: it answers ARP for every address of every ENI, and forwards no ARP request."""
    for eni in enis:
        answer = f"-j arpreply --arpreply-mac {eni.mac} --arpreply-target DROP"
        rules = (f"-p ARP --arp-op Request --arp-ip-dst {address} {answer}" for address in eni.addresses)
        yield _ebtables("nat", "PREROUTING", *rules)
        for address in eni.addresses:
            yield Neighbour(Interface("fabric", eni.subnet_bridge), address, eni.mac)
    yield _ebtables("filter", "FORWARD", "-p ARP -j DROP")


def _source_dest_check(eni: Eni) -> Iterator[Resource]:
    """The source/destination check of an ENI, for packets to the network or the router, and for those it receives."""
    device = eni.fabric_interface.dev
    for chain, flag in ((f"SRC-{device}", "--ip-src"), (f"DST-{device}", "--ip-dst")):
        rules = (f"-p IPv4 {flag} {address} -j RETURN" for address in eni.addresses)
        yield _ebtables("filter", chain, *rules, "-p IPv4 -j DROP")
    yield _ebtables("filter", "INPUT", f"-i {device} -j SRC-{device}")
    yield _ebtables("filter", "FORWARD", f"-i {device} -j SRC-{device}", f"-o {device} -j DST-{device}")
    yield _ebtables("filter", "OUTPUT", f"-o {device} -j DST-{device}")


def _ebtables(table: str, name: str, *rules: str) -> Chain:
    return Chain("fabric", table, name, tuple(primitives.parse_rule(text, "bridge") for text in rules), family="bridge")


def attach_primary_eni(eni: Eni) -> Iterator[Resource]:
    """An instance's first ENI as DHCP sets it up: its primary address, and the default route."""
    yield from primitives.addresses(
        eni.interface, primitives.with_prefix_length(eni.primary_address, eni.subnet.prefixlen)
    )
    yield Route(eni.instance, primitives.ANYWHERE, eni.gateway, eni.interface.dev)


def elastic_ips(public_ips: dict[IPv4Address, IPv4Address]) -> Iterator[Resource]:
    """The internet gateway: it translates each address in `public_ips` to its public address, and back. Packets from
    other addresses do not leave."""
    gateway = cloud_vpc.INTERNET_GATEWAY
    for private_ip, public_ip in public_ips.items():
        yield primitives.chain(
            "fabric", "nat", "PREROUTING", f"-d {public_ip} -i {gateway} -j DNAT --to-destination {private_ip}"
        )
        yield primitives.chain(
            "fabric", "nat", "POSTROUTING", f"-s {private_ip} -o {gateway} -j SNAT --to-source {public_ip}"
        )
        yield primitives.chain("fabric", "filter", "FORWARD", f"-s {private_ip} -o {gateway} -j ACCEPT")
    yield primitives.chain("fabric", "filter", "FORWARD", f"-o {gateway} -j DROP")


def nat_gateway(vpc_cidr: IPv4Network, public_ip: IPv4Address) -> Iterator[Resource]:
    """A NAT gateway: it translates the source of packets that leave the VPC to its public address."""
    rule = f"-s {vpc_cidr} -o {cloud_vpc.INTERNET_GATEWAY} -j SNAT --to-source {public_ip}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", rule)
