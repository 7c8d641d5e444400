"""Which source address a node gives to packets: to those that it masquerades, and to its own. Pure.

Source: `nf_nat_masquerade_ipv4`, `inet_select_addr` and `ip_route_output_key_hash_rcu` of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.core.plan_paths import PlanPaths
from labctl.core.resources import IP, Route
from labctl.kubernetes.api.api_objects import Node


def masquerade_address(paths: PlanPaths, node: Node, source: IP, target: IP) -> IP | None:
    """The source of a packet from `source` to `target` behind MASQUERADE in this node: an address of the device by
    which it leaves. MASQUERADE ignores the route's preferred source."""
    name = node.name
    back = paths.lookup(name, source)
    is_own = paths.is_local(name, source)
    route = paths.lookup(name, target, source, paths.device(name, back) if back and not is_own else None)
    return _device_address(paths, node, route, target)


def own_address(paths: PlanPaths, node: Node, target: IP) -> IP | None:
    """The source of a packet that a program of the node sends to `target` without choosing one."""
    route = paths.lookup(node.name, target)
    if route is not None and route.src is not None:
        return route.src
    return _device_address(paths, node, route, target)


def _device_address(paths: PlanPaths, node: Node, route: Route | None, target: IP) -> IP | None:
    """An address of the device of a route, if there are several one of the next hop's range. If that device has none,
    the kernel takes one of another device: here, the node's InternalIP."""
    found: Iterable[IP] = ()
    if route is not None:
        first = route.nexthops[0] if route.nexthops else None
        dev, via = (first.dev, first.via) if first else (paths.device(node.name, route), route.via)
        ranges = [one for one in paths.addresses(node.name, dev) if one.version == target.version]
        found = [one.ip for one in ranges if (via or target) in one.network] or [one.ip for one in ranges]
    return next((one for one in (*found, *node.internal_ips) if one.version == target.version), None)
