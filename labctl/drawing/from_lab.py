"""From the plan of a lab to its drawing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, ip_address

from labctl.core.diff import Change
from labctl.core.names import summarize_names
from labctl.core.resources import (
    IP,
    RT_TABLE_MAIN,
    Address,
    Attachment,
    Fdb,
    Interface,
    Link,
    Net,
    Netns,
    Route,
)
from labctl.core.scenario_types import Lab, Machine
from labctl.core.text import count
from labctl.drawing.drift import Drift
from labctl.drawing.model import Box, Device, Drawing, Line, Remote, Tunnel

MAX_NODES = 6  # with more, the pods of every node are drawn as their number
MAX_PODS = 8  # of one node; more are drawn as their number
MAX_ROUTES = 6  # of one machine
MAX_REMOTES = 3  # of one tunnel device
SHORT_LIST = 2  # routes of one machine, and far ends of a tunnel, in a lab of more than MAX_NODES nodes
MANY_NODES = 24  # in a lab of more nodes, only some are drawn
SOME_NODES = 9
MAX_DIFFERENCES = 5  # of one machine, besides its devices, addresses and routes
LEAVES = ("pod", "container")
POINT_TO_POINT = ("ipip", "gre", "sit", "ip6tnl")  # of these tunnels, the far end can be the next hop of a route


def draw(
    lab: Lab,
    *,
    everything: bool = False,
    changes: Iterable[Change] | None = None,
    focus: Collection[str] = (),
    every_pod: bool = False,
) -> Drawing:
    """The drawing of a lab. Without `everything`, much of one kind is drawn as its number, and long lists end early;
    `omissions` of the drawing say so.

    `changes` are the differences between the plan and the kernel, as `labctl status` finds them: what is missing,
    changed or additional is marked. None draws the plan alone. The machines of `focus` are always drawn; with them, all
    other nodes of a lab of more than 6 nodes are one number. With `every_pod`, pods are not drawn as their number.
    """
    if changes is None:
        return _Artist(lab, everything, Drift((), ()), focus, every_pod).drawing()
    drift = Drift(changes, lab.plan)
    number = count(drift.number, "difference") if drift.number else "no difference"
    return replace(
        _Artist(lab, everything, drift, focus, every_pod).drawing(), source=f"compared with the kernel: {number}"
    )


class _Artist:
    """The plan of one lab, indexed by machine, and how much of it is drawn."""

    def __init__(self, lab: Lab, everything: bool, drift: Drift, focus: Collection[str], every_pod: bool) -> None:
        self.lab = lab
        self.focus = frozenset(focus)
        self.everything = everything
        self.every_pod = every_pod
        self.drift = drift
        self.links: dict[str, list[Link]] = {}
        self.routes: dict[str, list[Route]] = {}
        self.addresses: dict[Interface, list[Address]] = {}
        self.owners: dict[IP, str] = {}
        self.remote_ips: dict[Interface, list[IP]] = {}
        self.attachments: dict[str, list[Attachment]] = {}
        for item in (*lab.plan, *drift.extra):
            if isinstance(item, Link):
                self.links.setdefault(item.ns, []).append(item)
            elif isinstance(item, Route):
                self.routes.setdefault(item.ns, []).append(item)
            elif isinstance(item, Address):
                self.addresses.setdefault(item.at, []).append(item)
                if self.owners.setdefault(item.addr.ip, item.ns) != item.ns:
                    self.owners[item.addr.ip] = ""  # several have it
            elif isinstance(item, Fdb) and item.dst is not None:
                self.remote_ips.setdefault(item.at, []).append(item.dst)
            elif isinstance(item, Attachment):
                self.attachments.setdefault(item.ns, []).append(item)
        planned = [item.name for item in (*lab.plan, *drift.extra) if isinstance(item, Netns)]
        known = {machine.name for machine in lab.machines}
        others = [Machine(name, "namespace") for name in planned if name not in known]
        self.machines = (*lab.machines, *others)
        self.names = known | set(planned)
        self.inside: dict[str, list[Machine]] = {}  # the machines on each machine
        for machine in self.machines:
            if machine.on is not None and machine.on != machine.name:
                self.inside.setdefault(machine.on, []).append(machine)
        self.collapsed: dict[str, list[Machine]] = {}  # a node, and those of its pods that are drawn as their number
        self.shortened = False
        self.other_count = 0

    def drawing(self) -> Drawing:
        nodes = [one for one in self.machines if one.name in self.inside]
        self.is_large = len(nodes) > MAX_NODES
        if not (self.everything or self.every_pod):
            for node in nodes:
                leaves = self._leaves(node.name)
                if len(leaves) > MAX_PODS or (self.is_large and len(leaves) > 1):
                    drifted = [one for one in leaves if one.name in self.drift.machines][:MAX_PODS]
                    kept = {*(one.name for one in drifted), *self.focus}
                    if rest := [one for one in leaves if one.name not in kept]:
                        self.collapsed[node.name] = rest
        others = [] if self.everything or self.every_pod else self._other_nodes(nodes)
        inside = [leaf for one in others for leaf in self.inside[one.name]]
        self.hidden = {one.name for found in (*self.collapsed.values(), others, inside) for one in found}
        tops = [one for one in self.machines if one.on is None or one.on not in self.names or one.on == one.name]
        boxes = tuple(self._box(one, ()) for one in tops if one not in others)
        if others:
            boxes += (self._others(others, inside),)
        devices = {device.at: device for box in boxes for one in box.walk() for device in one.devices}
        pairs = {tuple(sorted((at, one.peer))) for at, one in devices.items() if one.peer in devices and one.peer}
        return Drawing(
            self.lab.name,
            self.lab.model,
            self.lab.say,
            boxes,
            tuple((one, other) for one, other in sorted(pairs)),
            tuple(self._tunnels(devices)),
            tuple(self._services()),
            tuple(self._omissions()),
        )

    def _other_nodes(self, nodes: list[Machine]) -> list[Machine]:
        """The nodes of a large lab that are drawn as their number: those without a machine in focus, or, without a
        focus, the last ones of many. Those with differences are drawn before others."""
        tops = [one for one in nodes if one.role in ("node", "host") and one.on is None]
        kept = [one for one in tops if not self.focus.isdisjoint(self._names(one))]
        if not self.focus and len(tops) > MANY_NODES:
            drifted = [one for one in tops if not self.drift.machines.isdisjoint(self._names(one))]
            kept = list(dict.fromkeys((*drifted, *tops)))[:SOME_NODES]
        others = [one for one in tops if one not in kept]
        return others if kept and self.is_large and len(others) > 1 else []

    def _others(self, nodes: list[Machine], inside: list[Machine]) -> Box:
        """The box of nodes that are drawn as their number."""
        self.other_count = len(nodes)
        drifted = sum(not self.drift.machines.isdisjoint(self._names(one)) for one in nodes)
        return Box(
            count(len(nodes), f"other {nodes[0].role}"),
            "summary",
            members=tuple(one.name for one in (*nodes, *inside)),
            differences=(f"{drifted} of them not as planned",) if drifted else (),
        )

    def _names(self, node: Machine) -> set[str]:
        """A node and the machines on it."""
        return {node.name, *(one.name for one in self.inside.get(node.name, ()))}

    def _leaves(self, node: str) -> list[Machine]:
        return [one for one in self.inside.get(node, ()) if one.role in LEAVES]

    def _box(self, machine: Machine, above: tuple[str, ...]) -> Box:
        """The box of a machine; `above` are the machines that it is inside of."""
        name = machine.name
        inside = [one for one in self.inside.get(name, ()) if one.name not in above]
        boxes = [self._box(one, (*above, name)) for one in inside if one.name not in self.hidden]
        if name in self.collapsed:
            boxes.append(self._summary(self.collapsed[name], len(self._leaves(name))))
        devices = () if machine.netns_of else tuple(self._devices(name))
        shown = {line.text.partition("/")[0] for one in devices for line in one.addresses}
        rest = tuple(str(ip) for ip in machine.addresses if str(ip) not in shown)
        notes = (f"in the namespace of {machine.netns_of}",) if machine.netns_of else ()
        routes = () if machine.netns_of else tuple(self._route_lines(name))
        limit = self._limit(routes, SHORT_LIST if self.is_large else MAX_ROUTES)
        differences = tuple(self.drift.other_lines(name, {one.at.dev for one in devices}))
        most = self._limit(differences, MAX_DIFFERENCES)
        if most < len(differences):
            differences = (*differences[:most], f"and {len(differences) - most} more differences")
        return Box(
            name, machine.role, devices, tuple(boxes), rest, notes, routes[:limit], len(routes) - limit,
            state=self.drift.machine_state(name), differences=differences,
        )  # fmt: skip

    def _summary(self, leaves: list[Machine], every: int) -> Box:
        """The box of pods that are drawn as their number, and how many of them are not as planned."""
        other = "" if len(leaves) == every else " more"
        number, _, noun = count(len(leaves), leaves[0].role).partition(" ")
        drifted = sum(one.name in self.drift.machines for one in leaves)
        differences = (f"{drifted} of them not as planned",) if drifted else ()
        members = tuple(one.name for one in leaves)
        return Box(f"{number}{other} {noun}", "summary", members=members, differences=differences)

    def _limit(self, lines: Sequence[object], most: int) -> int:
        """How many lines of a list are drawn: all, or one less than the most, and how many more there are."""
        limit = len(lines) if self.everything or len(lines) <= most else most - 1
        self.shortened = self.shortened or limit < len(lines)
        return limit

    def _route_lines(self, name: str) -> Iterator[Line]:
        """The routes of a machine: those that are not as planned first, then those through other machines, last those
        to one address of a local device."""
        is_lost = bool(self.drift.machine_state(name))
        states = {id(one): "" if is_lost else self.drift.state(one) for one in self.routes.get(name, [])}
        for one in sorted(
            self.routes.get(name, []),
            key=lambda one: (not states[id(one)], one.via is None and not one.nexthops and one.dst.num_addresses == 1),
        ):
            sentences = self.drift.sentences(one)
            yield Line(f"{route_line(one)} ({'; '.join(sentences)})" if sentences else route_line(one), states[id(one)])

    def _devices(self, name: str) -> Iterator[Device]:
        is_lost = bool(self.drift.machine_state(name))
        for link in self.links.get(name, []):
            addresses = self.addresses.get(link.at, ())
            if link.kind == "loopback" and all(one.addr.is_loopback for one in addresses):
                continue
            if link.peer is not None and link.peer.ns in self.hidden:
                continue
            found, state = self.drift.found(link), self.drift.state(link)
            is_gone = is_lost or state == "missing"
            known = tuple(self._address_lines(link.at, is_gone))
            device = Device(
                link.at, link.kind, link_words(link), known, link.master, link.peer,
                state=self.drift.machine_state(name) or state, differences=self.drift.sentences(link),
                is_down=link.up and not found.up, is_port=link.master == found.master,
            )  # fmt: skip
            yield self._with_remotes(device, link)
        for one in self.attachments.get(name, []):
            known = tuple(self._address_lines(one.at, is_lost))
            yield Device(one.at, "cni", "by CNI plugins", known, state=self.drift.state(one))

    def _address_lines(self, at: Interface, is_gone: bool) -> Iterator[Line]:
        """The addresses of a device. With the device, all of them are missing, and none says so."""
        for one in self.addresses.get(at, ()):
            sentences = self.drift.sentences(one)
            text = f"{one.addr} ({'; '.join(sentences)})" if sentences else str(one.addr)
            yield Line(text, "" if is_gone else self.drift.state(one))

    def _with_remotes(self, device: Device, link: Link) -> Device:
        ips = list(dict.fromkeys(self._remote_addresses(link)))
        limit = self._limit(ips, SHORT_LIST - 1 if self.is_large else MAX_REMOTES)
        remotes = tuple(Remote(str(ip), self.owners.get(ip, "")) for ip in ips[:limit])
        return replace(device, remotes=remotes, more_remotes=len(ips) - limit)

    def _remote_addresses(self, link: Link) -> Iterator[IP]:
        """The far ends of a tunnel device: of its own settings, of forwarding entries, and of routes."""
        for word, value in link.options:
            if word in ("remote", "group"):
                yield ip_address(value)
        yield from self.remote_ips.get(link.at, ())
        for route in self.routes.get(link.ns, ()):
            if route.dev != link.at.dev:
                continue
            if route.encap is not None:
                yield route.encap[1]
            elif link.kind in POINT_TO_POINT and route.via is not None:
                yield route.via

    def _tunnels(self, devices: dict[Interface, Device]) -> Iterator[Tunnel]:
        """Pairs of drawn devices of one kind, of which at least one sends to the machine of the other."""
        links = {link.at: link for links in self.links.values() for link in links}
        ends: dict[tuple[str, str], list[Interface]] = {}
        for at, device in devices.items():
            ends.setdefault((self._underlay(links.get(at), at), device.text), []).append(at)
        seen = set()
        for at, device in devices.items():
            for remote in device.remotes:
                for other in ends.get((remote.machine, device.text), ()):
                    pair = (at, other) if at < other else (other, at)
                    if other != at and pair not in seen:
                        seen.add(pair)
                        yield Tunnel(pair, device.text)

    def _underlay(self, link: Link | None, at: Interface) -> str:
        """The machine by which the outer packets of a device leave."""
        return link.link_netns if link is not None and link.link_netns is not None else at.ns

    def _services(self) -> Iterator[str]:
        for one in self.lab.virtual_addresses:
            ports = f" {','.join(one.ports)}" if one.ports else ""
            behind = summarize_names(one.machines, 6) if one.machines else "no machine"
            name = one.names[0] if one.names else "no name"
            yield f"{name} ({one.kind}) {', '.join(map(str, one.ips))}{ports} -> {behind}"

    def _omissions(self) -> Iterator[str]:
        drawn = {name: found for name, found in self.collapsed.items() if name not in self.hidden}
        if drawn:
            pods = count(sum(map(len, drawn.values())), "machine")
            yield f"{pods} in {summarize_names(list(drawn), 4)} are drawn as their number: --all draws each"
        if self.other_count:
            yield f"{self.other_count} nodes are drawn as their number: --all draws each"
        if self.shortened:
            yield "long lists are shortened: --all shows every line"


def link_words(link: Link) -> str:
    """The kind of a device with its most telling settings, in iproute2's words; "" for a veth."""
    if link.kind in ("veth", "loopback"):
        return ""
    wanted = {
        "vxlan": ("id", "vni"),
        "geneve": ("id", "vni"),
        "vlan": ("id",),
        "macvlan": ("mode",),
        "ipvlan": ("mode",),
    }
    options = dict(link.options)
    words = [f"{word} {options[word]}" for word in wanted.get(link.kind, ()) if word in options]
    words += [f"on {options[word]}" for word in ("link",) if word in options]
    return " ".join([link.kind, *words])


def route_line(route: Route) -> str:
    """A route in iproute2's words, as short as its meaning allows."""
    words = [] if route.kind == "unicast" else [route.kind]
    words.append(_destination(route.dst))
    if route.encap is not None:
        words.append(f"encap id {route.encap[0]} dst {route.encap[1]}")
    if route.via is not None:
        words.append(f"via {route.via}")
    for hop in route.nexthops:
        words.append(
            f"nexthop{'' if hop.via is None else f' via {hop.via}'}{'' if hop.dev is None else f' dev {hop.dev}'}"
        )
    if route.dev is not None:
        words.append(f"dev {route.dev}")
    if route.table != RT_TABLE_MAIN:
        words.append(f"table {route.table}")
    return " ".join(words)


def _destination(dst: Net) -> str:
    if dst.prefixlen == 0:
        return "default" if isinstance(dst, IPv4Network) else "default (IPv6)"
    return str(dst.network_address) if dst.prefixlen == dst.max_prefixlen else str(dst)
