"""Generators of the kernel objects that container networks consist of, shared by the models.

Addresses are computed as integers and names are hashed. So the plan of a thousand containers takes milliseconds,
and the same scenario always gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import TypeAlias

from labctl.core.address_use import OverlapRefusal
from labctl.core.fidelity import approximation
from labctl.core.iptables import FirewallRule, rule
from labctl.core.resources import (
    IP,
    Address,
    Chain,
    Interface,
    InterfaceAddress,
    Link,
    Net,
    Netns,
    NftObject,
    Resource,
    Route,
    Sysctl,
)
from labctl.core.why import Reason, RuleByRule, RuleShapes, Why, explained
from labctl.models.lib import common_reasons

try:  # hashlib loads OpenSSL, which takes longer than all digests of a lab; Python's own `random` does without it, too
    from _sha1 import sha1  # type: ignore[import-not-found]
except ImportError:  # a Python that was built without it
    from hashlib import sha1

ANYWHERE = IPv4Network("0.0.0.0/0")
ANYWHERE_IPV6 = IPv6Network("::/0")
PROTO_STATIC = 4  # the program that creates a route, as it says to the kernel (rt_protos): an administrator
NO_QUEUE = 0  # packets; the queue of most links made by Go programs, whose netlink library sends it by default
MAX_BRIDGE_PORTS = 1023  # the kernel numbers bridge ports with ten bits and reserves zero

parse_rule = lru_cache(maxsize=4096)(rule)  # most rules of a lab are the same on every node


def mac(name: str, prefix: str = "02") -> str:
    """A locally administered MAC address made from a name, always the same. `prefix` is its first bytes."""
    text = prefix.replace(":", "") + sha1(name.encode()).hexdigest()
    return ":".join(text[at : at + 2] for at in range(0, 12, 2))


def device_names(prefix: str, hex_digits: int, names: Iterable[str]) -> tuple[str, ...]:
    """Device names as container runtimes make them, `prefix` plus hex digits: one for each name, all different."""
    taken: dict[str, None] = {}
    for name in names:
        device = prefix + sha1(name.encode()).hexdigest()[:hex_digits]
        while device in taken:
            name += "'"
            device = prefix + sha1(name.encode()).hexdigest()[:hex_digits]
        taken[device] = None
    return tuple(taken)


def device_name(machine: str) -> str:
    """The name of the device that leads to a machine: the machine's name, or a hash if it is too long or reserved.

    `all` and `default` have another meaning below net.ipv4.conf; the other reserved names are devices of the fabric.
    """
    taken = ("lo", "all", "default", "pip", "wire", "igw", "lan1", "lan2")
    return machine if len(machine) <= 15 and machine not in taken else device_names("to-", 11, (machine,))[0]


def with_prefix_length(address: IPv4Address | int, prefix_length: int) -> IPv4Interface:
    """An address with its prefix length."""
    return IPv4Interface((int(address), prefix_length))


def interface_address(address: IP, prefix_length: int) -> InterfaceAddress:
    """An address of either IP version with its prefix length."""
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, prefix_length))
    return IPv6Interface((address, prefix_length))


def host_prefix(address: IPv4Address | int) -> IPv4Network:
    """An address as a /32 network."""
    return IPv4Network((int(address), 32))


def address_at(network: IPv4Network, offset: int) -> IPv4Address:
    """The address at an offset in a network. A negative offset counts from the end: -1 is the broadcast address."""
    base = network.network_address if offset >= 0 else network.broadcast_address + 1
    return base + offset


def netns(*names: str, why: Reason = common_reasons.MACHINE) -> Iterator[Resource]:
    """Namespaces, each with its loopback up."""
    for name in names:
        yield Netns(name, why=why)
        yield Link(Interface(name, "lo"), "loopback", why=common_reasons.LOOPBACK)


def node_netns(ns: str) -> Iterator[Resource]:
    """The namespace of a cluster's node."""
    return netns(ns, why=common_reasons.NODE)


def host_netns(ns: str) -> Iterator[Resource]:
    """The namespace of a host of Docker."""
    return netns(ns, why=common_reasons.HOST)


