"""Generators of the kernel objects that container networks consist of, shared by the models.

Addresses are computed as integers and names are hashed. So the plan of a thousand containers takes milliseconds,
and the same scenario always gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha1
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from labctl.core.iptables import FirewallRule, rule
from labctl.core.resources import Address, Chain, Link, Netns, Port, Resource, Route, Sysctl

ANYWHERE = IPv4Network("0.0.0.0/0")
BRIDGE_PORTS = 1023  # the kernel numbers bridge ports with ten bits and reserves zero

words = lru_cache(maxsize=4096)(rule)  # most rules of a lab are the same on every node


def mac(name: str, head: str = "02") -> str:
    """A locally administered MAC address made from a name, always the same. `head` is its first bytes."""
    text = head.replace(":", "") + sha1(name.encode()).hexdigest()
    return ":".join(text[at : at + 2] for at in range(0, 12, 2))


def hashed(prefix: str, digits: int, names: Iterable[str]) -> tuple[str, ...]:
    """Device names as container runtimes make them, `prefix` plus hex digits: one for each name, all different."""
    taken: dict[str, None] = {}
    for name in names:
        device = prefix + sha1(name.encode()).hexdigest()[:digits]
        while device in taken:
            name += "'"
            device = prefix + sha1(name.encode()).hexdigest()[:digits]
        taken[device] = None
    return tuple(taken)


def device(name: str) -> str:
    """The name of the device that leads to a machine: the machine's name, or a hash if it is too long or reserved.

    `all` and `default` have another meaning below net.ipv4.conf; the other reserved names are devices of the fabric.
    """
    taken = ("lo", "all", "default", "pip", "wire", "igw", "lan1", "lan2")
    return name if len(name) <= 15 and name not in taken else hashed("to-", 11, (name,))[0]


def iface(address: IPv4Address | int, prefix: int) -> IPv4Interface:
    """An address with its prefix length."""
    return IPv4Interface((int(address), prefix))


def within(network: IPv4Network, offset: int) -> IPv4Address:
    """The address at an offset in a network. A negative offset counts from the end: -1 is the broadcast address."""
    base = network.network_address if offset >= 0 else network.broadcast_address + 1
    return base + offset


def netns(*names: str) -> Iterator[Resource]:
    """Namespaces, each with its loopback up."""
    for name in names:
        yield Netns(name)
        yield Link(Port(name, "lo"), "loopback")


def veth(
    one: Port, other: Port, *, mtu: int, macs: tuple[str | None, str | None] = (None, None), master: str | None = None
) -> Iterator[Resource]:
    """A veth pair. `master` is the bridge of which the first device is a port."""
    yield Link(one, "veth", other, master, mtu, macs[0])
    yield Link(other, "veth", one, None, mtu, macs[1])


def bridge(
    at: Port, *, mtu: int, address: IPv4Interface | None = None, promisc: bool = False, head: str = "02"
) -> Iterator[Resource]:
    """A bridge with a fixed MAC address. Without one, a bridge takes the lowest address of its current ports."""
    yield Link(at, "bridge", mtu=mtu, mac=mac(str(at), head), promisc=promisc)
    if address is not None:
        yield from addresses(at, address)


def addresses(at: Port, *those: IPv4Interface) -> Iterator[Resource]:
    """Addresses of a device. For a /32 it does not matter whether there is a connected route."""
    for address in those:
        yield Address(at, address, None if address.network.prefixlen == 32 else True)


def default(ns: str, via: IPv4Address, dev: str = "eth0") -> Route:
    """The default route."""
    return Route(ns, ANYWHERE, via, dev)


def forwarding(ns: str, on: bool, *, rp_filter: int, devices: Iterable[str] = ("eth0",)) -> Iterator[Resource]:
    """Whether a machine forwards packets, and every sysctl that affects forwarding.

    A new namespace inherits these values from the host. The kernel uses the larger of the value for `all` and the
    value for the device, so the value is set for each device too.
    """
    yield Sysctl(ns, "net.ipv4.ip_forward", str(int(on)))
    for place in ("all", "default", *devices):
        yield Sysctl(ns, f"net.ipv4.conf.{place}.rp_filter", str(rp_filter))
        yield Sysctl(ns, f"net.ipv4.conf.{place}.send_redirects", "0")


def endpoint(name: str) -> Iterator[Resource]:
    """The namespace of a pod or container: loopback up, IP forwarding off."""
    yield Netns(name)
    yield Link(Port(name, "lo"), "loopback")
    yield Sysctl(name, "net.ipv4.ip_forward", "0")


def chain(ns: str, table: str, name: str, *rules: str | FirewallRule, policy: str | None = None) -> Chain:
    """A chain of iptables, with its rules in the syntax of iptables."""
    made = tuple(words(text) if isinstance(text, str) else text for text in rules)
    return Chain(ns, table, name, made, policy)


def wire(ns: str, ports: Iterable[str], *, mtu: int, address: IPv4Interface | None = None) -> Iterator[Resource]:
    """A plain Ethernet: a bridge `wire` in a separate namespace, connected to the eth0 of each machine."""
    yield from netns(ns)
    yield from bridge(Port(ns, "wire"), mtu=mtu, address=address)
    for name in ports:
        at = Port(name, "eth0")
        yield from veth(Port(ns, device(name)), at, mtu=mtu, macs=(None, mac(str(at))), master="wire")
    yield from forwarding(ns, address is not None, rp_filter=0, devices=("wire",))
    yield Sysctl(ns, "net.bridge.bridge-nf-call-iptables", "0")


def overlaps(named: dict[str, IPv4Network]) -> Iterator[tuple[str, str, str]]:
    """Errors for ranges that overlap but must not, each reported at the later of the two."""
    items = list(named.items())
    for number, (key, network) in enumerate(items):
        for other, before in items[:number]:
            if network.overlaps(before):
                yield key, f"{key} {network} overlaps {other} {before}", "give each a separate range"


def refuse_internet(internet: IPv4Network, public: IPv4Address) -> Iterator[tuple[str, str, str]]:
    """Errors for a public address that is not a free address of the internet's range."""
    used = (internet.network_address, internet.network_address + 1, internet.broadcast_address)
    if public not in internet or public in used:
        hint = f"`internet` has the first address of {internet}; use {internet.network_address + 2} or a later one"
        yield "public_ip", f"public_ip {public} is not a free address of internet_cidr {internet}", hint


def prefix_for(count: int) -> int:
    """The longest prefix length of a network with this many addresses."""
    return 32 - max(count - 1, 0).bit_length()
