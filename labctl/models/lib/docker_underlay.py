"""The network below Docker hosts: the addresses of the hosts, and `internet`, which is their gateway. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from labctl.core.resources import IP, Interface, Resource, Route, Sysctl
from labctl.core.why import LABCTL, Component, Reason, Source, explained
from labctl.models.lib import common_reasons, primitives
from labctl.models.lib.docker_hosts import BridgeNetwork

_HOST = Component("the host's own set-up (DHCP)", Source("labctl", "labctl/models/lib/docker_underlay.py"))
_ADDRESS = _HOST.why("It is the address of the host {ns} in the network of the hosts: other hosts know only this one.")
_DEFAULT = _HOST.why("{ns} sends everything that it has no other route for to its gateway, {via_machine}.")
_INTERNET = LABCTL.why(
    "It stands for the internet, and is the gateway of the hosts. It has no route to the networks of containers, unless"
    " the scenario asks for it."
)
_GATEWAY = LABCTL.why("It is the gateway of the hosts.")
_PUBLIC = LABCTL.why("It is the address of the internet that containers send to.")
_NO_DAD = LABCTL.why("The IPv6 addresses of {dev} are usable at once, without duplicate address detection.")
ANYWHERE_IPV6 = IPv6Network("::/0")
FIRST_HOST_OFFSET = 11  # host1 is 192.168.50.11


def host_address(underlay: IPv4Network, number: int) -> IPv4Address:
    """The address of a host, by its number from 0."""
    return primitives.address_at(underlay, FIRST_HOST_OFFSET + number)


def attach_host(name: str, address: IPv4Address, underlay: IPv4Network) -> Iterator[Resource]:
    """A host's address on eth0, and its default route to `internet`."""
    interface_address = primitives.with_prefix_length(address, underlay.prefixlen)
    yield from explained(_ADDRESS, primitives.addresses(Interface(name, "eth0"), interface_address))
    yield primitives.default_route(name, underlay.network_address + 1, why=_DEFAULT)


def host_address_ipv6(underlay: IPv6Network, number: int) -> IPv6Address:
    """The IPv6 address of a host, by its number from 0."""
    return underlay.network_address + FIRST_HOST_OFFSET + number


def host_addresses(options: Any, number: int, nets: Iterable[BridgeNetwork]) -> tuple[IP, ...]:
    """All addresses of a host, its main one first. It has IPv6 if one of its networks has."""
    nets = tuple(nets)
    found: list[IP] = [host_address(options.underlay, number)]
    if has_ipv6(nets):
        found.append(host_address_ipv6(options.underlay_ipv6, number))
    return (*found, *(address.ip for net in nets for address in net.bridge_addresses))


def has_ipv6(nets: Iterable[BridgeNetwork]) -> bool:
    """Whether a network has IPv6: then the hosts and `internet` have it, too."""
    return any(net.subnet6 is not None for net in nets)


def attach_host_ipv6(name: str, address: IPv6Address, underlay: IPv6Network) -> Iterator[Resource]:
    """A host's IPv6 address on eth0, and its default route to `internet`."""
    at = Interface(name, "eth0")
    yield _usable_at_once(at)
    interface_address = IPv6Interface((int(address), underlay.prefixlen))
    yield from explained(_ADDRESS, primitives.addresses(at, interface_address))
    yield Route(name, ANYWHERE_IPV6, underlay.network_address + 1, "eth0", why=_DEFAULT)


def internet_ipv6(underlay: IPv6Network, internet_ip: IPv6Address) -> Iterator[Resource]:
    """The IPv6 addresses of the machine `internet`."""
    at = Interface("internet", "eth0")
    yield _usable_at_once(at)
    gateway = IPv6Interface((int(underlay.network_address) + 1, underlay.prefixlen))
    yield from explained(_GATEWAY, primitives.addresses(at, gateway))
    public = IPv6Interface((int(internet_ip), 128))
    yield from explained(_PUBLIC, primitives.addresses(Interface("internet", "lo"), public))


def _usable_at_once(at: Interface) -> Resource:
    return Sysctl(at.ns, f"net.ipv6.conf.{at.dev}.accept_dad", "0", why=_NO_DAD)


def internet(underlay: IPv4Network, internet_ip: IPv4Address) -> Iterator[Resource]:
    """The machine `internet`: the gateway of the hosts, with its public address on the loopback device."""
    yield from primitives.netns("internet", why=_INTERNET)
    yield from primitives.forwarding_sysctls("internet", False, rp_filter=0)
    gateway = primitives.with_prefix_length(underlay.network_address + 1, underlay.prefixlen)
    yield from explained(_GATEWAY, primitives.addresses(Interface("internet", "eth0"), gateway))
    public = primitives.with_prefix_length(internet_ip, 32)
    yield from explained(_PUBLIC, primitives.addresses(Interface("internet", "lo"), public))


def refuse_underlay_ipv6(underlay: IPv6Network, host_count: int) -> Iterator[tuple[str, str, str]]:
    """Errors for an IPv6 underlay that has fewer addresses than there are hosts, or that machines cannot use."""
    if underlay.num_addresses <= host_count + FIRST_HOST_OFFSET or underlay.is_multicast or underlay.is_link_local:
        yield "underlay_ipv6", f"underlay_ipv6: {underlay} cannot be the network of {host_count} hosts", "such as a /64"


def refuse_underlay(underlay: IPv4Network, host_count: int) -> Iterator[tuple[str, str, str]]:
    """Errors for an underlay that has fewer addresses than there are hosts."""
    capacity = underlay.num_addresses - FIRST_HOST_OFFSET - 1
    if host_count > capacity:
        what = f"underlay {underlay} has room for {max(capacity, 0)} hosts, but there are {host_count}"
        prefix_length = primitives.prefix_length_for(host_count + FIRST_HOST_OFFSET + 1)
        yield "underlay", what, f"hosts begin at the {FIRST_HOST_OFFSET}th address: a /{prefix_length}"


def cables(hosts: Sequence[str], mtu: int, internet_why: Reason) -> Iterator[Resource]:
    """The cables of the hosts: one host is connected directly to the internet; several share an Ethernet with it."""
    internet_end = Interface("internet", "eth0")
    if len(hosts) == 1:
        host = Interface(hosts[0], "eth0")
        macs = (primitives.mac(str(host)), primitives.mac(str(internet_end)))
        whys = (common_reasons.CABLE, internet_why)
        yield from primitives.veth_pair(host, internet_end, mtu=mtu, macs=macs, whys=whys)
    else:
        yield from primitives.ethernet_segment("fabric", [*hosts, "internet"], mtu=mtu)