def veth_pair(
    interface: Interface,
    peer: Interface,
    *,
    mtu: int,
    macs: tuple[str | None, str | None] = (None, None),
    master: str | None = None,
    hairpin: bool = False,
    txqueuelen: int | None = None,
    whys: tuple[Reason | None, Reason | None] = (None, None),
) -> Iterator[Resource]:
    """A veth pair. `master` is the bridge of which the first device is a port, `hairpin` a flag of that port. `whys`
    are the reasons of both ends."""
    yield Link(interface, "veth", peer, master, mtu, macs[0], txqueuelen, hairpin=hairpin, why=whys[0])
    yield Link(peer, "veth", interface, None, mtu, macs[1], txqueuelen, why=whys[1])


def bridge(
    interface: Interface,
    *,
    mtu: int,
    address: IPv4Interface | None = None,
    promisc: bool = False,
    mac_prefix: str = "02",
    txqueuelen: int | None = None,
) -> Iterator[Resource]:
    """A bridge with a fixed MAC address. Without one, a bridge takes the lowest address of its current ports."""
    address_of_bridge = mac(str(interface), mac_prefix)
    yield Link(interface, "bridge", mtu=mtu, mac=address_of_bridge, txqueuelen=txqueuelen, promisc=promisc)
    if address is not None:
        yield from addresses(interface, address)


def addresses(interface: Interface, *interface_addresses: InterfaceAddress) -> Iterator[Resource]:
    """Addresses of a device. For a /32 or /128 it does not matter whether there is a connected route."""
    for address in interface_addresses:
        yield Address(interface, address, None if address.network.prefixlen == address.max_prefixlen else True)


def default_route(ns: str, gateway: IPv4Address, dev: str = "eth0", why: Reason | None = None) -> Route:
    """The default route."""
    return Route(ns, ANYWHERE, gateway, dev, why=why)


# of the models with nodes to which `forwarding_sysctls` gives another value than a real node has
PARTS = (
    approximation("send_redirects", "is 0 on nodes, and the kernel's value is 1, so that no redirect changes a path"),
)


def forwarding_sysctls(
    ns: str,
    enabled: bool,
    *,
    rp_filter: int,
    send_redirects: bool = False,
    devices: Iterable[str] = ("eth0",),
    why: Reason = common_reasons.sysctl_reason,
) -> Iterator[Resource]:
    """Whether a machine forwards packets, and every sysctl that affects forwarding. Unless `send_redirects`, it sends
    no ICMP redirect, which would shorten the path of later packets.

    A new namespace inherits these values from the host. The kernel uses the larger of the value for `all` and the
    value for the device, so the value is set for each device too. `why` is the reason of `ip_forward`, if a component
    sets it; the kernel's meaning of each value is the reason of the others.
    """
    yield Sysctl(ns, "net.ipv4.ip_forward", str(int(enabled)), why=why)
    reason = common_reasons.sysctl_reason
    for device in ("all", "default", *devices):
        yield Sysctl(ns, f"net.ipv4.conf.{device}.rp_filter", str(rp_filter), why=reason)
        yield Sysctl(ns, f"net.ipv4.conf.{device}.send_redirects", str(int(send_redirects)), why=reason)


def container_netns(ns: str, why: Reason = common_reasons.POD) -> Iterator[Resource]:
    """The namespace of a pod or container: loopback up, IP forwarding off."""
    yield Netns(ns, why=why)
    yield Link(Interface(ns, "lo"), "loopback", why=common_reasons.LOOPBACK)
    yield Sysctl(ns, "net.ipv4.ip_forward", "0", why=common_reasons.sysctl_reason)


RuleText: TypeAlias = str | FirewallRule  # a rule in the syntax of iptables, or already parsed


