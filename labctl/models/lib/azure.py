"""What the AKS models share: the virtual network of Azure as a router, and the settings of the nodes.

The virtual network is not a switch. One MAC address answers every machine, and the fabric routes all packets.
So `fabric` is a router with a separate link to every machine, and it answers ARP for all addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.resources import Interface, Link, Resource, Route, Sysctl
from labctl.core.scenario_types import Machine
from labctl.models.lib import cloud_vpc, primitives

FABRIC_MAC = "12:34:56:78:9a:bc"  # the MAC address that answers in every Azure virtual network
PUBLIC_DEVICE = "pip"  # the fabric's device that leads to the internet and has the public address


@dataclass(frozen=True, slots=True)
class Nic(cloud_vpc.Nic):
    """The network interface of one virtual machine: the machine, its primary address, and its subnet.

    `bridge` is the bridge of eth0, if there is one; it then has the address instead of eth0.
    """

    bridge: str | None = None

    @property
    def address_device(self) -> str:
        """The machine's device with its address and its default route."""
        return self.bridge or "eth0"

    @property
    def mac(self) -> str:
        """The MAC address of eth0, in the range of Azure's NICs."""
        return primitives.mac(f"{self.machine}/eth0", "00:0d:3a")


def fabric(nics: Iterable[Nic], mtu: int) -> Iterator[Resource]:
    """The virtual network: a router between the machines, which see only the MAC address of the router."""
    nics = tuple(nics)
    yield from primitives.netns("fabric")
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=(nic.fabric_device for nic in nics))
    for nic in nics:
        inner, outer = Interface(nic.machine, "eth0"), Interface("fabric", nic.fabric_device)
        yield Link(outer, "veth", inner, None, mtu, FABRIC_MAC)
        yield Link(inner, "veth", outer, nic.bridge, mtu, nic.mac, hairpin=nic.bridge is not None)
        yield Sysctl("fabric", f"net.ipv4.conf.{nic.fabric_device}.proxy_arp", "1")
        yield Sysctl("fabric", f"net.ipv4.neigh.{nic.fabric_device}.proxy_delay", "0")
        yield from primitives.addresses(outer, primitives.with_prefix_length(nic.gateway, 32))
        yield Route("fabric", nic.host_prefix, dev=nic.fabric_device)


def attach_nic(nic: Nic) -> Iterator[Resource]:
    """The machine's side: its address and its only route, the default route."""
    yield from primitives.addresses(
        Interface(nic.machine, nic.address_device), primitives.with_prefix_length(nic.address, nic.subnet.prefixlen)
    )
    yield primitives.default_route(nic.machine, nic.gateway, nic.address_device)


def secondary_address_routes(nic: Nic, address_count: int) -> Iterator[Resource]:
    """The fabric's routes to the secondary addresses of a NIC: the `address_count` addresses after its primary one.

    Their next hop is the primary address, because the machine does not answer ARP for the others.
    """
    for number in range(1, address_count + 1):
        yield Route("fabric", primitives.host_prefix(nic.address + number), nic.address, nic.fabric_device, onlink=True)


def vm_machine(nic: Nic) -> Iterator[Resource | Machine]:
    """Another machine in the virtual network, not a node and without pods."""
    yield from cloud_vpc.vm_without_nic(nic.machine, nic.address)
    yield from attach_nic(nic)


def internet_uplink(internet_cidr: IPv4Network, public_ip: IPv4Address, mtu: int) -> Iterator[Resource | Machine]:
    """The internet behind the fabric, and the SNAT of the load balancer to its public address."""
    yield from cloud_vpc.internet_uplink(internet_cidr, (public_ip,), mtu, PUBLIC_DEVICE)
    yield primitives.chain("fabric", "nat", "POSTROUTING", f"-o {PUBLIC_DEVICE} -j SNAT --to-source {public_ip}")


def node_sysctls(ns: str, devices: Iterable[str]) -> Iterator[Resource]:
    """The sysctls of an AKS node image that affect forwarding: those of AgentBaker's sysctl-d-60-CIS.conf, and the
    kernel's own rp_filter, which that file does not set."""
    yield from primitives.forwarding_sysctls(ns, True, rp_filter=0, devices=devices)
    for device in ("all", "default"):
        for name in ("accept_redirects", "secure_redirects", "accept_source_route"):
            yield Sysctl(ns, f"net.ipv4.conf.{device}.{name}", "0")


def mac_filter(nic: Nic) -> Iterator[Resource]:
    """The fabric drops IP packets with a source MAC address that is not the NIC's."""
    yield primitives.chain(
        "fabric", "raw", "PREROUTING", f"-i {nic.fabric_device} -m mac ! --mac-source {nic.mac} -j DROP"
    )


def anti_spoofing(nic: Nic) -> Iterator[Resource]:
    """For a NIC without IP forwarding, the fabric drops packets that are not from or to the NIC's address."""
    yield primitives.chain(
        "fabric",
        "filter",
        "FORWARD",
        f"-i {nic.fabric_device} ! -s {nic.address} -j DROP",
        f"-o {nic.fabric_device} ! -d {nic.address} -j DROP",
    )
