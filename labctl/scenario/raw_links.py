"""The links of a raw scenario: devices of every kind, their options, and the devices they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from labctl.core.resources import Interface, Link
from labctl.scenario.document import Position
from labctl.scenario.field_types import Located
from labctl.scenario.raw_language import LINK_KINDS, LINK_MODES, REQUIRED_LINK_OPTIONS
from labctl.scenario.raw_symbols import RawSymbols, stated

_LINK_FIELDS = ("mac", "mtu", "txqueuelen", "master", "up", "promisc", "hairpin", "isolated", "autoconf")


class LinkParser:
    """Makes links of what was read, and records them in `symbols`."""

    def __init__(self, symbols: RawSymbols) -> None:
        self.symbols = symbols
        self.explicit_autoconf: set[Interface] = set()  # devices for which the scenario sets autoconf

    def read(self, rows: Iterable[Located]) -> Iterator[Link]:
        """The links: bridges first, because other links are their ports; links with a lower device last."""
        links_and_rows: list[tuple[Link, Located]] = []
        for row in rows:
            kind = next((kind for kind in LINK_KINDS if kind in row.value), None)
            if kind is not None:
                links_and_rows += self._link(kind, row)
        for link, row in links_and_rows:
            self.symbols.links.setdefault(link.at, link)
            self.symbols.link_rows.setdefault(link.at, row.value)
        for link, row in links_and_rows:
            self._check_references(link, row)
        links_and_rows.sort(key=lambda pair: (pair[0].kind != "bridge", "dev" in dict(pair[0].options)))
        yield from (link for link, _ in links_and_rows)

    def _link(self, kind: str, row: Located) -> list[tuple[Link, Located]]:
        given: dict[str, Located] = row.value
        options = self._options(kind, given)
        values = {name: given[name].value for name in _LINK_FIELDS if name in given}
        link_netns = given["link_netns"].value if "link_netns" in given else None
        if link_netns is not None:
            self.symbols.check_namespace(link_netns, given["link_netns"].label, given["link_netns"].at)
        if kind != "veth":
            ends = [{"at": Located(given[kind].value, given[kind].at, given[kind].key)}]
        else:
            ends = [end.value for end in given["veth"].value]
            self._check_veth_keys(given)
        links = []
        for end, other in zip(ends, reversed(ends), strict=True):
            peer = other["at"].value if kind == "veth" else None
            end_values = {name: end[name].value for name in _LINK_FIELDS if name in end}
            interface, at = end["at"].value, end["at"].at
            if "autoconf" in {**values, **end_values}:
                self.explicit_autoconf.add(interface)
            if self._check_new_link(interface, at):
                every = values | end_values
                link = Link(interface, kind, peer, options=options, link_netns=link_netns, why=stated(at), **every)
                links.append((link, Located({**given, **end}, at, at)))
        return links

    def _check_veth_keys(self, given: dict[str, Located]) -> None:
        for key in ("mac", "master", "link_netns"):
            if key in given:
                name = given[key].label
                what = f"{name!r} cannot be set for both ends of a veth"
                self.symbols.reader.add_problem(
                    given[key].key, what, f"set it for one end: {{at: r1/eth0, {name}: ...}}"
                )

    def _check_new_link(self, interface: Interface, at: Position) -> bool:
        if not self.symbols.check_namespace(interface.ns, "links", at):
            return False
        if interface.dev == "lo":
            self.symbols.reader.add_problem(
                at, f"links: {interface} exists already", "every namespace has a lo device, up"
            )
            return False
        return self.symbols.check_unique(("link", interface), f"the device {interface}", at)

    def _options(self, kind: str, given: dict[str, Located]) -> tuple[tuple[str, str], ...]:
        allowed = LINK_KINDS[kind]
        every = {name for options in LINK_KINDS.values() for name in options}
        for name in (name for name in given if name in every and name not in allowed):
            self.symbols.reader.add_problem(
                given[name].key, f"a {kind} has no {name!r}", f"it has {', '.join(allowed) or 'no options'}"
            )
        for name in REQUIRED_LINK_OPTIONS.get(kind, ()):
            if name not in given:
                self.symbols.reader.add_problem(given[kind].key, f"a {kind} needs {name!r}")
        mode = given.get("mode")
        if mode is not None and kind in LINK_MODES and mode.value not in LINK_MODES[kind]:
            self.symbols.reader.add_problem(
                mode.at, f"mode: a {kind} has no mode {mode.value!r}", f"it has {', '.join(LINK_MODES[kind])}"
            )
        if kind == "vlan" and "id" in given and not 1 <= given["id"].value <= 4094:
            self.symbols.reader.add_problem(
                given["id"].at, f"id: {given['id'].value} is not a VLAN tag", "from 1 up to 4094"
            )
        return tuple((name, _option(given[name].value)) for name in allowed if name in given)

    def _check_references(self, link: Link, row: Located) -> None:
        """Verify that the links that this link refers to exist."""
        master = row.value.get("master")
        if master is not None:
            interface = Interface(link.at.ns, master.value)
            if (
                self.symbols.check_interface(interface, "master", master.at)
                and self.symbols.links[interface].kind != "bridge"
            ):
                self.symbols.reader.add_problem(
                    master.at, f"master: {interface} is a {self.symbols.links[interface].kind}, not a bridge"
                )
        for word in ("hairpin", "isolated"):
            if master is None and word in row.value:
                self.symbols.reader.add_problem(
                    row.value[word].key, f"{word!r} is for ports of a bridge", "set its master"
                )
        lower = row.value.get("dev")
        if lower is not None and "dev" in LINK_KINDS[link.kind]:
            interface = Interface(link.link_netns or link.at.ns, lower.value)
            if self.symbols.check_interface(interface, "dev", lower.at) and interface == link.at:
                self.symbols.reader.add_problem(lower.at, f"dev: {interface} cannot be its own lower device")


def _option(value: Any) -> str:
    """A link option's value as `ip -d link` shows it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
