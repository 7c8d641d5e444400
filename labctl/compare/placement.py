"""Where a pod sits: its namespace, its bridge, its address, its gateway. From the kernel's state. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.compare.cell import Cell, absent, inconclusive
from labctl.compare.measurements import Facts
from labctl.core.resources import IP, MAIN, Link, Neighbour, Net, Port, Route
from labctl.core.topology import INNER


def namespaces(facts: Facts) -> Cell:
    """Whether every pod or container has its own network namespace."""
    inner = [one.name for one in facts.machines.values() if one.role in INNER]
    unknown = [name for name in inner if name not in facts.spaces]
    if unknown:
        return inconclusive(f"no namespace of {', '.join(unknown)} was found")
    homes: dict[int, list[str]] = {}
    for name, number in facts.spaces.items():
        homes.setdefault(number, []).append(name)
    shared = [_shared(facts, names) for names in homes.values() if len(names) > 1 and not set(names).isdisjoint(inner)]
    counts = {"pods": len(inner), "namespaces": len({facts.spaces[name] for name in inner})}
    return Cell(f"no: {'; '.join(shared)}" if shared else "yes", counts=counts)


def _shared(facts: Facts, names: list[str]) -> str:
    """The machines that share a namespace: pods with each other, or with their node."""
    inner = [name for name in names if facts.machines[name].role in INNER]
    owner = next((name for name in names if name not in inner), None)
    return f"{' and '.join(inner)} in {owner}'s" if owner is not None else f"{' and '.join(inner)} share one"


def bridge(facts: Facts) -> Cell:
    """The bridges that the pods' cables end in: the master of the other end of each, the first address's first."""
    found: dict[str, None] = {}
    evidence = []
    for pod in facts.cast.pods:
        own, _ = facts.cable(pod)
        if own is None:
            return inconclusive(f"the device of {pod}'s address was not found")
        others = (link for link in facts.links.values() if link.at.ns == pod and link != own)
        for link in (own, *(link for link in others if link.kind != "loopback")):
            end = facts.links.get(link.peer) if link.peer is not None else None
            word = f"none ({link.kind})" if end is None else _bridge_of(facts, end)
            found[word] = None
            where = f"ends at {end.at}, with master {end.master or 'none'}" if end else f"is of kind {link.kind}"
            evidence.append(f"{link.at} {where}")
    return Cell(", ".join(found), evidence=tuple(evidence))


def _bridge_of(facts: Facts, end: Link) -> str:
    """A bridge's name, with its namespace if that is not the node itself."""
    if end.master is None:
        return "none"
    master = facts.links.get(Port(end.at.ns, end.master))
    word = end.master if master is not None and master.kind == "bridge" else f"none (port of {end.master})"
    machine = facts.machines.get(end.at.ns)
    if machine is not None and machine.role in ("node", "host"):
        return word
    beside = machine is not None and machine.on is not None
    return f"{word} (in a namespace beside the node)" if beside else f"{word} (in {end.at.ns})"


def subnet(facts: Facts) -> Cell:
    """The pod's address compared with its node's subnet and with the pods of another node."""
    who = facts.cast
    own, node = facts.address(who.pod), facts.address(who.node)
    if own is None or node is None:
        return inconclusive("an address was not found")
    ip = own.addr.ip
    if node.addr.network.prefixlen < 32 and ip in node.addr.network:
        return Cell(f"the node's own subnet, {node.addr.network}", address=ip)
    here = _range(facts, who.pod)
    if who.far is None:
        return Cell(f"a range apart from the node's, {here}", address=ip)
    there = _range(facts, who.far)
    if ip == facts.own(who.far):
        return Cell(f"the same range on every node, {here}", address=ip)
    if here == there:
        return Cell(f"one range over all nodes, {here}", address=ip)
    return Cell(f"a range per node, {here} and {there}", address=ip)


def _range(facts: Facts, pod: str) -> Net:
    """The most specific range, wider than the pod's address, that a route outside the pod has for it."""
    ip = facts.own(pod)
    known = [
        net for space, net in _routed(facts) if space != pod and ip in net and 0 < net.prefixlen < net.max_prefixlen
    ]
    if known:
        return max(known, key=lambda net: net.prefixlen)
    address = facts.address(pod)
    assert address is not None
    return address.addr.network


