"""Which address a node gives to the packets that it masquerades. Pure."""

from __future__ import annotations

from labctl.core.plan_paths import PlanPaths
from labctl.core.resources import IP
from labctl.kubernetes.api.api_objects import Node


def masquerade_address(paths: PlanPaths, node: Node, source: IP, target: IP) -> IP | None:
    """The source of a packet from `source` to `target` behind MASQUERADE in this node: an address of the device by
    which it leaves, if there are several one of the next hop's range. If that device has none, the kernel takes one of
    another device: here, the node's InternalIP.

    Source: `nf_nat_masquerade_ipv4` and `inet_select_addr` of the kernel. They ignore the route's preferred source.
    """
    name = node.name
    back = paths.lookup(name, source)
    is_own = paths.is_local(name, source)
    route = paths.lookup(name, target, source, paths.device(name, back) if back and not is_own else None)
    found = []
    if route is not None:
        first = route.nexthops[0] if route.nexthops else None
        dev, via = (first.dev, first.via) if first else (paths.device(name, route), route.via)
        ranges = [one for one in paths.addresses(name, dev) if one.version == target.version]
        found = [one.ip for one in ranges if (via or target) in one.network] or [one.ip for one in ranges]
    return next((one for one in (*found, *node.internal_ips) if one.version == target.version), None)
