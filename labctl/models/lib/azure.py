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
from labctl.core.why import LABCTL, Component, Source, explained
from labctl.models.lib import cloud_vpc, primitives

FABRIC_MAC = "12:34:56:78:9a:bc"  # the MAC address that answers in every Azure virtual network
PUBLIC_DEVICE = "pip"  # the fabric's device that leads to the internet and has the public address

DOCS = "MicrosoftDocs/azure-docs"
VNET = Component("Azure's virtual network", Source(DOCS, "articles/virtual-network/virtual-networks-udr-overview.md"))
DHCP = Component("Azure's DHCP", Source(DOCS, "articles/virtual-network/ip-services/private-ip-addresses.md"))
LOAD_BALANCER = Component(
    "Azure's load balancer", Source(DOCS, "articles/load-balancer/load-balancer-outbound-connections.md")
)
IMAGE = Component(
    "the node image of AKS", Source("Azure/AgentBaker", "parts/linux/cloud-init/artifacts/sysctl-d-60-CIS.conf")
)
_FABRIC = VNET.why(
    "It is Azure's virtual network. It is a router and no switch: it takes every packet of a machine, and knows from"
    " its own records which machine has an address."
)
_FABRIC_PORT = VNET.why(
    "It is the virtual network's end of the NIC of {peer_ns}. All such ends have one MAC address: machines see no other"
    " in an Azure virtual network.",
    "Azure/azure-container-networking network/network_linux.go (virtualMacAddress)",
)
_NIC = VNET.why("It is the NIC of {ns}, its only way to other machines.")
_PROXY_ARP = VNET.why(
    "The virtual network answers each ARP request of {dev_machine} with its own MAC address, whatever machine has the"
    " address. So packets between machines of one subnet pass it too."
)
_PROXY_DELAY = LABCTL.why("The kernel waits up to 0.8 s before it answers for another machine; Azure answers at once.")
_GATEWAY = VNET.why("It is the first address of the subnet, to which {dev_machine} sends everything.")
_NIC_ROUTE = VNET.why("Azure knows that the NIC of {dst_machines} has the address {dst}.")
_SECONDARY = VNET.why(
    "Azure knows {dst} ({dst_machines}) as a secondary address of the NIC of {via_machine}. The next hop is the primary"
    " address, because {via_machine} does not answer ARP for the others."
)
_ADDRESS = DHCP.why("It is the primary address of the NIC of {ns}, the only one that {ns} itself uses.")
_DEFAULT = DHCP.why(
    "{ns} knows no way to any other machine: {via} is the virtual network, and it knows the ways to all of them."
)
_PUBLIC = LOAD_BALANCER.why(
    "The internet has no route back to private addresses. So the load balancer gives the packets the public address"
    " {to}."
)
FORWARDS = IMAGE.why(
    "{ns} is a router for its pods: with 0, the kernel drops every packet that is not for {ns} itself.",
    "parts/linux/cloud-init/artifacts/cse_config.sh (99-force-bridge-forward.conf)",
)
_HARDENED = IMAGE.why(
    "No other machine can change the paths of the packets of {ns}: this is a rule of the CIS benchmark for Linux"
    " machines."
)
_MAC_FILTER = VNET.why("Azure drops a frame that {iif_machine} sends with a MAC address that is not that of its NIC.")
_SPOOF_OUT = VNET.why(
    "IP forwarding is off at the NIC of {iif_machine}: Azure drops what it sends with another source than {src}, such"
    " as the packets of pods."
)
_SPOOF_IN = VNET.why(
    "IP forwarding is off at the NIC of {oif_machine}: Azure drops packets to it that are for another address than"
    " {dst}, such as those for pods."
)


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
    yield from primitives.netns("fabric", why=_FABRIC)
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=(nic.fabric_device for nic in nics))
    for nic in nics:
        inner, outer = Interface(nic.machine, "eth0"), Interface("fabric", nic.fabric_device)
        yield Link(outer, "veth", inner, None, mtu, FABRIC_MAC, why=_FABRIC_PORT)
        yield Link(inner, "veth", outer, nic.bridge, mtu, nic.mac, hairpin=nic.bridge is not None, why=_NIC)
        yield Sysctl("fabric", f"net.ipv4.conf.{nic.fabric_device}.proxy_arp", "1", why=_PROXY_ARP)
        yield Sysctl("fabric", f"net.ipv4.neigh.{nic.fabric_device}.proxy_delay", "0", why=_PROXY_DELAY)
        gateway = primitives.with_prefix_length(nic.gateway, 32)
        yield from explained(_GATEWAY, primitives.addresses(outer, gateway))
        yield Route("fabric", nic.host_prefix, dev=nic.fabric_device, why=_NIC_ROUTE)