def _routed(facts: Facts) -> Iterator[tuple[str, Net]]:
    """Every range that a namespace has a route to, including the kernel's routes for addresses."""
    for item in facts.plan:
        if isinstance(item, Route) and item.kind == "unicast":
            yield item.ns, item.dst
    for address in facts.addresses:
        if address.connected:
            yield address.at.ns, address.addr.network


def gateway(facts: Facts) -> Cell:
    """The pod's gateway, the device with the MAC address that the pod uses for it, and how the pod got it."""
    pod = facts.cast.pod
    ip, device = _default(facts, pod)
    if ip is None:
        return absent("no default route") if device is None else Cell(f"none: everything is on link at {device}")
    entry = next((n for n in _neighbours(facts, pod) if n.ip == ip and not n.proxy), None)
    if entry is None or entry.mac is None:
        return inconclusive(f"{ip} is not among the neighbours of {pod}")
    found = _bearer(facts, entry.mac, ip)
    where = "an unknown device" if found is None else _device_word(facts, found)
    evidence = (
        f"{pod}: {ip} lladdr {entry.mac} {entry.state}",
        *(() if found is None else (f"{entry.mac} is {found.at}",)),
    )
    if entry.state == "permanent":
        own = [port.dev for port in facts.holders(ip) if port.ns == facts.cast.node]
        whose = f", address of {own[0]}" if own else ""
        return Cell(f"{ip}{whose}, permanent neighbour entry: {where}", address=ip, evidence=evidence)
    if found is not None and found.at in facts.holders(ip):
        return Cell(f"{ip}, address of {where}", address=ip, evidence=evidence)
    settings = facts.settings.get(found.at.ns, {}) if found is not None else {}
    name = f"net.ipv4.conf.{found.at.dev.replace('.', '/')}.proxy_arp" if found is not None else ""
    if settings.get(name) == "1":
        return Cell(f"{ip}, proxy ARP of {where}", address=ip, evidence=(*evidence, f"{name} = 1"))
    return Cell(f"{ip}, answered with the MAC address of {where}", address=ip, evidence=evidence)


def _default(facts: Facts, pod: str) -> tuple[IP | None, str | None]:
    """The gateway and the device of a pod's default route; both None if it has no such route."""
    routes = [item for item in facts.plan if isinstance(item, Route) and item.ns == pod and item.table == MAIN]
    found = next((item for item in routes if item.dst.prefixlen == 0 and item.dst.version == 4), None)
    return (None, None) if found is None else (found.via, found.dev)


def _neighbours(facts: Facts, pod: str) -> Iterator[Neighbour]:
    return (item for item in facts.plan if isinstance(item, Neighbour) and item.at.ns == pod)


def _bearer(facts: Facts, mac: str, ip: IP) -> Link | None:
    """The device with a MAC address; of several, the other end of the pod's cable, else one that has the IP address."""
    links = [link for link in facts.links.values() if link.mac == mac and link.at.ns != facts.cast.pod]
    holders, end = facts.holders(ip), facts.cable(facts.cast.pod)[1]

    def far(link: Link) -> tuple[bool, bool]:
        return end is None or link.at != end.at, link.at not in holders

    return min(links, key=far, default=None)


def _device_word(facts: Facts, link: Link) -> str:
    """A description of a device that means the same in every lab."""
    end = facts.cable(facts.cast.pod)[1]
    if end is not None and link.at == end.at:
        return "the cable's other end"
    if facts.belongs(link.at.ns) == facts.cast.node:
        return link.at.dev
    machine = facts.machines.get(link.at.ns)
    return f"the {machine.role}" if machine is not None else link.at.ns


def pod_mtu(facts: Facts) -> Cell:
    """The MTU of the pod's device."""
    link, _ = facts.cable(facts.cast.pod)
    if link is None or link.mtu is None:
        return inconclusive("the device of the pod's address was not found")
    return Cell(str(link.mtu), number=link.mtu)
