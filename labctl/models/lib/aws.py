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

from labctl.core.resources import (
    RT_TABLE_MAIN,
    Address,
    Chain,
    Fdb,
    Interface,
    Link,
    Neighbour,
    Resource,
    Route,
    Sysctl,
)
from labctl.core.why import Component, Source, Why, explained
from labctl.models.lib import cloud_vpc, primitives

VPC = Component("the VPC of AWS", Source("the Amazon VPC user guide", "subnet sizing, VPC router"))
MAPPING = Component(
    "the VPC of AWS (mapping service)", Source("the Amazon VPC user guide", "subnet sizing, VPC router")
)
CHECK = Component(
    "the VPC of AWS (source/destination check)", Source("the Amazon EC2 user guide", "network interface attributes")
)
DHCP = Component("DHCP of the VPC", Source("the Amazon VPC user guide", "DHCP option sets"))
GATEWAYS = Component("an internet gateway or NAT gateway", Source("the Amazon VPC user guide", "internet gateways"))
_FABRIC = VPC.why(
    "It is the VPC: it routes between subnets, and knows which address is at which network interface (ENI)."
)
_SUBNET = VPC.why(
    "It carries the frames of one subnet of the VPC. A real VPC has no switch, and delivers to an ENI directly."
)
_ROUTER = VPC.why("It is the router of the VPC in this subnet: its first address.")
_NO_IPTABLES = VPC.why("The VPC forwards frames inside a subnet without any iptables.")
_FABRIC_END = VPC.why("It is the VPC's end of an ENI of {peer_ns} ({peer_dev}).")
_ENI = VPC.why(
    "It is an ENI, a network interface of the instance {ns}. It may send and receive its own addresses only."
)
_FDB = MAPPING.why("The VPC knows from the start at which ENI this MAC address is: it learns nothing from frames.")
_ANSWER = MAPPING.why(
    "The mapping service answers an ARP request itself: the instance never gets one, so a pod's address needs no device"
    " there."
)
_NEIGHBOUR = MAPPING.why("The VPC's router knows at which ENI {ip} ({owner}) is, without a request.")
_NO_ARP = MAPPING.why("No ARP request crosses the VPC: the mapping service has answered it already.")
_CHECK_JUMP = CHECK.why("Frames of this ENI pass the chain of its source/destination check.")
_CHECK_CHAIN = CHECK.why("It knows the addresses of one ENI.")
_CHECK_PASS = CHECK.why("It is an address of this ENI.")
_CHECK_DROP = CHECK.why("Any other address is not of this ENI: the VPC drops the packet.")
_ADDRESS = DHCP.why("It is the primary address of the ENI, the only one that the instance itself has on it.")
_DEFAULT = DHCP.why("{ns} sends everything outside its subnet to the router of the VPC, {via}.")
_ELASTIC_IN = GATEWAYS.why("The public address {dst} is that of {to_machine}: packets of the internet go there.")
_ELASTIC_OUT = GATEWAYS.why("{src_machine} is seen on the internet with its public address {to}.")
_ELASTIC_PASS = GATEWAYS.why("{src} has a public address, so its packets may leave.")
_ELASTIC_DROP = GATEWAYS.why("An address without a public address does not leave, such as that of a pod.")
_NAT = GATEWAYS.why("The NAT gateway gives packets of the whole VPC ({src}) its public address {to}.")
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
    yield from primitives.netns("fabric", why=_FABRIC)
    reasons = {Link: _SUBNET, Address: _ROUTER}
    for bridge, gateway in subnets.items():
        yield from explained(reasons, primitives.bridge(Interface("fabric", bridge), mtu=mtu, address=gateway))
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=subnets)
    yield Sysctl("fabric", "net.bridge.bridge-nf-call-iptables", "0", why=_NO_IPTABLES)
    for eni in enis:
        at, macs = eni.fabric_interface, (None, eni.mac)
        whys = (_FABRIC_END, _ENI)
        yield from primitives.veth_pair(at, eni.interface, mtu=mtu, macs=macs, master=eni.subnet_bridge, whys=whys)
        yield Fdb(eni.fabric_interface, eni.mac, why=_FDB)
    yield from _mapping_service(enis)
    if source_dest_check:
        for eni in enis:
            yield from _source_dest_check(eni)