def attach_nic(nic: Nic) -> Iterator[Resource]:
    """The machine's side: its address and its only route, the default route."""
    address = primitives.with_prefix_length(nic.address, nic.subnet.prefixlen)
    yield from explained(_ADDRESS, primitives.addresses(Interface(nic.machine, nic.address_device), address))
    yield primitives.default_route(nic.machine, nic.gateway, nic.address_device, _DEFAULT)


def secondary_address_routes(nic: Nic, address_count: int) -> Iterator[Resource]:
    """The fabric's routes to the secondary addresses of a NIC: the `address_count` addresses after its primary one.

    Their next hop is the primary address, because the machine does not answer ARP for the others.
    """
    for number in range(1, address_count + 1):
        dst = primitives.host_prefix(nic.address + number)
        yield Route("fabric", dst, nic.address, nic.fabric_device, onlink=True, why=_SECONDARY)


def vm_machine(nic: Nic) -> Iterator[Resource | Machine]:
    """Another machine in the virtual network, not a node and without pods."""
    yield from cloud_vpc.vm_without_nic(nic.machine, nic.address)
    yield from attach_nic(nic)


def internet_uplink(internet_cidr: IPv4Network, public_ip: IPv4Address, mtu: int) -> Iterator[Resource | Machine]:
    """The internet behind the fabric, and the SNAT of the load balancer to its public address."""
    yield from cloud_vpc.internet_uplink(internet_cidr, (public_ip,), mtu, PUBLIC_DEVICE)
    snat = f"-o {PUBLIC_DEVICE} -j SNAT --to-source {public_ip}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", (snat, _PUBLIC))


def node_sysctls(ns: str, devices: Iterable[str]) -> Iterator[Resource]:
    """The sysctls of an AKS node image that affect forwarding: those of AgentBaker's sysctl-d-60-CIS.conf, and the
    kernel's own rp_filter, which that file does not set."""
    yield from primitives.forwarding_sysctls(ns, True, rp_filter=0, devices=devices, why=FORWARDS)
    for device in ("all", "default"):
        for name in ("accept_redirects", "secure_redirects", "accept_source_route"):
            yield Sysctl(ns, f"net.ipv4.conf.{device}.{name}", "0", why=_HARDENED)


def mac_filter(nic: Nic) -> Iterator[Resource]:
    """The fabric drops IP packets with a source MAC address that is not the NIC's."""
    rule = f"-i {nic.fabric_device} -m mac ! --mac-source {nic.mac} -j DROP"
    yield primitives.chain("fabric", "raw", "PREROUTING", (rule, _MAC_FILTER))


def anti_spoofing(nic: Nic) -> Iterator[Resource]:
    """For a NIC without IP forwarding, the fabric drops packets that are not from or to the NIC's address."""
    yield primitives.chain(
        "fabric",
        "filter",
        "FORWARD",
        (f"-i {nic.fabric_device} ! -s {nic.address} -j DROP", _SPOOF_OUT),
        (f"-o {nic.fabric_device} ! -d {nic.address} -j DROP", _SPOOF_IN),
    )
