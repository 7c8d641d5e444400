"""The way of a packet through a plan: a routing table look-up, then the cables and bridges to the next machine. Pure.

It knows routes, rules without a mark, neighbours, proxy ARP, bridges and VXLAN; it knows no firewall and no address
translation. So it finds the probes that a fault hits; what the kernel does can differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from labctl.core.resources import (
    IP,
    RT_TABLE_MAIN,
    Address,
    Fdb,
    Interface,
    InterfaceAddress,
    Link,
    Neighbour,
    Route,
    Rule,
    Sysctl,
)

if TYPE_CHECKING:
    from labctl.core.resources import Plan

MAX_HOPS = 16


@dataclass(frozen=True, slots=True)
class PlannedHop:
    """One machine that routes or sends a packet: the route that it uses, by which device, to which next hop.

    `iif` is the device that the packet came in by (None: it begins here). `crossed` are the interfaces from `out` to
    the one that receives the frame, both included; `tunnel` the hops of the packet that carries it, for a VXLAN.
    """

    ns: str
    iif: str | None
    route: Route
    out: Interface
    next_hop: IP
    crossed: tuple[Interface, ...] = ()
    tunnel: tuple[PlannedHop, ...] = ()
    rule: Rule | None = None

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """All interfaces that the frame crosses, with those that carry the tunnel."""
        return (*self.crossed, *(at for hop in self.tunnel for at in hop.interfaces))


@dataclass(frozen=True)
class PlannedPath:
    """The way of one packet, as far as the plan shows. `arrives` is whether it reaches a machine with its address."""

    start: str
    dst: IP
    src: IP | None
    hops: tuple[PlannedHop, ...]
    arrives: bool
    end: str  # the last namespace

    @cached_property
    def route_keys(self) -> frozenset[tuple[object, ...]]:
        """The keys of the routes that the machines on the path use, also below a tunnel."""
        return frozenset(one.route.key for hop in self.hops for one in (hop, *hop.tunnel))

    def crosses(self, at: Interface) -> bool:
        """Whether a frame of the packet crosses this interface."""
        return at in self._interfaces

    @cached_property
    def _interfaces(self) -> frozenset[Interface]:
        return frozenset(at for hop in self.hops for at in (hop.out, *hop.interfaces))

    def asks_for(self, out: Interface, next_hop: IP) -> bool:
        """Whether a machine on the path sends the packet by this interface to this next hop."""
        return (out, next_hop) in self._next_hops

    @cached_property
    def _next_hops(self) -> frozenset[tuple[Interface, IP]]:
        return frozenset((hop.out, hop.next_hop) for hop in self.hops)

    def forwards_at(self, ns: str) -> bool:
        """Whether the machine forwards the packet, which came in from another machine."""
        return any(hop.ns == ns and hop.iif is not None for hop in self.hops)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The machines that route the packet, and the last one."""
        return (*(hop.ns for hop in self.hops), self.end)


