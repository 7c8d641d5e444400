"""An Amazon VPC as a lab has it: a subnet whose switch knows every address, and lets nobody speak for another. Pure.

The VPC is no Ethernet. Who asks for an address is answered by its mapping service, with the MAC of the network
interface (ENI) that the address was given to; no question reaches a machine. And what an ENI sends or gets must be
from or for an address of its own, unless its source/destination check was switched off.

Follows what AWS documents of ENIs (source/destination checking, secondary addresses); the switch is a bridge with
ebtables in front of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.models import _parts as parts
from labctl.plan import Chain, Neighbour, Port, Resource, Sysctl
from labctl.scenario import Machine

SUBNET = "subnet"  # the fabric's bridge
FIRST = 4  # AWS keeps the first four addresses of a subnet ...
KEPT = 5  # ... and the last


@dataclass(frozen=True, slots=True)
class Eni:
    """A network interface: the machine it is plugged into, its device there, its primary address and the others."""

    machine: str
    dev: str
    address: IPv4Address
    secondary: tuple[IPv4Address, ...] = ()

    @property
    def at(self) -> Port:
        """The machine's end."""
        return Port(self.machine, self.dev)

    @property
    def port(self) -> str:
        """The device of the subnet's switch that leads to it."""
        return parts.device(self.machine if self.dev == "eth0" else f"{self.machine}-{self.dev}")

    @property
    def mac(self) -> str:
        """Its MAC address, of the range that ENIs have."""
        return parts.mac(str(self.at), "0a")

    @property
    def all(self) -> tuple[IPv4Address, ...]:
        """Every address that is its own."""
        return (self.address, *self.secondary)


def fabric(enis: Iterable[Eni], subnet: IPv4Network, mtu: int, *, source_check: bool) -> Iterator[Resource]:
    """The subnet's switch with its router, the mapping service, and the check of sources."""
    enis, gateway = tuple(enis), parts.iface(subnet.network_address + 1, subnet.prefixlen)
    yield from parts.netns("fabric")
    yield from parts.bridge(Port("fabric", SUBNET), mtu=mtu, address=gateway)
    yield from parts.forwarding("fabric", True, rp_filter=0, devices=(SUBNET, "igw"))
    yield Sysctl("fabric", "net.bridge.bridge-nf-call-iptables", "0")
    for eni in enis:
        yield from parts.veth(Port("fabric", eni.port), eni.at, mtu=mtu, macs=(None, eni.mac), master=SUBNET)
        for address in eni.all:
            asked = f"-p ARP --arp-op Request --arp-ip-dst {address}"
            yield _ebtables("nat", "PREROUTING", f"{asked} -j arpreply --arpreply-mac {eni.mac} --arpreply-target DROP")
            yield Neighbour(Port("fabric", SUBNET), address, eni.mac)
    for number, eni in enumerate(enis) if source_check else ():
        chain = f"ENI-{number}"
        for hook in ("FORWARD", "INPUT"):  # INPUT: what is for the router
            yield _ebtables("filter", hook, f"-p IPv4 -i {eni.port} -j {chain}")
        for address in eni.all:
            yield _ebtables("filter", chain, f"-p IPv4 --ip-src {address} -j RETURN")
        yield _ebtables("filter", chain, "-j DROP")


def outside(internet_ip: IPv4Address, public_ip: IPv4Address, mtu: int) -> Iterator[Resource | Machine]:
    """The internet behind the VPC's gateway, which gives all that leaves one public address."""
    here, there = Port("fabric", "igw"), Port("internet", "eth0")
    yield from parts.netns("internet")
    yield from parts.veth(here, there, mtu=mtu, macs=(parts.mac(str(here)), parts.mac(str(there))))
    yield from parts.forwarding("internet", False, rp_filter=0)
    network = IPv4Network((int(public_ip) & ~0xFF, 24))
    yield from parts.addresses(here, parts.iface(public_ip, network.prefixlen))
    yield from parts.addresses(there, parts.iface(internet_ip, network.prefixlen))
    yield parts.chain("fabric", "nat", "POSTROUTING", f"-o igw -j SNAT --to-source {public_ip}")
    yield Machine("internet", "internet", (internet_ip,))


def vm(eni: Eni, subnet: IPv4Network) -> Iterator[Resource | Machine]:
    """Another instance of the subnet, which is no node."""
    yield Machine(eni.machine, "vm", (eni.address,))
    yield from parts.netns(eni.machine)
    yield from parts.addresses(eni.at, parts.iface(eni.address, subnet.prefixlen))
    yield parts.default(eni.machine, subnet.network_address + 1)
    yield from parts.forwarding(eni.machine, False, rp_filter=0)


def _ebtables(table: str, chain: str, text: str) -> Chain:
    return Chain("fabric", table, chain, (parts.words(text, "bridge"),), family="bridge")
