"""Which routes of a raw scenario the kernel refuses: a small model of its forwarding tables, one for each namespace.

Follows Linux 6.18: fib_check_nh and fib_valid_prefsrc in net/ipv4/fib_semantics.c, fib_add_ifaddr in
net/ipv4/fib_frontend.c, ip6_validate_gw and fib6_nh_init in net/ipv6/route.c. Each lookup tries the prefix lengths that
occur, so that the time grows with the number of routes, and not with its square.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from labctl.core.resources import IP, RT_TABLE_MAIN, Address, Interface, Net, Route
from labctl.scenario.document import Position, Reader
from labctl.scenario.raw_devices import Devices

_LOCAL, _DEFAULT = 255, 253
_IPV6_METRIC = 1024  # of a route without one
_CONNECTED_METRIC = {4: 0, 6: 256}
_ZERONET, _LOOPBACK = ip_network("0.0.0.0/8"), ip_network("127.0.0.0/8")
_ALL_NODES, _LINK_LOCAL = ip_network("ff00::/8"), ip_network("fe80::/64")


@dataclass(frozen=True, slots=True)
class _Target:
    """What a prefix leads to. `near` is whether the destination is on the link, so that it can be a gateway. `dev` is
    "" for a route without a device (`blackhole`, ...)."""

    dev: str
    kind: str = "unicast"
    near: bool = True
    metric: int = 0


class _Tables:
    """The routes of one namespace, by table and prefix."""

    def __init__(self) -> None:
        self._nets: dict[tuple[int, int], dict[int, dict[int, list[_Target]]]] = {}  # (version, table), length, network

    def add(self, table: int, net: Net, target: _Target) -> None:
        lengths = self._nets.setdefault((net.version, table), {})
        lengths.setdefault(net.prefixlen, {}).setdefault(int(net.network_address), []).append(target)

    def find(self, table: int, ip: IP, dev: str | None, but: _Target | None = None) -> _Target | None:
        """The target of the longest prefix, over this device if one is given. For IPv4 it is the longest one that is
        near: the kernel passes over routes of a smaller scope than `link`."""
        lengths = self._nets.get((ip.version, table), {})
        number = int(ip)
        for length in sorted(lengths, reverse=True):
            shift = ip.max_prefixlen - length
            fitting = [
                target
                for target in lengths[length].get(number >> shift << shift, ())
                if dev in (None, target.dev) and (target.near or ip.version == 6) and target is not but
            ]
            if fitting:
                return min(fitting, key=lambda target: target.metric)
        return None

    def find_gateway(self, table: int, ip: IP, dev: str | None, but: _Target | None) -> _Target | None:
        """As the kernel looks for the gateway of a route in this table: there, then in the tables that the kernel's own
        rules name. `but` is the route itself."""
        if ip.version == 4:
            tables = dict.fromkeys((*([table] if table != RT_TABLE_MAIN else []), _LOCAL, RT_TABLE_MAIN, _DEFAULT))
            return next((found for one in tables if (found := self.find(one, ip, dev)) is not None), None)
        in_table = self.find(table, ip, dev, but)
        if in_table is not None and in_table.near:
            return in_table
        by_rules = (self.find(one, ip, dev, but) for one in (_LOCAL, RT_TABLE_MAIN))
        return next((found for found in by_rules if found is not None), in_table)


class RouteRules:
    """Checks the routes of all namespaces against the addresses and devices."""

    def __init__(self, devices: Devices, addresses: Iterable[Address], reader: Reader) -> None:
        self.devices, self.reader = devices, reader
        self._tables: dict[str, _Tables] = {}
        self._own: dict[str, dict[IP, set[str]]] = {}  # the addresses of a namespace, and the devices that have each
        self._kernel: dict[tuple[str, Net, int, int], str] = {}  # (namespace, prefix, table, metric) of kernel routes
        self._targets: dict[Any, _Target] = {}  # of the routes themselves, by their keys
        for at, link in devices.links.items():
            self._add_device(at, link.up)
        for address in addresses:
            self._add_address(address)

    def check(self, routes: Iterable[tuple[Route, Position]], present: Iterable[Route] = ()) -> None:
        """Record a problem for each route that the kernel refuses, or makes a different one of.

        `present` are routes that there are already.
        """
        rows = list(routes)
        for route in (*present, *(route for route, _ in rows)):
            near = route.via is None and route.dev is not None and route.scope not in ("global", "site")
            if near or route.dst.version == 6:
                target = _Target(route.dev or "", route.kind, near, route.metric or _IPV6_METRIC)
                self._targets[route.key] = target
                self._of(route.ns).add(route.table, route.dst, target)
        for route, at in rows:
            problem = self._problem(route)
            if problem is not None:
                self.reader.add_problem(at, f"routes: {problem[0]}", problem[1])

    # -- what the kernel has by itself

    def _of(self, ns: str) -> _Tables:
        return self._tables.setdefault(ns, _Tables())

    def _add_device(self, at: Interface, up: bool) -> None:
        tables = self._of(at.ns)
        if at.dev == "lo":
            tables.add(_LOCAL, _LOOPBACK, _Target("lo", "local"))
            for net in (_LOOPBACK, ip_network("127.0.0.1"), ip_network("127.255.255.255")):
                self._kernel.setdefault((at.ns, net, _LOCAL, 0), "lo has 127.0.0.1/8")
        elif up and not self.devices.why_without_ipv6(at):
            self._kernel.setdefault((at.ns, _ALL_NODES, _LOCAL, 256), f"{at.dev} has IPv6")
            if self.devices.links[at].autoconf:
                self._kernel.setdefault((at.ns, _LINK_LOCAL, RT_TABLE_MAIN, 256), f"{at.dev} has a link-local address")
                tables.add(RT_TABLE_MAIN, _LINK_LOCAL, _Target(at.dev))

    def _add_address(self, address: Address) -> None:
        ns, dev, ip, net = address.at.ns, address.at.dev, address.addr.ip, address.addr.network
        tables = self._of(ns)
        self._own.setdefault(ns, {}).setdefault(ip, set()).add(dev)
        host = ip_network(ip)
        tables.add(_LOCAL, host, _Target(dev, "local"))
        self._kernel.setdefault((ns, host, _LOCAL, 0), str(address.addr))
        if not self.devices.links[address.at].up:
            return
        if ip.version == 4 and net.prefixlen < 31:
            for end in {net.broadcast_address, net.network_address} - {ip}:
                tables.add(_LOCAL, ip_network(end), _Target(dev, "broadcast"))
                self._kernel.setdefault((ns, ip_network(end), _LOCAL, 0), str(address.addr))
        if ip.version == 6 or (net.prefixlen < 32 and net.network_address not in _ZERONET):
            local = ip.version == 4 and dev == "lo"  # the whole range is lo's own
            table, kind = (_LOCAL, "local") if local else (RT_TABLE_MAIN, "unicast")
            tables.add(table, net, _Target(dev, kind))
            self._kernel.setdefault((ns, net, table, _CONNECTED_METRIC[ip.version]), str(address.addr))

    # -- one route

    def _problem(self, route: Route) -> tuple[str, str] | None:
        """Why the kernel refuses a route, and a hint."""
        metric = route.metric or (_IPV6_METRIC if route.dst.version == 6 else 0)
        if (maker := self._kernel.get((route.ns, route.dst, route.table, metric))) is not None:
            return f"the kernel itself creates the route to {route.dst}: {maker}", "leave it out, or give it a metric"
        hops = [replace(route, via=hop.via, dev=hop.dev, onlink=hop.onlink) for hop in route.nexthops]
        for one in hops or [route]:
            if (problem := self._device_problem(one) or self._gateway_problem(one)) is not None:
                return problem
        return self._source_problem(route)

    def _device_problem(self, route: Route) -> tuple[str, str] | None:
        at = Interface(route.ns, route.dev) if route.dev is not None else None
        if at is None or at not in self.devices.links:
            return None
        if not self.devices.links[at].up:
            return f"{at} is down, and the kernel has no routes over it", "remove up: false from the device"
        if route.dst.version == 6 and (why := self.devices.why_without_ipv6(at)):
            return f"{at} has no IPv6: {why}", ""
        if route.dst.version == 6 and at.dev == "lo" and not route.dst.network_address.is_loopback:
            return "IPv6 routes over lo lead nowhere", f"write unreachable {route.dst}"
        return None

    def _gateway_problem(self, route: Route) -> tuple[str, str] | None:
        via = route.via
        if route.dev is not None and Interface(route.ns, route.dev) not in self.devices.links:
            return None  # which is a problem already
        if via is None:
            return ("onlink is for a gateway", "remove onlink") if route.onlink else None
        if via.is_unspecified or via.is_multicast or via.is_loopback:
            return f"{via} cannot be a gateway", ""
        if via.version == 6:
            if via in self._own.get(route.ns, {}):
                return f"the gateway {via} is {route.ns}'s own address", ""
            if via.is_link_local:
                return None if route.dev is not None else ("a link-local gateway needs dev", "such as dev eth0")
        if route.onlink and route.dev is None:
            return "onlink needs dev", "such as dev eth0"
        found = self._of(route.ns).find_gateway(
            route.table, via, None if route.onlink else route.dev, self._targets.get(route.key)
        )
        if found is not None and found.kind == "broadcast":
            return f"the gateway {via} is a broadcast address", ""
        if route.onlink:
            own = found is not None and found.kind == "local"
            return (f"the gateway {via} is {route.ns}'s own address", "") if own else None
        over_link = self.devices.links.get(Interface(route.ns, found.dev)) if found is not None else None
        if found is not None and over_link is not None and not over_link.up:
            return f"the gateway {via} is at {found.dev}, which is down", "remove up: false from the device"
        if found is not None and not found.near:
            what = f"the gateway {via} is not on a link of {route.ns}: another route to it has no device or a gateway"
            return what, "a gateway needs a route without via, such as that of an address"
        if found is None or (via.version == 6 and found.dev == "lo"):
            over = f" over {route.dev}" if route.dev is not None else ""
            what = f"no address of {route.ns} covers the gateway {via}{over}"
            return what, "add an address of its range, a route to it, or onlink"
        return None

    def _source_problem(self, route: Route) -> tuple[str, str] | None:
        src = route.src
        if src is None:
            return None
        target = self._of(route.ns).find(_LOCAL, src, None)
        if src.version == 4:
            owned = target is not None and target.kind == "local"
        else:
            devices = self._own.get(route.ns, {}).get(src, set())
            owned = bool(devices) if not src.is_link_local else route.dev in devices
            owned = owned or src.is_loopback
        if not owned:
            return f"src: {src} is not an address of {route.ns}", "add it under addresses:"
        return None
