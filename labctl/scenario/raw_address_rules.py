"""Which addresses, neighbours and forwarding entries of a raw scenario its devices cannot have.

Follows Linux 6.18: ipv6_add_addr in net/ipv6/addrconf.c, fib_add_ifaddr in net/ipv4/fib_frontend.c, vxlan_fdb_add in
drivers/net/vxlan/vxlan_core.c, br_fdb_add in net/bridge/br_fdb.c.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network

from labctl.core.kernel_defaults import kernel_default_addresses
from labctl.core.resources import ALL_ZEROS_MAC, Address, Fdb, Interface, Neighbour
from labctl.scenario.document import Position, Reader
from labctl.scenario.raw_devices import Devices, vxlan_family

_ZERONET = ip_network("0.0.0.0/8")


class AddressRules:
    """Checks entries one by one against the devices."""

    def __init__(self, devices: Devices, reader: Reader) -> None:
        self.devices, self.reader = devices, reader
        self._destinations: dict[tuple[str, str, str], Fdb] = {}  # the entry of a MAC address in a table of a device

    def check_address(self, item: Address, at: Position) -> None:
        """Record a problem if the device cannot have this address."""
        ip, link = item.addr.ip, self.devices.links[item.at]
        defaults = [known.addr for known in kernel_default_addresses(item.ns, ip.version)]
        if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
            kind = "unspecified" if ip.is_unspecified else "multicast" if ip.is_multicast else "broadcast"
            self.reader.add_problem(at, f"addresses: {ip} is the {kind} address, and no device has it")
        elif link.kind == "loopback" and (item.addr in defaults or str(ip) == "::1"):
            self.reader.add_problem(at, f"addresses: {item.at} has {ip} already", "every lo has it: leave it out")
        elif ip.version == 6 and (why := self.devices.why_without_ipv6(item.at)):
            self.reader.add_problem(at, f"addresses: {item.at} has no IPv6: {why}")
        elif ip.version == 6 and ip.is_loopback and link.kind != "loopback":
            self.reader.add_problem(at, f"addresses: only lo can have {ip}")
        elif link.autoconf and link.mac is not None and ip == link_local_address(link.mac):
            what = f"addresses: the kernel gives {item.at} the address {ip} itself"
            self.reader.add_problem(at, what, "leave it out, or set autoconf: false")

    def check_neighbour(self, item: Neighbour, at: Position) -> None:
        """Record a problem if the device cannot have this neighbour."""
        why = self.devices.why_without_ipv6(item.at) if item.ip.version == 6 else ""
        if item.at.dev == "lo" and not item.proxy:
            self.reader.add_problem(at, f"neighbours: {item.at} has no neighbours: a packet to lo stays in {item.ns}")
        elif why:
            self.reader.add_problem(at, f"neighbours: {item.at} has no IPv6: {why}")

    def check_fdb(self, item: Fdb, at: Position) -> None:
        """Record a problem if the device cannot have this forwarding entry."""
        link = self.devices.links[item.at]
        if item.dst is not None and link.kind != "vxlan":
            self.reader.add_problem(at, f"fdb: {item.at} is a {link.kind}, and dst is for a vxlan", "remove dst")
            return
        if item.dst is None and link.master is None:
            what = f"fdb: {item.at} is not a port of a bridge"
            self.reader.add_problem(at, what, "add dst ADDRESS" if link.kind == "vxlan" else "set its master")
            return
        if item.dst is None and item.mac == ALL_ZEROS_MAC:
            self.reader.add_problem(at, f"fdb: {item.mac} is for a vxlan", "add dst ADDRESS")
        if item.dst is not None and item.dst.version != vxlan_family(link):
            what = f"fdb: {item.at} sends IPv{vxlan_family(link)} packets, and {item.dst} is IPv{item.dst.version}"
            self.reader.add_problem(at, what, "its family is that of its local or remote address, else IPv4")
        if item.via is not None and Interface(link.link_netns or item.ns, item.via) not in self.devices.links:
            self.reader.add_problem(at, f"fdb: {link.link_netns or item.ns} has no device {item.via!r}")
        if item.dst is not None and item.dst.is_unspecified:
            self.reader.add_problem(at, f"fdb: {item.dst} is not an address")
        if item.mac != ALL_ZEROS_MAC:
            table = item.at.dev if item.dst is not None else f"bridge {link.master}"
            first = self._destinations.setdefault((item.ns, table, item.mac), item)
            if first is not item:
                where = f"dst {first.dst}" if first.dst is not None else f"dev {first.at.dev}"
                self.reader.add_problem(at, f"fdb: {item.mac} has {where} already", "a MAC address is at one place")


def has_connected_route(item: Address) -> bool:
    """Whether the kernel creates a route in the main table to the prefix of an address on a device other than lo."""
    return item.addr.network.prefixlen < item.addr.max_prefixlen and item.addr.network.network_address not in _ZERONET


def link_local_address(mac: str) -> IPv6Address:
    """The address that a device with this MAC address gives itself (RFC 4291, modified EUI-64)."""
    first, second, third, *rest = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((first ^ 2, second, third, 0xFF, 0xFE, *rest))
    return IPv6Address(bytes.fromhex("fe80000000000000") + identifier)
