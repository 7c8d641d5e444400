"""The place of a pod: its namespace, its bridge, its address, its gateway. From the kernel's state. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.compare.cell import Cell, absent, inconclusive
from labctl.compare.measurements import Measurements
from labctl.core.resources import IP, RT_TABLE_MAIN, Interface, Link, Neighbour, Net, Route
from labctl.core.topology import LEAF_ROLES


def namespaces(measurements: Measurements) -> Cell:
    """Whether every pod or container has its own network namespace."""
    pods = [one.name for one in measurements.machines.values() if one.role in LEAF_ROLES]
    unknown = [name for name in pods if name not in measurements.netns_inodes]
    if unknown:
        return inconclusive(f"no namespace of {', '.join(unknown)} was found")
    names_by_inode: dict[int, list[str]] = {}
    for name, inode in measurements.netns_inodes.items():
        names_by_inode.setdefault(inode, []).append(name)
    shared = [
        _sharing_text(measurements, names)
        for names in names_by_inode.values()
        if len(names) > 1 and not set(names).isdisjoint(pods)
    ]
    counts = {"pods": len(pods), "namespaces": len({measurements.netns_inodes[name] for name in pods})}
    return Cell(f"no: {'; '.join(shared)}" if shared else "yes", counts=counts)


def _sharing_text(measurements: Measurements, names: list[str]) -> str:
    """The machines that share a namespace: pods with each other, or with their node."""
    pods = [name for name in names if measurements.machines[name].role in LEAF_ROLES]
    owner = next((name for name in names if name not in pods), None)
    return f"{' and '.join(pods)} in {owner}'s" if owner is not None else f"{' and '.join(pods)} share one"


def bridge(measurements: Measurements) -> Cell:
    """The bridges that the pods' cables end in: the master of the other end of each, the first address's first."""
    names: dict[str, None] = {}
    evidence = []
    for pod in measurements.roles.pods:
        pod_link, _ = measurements.veth_pair(pod)
        if pod_link is None:
            return inconclusive(f"the device of {pod}'s address was not found")
        others = (link for link in measurements.links.values() if link.at.ns == pod and link != pod_link)
        for link in (pod_link, *(link for link in others if link.kind != "loopback")):
            end = measurements.links.get(link.peer) if link.peer is not None else None
            name = f"none ({link.kind})" if end is None else _bridge_of(measurements, end)
            names[name] = None
            end_text = f"ends at {end.at}, with master {end.master or 'none'}" if end else f"is of kind {link.kind}"
            evidence.append(f"{link.at} {end_text}")
    return Cell(", ".join(names), evidence=tuple(evidence))


def _bridge_of(measurements: Measurements, end: Link) -> str:
    """A bridge's name, with its namespace if that is not the node itself."""
    if end.master is None:
        return "none"
    master = measurements.links.get(Interface(end.at.ns, end.master))
    name = end.master if master is not None and master.kind == "bridge" else f"none (port of {end.master})"
    machine = measurements.machines.get(end.at.ns)
    if machine is not None and machine.role in ("node", "host"):
        return name
    on_node = machine is not None and machine.on is not None
    return f"{name} (in a namespace beside the node)" if on_node else f"{name} (in {end.at.ns})"


def subnet(measurements: Measurements) -> Cell:
    """The pod's address compared with its node's subnet and with the pods of another node."""
    roles = measurements.roles
    pod_address, node_address = measurements.address(roles.pod), measurements.address(roles.node)
    if pod_address is None or node_address is None:
        return inconclusive("an address was not found")
    ip = pod_address.addr.ip
    if node_address.addr.network.prefixlen < 32 and ip in node_address.addr.network:
        return Cell(f"the node's own subnet, {node_address.addr.network}", address=ip)
    pod_prefix = _pod_prefix(measurements, roles.pod)
    if roles.other_node_pod is None:
        return Cell(f"a range apart from the node's, {pod_prefix}", address=ip)
    other_prefix = _pod_prefix(measurements, roles.other_node_pod)
    if ip == measurements.address_of(roles.other_node_pod):
        return Cell(f"the same range on every node, {pod_prefix}", address=ip)
    if pod_prefix == other_prefix:
        return Cell(f"one range over all nodes, {pod_prefix}", address=ip)
    return Cell(f"a range per node, {pod_prefix} and {other_prefix}", address=ip)


