"""The objects that a raw scenario has declared so far, and checks that references to them exist."""

from __future__ import annotations

from typing import Any

from labctl.core.resources import Link, Port
from labctl.scenario.document import Place, Reader
from labctl.scenario.field_types import Bad, Found, suggest


class Known:
    """The namespaces and links of a raw scenario, and the position of every object's key."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.spaces: dict[str, Found] = {}
        self.links: dict[Port, Link] = {}
        self.seen: dict[Any, Place] = {}

    def words(self, section: str, read: Any, where: Any, row: Found) -> Any:
        """Parse one line; None, with a problem recorded, if it is not valid."""
        try:
            return read(where, row.value)
        except Bad as bad:
            self.reader.problem(row.at, f"{section}: {bad.what}", bad.hint)
            return None

    def space(self, name: str, label: str, at: Place) -> bool:
        """Whether the namespace exists. Records a problem if not."""
        if name in self.spaces:
            return True
        hint = suggest(name, self.spaces) or "add it under namespaces:"
        self.reader.problem(at, f"{label}: there is no namespace {name!r}", hint)
        return False

    def port(self, port: Port, label: str, at: Place) -> bool:
        """Whether the device exists. Records a problem if not."""
        if port in self.links:
            return True
        if self.space(port.ns, label, at):
            devices = [item.dev for item in self.links if item.ns == port.ns]
            hint = suggest(port.dev, devices) or f"{port.ns} has {', '.join(devices[:12])}"
            self.reader.problem(at, f"{label}: {port.ns} has no device {port.dev!r}", hint)
        return False

    def once(self, key: Any, what: str, at: Place) -> bool:
        """Whether this is the first object with its key. Records a problem if not."""
        if key in self.seen:
            self.reader.problem(at, f"{what} appears twice (first in line {self.seen[key].line})")
            return False
        self.seen[key] = at
        return True
