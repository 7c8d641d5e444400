"""The objects that a raw scenario has declared so far, and checks that references to them exist."""

from __future__ import annotations

from typing import Any

from labctl.core.resources import Interface, Link
from labctl.core.why import LABCTL, Component, Source, Why
from labctl.scenario.document import Position, Reader
from labctl.scenario.field_types import InvalidValue, Located, suggest
from labctl.scenario.model_objects import NOTHING, ModelObjects

LOOPBACK = LABCTL.why(
    "It is the only thing that labctl adds to a namespace of a raw scenario: its loopback device, up."
)
ACCEPT_DAD = LABCTL.why("The link-local address of {dev} is usable at once, without duplicate address detection.")

ONLY_ADDED = "what is on top of a model adds to it; the options of the model change it"


def stated(at: Position) -> Why:
    """The reason of an object that the file states: the place where it does."""
    source = Source("the scenario file", at.file, line=at.line)
    return Component("the scenario file", source).why(f"Line {at.line} of the scenario file says so.")


class RawSymbols:
    """The namespaces and links that a scenario states, and the position of every object's key. `model` are the objects
    that there are already; `links` has theirs, too."""

    def __init__(self, reader: Reader, model: ModelObjects = NOTHING) -> None:
        self.reader, self.model = reader, model
        self.namespaces: dict[str, Located] = {}
        self.links: dict[Interface, Link] = dict(model.links)
        self.link_rows: dict[Interface, dict[str, Located]] = {}  # the keys of each link, with their positions
        self.positions: dict[Any, Position] = {}

    def parse_line(self, section: str, parse: Any, ns: Any, row: Located) -> Any:
        """Parse one line; None, with a problem recorded, if it is not valid."""
        try:
            return parse(ns, row.value)
        except InvalidValue as bad:
            self.reader.add_problem(row.at, f"{section}: {bad.message}", bad.hint)
            return None

    def check_namespace(self, name: str, label: str, at: Position) -> bool:
        """Whether the namespace exists. Records a problem if not."""
        if name in self.namespaces or name in self.model.namespaces:
            return True
        if name in self.model.names:
            self.reader.add_problem(at, f"{label}: {name} has no separate network namespace")
            return False
        word = "machines" if self.model.model else "namespaces"
        hint = suggest(name, (*self.namespaces, *self.model.namespaces)) or f"add it under {word}:"
        self.reader.add_problem(at, f"{label}: there is no {word[:-1].removesuffix('s')} {name!r}", hint)
        return False

    def check_interface(self, interface: Interface, label: str, at: Position) -> bool:
        """Whether the device exists. Records a problem if not."""
        if interface in self.links:
            return True
        if self.check_namespace(interface.ns, label, at):
            devices = [item.dev for item in self.links if item.ns == interface.ns]
            hint = suggest(interface.dev, devices) or f"{interface.ns} has {', '.join(devices[:12])}"
            self.reader.add_problem(at, f"{label}: {interface.ns} has no device {interface.dev!r}", hint)
        return False

    def check_unique(self, key: Any, what: str, at: Position) -> bool:
        """Whether this is the first object with its key. Records a problem if not."""
        if key in self.model.keys:
            self.reader.add_problem(at, f"{what} is there already: the model {self.model.model} makes it", ONLY_ADDED)
            return False
        if key in self.positions:
            self.reader.add_problem(at, f"{what} appears twice (first in line {self.positions[key].line})")
            return False
        self.positions[key] = at
        return True
