"""The neighbour entries that a large mesh of probes needs, computed from the plan. Pure.

The kernel has one limit of neighbour entries for all namespaces of the machine, 1024 by default; all pairs of 400 pods
need many times that. A check of that size adds permanent entries before it and removes them afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from labctl.core.resources import IP, Address, Fdb, Interface, Link, Neighbour, Net, Plan, Route, Sysctl
from labctl.core.scenario_types import Lab

ANY_MAC = "00:00:00:00:00:00"  # the forwarding entry of a VXLAN device for broadcasts and unknown addresses


@dataclass(frozen=True, slots=True)
class Preset:
    """A temporary entry: at a device, for an address, with the MAC address of the device `mac_interface`."""

    at: Interface
    ip: IP
    mac_interface: Interface


@dataclass(frozen=True, slots=True)
class NeededEntries:
    """The entries that probes need, without those that the plan has. `unpredictable` counts those in namespaces that
    forward nothing, for the addresses of targets, for which the plan does not say which device answers: they are left
    to the kernel."""

    presets: list[Preset]
    unpredictable: int


class _OnLink(NamedTuple):
    dev: str
    net: Net
    via: IP | None


class NeighbourPresets:
    """The entries that probes in one lab need."""

    def __init__(self, lab: Lab) -> None:
        self._holders: dict[IP, list[Interface]] = {}  # several, if hosts have networks of the same range
        for item in lab.plan:
            if isinstance(item, Address):
                self._holders.setdefault(item.addr.ip, []).append(item.at)
        self._planned = {(item.at, item.ip) for item in lab.plan if isinstance(item, Neighbour)}
        self._domains = _BroadcastDomains(lab.plan)
        self._on_link = {
            ns: (nets, {net.net.network_address for net in nets if net.net.num_addresses == 1 and net.via is None})
            for ns, nets in _on_link(lab.plan).items()
        }

    def needed(
        self,
        addresses: Iterable[IP],
        peers: Mapping[str, Set[IP]] | None = None,
        targets: Set[IP] = frozenset(),
        passing: Mapping[str, Set[IP]] | None = None,
    ) -> NeededEntries:
        """The entries that probes between all of these addresses need. `targets` are those that are probed: a machine
        that only sends may have others, on networks that the probes do not use.

        `peers` are namespaces that forward nothing, each with the addresses that it exchanges packets with; one without
        such an address needs no entry. `passing` are namespaces that forward packets, each with the addresses of these.

        The answer to an ARP request can be predicted in four cases: both devices are on one link layer; another device
        on the link layer has a permanent entry for the address (a cloud's mapping service, the peer table of an
        overlay); the link layer has exactly one other device with proxy ARP; or it has exactly one other device.
        """
        wanted = _ByNetwork(addresses)
        known = {**(passing or {}), **(peers or {})}
        found: dict[tuple[Interface, IP], Preset] = {}
        unpredictable: set[tuple[Interface, IP]] = set()
        for ns, (nets, hosts) in self._on_link.items():
            asked = known.get(ns, wanted.addresses)
            for entry in nets if asked else ():
                at = Interface(ns, entry.dev)
                for ip in _next_hops(entry, wanted.inside(entry, asked), hosts):
                    if (at, ip) not in found and (at, ip) not in self._planned and not self._is_own(ns, ip):
                        answering_interface = self._answering_interface(at, ip)
                        if answering_interface is not None:
                            found[at, ip] = Preset(at, ip, answering_interface)
                        elif peers is not None and ns in peers and ip in targets:
                            unpredictable.add((at, ip))
        return NeededEntries(list(found.values()), len(unpredictable))

    def _is_own(self, ns: str, ip: IP) -> bool:
        return any(holder.ns == ns for holder in self._holders.get(ip, ()))

    def _answering_interface(self, at: Interface, ip: IP) -> Interface | None:
        holders = self._holders.get(ip, [])
        for holder in holders:
            if self._domains.same_domain(at, holder):
                return holder
        return (
            self._domains.permanent_neighbour(at, ip, holders)
            or self._domains.only_proxy(at)
            or self._domains.only_other(at)
        )


def _next_hops(entry: _OnLink, inside: Set[IP], hosts: Set[IP]) -> Iterator[IP]:
    """The addresses that an entry resolves: its gateway, or those of `inside`, its network."""
    if entry.via is not None:
        yield entry.via
    elif entry.net.num_addresses == 1:
        yield from inside
    else:
        yield from (ip for ip in inside if ip not in hosts)


class _ByNetwork:
    """Addresses, and those of them that are in a network: looked up once for all namespaces that have it."""

    def __init__(self, addresses: Iterable[IP]) -> None:
        self.addresses = set(addresses)
        self._inside: dict[Net, frozenset[IP]] = {}

    def inside(self, entry: _OnLink, asked: Set[IP]) -> Set[IP]:
        """Those of the addresses in `asked` that are in the network of an entry; of none with a gateway."""
        if entry.via is not None:
            return frozenset()
        net = entry.net
        if net.num_addresses == 1:
            return asked & {net.network_address}
        if net not in self._inside:
            version, mask, base = net.version, int(net.netmask), int(net.network_address)
            inside = (ip for ip in self.addresses if ip.version == version and int(ip) & mask == base)
            self._inside[net] = frozenset(inside)
        return self._inside[net] & asked


def _on_link(plan: Plan) -> dict[str, list[_OnLink]]:
    """What each namespace resolves on its links: connected networks, routes without a gateway, gateways."""
    nets: dict[str, list[_OnLink]] = {}
    for item in plan:
        if isinstance(item, Address) and item.connected is not False and item.at.dev != "lo":
            nets.setdefault(item.ns, []).append(_OnLink(item.at.dev, item.addr.network, None))
        elif isinstance(item, Route) and item.kind == "unicast" and item.dev is not None:
            nets.setdefault(item.ns, []).append(_OnLink(item.dev, item.dst, item.via))
    return nets


def _proxies(plan: Plan) -> Iterator[Interface]:
    """The devices with proxy ARP on."""
    for item in plan:
        if isinstance(item, Sysctl) and item.name.endswith(".proxy_arp") and item.value == "1":
            yield Interface(item.ns, item.name.split(".")[-2].replace("/", "."))


def _flooding_tunnels(plan: Plan, links: Iterable[Link]) -> Iterator[tuple[Interface, Interface]]:
    """The pairs of VXLAN devices of which the first sends broadcasts to the second."""
    addresses: dict[str, set[IP]] = {}
    for item in plan:
        if isinstance(item, Address):
            addresses.setdefault(item.ns, set()).add(item.addr.ip)
    remotes: dict[Interface, set[str]] = {}
    by_end: dict[tuple[str | None, str], Interface] = {}
    for link in links:
        if link.kind == "vxlan":
            options = dict(link.options)
            remote, local = options.get("remote") or options.get("group"), options.get("local")
            remotes[link.at] = {remote} if remote is not None else set()
            ends = {str(ip) for ip in addresses.get(link.link_netns or link.ns, ())} if local is None else {local}
            ends |= {end for end in remotes[link.at] if ip_address(end).is_multicast}
            by_end |= {(options.get("id"), end): link.at for end in ends}
    for item in plan:
        if isinstance(item, Fdb) and item.mac == ANY_MAC and item.dst is not None and item.at in remotes:
            remotes[item.at].add(str(item.dst))
    for link in links:
        number = dict(link.options).get("id")
        for end in remotes.get(link.at, ()):
            if (other := by_end.get((number, end))) is not None:
                yield link.at, other


class _BroadcastDomains:
    """The devices that share a link layer: the two ends of a veth pair, all ports of a bridge, the macvlans of a
    device, and VXLAN devices of one number that flood to each other."""

    def __init__(self, plan: Plan) -> None:
        self._parent: dict[Interface, Interface] = {}
        links = [item for item in plan if isinstance(item, Link)]
        for link in links:
            if link.peer is not None:
                self._join(link.at, link.peer)
            if link.master is not None:
                self._join(link.at, Interface(link.ns, link.master))
            lower = dict(link.options).get("dev")
            if lower is not None and link.kind in ("macvlan", "ipvlan"):
                self._join(link.at, Interface(link.link_netns or link.ns, lower))
        for one, other in _flooding_tunnels(plan, links):
            self._join(one, other)
        self._members: dict[Interface, list[Interface]] = {}
        for interface in list(self._parent):
            self._members.setdefault(self._root(interface), []).append(interface)
        self._proxies: dict[Interface, list[Interface]] = {}
        for interface in _proxies(plan):
            self._proxies.setdefault(self._root(interface), []).append(interface)
        self._mac = {link.at: link.mac for link in links if link.mac}
        self._by_mac = {(self._root(at), mac): at for at, mac in self._mac.items() if at in self._parent}
        self._permanent = {
            (self._root(item.at), item.ip): item.mac
            for item in plan
            if isinstance(item, Neighbour) and item.state == "permanent" and item.at in self._parent
        }

    def permanent_neighbour(self, interface: Interface, ip: IP, holders: Sequence[Interface]) -> Interface | None:
        """The other device with the MAC address that a permanent entry on the same link layer has for this address. It
        is on that link layer, or one of the `holders` of the address, behind a tunnel that answers for it."""
        root = self._root(interface)
        mac = self._permanent.get((root, ip))
        if mac is None:
            return None
        owner = self._by_mac.get((root, mac)) or next((one for one in holders if self._mac.get(one) == mac), None)
        return owner if owner != interface else None

    def same_domain(self, one: Interface, other: Interface) -> bool:
        """Whether a broadcast of one reaches the other."""
        return self._root(one) == self._root(other)

    def only_proxy(self, interface: Interface) -> Interface | None:
        """The other device that answers ARP requests for addresses it has a route to, if there is exactly one."""
        proxies = [item for item in self._proxies.get(self._root(interface), ()) if item != interface]
        return proxies[0] if len(proxies) == 1 else None

    def only_other(self, interface: Interface) -> Interface | None:
        """The other device on the link layer, if there is exactly one."""
        members = self._members.get(self._root(interface), [])
        return next((item for item in members if item != interface), None) if len(members) == 2 else None

    def _root(self, interface: Interface) -> Interface:
        while (parent := self._parent.get(interface, interface)) != interface:
            self._parent[interface] = self._parent.get(parent, parent)
            interface = parent
        return interface

    def _join(self, one: Interface, other: Interface) -> None:
        self._parent.setdefault(one, one)
        self._parent.setdefault(other, other)
        self._parent[self._root(one)] = self._root(other)
