"""The packets that arrive in a healthy lab, from the claims of its checks, and how each passes a namespace. Pure.

A fault that drops packets shows only on a probe that would be answered without it, and the lab's own checks say which
are. So the traffic of most faults is taken from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from itertools import islice, product
from typing import Any, Literal, TypeAlias

from labctl.core.resources import IP
from labctl.core.scenario_types import Check
from labctl.faults.lab_objects import MAX_TRAFFIC, LabObjects, Traffic

MAX_MESH = 12  # machines of each side of a mesh claim that are looked at
BRIDGE_NF = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}
Passing: TypeAlias = Literal["sent", "received", "routed", "bridged", "filtered"]


@dataclass(frozen=True, slots=True)
class ClaimedPath:
    """A probe that a check of the lab claims to be answered: its ends, and the namespaces that it may pass.

    `target` is the check's text: a machine, a point or an address. `server` is the machine and the port behind an
    address translation. `probe` is `ping`, `tcp` or `udp`; a ping stands for all three protocols.
    """

    source: str
    target: str
    target_ns: str
    target_ip: IP
    namespaces: tuple[str, ...]
    probe: str = "ping"
    port: int | None = None
    listen: bool = True
    server: tuple[str, int] | None = None

    @property
    def ends(self) -> tuple[str, str]:
        """The namespaces of its source and its target."""
        return self.source, self.target_ns


@lru_cache(maxsize=8)
def claimed_paths(objects: LabObjects) -> tuple[ClaimedPath, ...]:
    """The probes that the lab's checks claim to be answered, without size limits; between nodes first."""
    found: dict[tuple[Any, ...], ClaimedPath] = {}
    for check in objects.lab.checks:
        for source, target in _pairs(check):
            for one in _path(objects, source, target, check):
                found.setdefault((one.source, one.target, one.probe, one.port, one.server), one)
    return tuple(sorted(found.values(), key=lambda one: _distance(objects, one)))


def _pairs(check: Check) -> Iterator[tuple[str, str]]:
    if check.expect != "reply" or check.size is not None:
        return
    if check.probe == "mesh":
        for sources, targets in check.groups:
            yield from (pair for pair in product(sources[:MAX_MESH], targets[:MAX_MESH]) if pair[0] != pair[1])
    elif check.probe in ("ping", "tcp", "udp"):
        yield check.source, check.target


def _path(objects: LabObjects, source: str, target: str, check: Check) -> Iterator[ClaimedPath]:
    topology = objects.topology
    server = check.server if check.probe != "mesh" else None
    addresses = topology.addresses(target)
    end = server[0] if server is not None else topology.namespace_of(target)
    if not addresses or end is None or addresses[0].is_loopback:
        return
    source_ns = _namespace(objects, source)
    path = topology.path(source_ns, _namespace(objects, end))
    probe = "ping" if check.probe == "mesh" else check.probe
    at = topology.namespace_of(target) or end
    yield ClaimedPath(
        source_ns, target, _namespace(objects, at), addresses[0], path, probe, check.port, check.listen, server
    )  # fmt: skip


def _namespace(objects: LabObjects, name: str) -> str:
    machine = objects.topology.machines.get(name)
    return machine.netns_of if machine is not None and machine.netns_of is not None else name


def _distance(objects: LabObjects, one: ClaimedPath) -> tuple[bool, bool, bool]:
    """The order of instruction: pings, from pods, that leave their node."""
    machines = objects.topology.machines
    source, target = machines.get(one.source), machines.get(one.target_ns)
    same = source is not None and target is not None and source.on == target.on
    return one.probe != "ping", not objects.is_leaf(one.source), same


def namespaces_by_role(objects: LabObjects) -> tuple[str, ...]:
    """Every namespace: nodes and hosts first, then those that only route, then other machines, then pods."""
    names = objects.topology.namespaces
    roles = ("node", "host")
    order = {
        ns: (objects.topology.role(ns) not in roles, objects.is_leaf(ns), ns not in objects.routers) for ns in names
    }
    return tuple(sorted(names, key=lambda ns: order[ns]))


