"""The option `--set KEY=VALUE`: it edits a scenario's tree before the tree is parsed."""

from __future__ import annotations

from labctl.errors import ScenarioError
from labctl.scenario.document import Map, Node, Place, Reader, Seq, Text, show
from labctl.scenario.field_types import shorten
from labctl.scenario.yaml_reader import load


def apply_sets(root: Node, sets: tuple[str, ...], reader: Reader) -> Node:
    """Set each KEY=VALUE, in order. KEY is a path with dots, VALUE is YAML. Problems have positions in the argument.

    A step of the path is a key of a mapping (a key that contains dots is found too) or a number of a list entry,
    counted from 0. Keys that do not exist yet are created; the parser reports those that the language does not have.
    """
    for word in sets:
        root = _apply(root, word, reader)
    return root


def _apply(root: Node, word: str, reader: Reader) -> Node:
    place = Place("--set " + shorten(word))
    path, equals, value = word.partition("=")
    if not equals or not path.strip():
        reader.problem(place, "expected KEY=VALUE", "such as --set routing=host or --set nodes.node1.pods=5")
        return root
    shift = len(path) + 1
    try:
        node = load(value, place.file, reader)
    except ScenarioError as error:
        for item in error.problems:
            at = Place(item.file, item.line, item.column + (shift if item.line == 1 else 0))
            reader.problem(at, item.what, item.hint)
        return root
    made = Text(Place(place.file, 1, shift + 1), "") if node is None else _shifted(node, shift)
    return _Setter(place, reader).set(root, path.strip().split("."), made, top=True)


def _shifted(node: Node, shift: int) -> Node:
    """The tree, with the positions in its first line moved to the position of the value in the argument."""
    at = node.place
    place = Place(at.file, at.line, at.column + shift) if at.line == 1 else at
    if isinstance(node, Text):
        return Text(place, node.value, node.plain)
    if isinstance(node, Seq):
        return Seq(place, tuple(_shifted(item, shift) for item in node.items))
    pairs = []
    for key, value in node.items:
        moved = _shifted(key, shift)
        assert isinstance(moved, Text)
        pairs.append((moved, _shifted(value, shift)))
    return Map(place, tuple(pairs))


class _Setter:
    """Sets one value. `place` is the position for problems: the argument that the value comes from."""

    def __init__(self, place: Place, reader: Reader) -> None:
        self.place, self.reader = place, reader

    def set(self, node: Node, path: list[str], value: Node, top: bool = False) -> Node:
        """The tree with `value` at `path`."""
        if not path:
            return value
        if isinstance(node, Seq):
            return self._in_list(node, path, value)
        if isinstance(node, Text) and (node.is_null or top):
            node = Map(node.place)
        if isinstance(node, Text):
            self.reader.problem(self.place, f"{show(node.value)} does not contain {show(path[0])}")
            return node
        for length in range(len(path), 0, -1):
            name = ".".join(path[:length])
            for index, (key, old) in enumerate(node.items):
                if key.value == name or (top and _same(key.value, name)):
                    kept = self._key(key.value) if length == len(path) else key
                    new = (kept, self.set(old, path[length:], value))
                    return Map(node.place, (*node.items[:index], new, *node.items[index + 1 :]))
        inner = self.set(Map(self.place), path[1:], value)
        return Map(node.place, (*node.items, (self._key(path[0]), inner)))

    def _in_list(self, node: Seq, path: list[str], value: Node) -> Node:
        size = len(node.items)
        if not path[0].isdecimal() or len(path[0]) > 6 or int(path[0]) >= size:
            hint = f"its entries are 0 to {size - 1}" if size else "the list is empty"
            self.reader.problem(self.place, f"{show(path[0])} is not an entry of the list", hint)
            return node
        index = int(path[0])
        new = self.set(node.items[index], path[1:], value)
        return Seq(node.place, (*node.items[:index], new, *node.items[index + 1 :]))

    def _key(self, name: str) -> Text:
        return Text(self.place, name, False)


def _same(one: str, other: str) -> bool:
    return one.replace("-", "_") == other.replace("-", "_")
