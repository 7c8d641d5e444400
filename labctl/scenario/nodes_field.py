"""The machines of a scenario: nodes and the pods on them, with names or by number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labctl.core.scenario_types import Node as Machine
from labctl.scenario.document import Map, Node, Place, Reader, Seq, Text, show
from labctl.scenario.field_types import Found, Json, Key, Many, Named, Section
from labctl.scenario.values import LABEL, integer

RESERVED = ("fabric", "internet", "vm", "localhost")
MOST_NODES, MOST_PODS, MOST_MACHINES = 1000, 5000, 10_000
_COUNT = integer(1, MOST_NODES)
_PODS = integer(0, MOST_PODS)


@dataclass(frozen=True, slots=True)
class Own:
    """The settings of each container (or network) of a model: the model's class for them, and the keys."""

    made: Any
    keys: tuple[Key, ...]

    def make(self, found: dict[str, Found]) -> Any:
        """An object of the model's class from what was read."""
        return self.made(**values(found))


def values(found: dict[str, Found]) -> dict[str, Any]:
    """The values that were read, without their positions."""
    return {
        name: tuple(one.value for one in item.value) if isinstance(item.value, tuple) else item.value
        for name, item in found.items()
    }


@dataclass(frozen=True, slots=True)
class Loose:
    """A section that may be empty, so that only its name is given."""

    section: Section

    @property
    def what(self) -> str:
        return self.section.what

    def read(self, node: Node, label: str, reader: Reader) -> Any:
        return self.section.read(node, label, reader)

    def schema(self) -> Json:
        return {**self.section.schema(), "type": ["object", "null"]}


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of a node: a list of names, or a number; with `own`, also a mapping from names to settings.

    Reads as an int, or a tuple of Found names, or of Found pairs of a name and the model's object.
    """

    word: str
    own: Own | None = None

    @property
    def what(self) -> str:
        mapping = f", or a mapping from names to {_listed(self.own)}" if self.own is not None else ""
        return f"a list of {self.word}, or their number{mapping}"

    def read(self, node: Node, label: str, reader: Reader) -> int | tuple[Found, ...] | None:
        if isinstance(node, Text):
            if node.is_null:
                return ()
            count: int | None = _PODS.read(node, label, reader)
            return count
        if isinstance(node, Map):
            if self.own is not None:
                return self._settled(node, label, reader, self.own)
            reader.problem(node, f"{label}: expected {self.what}, not a mapping", "such as [a, b] or 3")
            return None
        names: tuple[Found, ...] | None = Many(LABEL).read(node, label, reader)
        return names

    def _settled(self, node: Map, label: str, reader: Reader, own: Own) -> tuple[Found, ...]:
        rows = Named(LABEL, Loose(Section(self.word[:-1], own.keys))).read(node, label, reader)
        return tuple(Found((name.value, own.make(found.value)), name.at, name.key) for name, found in rows)

    def schema(self) -> Json:
        ways = [_PODS.schema(), Many(LABEL).schema()]
        if self.own is not None:
            ways.append(Named(LABEL, Loose(Section("", self.own.keys))).schema())
        return {"anyOf": ways}


def _listed(own: Own) -> str:
    return "{" + ", ".join(key.name for key in own.keys) + "}"


@dataclass(frozen=True, slots=True)
class Machines:
    """The value of `nodes:`. Reads as a tuple of the scenario's nodes; every name is valid and unique."""

    outer: str
    inner: str
    own: Own | None = None

    @property
    def what(self) -> str:
        return f"a mapping of {self.outer}, such as {{{self.outer[:-1]}1: {{{self.inner}: [a, b]}}}}"

    @property
    def pods(self) -> tuple[Key, ...]:
        """The key of the pods: the model's name for it, and the other names."""
        names = (self.inner, *(word for word in ("pods", "containers") if word != self.inner))
        more = ", or a mapping from names to settings" if self.own is not None else ""
        helps = (f"the {self.inner}: a list of names, or their number{more}", *[f"another name for `{self.inner}`"] * 2)
        return tuple(Key(name, Pods(self.inner, self.own), text) for name, text in zip(names, helps, strict=False))

    def read(self, node: Node, label: str, reader: Reader) -> tuple[Machine, ...] | None:
        if isinstance(node, Seq):
            bare: list[tuple[Found, Found | None]] = [(name, None) for name in Many(LABEL).read(node, label, reader)]
            return _Builder(self, reader).build(bare)
        if not isinstance(node, Map):
            reader.problem(node, f"{label}: expected {self.what}", f"or a number: {{count: 3, {self.inner}: 2}}")
            return None
        counting = [key for key, _ in node.items if key.value in ("count", "pods", "containers")]
        if counting:
            return self._counted(node, counting[0], label, reader)
        section = Section(self.outer[:-1], self.pods)
        rows = Named(LABEL, section).read(node, label, reader)
        return _Builder(self, reader).build([(name, self._pods(found.value, reader)) for name, found in rows])

    def _pods(self, found: dict[str, Found], reader: Reader) -> Found | None:
        several = [name for name in found if name != "count"]
        if len(several) > 1:
            reader.problem(
                found[several[1]].key, f"{several[0]!r} and {several[1]!r} are the same key", "keep one of them"
            )
        return found[several[0]] if several else None

    def _counted(self, node: Map, counting: Text, label: str, reader: Reader) -> tuple[Machine, ...] | None:
        names = [key for key, _ in node.items if key.value not in ("count", "pods", "containers")]
        if names:
            what = f"{label}: {counting.value!r} cannot be mixed with names such as {show(names[0].value)}"
            hint = f"count: {label}: {{count: 3, {self.inner}: 2}}; names: {label}: {{{self.outer[:-1]}1: ...}}"
            reader.problem(counting, what, hint)
            return None
        found = Section(label, (Key("count", _COUNT, "", required=True), *self.pods)).read(node, label, reader)
        pods = self._pods(found, reader)
        if "count" not in found:
            return None
        count = found["count"]
        rows = [(Found(f"{self.outer[:-1]}{n}", count.at, count.key), pods) for n in range(1, count.value + 1)]
        if pods is not None and isinstance(pods.value, tuple) and len(rows) > 1 and pods.value:
            what = f"{label}: names of {self.inner} cannot be used for each of {count.value} {self.outer}"
            reader.problem(pods.at, what, f"write their number: {self.inner}: {len(pods.value)}")
            return None
        return _Builder(self, reader).build(rows)

    def schema(self) -> Json:
        one = Section("", self.pods).schema()
        count = Section("", (Key("count", _COUNT, f"how many {self.outer}", required=True), *self.pods)).schema()
        named = LABEL.json
        return {
            "anyOf": [
                count,
                {
                    "type": "object",
                    "propertyNames": {"pattern": named["pattern"], "not": {"enum": ["count", "pods", "containers"]}},
                    "additionalProperties": {**one, "type": ["object", "null"]},
                },
                {"type": "array", "items": LABEL.schema()},
            ]
        }