class PlanPaths:
    """The plan of a lab, indexed for look-ups of the way of a packet. `like` is another plan with the same devices."""

    def __init__(self, plan: Plan, like: PlanPaths | None = None) -> None:
        self._segments: dict[Interface, dict[Interface, tuple[Interface, ...]]] = like._segments if like else {}
        self._owners: dict[IP, list[Interface]] = {}
        self._links: dict[Interface, Link] = {}
        self._ports: dict[Interface, list[Interface]] = {}  # the ports of a bridge
        self._addresses: dict[str, list[Address]] = {}
        self._routes: dict[str, list[Route]] = {}
        self._rules: dict[str, list[Rule]] = {}
        self._neighbours: dict[tuple[Interface, IP], str | None] = {}
        self._fdb: dict[Interface, list[Fdb]] = {}
        self._proxy_arp: set[Interface] = set()
        for item in plan:
            match item:
                case Link():
                    self._links[item.at] = item
                    if item.master is not None:
                        self._ports.setdefault(Interface(item.ns, item.master), []).append(item.at)
                case Address():
                    self._addresses.setdefault(item.ns, []).append(item)
                    self._owners.setdefault(item.addr.ip, []).append(item.at)
                case Route():
                    self._routes.setdefault(item.ns, []).append(item)
                case Rule():
                    self._rules.setdefault(item.ns, []).append(item)
                case Neighbour(proxy=False):
                    self._neighbours[item.at, item.ip] = item.mac
                case Fdb():
                    self._fdb.setdefault(item.at, []).append(item)
                case Sysctl(value="1") if item.name.endswith(".proxy_arp"):
                    self._proxy_arp.add(Interface(item.ns, item.name.split(".")[3].replace("/", ".")))

    @cached_property
    def _tables(self) -> dict[tuple[str, int], list[Route]]:
        """The routes by namespace and table, with those of the addresses, the most specific first."""
        tables: dict[tuple[str, int], list[Route]] = {}
        for ns, addresses in self._addresses.items():
            for one in addresses:
                if one.connected is not False and one.addr.network.prefixlen < one.addr.max_prefixlen:
                    tables.setdefault((ns, RT_TABLE_MAIN), []).append(
                        Route(ns, one.addr.network, dev=one.at.dev, scope="link", proto=2)
                    )
        for ns, routes in self._routes.items():
            for route in routes:
                tables.setdefault((ns, route.table), []).append(route)
        for found in tables.values():
            found.sort(key=lambda route: (-route.dst.prefixlen, route.metric))
        return tables

    def link(self, at: Interface) -> Link | None:
        """The planned device at this place."""
        return self._links.get(at)

    def planned_mac(self, at: Interface, ip: IP) -> str | None:
        """The MAC address of a planned neighbour; None if the kernel asks for it."""
        return self._neighbours.get((at, ip))

    def owner(self, at: Interface, ip: IP) -> bool:
        """Whether this interface has the address."""
        return any(one.at == at and one.addr.ip == ip for one in self._addresses.get(at.ns, ()))

    def addresses(self, ns: str, dev: str | None) -> tuple[InterfaceAddress, ...]:
        """The planned addresses of a device."""
        return tuple(one.addr for one in self._addresses.get(ns, ()) if one.at.dev == dev)

    def has_proxy(self, start: Interface) -> bool:
        """Whether a machine of the segment answers ARP requests for addresses of others."""
        return any(at in self._proxy_arp for at in self.segment(start))

    def free_address(self, start: Interface) -> IP | None:
        """An address of the segment's network that no machine has; None if there is no such network, no route to it, or
        a proxy that may answer for it."""
        own = (one for one in self._addresses.get(start.ns, ()) if one.at == start and one.connected is not False)
        net = next((one.addr.network for one in own), None)
        if net is None or net.num_addresses < 8 or self.has_proxy(start):
            return None
        taken = {one.addr.ip for found in self._addresses.values() for one in found}
        taken |= {ip for _, ip in self._neighbours}
        candidates = (net[number] for number in range(-3, -64, -1) if -number < net.num_addresses)
        return next((ip for ip in candidates if ip not in taken), None)

    def is_local(self, ns: str, ip: IP) -> bool:
        """Whether the namespace has this address."""
        return any(at.ns == ns for at in self._owners.get(ip, ()))

    def lookup(self, ns: str, dst: IP, src: IP | None = None, iif: str | None = None) -> Route | None:
        """The route for a packet; None if there is none. Rules that match a firewall mark are not followed."""
        return self._lookup(ns, dst, src, iif)[0]

    def _lookup(self, ns: str, dst: IP, src: IP | None, iif: str | None) -> tuple[Route | None, Rule | None]:
        rules = [one for one in self._rules.get(ns, ()) if one.family == dst.version and one.mark is None]
        rules.append(Rule(ns, 32766, family=dst.version))
        for rule in sorted(rules, key=lambda one: one.pref):
            if rule.kind != "lookup" or not _selects(rule, dst, src, iif):
                continue
            for route in self._tables.get((ns, rule.table), ()):
                if route.dst.version == dst.version and dst in route.dst and route.kind != "throw":
                    return route, rule if rule.pref != 32766 else None
        return None, None

    def device(self, ns: str, route: Route) -> str | None:
        """The device of a route: its own, else that of the network with its gateway."""
        if route.dev is not None or route.via is None:
            return route.dev
        near = next((one for one in self._addresses.get(ns, ()) if route.via in one.addr.network), None)
        return near.at.dev if near is not None else None

    def path(self, source: str, dst: IP, src: IP | None = None) -> PlannedPath:
        """The way of a packet from a namespace to an address."""
        hops: list[PlannedHop] = []
        ns, iif = source, None
        while not self.is_local(ns, dst) and len(hops) < MAX_HOPS:
            found = self._hop(ns, dst, src, iif)
            if found is None:
                return PlannedPath(source, dst, src, tuple(hops), False, ns)
            hops.append(found)
            if not found.crossed:
                return PlannedPath(source, dst, src, tuple(hops), False, ns)
            ns, iif = found.crossed[-1].ns, found.crossed[-1].dev
        return PlannedPath(source, dst, src, tuple(hops), self.is_local(ns, dst), ns)

    def _hop(self, ns: str, dst: IP, src: IP | None, iif: str | None) -> PlannedHop | None:
        route, rule = self._lookup(ns, dst, src, iif)
        if route is None or route.kind != "unicast":
            return None
        dev = self.device(ns, route)
        if dev is None:
            return None
        next_hop = route.via or dst
        out = Interface(ns, dev)
        found = self._receiver(out, next_hop)
        crossed, tunnel = found if found is not None else ((), ())
        return PlannedHop(ns, iif, route, out, next_hop, crossed, tunnel, rule)

    def segment(self, start: Interface) -> dict[Interface, tuple[Interface, ...]]:
        """Every interface that a broadcast from `start` reaches over cables, bridges and VXLANs, with the way there."""
        if start not in self._segments:
            self._segments[start] = self._reached(start)
        return self._segments[start]

    def _reached(self, start: Interface) -> dict[Interface, tuple[Interface, ...]]:
        ways: dict[Interface, tuple[Interface, ...]] = {start: (start,)}
        border = [start]
        while border:
            at = border.pop(0)
            for other in self._connected(at):
                if other not in ways:
                    ways[other] = (*ways[at], other)
                    border.append(other)
        return ways

    def _connected(self, at: Interface) -> Iterator[Interface]:
        link = self._links.get(at)
        if link is None:
            return
        if link.peer is not None and link.peer in self._links:
            yield link.peer
        if link.master is not None:
            yield Interface(at.ns, link.master)
        yield from self._ports.get(at, ())
        if link.kind == "vxlan":
            number = dict(link.options).get("id")
            yield from (
                one.at
                for one in self._links.values()
                if one.kind == "vxlan" and one.at != at and dict(one.options).get("id") == number
            )

    def _receiver(self, out: Interface, ip: IP) -> tuple[tuple[Interface, ...], tuple[PlannedHop, ...]] | None:
        """The way of the frame to the interface that takes packets for the next hop."""
        ways = {at: way for at, way in self.segment(out).items() if self._takes(at)}
        mac = self._neighbours.get((out, ip))
        end = None
        if mac is not None:
            end = next((at for at in ways if at != out and self._links[at].mac == mac), None)
        if end is None:
            end = next((at for at in self._owners.get(ip, ()) if at in ways and at != out), None)
        if end is None:
            end = next((at for at in ways if at in self._proxy_arp and at.ns != out.ns), None)
        if end is None:  # a cloud answers for its addresses with what its own entries say
            macs = {self._neighbours.get((at, ip)) for at in ways} - {None}
            end = next((at for at in ways if at != out and self._links[at].mac in macs), None)
        if end is None:
            return None
        return ways[end], self._tunnel(ways[end])

    def _takes(self, at: Interface) -> bool:
        """Whether a device passes packets up: a bridge port does not."""
        return self._links[at].master is None

    def _tunnel(self, way: tuple[Interface, ...]) -> tuple[PlannedHop, ...]:
        """The hops that carry a frame between two VXLAN devices."""
        ends = [self._links[at] for at in way if self._links[at].kind == "vxlan"]
        if len(ends) != 2:
            return ()
        far = ends[1].link_netns or ends[1].ns
        known = {one.dst for one in self._fdb.get(ends[0].at, ()) if one.dst is not None}
        target = next((ip for ip in sorted(known, key=str) if self.is_local(far, ip)), None)
        if target is None:
            return ()
        return self.path(ends[0].link_netns or ends[0].ns, target).hops


def _selects(rule: Rule, dst: IP, src: IP | None, iif: str | None) -> bool:
    matches = (
        (rule.src is None or (src is not None and src in rule.src))
        and (rule.dst is None or dst in rule.dst)
        and (rule.iif is None or rule.iif == (iif or "lo"))
        and rule.oif is None
    )
    return matches != rule.invert
