"""What a plan is without some of its objects: the start of a lab in which a learner makes them. Pure.

An object has the name that the catalogue of faults gives it: `c1` (all of a machine except its namespace, its programs
and its sysctls), `c1/eth0` (a device, with its addresses and routes), `c1/eth0/10.0.0.2/24` (an address), `c1/default`
and `c1/10.1.0.0/24` (a route), `host1/nat/POSTROUTING` (a chain), `host1/net.ipv4.ip_forward` (a sysctl), `host1/inet
netavark` (a table of nft), `host1/inet netavark/POSTROUTING` (a chain, set or map in a table of nft).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from labctl.core.iptables import CHAIN_TOOLS
from labctl.core.nft_words import referred_names
from labctl.core.resources import (
    IP,
    RT_TABLE_MAIN,
    Address,
    Chain,
    Fdb,
    Interface,
    IpSet,
    Link,
    Neighbour,
    Netns,
    NftObject,
    Plan,
    Process,
    Resource,
    Route,
    Rule,
    Sysctl,
)

SWITCH = {"0": "1", "1": "0"}  # a sysctl that is on or off is the other way round: new namespaces inherit some values


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A plan without some objects. `keys` are those of all objects that are missing or different in `plan`."""

    plan: Plan
    keys: frozenset[tuple[Any, ...]]


def object_names(item: Resource) -> Iterator[str]:
    """The names by which an object can be left out; none for a namespace or a loopback device."""
    if isinstance(item, Link) and item.kind != "loopback":
        yield str(item.at)
    elif isinstance(item, Address):
        yield f"{item.at}/{item.addr}"
    elif isinstance(item, Route):
        table = "" if item.table == RT_TABLE_MAIN else f"@{item.table}"
        yield f"{item.ns}/{item.dst}{table}"
        if item.dst.prefixlen == 0:
            yield f"{item.ns}/default{table}"
    elif isinstance(item, Sysctl):
        yield f"{item.ns}/{item.name}"
    elif isinstance(item, Chain):
        tool = "" if item.family == "ip" else f"{CHAIN_TOOLS.get(item.family, item.family)}/"
        yield f"{item.ns}/{tool}{item.table}/{item.name}"
    elif isinstance(item, NftObject):
        yield f"{item.ns}/{item.table}" + (f"/{item.name}" if item.name else "")
    elif isinstance(item, Rule):
        yield f"{item.ns}/rule {item.pref}"
    elif isinstance(item, Neighbour):
        yield f"{item.at}/{item.ip}"
    elif isinstance(item, Fdb):
        yield f"{item.at}/{item.mac}"
    elif isinstance(item, (IpSet, Process)):
        yield f"{item.ns}/{item.name}"


def known_names(plan: Plan) -> tuple[str, ...]:
    """Every name of an object that can be left out, machines first."""
    machines = [item.name for item in plan if isinstance(item, Netns)]
    return tuple(dict.fromkeys([*machines, *(name for item in plan for name in object_names(item))]))


def named(plan: Plan, names: tuple[str, ...]) -> frozenset[tuple[Any, ...]]:
    """The keys of the objects of these names themselves, without what goes with them."""
    return frozenset(item.key for item in plan if {*names} & {*object_names(item)})


def leave_out(plan: Plan, names: tuple[str, ...]) -> LeftOut:
    """The plan without the objects of these names, and without what cannot exist without them: the other end of a veth
    pair, addresses and routes of a device, routes by a gateway, the membership of a port in a bridge, what is in a
    table of nft, rules and elements that name a chain or set there."""
    gone = {item.key for item in plan if {*names} & {*object_names(item)} or _is_inside(item, names)}
    nft = _NftNames.of(plan, gone)
    devices = {item.at for item in plan if isinstance(item, Link) and item.key in gone}
    devices |= {item.peer for item in plan if isinstance(item, Link) and item.key in gone and item.peer is not None}
    kept: list[Resource] = []
    for item in plan:
        if isinstance(item, Sysctl) and item.key in gone and item.value in SWITCH:
            kept.append(replace(item, value=SWITCH[item.value]))
        elif item.key in gone or _goes_with(item, devices) or nft.has_lost_table(item):
            gone.add(item.key)
        elif isinstance(item, NftObject) and (entries := nft.left_entries(item)) != item.entries:
            gone.add(item.key)
            kept.append(replace(item, entries=entries))
        elif isinstance(item, Link) and item.master is not None and Interface(item.ns, item.master) in devices:
            gone.add(item.key)
            kept.append(replace(item, master=None))
        else:
            kept.append(item)
    unreachable = {item.key for item in kept if isinstance(item, Route) and _has_lost_gateway(item, kept, plan)}
    return LeftOut(tuple(item for item in kept if item.key not in unreachable), frozenset(gone | unreachable))


@dataclass(frozen=True, slots=True)
class _NftNames:
    """The tables of nft that are left out, and the chains, sets and maps of others."""

    tables: frozenset[tuple[str, str]]
    names: frozenset[tuple[str, str, str]]

    @classmethod
    def of(cls, plan: Plan, gone: set[tuple[Any, ...]]) -> _NftNames:
        lost = [item for item in plan if isinstance(item, NftObject) and item.key in gone]
        return cls(
            frozenset((item.ns, item.table) for item in lost if item.kind == "table"),
            frozenset((item.ns, item.table, item.name) for item in lost if item.kind != "table"),
        )

    def has_lost_table(self, item: Resource) -> bool:
        """Whether it is in a table that is left out."""
        return isinstance(item, NftObject) and (item.ns, item.table) in self.tables

    def left_entries(self, item: NftObject) -> tuple[str, ...]:
        """The rules or elements of an object that name nothing that is left out: nft refuses the others."""
        if not self.names:
            return item.entries
        lost = {name for ns, table, name in self.names if (ns, table) == (item.ns, item.table)}
        return tuple(one for one in item.entries if not lost & referred_names(one)) if lost else item.entries


def _has_lost_gateway(route: Route, kept: list[Resource], plan: Plan) -> bool:
    """Whether the gateway of a route was a neighbour of its machine, and is not any more."""
    return route.via is not None and _is_near(route.via, route.ns, plan) and not _is_near(route.via, route.ns, kept)


def _is_near(ip: IP, ns: str, items: Iterable[Resource]) -> bool:
    """Whether an address is in the network of an address of this machine."""
    networks = (one.addr.network for one in items if isinstance(one, Address) and one.ns == ns)
    return any(network.version == ip.version and ip in network for network in networks)


def _is_inside(item: Resource, names: tuple[str, ...]) -> bool:
    """Whether an object is left out with its machine: everything but its loopback device, its programs and sysctls."""
    if isinstance(item, (Netns, Process, Sysctl)) or (isinstance(item, Link) and item.kind == "loopback"):
        return False
    return item.ns in names


def _goes_with(item: Resource, devices: set[Interface]) -> bool:
    if isinstance(item, Link):
        return item.at in devices
    if isinstance(item, (Address, Neighbour, Fdb)):
        return item.at in devices
    return isinstance(item, Route) and item.dev is not None and Interface(item.ns, item.dev) in devices
