"""The machines that answer balanced connections: a name, a list of names, or a mapping from names to weights."""

from __future__ import annotations

from labctl.scenario.document import Map, Reader, TreeNode
from labctl.scenario.field_types import Json, ListOf, Located, MapOf
from labctl.scenario.values import LABEL, integer

MAX_WEIGHT = 1000


class AnsweredByField:
    """Machines with their weights, read as a tuple of pairs. A list gives all the weight 1."""

    what = "a machine, a list of machines, or a mapping from machines to weights such as {b: 9, c: 1}"
    _names = ListOf(LABEL, allow_single=True, min_items=1)
    _weights = MapOf(LABEL, integer(1, MAX_WEIGHT))

    def read(self, node: TreeNode, label: str, reader: Reader) -> tuple[Located, ...]:
        if isinstance(node, Map):
            rows = self._weights.read(node, label, reader)
            found = [] if rows is None else [Located((key.value, one.value), key.at, key.at) for key, one in rows]
            if rows == ():
                reader.add_problem(node, f"{label}: expected {self.what}")
        else:
            names = self._names.read(node, label, reader)
            found = [] if names is None else [Located((one.value, 1), one.at, one.at) for one in names]
        seen: set[str] = set()
        for one in found:
            name = one.value[0]
            if name in seen:
                reader.add_problem(one.at, f"{label}: {name!r} is written twice", "give it a weight: {NAME: 2}")
            seen.add(name)
        return tuple(found)

    def schema(self) -> Json:
        weights = {**self._weights.schema(), "type": "object", "minProperties": 1}
        return {"anyOf": [*self._names.schema()["anyOf"], weights]}
