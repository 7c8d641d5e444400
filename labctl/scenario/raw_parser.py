"""Make a plan of a raw scenario's sections: literal kernel objects. Every reference between them is verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from labctl.core.own_objects import OwnObjects
from labctl.core.resources import (
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
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.scenario_types import Lab, Machine, MachineRole
from labctl.scenario import iproute2_syntax
from labctl.scenario.document import Map, Position, Reader
from labctl.scenario.field_types import Located
from labctl.scenario.ipset_field import make_ipset
from labctl.scenario.model_objects import NOTHING, ModelObjects, model_objects
from labctl.scenario.raw_address_rules import AddressRules, has_connected_route
from labctl.scenario.raw_devices import Devices, sysctl_path
from labctl.scenario.raw_firewall import FAMILIES, TableParser
from labctl.scenario.raw_link_rules import check_links
from labctl.scenario.raw_links import LinkParser
from labctl.scenario.raw_nftables import NftablesParser
from labctl.scenario.raw_policy_rules import PolicyRules
from labctl.scenario.raw_route_rules import RouteRules
from labctl.scenario.raw_symbols import ACCEPT_DAD, LOOPBACK, RawSymbols, stated
from labctl.scenario.raw_sysctl_rules import check_sysctls, write_order


def read_own_objects(found: dict[str, Located], lab: Lab, reader: Reader, *, overlap: bool = False) -> OwnObjects:
    """What a scenario adds to the lab of its model, from the sections that were read.

    `overlap` is whether an address may be one that another machine has.
    """
    raw = _RawParser(found, reader, model_objects(lab), overlap)
    plan = tuple(raw.resources())
    machines = tuple(raw.machines())
    more = (
        (ns, item.addr.ip) for ns, those in raw.addresses.items() for item in those if ns not in raw.symbols.namespaces
    )
    return OwnObjects(plan, machines, tuple(more))


def read_raw(found: dict[str, Located], root: Map, reader: Reader) -> tuple[Plan, tuple[Machine, ...]]:
    """The plan and the machines of a raw scenario, from the sections that were read."""
    if "namespaces" not in {key.value for key, _ in root.items}:
        reader.add_problem(root, "scenario: 'namespaces' is missing", "such as namespaces: [h1, r1, h2]")
    raw = _RawParser(found, reader)
    plan = tuple(raw.resources())
    return plan, tuple(raw.machines())


class _RawParser:
    """Makes the objects, section by section. Later sections can refer to the objects of earlier ones."""

    def __init__(
        self, found: dict[str, Located], reader: Reader, model: ModelObjects = NOTHING, overlap: bool = True
    ) -> None:
        self.found, self.reader, self.model = found, reader, model
        self.taken = {} if overlap else {item.addr.ip: item.at for item in model.addresses if item.at.dev != "lo"}
        self.symbols = RawSymbols(reader, model)
        self.addresses: dict[str, list[Address]] = {}
        self.ipsets: dict[str, frozenset[str]] = dict(model.ipsets)
        self.accept_dad_sysctls: list[Sysctl] = []  # for devices that need their link-local address at once
        self.devices = Devices({})  # of the scenario, as soon as its links and sysctls are read

    def resources(self) -> Iterator[Resource]:
        """Every object. Each section comes after the sections that it refers to."""
        yield from self._namespaces()
        yield from self._links()
        rows = sorted(self._sysctls(), key=lambda row: write_order(row[0]))
        yield from (item for item, _ in rows)
        yield from self._accept_dad_sysctls()
        sysctls = (*self.model.sysctls, *(item for item, _ in rows))
        self.devices = Devices(self.symbols.links, sysctls)
        check_sysctls(rows, self.devices, self.reader)
        check_links(self.devices, self.symbols.link_rows, self.reader)
        entries = AddressRules(self.devices, self.reader)
        yield from self._addresses(entries)
        yield from self._lines("neighbours", iproute2_syntax.neighbour, entries.check_neighbour)
        yield from self._lines("fdb", iproute2_syntax.fdb, entries.check_fdb)
        routes = sorted(
            self._routes(), key=lambda row: row[0].via is not None or bool(row[0].nexthops)
        )  # a gateway needs the route to it
        yield from (route for route, _ in routes)
        addresses = [*self.model.addresses, *(item for those in self.addresses.values() for item in those)]
        RouteRules(self.devices, addresses, self.reader).check(routes, self.model.routes)
        yield from self._rules()
        yield from self._ipsets()
        for section, family in FAMILIES.items():
            yield from self._firewall(section, family)
        yield from self._nftables()

    def machines(self) -> Iterator[Machine]:
        """The machines. A machine's first address is the first one of its first device; those of lo come last."""
        for name, about in self.symbols.namespaces.items():
            addresses = sorted(self.addresses.get(name, ()), key=lambda item: item.at.dev == "lo")
            ips = tuple(item.addr.ip for item in addresses if not item.addr.ip.is_link_local)
            on = about.value.get("on")
            if on is not None:
                self.symbols.check_namespace(on.value, "on", on.at)
            role: MachineRole = about.value["role"].value if "role" in about.value else "machine"
            yield Machine(name, role, ips, on.value if on is not None else None)

    # -- sections ----------------------------------------------------------------------------------------

    def _rows(self, section: str) -> Any:
        return self.found[section].value if section in self.found else ()

    def _namespaces(self) -> Iterator[Resource]:
        for name, about in self._rows("namespaces"):
            what = f"the {'machine' if self.model.model else 'namespace'} {name.value!r}"
            if name.value in self.model.names - self.model.namespaces:
                self.reader.add_problem(name.at, f"{what} is there already: the model {self.model.model} makes it")
            elif self.symbols.check_unique(("netns", name.value), what, name.at):
                self.symbols.namespaces[name.value] = about
                lo = Interface(name.value, "lo")
                self.symbols.links[lo] = Link(lo, "loopback", why=LOOPBACK)
                yield Netns(name.value, why=stated(name.at))
                yield self.symbols.links[lo]

    def _links(self) -> Iterator[Resource]:
        """The links. A link with an IPv6 address also gets a link-local address, as is the kernel's default: a router
        needs it to resolve its neighbours. It is usable at once, without duplicate address detection."""
        maker = LinkParser(self.symbols)
        rows = self._rows("addresses")
        ipv6_interfaces = {point.value for point, those in rows if any(row.value.version == 6 for row in those.value)}
        for link in maker.read(self._rows("links")):
            if link.at in ipv6_interfaces - maker.explicit_autoconf:
                link = self.symbols.links[link.at] = replace(link, autoconf=True)
                name = f"net.ipv6.conf.{link.at.dev.replace('.', '/')}.accept_dad"
                self.accept_dad_sysctls.append(Sysctl(link.ns, name, "0", why=ACCEPT_DAD))
            yield link

    def _sysctls(self) -> Iterator[tuple[Sysctl, Position]]:
        for ns, rows in self._rows("sysctls"):
            if self.symbols.check_namespace(ns.value, "sysctls", ns.at):
                for name, value in rows.value:
                    self._check_sysctl_device(ns.value, name)
                    if self.symbols.check_unique(("sysctl", ns.value, sysctl_path(name.value)), name.value, name.at):
                        yield Sysctl(ns.value, name.value, value.value, why=stated(name.at)), name.at

    def _accept_dad_sysctls(self) -> Iterator[Resource]:
        for item in self.accept_dad_sysctls:
            if ("sysctl", item.ns, sysctl_path(item.name)) not in self.symbols.positions:
                yield item

    def _check_sysctl_device(self, ns: str, name: Located) -> None:
        """Verify that the device of a device's sysctl exists."""
        parts = sysctl_path(name.value).split("/")
        of_device = len(parts) > 4 and parts[1] in ("ipv4", "ipv6") and parts[2] in ("conf", "neigh")
        if of_device and parts[3] not in ("all", "default"):
            self.symbols.check_interface(Interface(ns, parts[3]), "sysctls", name.at)

    def _addresses(self, entries: AddressRules) -> Iterator[Resource]:
        for point, rows in self._rows("addresses"):
            exists = self.symbols.check_interface(point.value, "addresses", point.at)
            for row in rows.value:
                what = f"{row.value.ip} on {point.value}"
                if (other := self.taken.get(row.value.ip, point.value)) != point.value:
                    hint = "choose another, or write overlap: true"
                    self.reader.add_problem(row.at, f"addresses: {other} has {row.value.ip} already", hint)
                if exists and self.symbols.check_unique(("address", point.value, row.value.ip), what, row.at):
                    address = Address(point.value, row.value, why=stated(row.at))
                    if not has_connected_route(address):
                        address = replace(address, connected=None)
                    self.addresses.setdefault(point.value.ns, []).append(address)
                    entries.check_address(address, row.at)
                    yield address

    def _lines(self, section: str, parse_line: Any, check: Any) -> Iterator[Neighbour | Fdb]:
        for ns, rows in self._rows(section):
            exists = self.symbols.check_namespace(ns.value, section, ns.at)
            for row in rows.value:
                item = self.symbols.parse_line(section, parse_line, ns.value, row)
                there = exists and item is not None and self.symbols.check_interface(item.at, section, row.at)
                if there and self.symbols.check_unique(item.key, f"{section}: this entry", row.at):
                    check(item, row.at)
                    yield replace(item, why=stated(row.at))

    def _routes(self) -> Iterator[tuple[Route, Position]]:
        for ns, rows in self._rows("routes"):
            exists = self.symbols.check_namespace(ns.value, "routes", ns.at)
            for row in rows.value:
                item = self.symbols.parse_line("routes", iproute2_syntax.route, ns.value, row)
                if not exists or item is None:
                    continue
                for dev in (item.dev, *(hop.dev for hop in item.nexthops)):
                    if dev is not None:
                        self.symbols.check_interface(Interface(item.ns, dev), "routes", row.at)
                if self.symbols.check_unique(item.key, f"a route to {item.dst} with this table and metric", row.at):
                    yield replace(item, why=stated(row.at)), row.at

    def _rules(self) -> Iterator[Rule]:
        rules = PolicyRules(self.reader)
        for ns, rows in self._rows("rules"):
            exists = self.symbols.check_namespace(ns.value, "rules", ns.at)
            for row in rows.value:
                item = self.symbols.parse_line("rules", iproute2_syntax.rule, ns.value, row)
                if not exists or item is None or not self.symbols.check_unique(item.key, "this rule", row.at):
                    continue
                rules.check(item, row.at)
                yield replace(item, why=stated(row.at))

    def _ipsets(self) -> Iterator[IpSet]:
        for ns, sets in self._rows("ipsets"):
            exists = self.symbols.check_namespace(ns.value, "ipsets", ns.at)
            of_model = self.ipsets.get(ns.value, frozenset())
            self.ipsets[ns.value] = of_model | {name.value for name, _ in sets.value}
            for name, body in sets.value:
                item = make_ipset(ns.value, name, body.value, self.reader)
                if exists and self.symbols.check_unique(item.key, f"the set {name.value}", name.at):
                    yield replace(item, why=stated(name.at))

    def _firewall(self, section: str, family: str) -> Iterator[Chain]:
        for ns, tables in self._rows(section):
            exists = self.symbols.check_namespace(ns.value, section, ns.at)
            for table, chains in tables.value:
                present = self.model.chains.get((ns.value, family, table.value), ())
                sets = self.ipsets.get(ns.value, frozenset())
                parser = TableParser(ns.value, family, table.value, sets, self.reader, present)
                for chain in parser.chains(chains.value, added=bool(self.model.model)):
                    if exists:
                        yield chain

    def _nftables(self) -> Iterator[NftObject]:
        for ns, parts in self._rows("nftables"):
            exists = self.symbols.check_namespace(ns.value, "nftables", ns.at)

            def check_device(dev: str, at: Position, name: str = ns.value) -> None:
                if name in self.symbols.namespaces or name in self.model.namespaces:
                    self.symbols.check_interface(Interface(name, dev), "nftables", at)

            present = self.model.nftables.get(ns.value, ())
            for item in NftablesParser(ns.value, self.reader, present).objects(parts.value, check_device):
                if exists:
                    yield item
