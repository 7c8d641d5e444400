"""The links of a raw scenario: devices of every kind, their options, and the devices they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from labctl.core.resources import Link, Port
from labctl.scenario.document import Place
from labctl.scenario.field_types import Found
from labctl.scenario.raw_language import KINDS, MODES, NEEDED
from labctl.scenario.raw_symbols import Known

_DEVICE_KEYS = ("mac", "mtu", "master", "up", "promisc", "hairpin", "isolated", "autoconf")


class Links:
    """Makes links of what was read, and records them in `known`."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.autoconf_said: set[Port] = set()  # devices for which the scenario sets autoconf

    def read(self, rows: Iterable[Found]) -> Iterator[Link]:
        """The links: bridges first, because other links are their ports; links with a lower device last."""
        made: list[tuple[Link, Found]] = []
        for row in rows:
            kind = next((kind for kind in KINDS if kind in row.value), None)
            if kind is not None:
                made += self._link(kind, row)
        for link, _ in made:
            self.known.links.setdefault(link.at, link)
        for link, row in made:
            self._refers(link, row)
        made.sort(key=lambda pair: (pair[0].kind != "bridge", "dev" in dict(pair[0].options)))
        yield from (link for link, _ in made)

    def _link(self, kind: str, row: Found) -> list[tuple[Link, Found]]:
        given: dict[str, Found] = row.value
        options = self._options(kind, given)
        values = {name: given[name].value for name in _DEVICE_KEYS if name in given}
        born = given["born"].value if "born" in given else None
        if born is not None:
            self.known.space(born, "born", given["born"].at)
        if kind != "veth":
            ends = [{"at": Found(given[kind].value, given[kind].at, given[kind].key)}]
        else:
            ends = [end.value for end in given["veth"].value]
            self._veth_keys(given)
        links = []
        for end, other in zip(ends, reversed(ends), strict=True):
            peer = other["at"].value if kind == "veth" else None
            own = {name: end[name].value for name in _DEVICE_KEYS if name in end}
            port, at = end["at"].value, end["at"].at
            if "autoconf" in {**values, **own}:
                self.autoconf_said.add(port)
            if self._new_link(port, at):
                link = Link(port, kind, peer, options=options, born=born, **(values | own))
                links.append((link, Found({**given, **end}, at, at)))
        return links

    def _veth_keys(self, given: dict[str, Found]) -> None:
        for name in ("mac", "master", "born"):
            if name in given:
                what = f"{name!r} cannot be set for both ends of a veth"
                self.known.reader.problem(given[name].key, what, f"set it for one end: {{at: r1/eth0, {name}: ...}}")

    def _new_link(self, port: Port, at: Place) -> bool:
        if not self.known.space(port.ns, "links", at):
            return False
        if port.dev == "lo":
            self.known.reader.problem(at, f"links: {port} exists already", "every namespace has a lo device, up")
            return False
        return self.known.once(("link", port), f"the device {port}", at)

    def _options(self, kind: str, given: dict[str, Found]) -> tuple[tuple[str, str], ...]:
        known = KINDS[kind]
        every = {name for options in KINDS.values() for name in options}
        for name in (name for name in given if name in every and name not in known):
            self.known.reader.problem(
                given[name].key, f"a {kind} has no {name!r}", f"it has {', '.join(known) or 'no options'}"
            )
        for name in NEEDED.get(kind, ()):
            if name not in given:
                self.known.reader.problem(given[kind].key, f"a {kind} needs {name!r}")
        mode = given.get("mode")
        if mode is not None and kind in MODES and mode.value not in MODES[kind]:
            self.known.reader.problem(
                mode.at, f"mode: a {kind} has no mode {mode.value!r}", f"it has {', '.join(MODES[kind])}"
            )
        if kind == "vlan" and "id" in given and not 1 <= given["id"].value <= 4094:
            self.known.reader.problem(given["id"].at, f"id: {given['id'].value} is not a VLAN tag", "from 1 up to 4094")
        return tuple((name, _option(given[name].value)) for name in known if name in given)

    def _refers(self, link: Link, row: Found) -> None:
        """Verify that the links that this link refers to exist."""
        master = row.value.get("master")
        if master is not None:
            port = Port(link.at.ns, master.value)
            if self.known.port(port, "master", master.at) and self.known.links[port].kind != "bridge":
                self.known.reader.problem(master.at, f"master: {port} is a {self.known.links[port].kind}, not a bridge")
        for word in ("hairpin", "isolated"):
            if master is None and word in row.value:
                self.known.reader.problem(row.value[word].key, f"{word!r} is for ports of a bridge", "set its master")
        lower = row.value.get("dev")
        if lower is not None and "dev" in KINDS[link.kind]:
            port = Port(link.born or link.at.ns, lower.value)
            if self.known.port(port, "dev", lower.at) and port == link.at:
                self.known.reader.problem(lower.at, f"dev: {port} cannot be its own lower device")


def _option(value: Any) -> str:
    """A link option's value as `ip -d link` shows it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