def _mapping_service(enis: Iterable[Eni]) -> Iterator[Resource]:
    """The mapping service: it answers ARP for every address of every ENI, and forwards no ARP request."""
    for eni in enis:
        answer = f"-j arpreply --arpreply-mac {eni.mac} --arpreply-target DROP"
        rules = (f"-p ARP --arp-op Request --arp-ip-dst {address} {answer}" for address in eni.addresses)
        yield _ebtables("nat", "PREROUTING", *((rule, _ANSWER) for rule in rules))
        for address in eni.addresses:
            yield Neighbour(Interface("fabric", eni.subnet_bridge), address, eni.mac, why=_NEIGHBOUR)
    yield _ebtables("filter", "FORWARD", ("-p ARP -j DROP", _NO_ARP))


def _source_dest_check(eni: Eni) -> Iterator[Resource]:
    """The source/destination check of an ENI, for packets to the network or the router, and for those it receives."""
    device = eni.fabric_interface.dev
    for chain, flag in ((f"SRC-{device}", "--ip-src"), (f"DST-{device}", "--ip-dst")):
        rules = ((f"-p IPv4 {flag} {address} -j RETURN", _CHECK_PASS) for address in eni.addresses)
        yield _ebtables("filter", chain, *rules, ("-p IPv4 -j DROP", _CHECK_DROP), why=_CHECK_CHAIN)
    source, target = (f"-i {device} -j SRC-{device}", _CHECK_JUMP), (f"-o {device} -j DST-{device}", _CHECK_JUMP)
    yield _ebtables("filter", "INPUT", source)
    yield _ebtables("filter", "FORWARD", source, target)
    yield _ebtables("filter", "OUTPUT", target)


def _ebtables(table: str, name: str, *rules: tuple[str, Why], why: Why | None = None) -> Chain:
    return primitives.chain("fabric", table, name, *rules, family="bridge", why=why)


def attach_primary_eni(eni: Eni) -> Iterator[Resource]:
    """An instance's first ENI as DHCP sets it up: its primary address, and the default route."""
    address = primitives.with_prefix_length(eni.primary_address, eni.subnet.prefixlen)
    yield from explained(_ADDRESS, primitives.addresses(eni.interface, address))
    yield Route(eni.instance, primitives.ANYWHERE, eni.gateway, eni.interface.dev, why=_DEFAULT)


def elastic_ips(public_ips: dict[IPv4Address, IPv4Address]) -> Iterator[Resource]:
    """The internet gateway: it translates each address in `public_ips` to its public address, and back. Packets from
    other addresses do not leave."""
    gateway = cloud_vpc.INTERNET_GATEWAY
    for private_ip, public_ip in public_ips.items():
        inwards = f"-d {public_ip} -i {gateway} -j DNAT --to-destination {private_ip}"
        yield primitives.chain("fabric", "nat", "PREROUTING", (inwards, _ELASTIC_IN))
        outwards = f"-s {private_ip} -o {gateway} -j SNAT --to-source {public_ip}"
        yield primitives.chain("fabric", "nat", "POSTROUTING", (outwards, _ELASTIC_OUT))
        accept = f"-s {private_ip} -o {gateway} -j ACCEPT"
        yield primitives.chain("fabric", "filter", "FORWARD", (accept, _ELASTIC_PASS))
    yield primitives.chain("fabric", "filter", "FORWARD", (f"-o {gateway} -j DROP", _ELASTIC_DROP))


def nat_gateway(vpc_cidr: IPv4Network, public_ip: IPv4Address) -> Iterator[Resource]:
    """A NAT gateway: it translates the source of packets that leave the VPC to its public address."""
    rule = f"-s {vpc_cidr} -o {cloud_vpc.INTERNET_GATEWAY} -j SNAT --to-source {public_ip}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", (rule, _NAT))
