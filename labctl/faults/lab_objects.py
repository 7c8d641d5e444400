"""Find the objects of a plan that a fault can be on, and the probes that pass them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal, TypeAlias, TypeVar

from labctl.core.diff import Change
from labctl.core.plan_paths import PlannedPath, PlanPaths
from labctl.core.resources import (
    CREATION_ORDER,
    IP,
    Address,
    Chain,
    Interface,
    Link,
    Net,
    Plan,
    Process,
    Resource,
    Route,
    Sysctl,
)
from labctl.core.scenario_types import Lab, Machine
from labctl.core.topology import LEAF_ROLES, Topology

ProbeProtocol: TypeAlias = Literal["icmp", "tcp", "udp"]
PROTOCOLS: tuple[ProbeProtocol, ...] = ("icmp", "tcp", "udp")
MAX_TRAFFIC = 6  # probes that one fault names at most
SAMPLE = 12  # machines of a large lab among which the ends of a probe are looked for
T = TypeVar("T")


def changed(plan: Plan, changes: Iterable[Change]) -> Plan:
    """The plan with these changes, in the order of creation."""
    items: dict[tuple[object, ...], Resource] = {item.key: item for item in plan}
    for change in changes:
        if change.have is not None:
            items.pop(change.have.key, None)
        if change.want is not None:
            items[change.want.key] = change.want
    return tuple(sorted(items.values(), key=lambda item: CREATION_ORDER[type(item)]))


@dataclass(frozen=True, slots=True)
class Traffic:
    """One probe that a fault is expected to hit: `labctl trace SOURCE TARGET` with these options.

    `port` is the TCP or UDP port; None for the default. `listen` is whether labctl answers on that port itself, which
    it does not where a program of the lab listens, or where nothing shall listen. `size` is the payload in bytes.
    `sport` is the fixed source port, None for any. `server` is the machine and the port behind an address translation
    where labctl answers instead.
    """

    source: str
    target: str
    protocols: tuple[ProbeProtocol, ...] = PROTOCOLS
    port: int | None = None
    listen: bool = True
    size: int | None = None
    fragment: bool = False
    sport: int | None = None
    server: tuple[str, int] | None = None


@dataclass(frozen=True)
class Trip:
    """The way of a request and the way of its reply. `outside` is how many of both ends are not pods."""

    source: str
    target: str
    there: PlannedPath
    back: PlannedPath
    outside: int
    from_pod: bool

    @cached_property
    def keeps_addresses(self) -> bool:
        """Whether no router is expected to translate: nodes translate what their pods send out of the cluster."""
        return self.outside == 0 or not self.from_pod

    @property
    def ways(self) -> tuple[PlannedPath, PlannedPath]:
        """Both ways."""
        return self.there, self.back


class LabObjects:
    """The objects of one lab, indexed for the functions of the catalogue."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.topology = Topology(lab)

    def all(self, kind: type[T], ns: str | None = None) -> tuple[T, ...]:
        """The planned objects of a type, in the plan's order, all or those of one namespace."""
        return tuple(self._by_type.get((kind, ns), ()))

    @cached_property
    def _by_type(self) -> dict[tuple[type, str | None], list[Any]]:
        """The objects by their type and namespace, and under None those of all namespaces."""
        found: dict[tuple[type, str | None], list[Any]] = {}
        for item in self.lab.plan:
            for ns in {None, getattr(item, "ns", None)}:
                found.setdefault((type(item), ns), []).append(item)
        return found

    @cached_property
    def _sysctls(self) -> dict[tuple[str, str], Sysctl]:
        return {(item.ns, item.name): item for item in self.all(Sysctl)}

    def sysctl(self, ns: str, name: str) -> Sysctl | None:
        """The planned value of a setting; None if the plan leaves it to the kernel."""
        return self._sysctls.get((ns, name))

    def link(self, at: Interface) -> Link | None:
        """The planned device at this place."""
        return self._links.get(at)

    @cached_property
    def _links(self) -> dict[Interface, Link]:
        return {link.at: link for link in self.all(Link)}

    def planned(self, item: Resource) -> Resource | None:
        """The object of the plan with this key; None if there is none."""
        return self._by_key.get(item.key)

    @cached_property
    def _by_key(self) -> dict[tuple[Any, ...], Resource]:
        return {item.key: item for item in self.lab.plan}

    @cached_property
    def routers(self) -> tuple[str, ...]:
        """The namespaces that forward IPv4 packets, nodes and hosts first."""
        on = [item.ns for item in self.all(Sysctl) if item.name == "net.ipv4.ip_forward" and item.value == "1"]
        return tuple(sorted(dict.fromkeys(on), key=lambda ns: self.topology.role(ns) not in ("node", "host")))

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that can send and answer: those with an address in a namespace of their own."""
        return tuple(one for one in self.lab.machines if one.netns_of is None and one.addresses)

    def is_leaf(self, ns: str) -> bool:
        """Whether the namespace is a pod's or a container's."""
        return self.topology.role(ns) in LEAF_ROLES

    def chain(self, ns: str, table: str, name: str, family: str = "ip") -> Chain | None:
        """The planned chain."""
        wanted = (ns, table, name, family)
        return next((one for one in self.all(Chain) if (one.ns, one.table, one.name, one.family) == wanted), None)

    def addresses(self, ns: str) -> tuple[Address, ...]:
        """The planned addresses of a namespace."""
        return self.all(Address, ns)

    def processes(self, ns: str) -> tuple[Process, ...]:
        """The planned programs of a namespace."""
        return self.all(Process, ns)

    def main_route_dev(self, ns: str) -> str | None:
        """The device of the default route of a namespace; None if it has none."""
        routes = [one for one in self.all(Route, ns) if one.dst.prefixlen == 0 and one.dev is not None]
        return routes[0].dev if routes else None

    def pairs(self, ns: str, *, towards: Net | None = None, back: Net | None = None) -> Iterator[tuple[str, str]]:
        """Pairs of source and target whose packets may pass a namespace, or begin or end there.

        `towards` keeps targets with their main address inside it, `back` sources. Pairs of pods come first.
        """
        found = []
        for source in self._ends(ns):
            for target in self._ends(ns):
                if source.name == target.name or not _inside(source, back) or not _inside(target, towards):
                    continue
                if ns in self.topology.path(source.name, target.name):
                    found.append((source, target))
        found.sort(key=lambda pair: (ns in (pair[0].name, pair[1].name) and not self.is_leaf(ns), self._outside(pair)))
        return ((source.name, target.name) for source, target in found)

    def traffic(
        self, ns: str, *, towards: Net | None = None, back: Net | None = None, **options: Any
    ) -> tuple[Traffic, ...]:
        """The first probes of `pairs`, with these options of a probe."""
        return self.traffic_of(self.pairs(ns, towards=towards, back=back), **options)

    @staticmethod
    def traffic_of(pairs: Iterable[tuple[str, str]], **options: Any) -> tuple[Traffic, ...]:
        """The first of these pairs of source and target as probes, with these options."""
        return tuple(Traffic(source, target, **options) for source, target in islice(pairs, MAX_TRAFFIC))

    @cached_property
    def paths(self) -> PlanPaths:
        """The way of packets through the plan."""
        return PlanPaths(self.lab.plan)

    @cached_property
    def trips(self) -> tuple[Trip, ...]:
        """The ways there and back between machines that may exchange probes, in the versions of IP that both have.

        Only those whose request arrives; pods come first.
        """
        found: list[Trip] = []
        machines = [one for one in self.machines if one.role != "fabric"]
        machines.sort(key=lambda one: one.role not in LEAF_ROLES)
        for source in machines[: 2 * SAMPLE]:
            for target in machines[: 2 * SAMPLE]:
                for version in (4, 6) if source is not target else ():
                    trip = self._trip(source, target, version)
                    if trip is not None and trip.there.arrives:
                        found.append(trip)
        return tuple(sorted(found, key=lambda trip: trip.outside))

    def _trip(self, source: Machine, target: Machine, version: int) -> Trip | None:
        here = next((ip for ip in source.addresses if ip.version == version), None)
        there = next((ip for ip in target.addresses if ip.version == version), None)
        if here is None or there is None:
            return None
        way = self.paths.path(source.name, there, here)
        chosen = self._source_address(way)
        if chosen not in (None, here):
            way, here = self.paths.path(source.name, there, chosen), chosen
        back = self.paths.path(target.name, here, there)
        name = target.name if there == target.addresses[0] else str(there)
        return Trip(source.name, name, way, back, self._outside((source, target)), source.role in LEAF_ROLES)

    def _source_address(self, way: PlannedPath) -> IP | None:
        """The source address that the kernel chooses: that of the route, else one of the device, if it has any."""
        if not way.hops:
            return None
        first = way.hops[0]
        here = [
            one.addr.ip
            for one in self.addresses(first.ns)
            if one.at == first.out and one.addr.version == way.dst.version
        ]
        if first.route.src is not None or not here:
            return first.route.src
        return way.src if way.src in here else here[0]

    def probes(self, hits: Callable[[PlannedPath], bool], **options: Any) -> tuple[Traffic, ...]:
        """The first probes whose request, or else whose reply, `hits` accepts."""
        return self.as_traffic(self.hit_trips(hits), **options)

    def hit_trips(self, hits: Callable[[PlannedPath], bool]) -> list[Trip]:
        """The trips whose request, or else whose reply, `hits` accepts; those of requests first. Where a router may
        translate the source, the reply takes another way than the plan tells."""
        there: list[Trip] = []
        back: list[Trip] = []
        for trip in self.trips:
            if hits(trip.there):
                there.append(trip)
            elif trip.keeps_addresses and hits(trip.back):
                back.append(trip)
        return there + back

    @cached_property
    def trips_by_route(self) -> dict[tuple[object, ...], list[Trip]]:
        """What `hit_trips` finds for each route, by its key, without a look at every trip for every route."""
        there: dict[tuple[object, ...], list[Trip]] = {}
        back: dict[tuple[object, ...], list[Trip]] = {}
        for trip in self.trips:
            for key in trip.there.route_keys:
                there.setdefault(key, []).append(trip)
            for key in trip.back.route_keys - trip.there.route_keys if trip.keeps_addresses else ():
                back.setdefault(key, []).append(trip)
        return {key: there.get(key, []) + back.get(key, []) for key in {**there, **back}}

    def lost_trips(self, changes: tuple[Change, ...], trips: list[Trip]) -> list[Trip]:
        """Those of the trips that do not arrive any more, there or back, with these changes of the plan."""
        same_devices = not any(isinstance(change.subject, Link) for change in changes)
        paths = PlanPaths(changed(self.lab.plan, changes), self.paths if same_devices else None)

        def is_lost(trip: Trip) -> bool:
            ways = trip.ways if trip.keeps_addresses else (trip.there,)
            return any(way.arrives and not paths.path(way.start, way.dst, way.src).arrives for way in ways)

        return [trip for trip in trips[: 2 * SAMPLE] if is_lost(trip)]

    @staticmethod
    def as_traffic(trips: list[Trip], **options: Any) -> tuple[Traffic, ...]:
        """The first of these trips as probes with these options."""
        return tuple(Traffic(trip.source, trip.target, **options) for trip in trips[:MAX_TRAFFIC])

    def _outside(self, pair: tuple[Machine, Machine]) -> int:
        """How far from pods a pair is: 0 if both are pods."""
        return sum(machine.role not in LEAF_ROLES for machine in pair)

    def _ends(self, ns: str) -> list[Machine]:
        """Machines to send from and to: those at or on a namespace first, then a sample of the others."""
        near = [one for one in self.machines if ns in (one.name, one.on)]
        others = [one for one in self.machines if one not in near and one.role != "fabric"]
        others.sort(key=lambda one: one.role in LEAF_ROLES and one.on is None)
        return [*near[:SAMPLE], *others[:SAMPLE]]


def _inside(machine: Machine, net: Net | None) -> bool:
    return net is None or any(ip.version == net.version and ip in net for ip in machine.addresses[:1])
