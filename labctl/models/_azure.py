"""The Azure side that the AKS models share: the virtual network as a router, the nodes' settings and limits.

The virtual network is no switch. Whatever a machine sends is answered by one MAC address and routed by
the fabric, so `fabric` is a router with a link of its own to every machine, which answers ARP for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.models import _parts as parts
from labctl.plan import Port, Resource, Route, Sysctl
from labctl.scenario import Machine

FABRIC_MAC = "12:34:56:78:9a:bc"  # who answers every frame in an Azure virtual network
FIRST = 4  # Azure keeps the first four addresses of a subnet ...
KEPT = 5  # ... and the last
RESERVED = tuple(IPv4Network(text) for text in ("169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24"))


@dataclass(frozen=True, slots=True)
class Nic:
    """The network interface of one virtual machine: the machine, its primary address, and its subnet."""

    name: str
    address: IPv4Address
    subnet: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        """The subnet's first address, which the fabric holds."""
        return self.subnet.network_address + 1

    @property
    def device(self) -> str:
        """The fabric's device that leads to this machine."""
        return parts.device(self.name)


def fabric(nics: Iterable[Nic], mtu: int) -> Iterator[Resource]:
    """The virtual network: a router between the machines, which only ever see its one MAC address."""
    nics = tuple(nics)
    yield from parts.netns("fabric")
    yield from parts.forwarding("fabric", True, rp_filter=0, devices=(nic.device for nic in nics))
    for nic in nics:
        inner, outer = Port(nic.name, "eth0"), Port("fabric", nic.device)
        yield from parts.veth(outer, inner, mtu=mtu, macs=(FABRIC_MAC, parts.mac(str(inner), "00:0d:3a")))
        yield Sysctl("fabric", f"net.ipv4.conf.{nic.device}.proxy_arp", "1")
        yield Sysctl("fabric", f"net.ipv4.neigh.{nic.device}.proxy_delay", "0")
        yield from parts.addresses(outer, parts.iface(nic.gateway, 32))
        yield Route("fabric", IPv4Network((int(nic.address), 32)), dev=nic.device)


def plug(nic: Nic) -> Iterator[Resource]:
    """The machine's end: its address and its only route, the default one."""
    yield from parts.addresses(Port(nic.name, "eth0"), parts.iface(nic.address, nic.subnet.prefixlen))
    yield parts.default(nic.name, nic.gateway)


def outside(internet: IPv4Network, public: IPv4Address, mtu: int) -> Iterator[Resource | Machine]:
    """The internet behind the fabric, and the load balancer that gives all that leaves its public address."""
    there, here = Port("internet", "eth0"), Port("fabric", "pip")
    yield from parts.netns("internet")
    yield from parts.veth(here, there, mtu=mtu, macs=(parts.mac(str(here)), parts.mac(str(there))))
    yield from parts.forwarding("internet", False, rp_filter=0)
    yield from parts.forwarding("fabric", True, rp_filter=0, devices=("pip",))
    yield from parts.addresses(here, parts.iface(public, internet.prefixlen))
    yield from parts.addresses(there, parts.iface(internet.network_address + 1, internet.prefixlen))
    yield parts.chain("fabric", "nat", "POSTROUTING", f"-o pip -j SNAT --to-source {public}")
    yield Machine("internet", "internet", (internet.network_address + 1,))


def node_settings(ns: str, devices: Iterable[str]) -> Iterator[Resource]:
    """The settings of an AKS node image on which the way of a packet depends."""
    yield from parts.forwarding(ns, True, rp_filter=1, devices=devices)
    for place in ("all", "default"):
        yield Sysctl(ns, f"net.ipv4.conf.{place}.accept_redirects", "0")
        yield Sysctl(ns, f"net.ipv4.conf.{place}.accept_source_route", "0")


def no_spoofing(nic: Nic) -> Iterator[Resource]:
    """What the fabric does for a NIC without IP forwarding: nothing passes but the NIC's own address."""
    yield parts.chain(
        "fabric",
        "filter",
        "FORWARD",
        f"-i {nic.device} ! -s {nic.address} -j DROP",
        f"-o {nic.device} ! -d {nic.address} -j DROP",
    )


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


def refuse_internet(internet: IPv4Network, public: IPv4Address) -> Iterator[tuple[str, str, str]]:
    """Refusals for a public address that the internet's range does not hold."""
    used = (internet.network_address, internet.network_address + 1, internet.broadcast_address)
    if public not in internet or public in used:
        hint = f"the first address of {internet} is the internet's own; take one from {internet.network_address + 2} up"
        yield "public_ip", f"public_ip {public} is no free address of internet_cidr {internet}", hint