def chain(
    ns: str,
    table: str,
    name: str,
    *rules: RuleText | tuple[RuleText, Why],
    policy: str | None = None,
    why: Reason | None = None,
    shapes: RuleShapes | None = None,
    family: str = "ip",
) -> Chain:
    """A chain of iptables, with its rules in the syntax of iptables; a rule may be a pair with its reason. `why` is the
    reason of the chain, which a built-in chain does not need. `shapes` explain the chain and its rules instead."""
    if shapes is not None:
        parsed = tuple([_parsed(one, family) for one in rules if not isinstance(one, tuple)])
        return Chain(ns, table, name, parsed, policy, family, why=why or shapes.of_chain, rule_whys=shapes.reasons)
    whys = tuple([one[1] if isinstance(one, tuple) else None for one in rules])
    parsed = tuple([_parsed(one[0] if isinstance(one, tuple) else one, family) for one in rules])
    reasons = (RuleByRule(parsed, whys),) if any(whys) else ()
    return Chain(ns, table, name, parsed, policy, family, why=why, rule_whys=reasons)


def nft_explained(shapes: RuleShapes, *items: NftObject) -> Iterator[NftObject]:
    """Objects of nft, each with the reasons of its shape: those of a chain have its family and table as their place
    (`ip aws-cni/snat-mark`), that of the table ends with the slash."""
    for item in items:
        yield replace(item, why=shapes.of_chain, rule_whys=shapes.reasons)


def _parsed(text: RuleText, family: str) -> FirewallRule:
    if not isinstance(text, str):
        return text
    return parse_rule(text) if family == "ip" else parse_rule(text, family)  # a cache is faster with one argument


def ethernet_segment(
    ns: str, machines: Iterable[str], *, mtu: int, gateway: IPv4Interface | None = None
) -> Iterator[Resource]:
    """A plain Ethernet: a bridge `wire` in a separate namespace, connected to the eth0 of each machine."""
    yield from netns(ns, why=common_reasons.ETHERNET)
    reasons = {Link: common_reasons.SWITCH, Address: common_reasons.SWITCH_ADDRESS}
    yield from explained(reasons, bridge(Interface(ns, "wire"), mtu=mtu, address=gateway))
    whys = (common_reasons.SWITCH_PORT, common_reasons.CABLE)
    for name in machines:
        at = Interface(name, "eth0")
        macs = (None, mac(str(at)))
        yield from veth_pair(Interface(ns, device_name(name)), at, mtu=mtu, macs=macs, master="wire", whys=whys)
    yield from forwarding_sysctls(ns, gateway is not None, rp_filter=0, devices=("wire",))
    yield Sysctl(ns, "net.bridge.bridge-nf-call-iptables", "0", why=common_reasons.SWITCH_NO_IPTABLES)


def refuse_overlaps(ranges: Mapping[str, Net]) -> Iterator[tuple[str, str, str]]:
    """Errors for ranges that overlap but must not, each reported at the later of the two."""
    items = list(ranges.items())
    for number, (key, network) in enumerate(items):
        for other, before in items[:number]:
            if network.version == before.version and network.overlaps(before):
                what = OverlapRefusal(f"{key} {network} overlaps {other} {before}")
                yield key, what, "give each a separate range"


def refuse_public_ip(internet_cidr: IPv4Network, public_ip: IPv4Address) -> Iterator[tuple[str, str, str]]:
    """Errors for a public address that is not a free address of the internet's range."""
    used = (internet_cidr.network_address, internet_cidr.network_address + 1, internet_cidr.broadcast_address)
    if public_ip not in internet_cidr or public_ip in used:
        hint = (
            f"`internet` has the first address of {internet_cidr}; use {internet_cidr.network_address + 2}"
            " or a later one"
        )
        yield "public_ip", f"public_ip {public_ip} is not a free address of internet_cidr {internet_cidr}", hint


def free_subnets(pool: IPv4Network, prefix_length: int, taken: Iterable[IPv4Network]) -> Iterator[IPv4Network]:
    """The ranges of this prefix length in a pool that overlap none of the taken ranges, in order. A taken range is
    skipped at once, however large it is."""
    ends = [(int(network.network_address), int(network.broadcast_address)) for network in taken]
    size, position = 1 << 32 - prefix_length, int(pool.network_address)
    while position + size - 1 <= int(pool.broadcast_address):
        blocking = [last for first, last in ends if first < position + size and last >= position]
        if blocking:
            position = (max(blocking) // size + 1) * size
        else:
            yield IPv4Network((position, prefix_length))
            position += size


def prefix_length_for(count: int) -> int:
    """The longest prefix length of a network with this many addresses."""
    return 32 - max(count - 1, 0).bit_length()
