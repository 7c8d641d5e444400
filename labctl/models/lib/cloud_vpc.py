"""What the virtual networks of clouds share: network interfaces, the internet, and other machines.

The networks themselves differ, so each is in a separate module (`aws`, `azure`, `gcp`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.core.resources import Interface, Resource
from labctl.core.scenario_types import Machine
from labctl.core.why import LABCTL, Component, Source, explained
from labctl.models.lib import primitives

EDGE = Component("the edge of the cloud's network", Source("labctl", "labctl/models/lib/cloud_vpc.py"))
_INTERNET = LABCTL.why("It stands for the internet: a machine that has no route to private addresses.")
_INTERNET_CARD = LABCTL.why("It is the network card of the machine that stands for the internet.")
_INTERNET_ADDRESS = LABCTL.why("It is an address of the internet, where packets that leave the cloud can go.")
_EDGE_LINK = EDGE.why("It is the device by which the cloud's network reaches the internet.")
_PUBLIC_ADDRESS = EDGE.why("It is a public address of the cloud: answers of the internet come to {ip}.")
_VM = LABCTL.why(
    "It is another machine of the network, no node and without pods: it sees packets as machines outside of the cluster"
    " do."
)
INTERNET_GATEWAY = "igw"  # the fabric's device that leads to the internet: the network's internet gateway


@dataclass(frozen=True, slots=True)
class Nic:
    """The network interface of a virtual machine: the machine, its address, and its subnet."""

    machine: str
    address: IPv4Address
    subnet: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        """The subnet's first address, which the fabric has."""
        return self.subnet.network_address + 1

    @property
    def fabric_device(self) -> str:
        """The fabric's device that leads to this machine."""
        return primitives.device_name(self.machine)

    @property
    def host_prefix(self) -> IPv4Network:
        """The address as a /32 network."""
        return primitives.host_prefix(self.address)


def internet_uplink(
    internet_cidr: IPv4Network, public_ips: Iterable[IPv4Address], mtu: int, gateway_device: str = INTERNET_GATEWAY
) -> Iterator[Resource | Machine]:
    """The internet, behind a device of the fabric that has the public addresses. The caller adds the NAT rules."""
    internet, gateway = Interface("internet", "eth0"), Interface("fabric", gateway_device)
    first, *more = public_ips
    yield from primitives.netns("internet", why=_INTERNET)
    macs = (primitives.mac(str(gateway)), primitives.mac(str(internet)))
    yield from primitives.veth_pair(gateway, internet, mtu=mtu, macs=macs, whys=(_EDGE_LINK, _INTERNET_CARD))
    yield from primitives.forwarding_sysctls("internet", False, rp_filter=0)
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=(gateway_device,))
    public = primitives.with_prefix_length(first, internet_cidr.prefixlen)
    others = (primitives.with_prefix_length(one, 32) for one in more)
    yield from explained(_PUBLIC_ADDRESS, primitives.addresses(gateway, public, *others))
    address = primitives.with_prefix_length(internet_cidr.network_address + 1, internet_cidr.prefixlen)
    yield from explained(_INTERNET_ADDRESS, primitives.addresses(internet, address))
    yield Machine("internet", "internet", (internet_cidr.network_address + 1,))


def vm_without_nic(name: str, address: IPv4Address) -> Iterator[Resource | Machine]:
    """Another machine, not a node and without pods. The code of the fabric makes its NIC."""
    yield Machine(name, "vm", (address,))
    yield from primitives.netns(name, why=_VM)
    yield from primitives.forwarding_sysctls(name, False, rp_filter=0)


def refuse_overlapping_ranges(
    options: Any, node_key: str, reserved: int, *others: str
) -> Iterator[tuple[str, str, str]]:
    """Errors for overlapping ranges among the named options, and for `vm_cidr` or `peer_cidr` without a free address.

    `vm_cidr` may be equal to the nodes' subnet, the option `node_key`. `reserved` is the number of reserved addresses
    of a subnet.
    """
    ranges: dict[str, IPv4Network] = {name: getattr(options, name) for name in (node_key, "vm_cidr", *others)}
    if ranges["vm_cidr"] == ranges[node_key]:
        del ranges["vm_cidr"]
    yield from primitives.refuse_overlaps(ranges)
    for key in ("vm_cidr", "peer_cidr"):
        if key in ranges and ranges[key].num_addresses <= reserved:
            hint = (
                f"{reserved} addresses of a subnet are reserved: a"
                f" /{primitives.prefix_length_for(reserved + 1)} is large enough"
            )
            yield key, f"{key} {ranges[key]} has no free address", hint