def _pod_prefix(measurements: Measurements, pod: str) -> Net:
    """The most specific range, wider than the pod's address, that a route outside the pod has for it."""
    ip = measurements.address_of(pod)
    prefixes = [
        prefix
        for ns, prefix in _routed_prefixes(measurements)
        if ns != pod and ip in prefix and 0 < prefix.prefixlen < prefix.max_prefixlen
    ]
    if prefixes:
        return max(prefixes, key=lambda prefix: prefix.prefixlen)
    address = measurements.address(pod)
    assert address is not None
    return address.addr.network


def _routed_prefixes(measurements: Measurements) -> Iterator[tuple[str, Net]]:
    """Every range that a namespace has a route to, including the kernel's routes for addresses."""
    for item in measurements.plan:
        if isinstance(item, Route) and item.kind == "unicast":
            yield item.ns, item.dst
    for address in measurements.addresses:
        if address.connected:
            yield address.at.ns, address.addr.network


def gateway(measurements: Measurements) -> Cell:
    """The pod's gateway, the device with the MAC address that the pod uses for it, and how the pod got it."""
    pod = measurements.roles.pod
    ip, device = _default_route(measurements, pod)
    if ip is None:
        return absent("no default route") if device is None else Cell(f"none: everything is on link at {device}")
    entry = next((n for n in _neighbours(measurements, pod) if n.ip == ip and not n.proxy), None)
    if entry is None or entry.mac is None:
        return inconclusive(f"{ip} is not among the neighbours of {pod}")
    answering_link = _device_with_mac(measurements, entry.mac, ip)
    device_text = "an unknown device" if answering_link is None else _device_text(measurements, answering_link)
    evidence = (
        f"{pod}: {ip} lladdr {entry.mac} {entry.state}",
        *(() if answering_link is None else (f"{entry.mac} is {answering_link.at}",)),
    )
    if entry.state == "permanent":
        device_names = [
            interface.dev for interface in measurements.interfaces_of(ip) if interface.ns == measurements.roles.node
        ]
        owner_text = f", address of {device_names[0]}" if device_names else ""
        return Cell(f"{ip}{owner_text}, permanent neighbour entry: {device_text}", address=ip, evidence=evidence)
    if answering_link is not None and answering_link.at in measurements.interfaces_of(ip):
        return Cell(f"{ip}, address of {device_text}", address=ip, evidence=evidence)
    settings = measurements.settings.get(answering_link.at.ns, {}) if answering_link is not None else {}
    name = f"net.ipv4.conf.{answering_link.at.dev.replace('.', '/')}.proxy_arp" if answering_link is not None else ""
    if settings.get(name) == "1":
        return Cell(f"{ip}, proxy ARP of {device_text}", address=ip, evidence=(*evidence, f"{name} = 1"))
    return Cell(f"{ip}, answered with the MAC address of {device_text}", address=ip, evidence=evidence)


def _default_route(measurements: Measurements, pod: str) -> tuple[IP | None, str | None]:
    """The gateway and the device of a pod's default route; both None if it has no such route."""
    routes = [
        item for item in measurements.plan if isinstance(item, Route) and item.ns == pod and item.table == RT_TABLE_MAIN
    ]
    found = next((item for item in routes if item.dst.prefixlen == 0 and item.dst.version == 4), None)
    return (None, None) if found is None else (found.via, found.dev)


def _neighbours(measurements: Measurements, pod: str) -> Iterator[Neighbour]:
    return (item for item in measurements.plan if isinstance(item, Neighbour) and item.at.ns == pod)


def _device_with_mac(measurements: Measurements, mac: str, ip: IP) -> Link | None:
    """The device with a MAC address; of several, the other end of the pod's cable, else one that has the IP address."""
    links = [link for link in measurements.links.values() if link.mac == mac and link.at.ns != measurements.roles.pod]
    holders, end = measurements.interfaces_of(ip), measurements.veth_pair(measurements.roles.pod)[1]

    def distance(link: Link) -> tuple[bool, bool]:
        return end is None or link.at != end.at, link.at not in holders

    return min(links, key=distance, default=None)


def _device_text(measurements: Measurements, link: Link) -> str:
    """The text for a device; it means the same in every lab."""
    end = measurements.veth_pair(measurements.roles.pod)[1]
    if end is not None and link.at == end.at:
        return "the cable's other end"
    if measurements.node_of(link.at.ns) == measurements.roles.node:
        return link.at.dev
    machine = measurements.machines.get(link.at.ns)
    return f"the {machine.role}" if machine is not None else link.at.ns


def pod_mtu(measurements: Measurements) -> Cell:
    """The MTU of the pod's device."""
    link, _ = measurements.veth_pair(measurements.roles.pod)
    if link is None or link.mtu is None:
        return inconclusive("the device of the pod's address was not found")
    return Cell(str(link.mtu), number=link.mtu)
