"""The value of a check's key `while_open`: `8`, or `{count: 8, tcp: b -> internet:80}` for those of other ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.scenario.check_language import CONNECT
from labctl.scenario.document import Map, Reader, TreeNode
from labctl.scenario.field_types import Json, Key, Scalar, Section
from labctl.scenario.values import integer


@dataclass(frozen=True, slots=True)
class ConnectionsField:
    """A number of connections with the ends of the check, or a section that names the ends. Read as a mapping of
    `Located`, or as a number."""

    count: Scalar
    section: Section

    @property
    def what(self) -> str:
        return f"{self.count.what}; or a mapping with {', '.join(key.name for key in self.section.keys)}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Map):
            return self.section.read(node, label, reader)
        return self.count.read(node, label, reader)

    def schema(self) -> Json:
        return {"anyOf": [self.count.schema(), self.section.schema()]}


_COUNT = integer(1, 1024)  # of connections that a check keeps open
CONNECTIONS = ConnectionsField(
    _COUNT,
    Section(
        "while_open",
        (
            Key("count", _COUNT, "the number of connections", required=True),
            Key("tcp", CONNECT, "their ends: SOURCE -> TARGET:PORT", required=True),
        ),
    ),
)
