"""The machines of a scenario: nodes and the pods on them, with names or by number.

A model chooses the words for both (`MACHINES`): nodes and pods, hosts and containers, computes and instances.
Here the outer machines are called nodes and the inner ones pods, whatever the file calls them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labctl.core.scenario_types import ScenarioNode
from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import Json, Key, ListOf, Located, MapOf, OptionalSection, Section, SettingsClass
from labctl.scenario.values import LABEL, integer

RESERVED = ("fabric", "internet", "vm", "localhost")  # a model adds its own: RESERVED_NAMES
MAX_NODES, MAX_PODS, MAX_MACHINES = 1000, 5000, 20_000
INNER_WORDS = ("pods", "containers")  # the keys for inner machines that every model accepts
_COUNT = integer(1, MAX_NODES)
_PODS = integer(0, MAX_PODS)


def singular(word: str) -> str:
    """The singular of a word for machines: `nodes` -> `node`, `proxies` -> `proxy`, `boxes` -> `box`.

    A word without a plural ending (`chassis`) stays as it is.
    """
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "is", "us")) else word


def inner_words(inner: str) -> tuple[str, ...]:
    """The keys for the inner machines of a model: its own word, then the words that every model accepts."""
    return (inner, *(word for word in INNER_WORDS if word != inner))


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of a node: a list of names, or a number; with `settings`, also a mapping from names to settings.

    Reads as an int, or a tuple of Located names, or of Located pairs of a name and the model's object.
    """

    noun: str
    settings: SettingsClass | None = None

    @property
    def what(self) -> str:
        mapping = f", or a mapping from names to {_key_list(self.settings)}" if self.settings is not None else ""
        return f"a list of {self.noun}, or their number{mapping}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> int | tuple[Located, ...] | None:
        if isinstance(node, Text):
            if node.is_null:
                return ()
            count: int | None = _PODS.read(node, label, reader)
            return count
        if isinstance(node, Map):
            if self.settings is not None:
                return self._read_settings(node, label, reader, self.settings)
            reader.add_problem(node, f"{label}: expected {self.what}, not a mapping", "such as [a, b] or 3")
            return None
        names: tuple[Located, ...] | None = ListOf(LABEL).read(node, label, reader)
        return names

    def _read_settings(self, node: Map, label: str, reader: Reader, settings: SettingsClass) -> tuple[Located, ...]:
        rows = MapOf(LABEL, OptionalSection(Section(singular(self.noun), settings.keys))).read(node, label, reader)
        return tuple(Located((name.value, settings.make(found.value)), name.at, name.key) for name, found in rows)

    def schema(self) -> Json:
        ways = [_PODS.schema(), ListOf(LABEL).schema()]
        if self.settings is not None:
            ways.append(MapOf(LABEL, OptionalSection(Section("", self.settings.keys))).schema())
        return {"anyOf": ways}


def _key_list(settings: SettingsClass) -> str:
    return "{" + ", ".join(key.name for key in settings.keys) + "}"