class _Builder:
    """Builds nodes and verifies that every name in the lab is unique."""

    def __init__(self, kind: Machines, reader: Reader) -> None:
        self.kind, self.reader = kind, reader
        self.names: dict[str, Place] = {}
        self.pods = 0

    def build(self, rows: list[tuple[Found, Found | None]]) -> tuple[Machine, ...] | None:
        total = len(rows) + sum(_size(pods) for _, pods in rows)
        if total > MOST_MACHINES:
            what = f"{total} machines are too many for one lab"
            self.reader.problem(rows[0][0].at, what, f"at most {MOST_MACHINES}")
            return None
        for name, _ in rows:
            self._take(name.value, name.at)
        return tuple(self._node(number, name.value, pods) for number, (name, pods) in enumerate(rows, 1))

    def _node(self, number: int, name: str, pods: Found | None) -> Machine:
        there = tuple(self._on(number, pods))
        settings = ((pod, made) for pod, made in there if made is not None)
        return Machine(name, tuple(pod for pod, _ in there), tuple(settings))

    def _on(self, number: int, pods: Found | None) -> Iterator[tuple[str, Any]]:
        """A node's pods and their settings. Names are those of the file, or generated: `pod1-2` (node, pod), or `c7`,
        numbered through the lab."""
        if pods is None:
            return
        written = pods.value
        if isinstance(written, int):
            running = self.kind.inner == "containers"
            made = (f"c{self.pods + n}" if running else f"pod{number}-{n}" for n in range(1, written + 1))
            written = tuple(Found(name, pods.at, pods.key) for name in tuple(made))
        self.pods += len(written)
        for pod in written:
            name, made = pod.value if isinstance(pod.value, tuple) else (pod.value, None)
            if self._take(name, pod.at):
                yield name, made

    def _take(self, name: str, at: Place) -> bool:
        if name in RESERVED:
            what = f"the name {name!r} is reserved: models create a machine with this name"
            self.reader.problem(at, what, f"reserved names: {', '.join(RESERVED)}")
            return False
        if name in self.names:
            first = self.names[name]
            self.reader.problem(at, f"the name {name!r} appears twice (first in line {first.line})")
            return False
        self.names[name] = at
        return True


def _size(pods: Found | None) -> int:
    if pods is None:
        return 0
    return pods.value if isinstance(pods.value, int) else len(pods.value)