def passing(objects: LabObjects, ns: str, one: ClaimedPath) -> Passing | None:
    """How the request passes a namespace: as `sent` or `received` there, `routed`, `bridged` without iptables, or
    `filtered` (bridged, but frames pass iptables there). None if it does not pass."""
    if ns == one.source:
        return "sent"
    if ns == (one.target_ns if one.server is None else one.server[0]):
        return "received"
    if ns not in one.namespaces:
        return None
    if ns == one.target_ns:
        return None if _is_proxied(objects, ns, one) else "routed"  # translated there
    links = [link for link in objects.topology.links.get(ns, ()) if _other_end(link) in one.namespaces]
    masters = {link.master for link in links}
    port = next((link for link in links if _other_end(link) == one.source), None)
    if port is not None and port.master is not None and _same_network(objects, one):
        masters = {port.master}  # the bridge itself leads to the other nodes, as an overlay network does
    if len(links) < 2 or len(masters) > 1 or masters == {None}:
        return "routed"
    setting = objects.sysctl(ns, BRIDGE_NF[one.target_ip.version])
    return "filtered" if setting is not None and setting.value == "1" else "bridged"


def _same_network(objects: LabObjects, one: ClaimedPath) -> bool:
    """Whether the source asks for the target's MAC address itself, because both are in one network."""
    return one.server is None and any(one.target_ip in item.addr.network for item in objects.addresses(one.source))


def _is_proxied(objects: LabObjects, ns: str, one: ClaimedPath) -> bool:
    """Whether docker-proxy takes what a container of the host sends to a published port: no DNAT rule does."""
    proxy = any(process.command[:1] == ("docker-proxy",) for process in objects.processes(ns))
    return proxy and objects.topology.machines[one.source].on in (None, ns) and objects.is_leaf(one.source)


def _other_end(link: Any) -> str | None:
    return link.peer.ns if link.peer is not None and link.peer.ns != link.at.ns else None


def paths_through(
    objects: LabObjects, ns: str, *ways: Passing, version: int = 4, keep: Callable[[ClaimedPath], bool] | None = None
) -> tuple[ClaimedPath, ...]:
    """The claimed probes that pass a namespace in one of these ways, with addresses of this IP version."""
    return tuple(
        one
        for one in claimed_paths(objects)
        if one.target_ip.version == version
        and one.source != one.target_ns
        and passing(objects, ns, one) in ways
        and (keep is None or keep(one))
    )


def probes(paths: Iterable[ClaimedPath], **options: Any) -> tuple[Traffic, ...]:
    """The first of these paths as probes, with these options. A path of a TCP or UDP check is that probe only."""
    found = []
    for one in islice(paths, MAX_TRAFFIC):
        probe = Traffic(one.source, one.target, **options)
        if one.probe != "ping":
            wanted: Any = (one.probe,)
            if one.probe not in probe.protocols:
                continue
            probe = replace(probe, protocols=wanted, port=one.port, listen=one.listen, server=one.server)
        found.append(probe)
    return tuple(found)


def text_of(objects: LabObjects, name: str, version: int = 4) -> str:
    """The address of a machine in a rule's words: `10.244.0.2/32`. Empty if it has none."""
    found = objects.topology.address_of(name, version)
    return "" if found is None else f"{found}/{32 if version == 4 else 128}"


def unused_address(objects: LabObjects, near: IP) -> IP:
    """An address close to another one, in its /24 (IPv6: /120), that nothing in the lab has."""
    taken = {ip for machine in objects.lab.machines for ip in machine.addresses}
    taken |= {item.addr.ip for ns in objects.topology.namespaces for item in objects.addresses(ns)}
    first = int(near) & ~0xFF
    return next(ip for number in range(250, 1, -1) if (ip := ip_address(first + number)) not in taken)