@dataclass(frozen=True, slots=True)
class NodesField:
    """The value of `nodes:`. Reads as a tuple of the scenario's nodes; every name is valid and unique."""

    outer: str
    inner: str
    settings: SettingsClass | None = None
    reserved: tuple[str, ...] = RESERVED

    @property
    def what(self) -> str:
        return f"a mapping of {self.outer}, such as {{{singular(self.outer)}1: {{{self.inner}: [a, b]}}}}"

    @property
    def count_words(self) -> tuple[str, ...]:
        """The keys of the form that gives numbers (`count: 3`): these words cannot be names of nodes."""
        return ("count", *inner_words(self.inner))

    @property
    def pods(self) -> tuple[Key, ...]:
        """The key of the pods: the model's name for it, and the other names."""
        names = inner_words(self.inner)
        more = ", or a mapping from names to settings" if self.settings is not None else ""
        helps = (f"the {self.inner}: a list of names, or their number{more}", *[f"another name for `{self.inner}`"] * 2)
        return tuple(Key(name, Pods(self.inner, self.settings), text) for name, text in zip(names, helps, strict=False))

    def read(self, node: TreeNode, label: str, reader: Reader) -> tuple[ScenarioNode, ...] | None:
        if isinstance(node, Seq):
            bare: list[tuple[Located, Located | None]] = [
                (name, None) for name in ListOf(LABEL).read(node, label, reader)
            ]
            return _NodeBuilder(self, reader).build(bare)
        if not isinstance(node, Map):
            reader.add_problem(node, f"{label}: expected {self.what}", f"or a number: {{count: 3, {self.inner}: 2}}")
            return None
        counting = [key for key, _ in node.items if key.value in self.count_words]
        if counting:
            return self._read_count(node, counting[0], label, reader)
        section = Section(singular(self.outer), self.pods)
        rows = MapOf(LABEL, section).read(node, label, reader)
        return _NodeBuilder(self, reader).build([(name, self._pods(found.value, reader)) for name, found in rows])

    def _pods(self, found: dict[str, Located], reader: Reader) -> Located | None:
        several = [name for name in found if name != "count"]
        if len(several) > 1:
            reader.add_problem(
                found[several[1]].key, f"{several[0]!r} and {several[1]!r} are the same key", "keep one of them"
            )
        return found[several[0]] if several else None

    def _read_count(self, node: Map, count_key: Text, label: str, reader: Reader) -> tuple[ScenarioNode, ...] | None:
        names = [key for key, _ in node.items if key.value not in self.count_words]
        if names:
            what = f"{label}: {count_key.value!r} cannot be mixed with names such as {quote_text(names[0].value)}"
            hint = f"count: {label}: {{count: 3, {self.inner}: 2}}; names: {label}: {{{singular(self.outer)}1: ...}}"
            reader.add_problem(count_key, what, hint)
            return None
        found = Section(label, (Key("count", _COUNT, "", required=True), *self.pods)).read(node, label, reader)
        pods = self._pods(found, reader)
        if "count" not in found:
            return None
        count = found["count"]
        noun = singular(self.outer)
        rows = [(Located(f"{noun}{n}", count.at, count.key), pods) for n in range(1, count.value + 1)]
        if pods is not None and isinstance(pods.value, tuple) and len(rows) > 1 and pods.value:
            what = f"{label}: names of {self.inner} cannot be used for each of {count.value} {self.outer}"
            reader.add_problem(pods.at, what, f"write their number: {self.inner}: {len(pods.value)}")
            return None
        return _NodeBuilder(self, reader).build(rows)

    def schema(self) -> Json:
        one = Section("", self.pods).schema()
        count = Section("", (Key("count", _COUNT, f"how many {self.outer}", required=True), *self.pods)).schema()
        named = LABEL.json
        return {
            "anyOf": [
                count,
                {
                    "type": "object",
                    "propertyNames": {"pattern": named["pattern"], "not": {"enum": list(self.count_words)}},
                    "additionalProperties": {**one, "type": ["object", "null"]},
                },
                {"type": "array", "items": LABEL.schema()},
            ]
        }


class _NodeBuilder:
    """Builds nodes and verifies that every name in the lab is unique."""

    def __init__(self, nodes_field: NodesField, reader: Reader) -> None:
        self.nodes_field, self.reader = nodes_field, reader
        self.name_positions: dict[str, Position] = {}
        self.pod_count = 0

    def build(self, rows: list[tuple[Located, Located | None]]) -> tuple[ScenarioNode, ...] | None:
        total = len(rows) + sum(_size(pods) for _, pods in rows)
        if total > MAX_MACHINES:
            what = f"{total} machines are too many for one lab"
            self.reader.add_problem(rows[0][0].at, what, f"at most {MAX_MACHINES}")
            return None
        for name, _ in rows:
            self._reserve_name(name.value, name.at)
        return tuple(self._node(number, name.value, pods) for number, (name, pods) in enumerate(rows, 1))

    def _node(self, number: int, name: str, pods: Located | None) -> ScenarioNode:
        rows = tuple(self._node_pods(number, pods))
        settings = ((pod, pod_settings) for pod, pod_settings in rows if pod_settings is not None)
        return ScenarioNode(name, tuple(pod for pod, _ in rows), tuple(settings))

    def _node_pods(self, number: int, pods: Located | None) -> Iterator[tuple[str, Any]]:
        """A node's pods and their settings. Names are those of the file, or generated.

        A generated name is `c7` for containers, which are numbered through the lab; otherwise it is the singular of
        the word with the number of the node and of the pod: `pod1-2`, `instance1-2`.
        """
        if pods is None:
            return
        located_names = pods.value
        if isinstance(located_names, int):
            inner, count = self.nodes_field.inner, located_names
            noun, through_lab = singular(inner), inner == "containers"
            names = [f"c{self.pod_count + n}" if through_lab else f"{noun}{number}-{n}" for n in range(1, count + 1)]
            located_names = tuple(Located(name, pods.at, pods.key) for name in names)
        self.pod_count += len(located_names)
        for pod in located_names:
            name, settings = pod.value if isinstance(pod.value, tuple) else (pod.value, None)
            if self._reserve_name(name, pod.at):
                yield name, settings

    def _reserve_name(self, name: str, at: Position) -> bool:
        if name in self.nodes_field.reserved:
            what = f"the name {name!r} is reserved: models create a machine with this name"
            self.reader.add_problem(at, what, f"reserved names: {', '.join(self.nodes_field.reserved)}")
            return False
        if name in self.name_positions:
            first = self.name_positions[name]
            self.reader.add_problem(at, f"the name {name!r} appears twice (first in line {first.line})")
            return False
        self.name_positions[name] = at
        return True


def _size(pods: Located | None) -> int:
    """The number of pods that were read: given as a number, or as names."""
    if pods is None:
        return 0
    return pods.value if isinstance(pods.value, int) else len(pods.value)
