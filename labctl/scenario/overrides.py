"""The option `--set KEY=VALUE`: it edits a scenario's tree before the tree is parsed."""

from __future__ import annotations

from collections.abc import Mapping

from labctl import models
from labctl.errors import ScenarioError
from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import shorten
from labctl.scenario.language import older_names
from labctl.scenario.yaml_reader import parse_yaml

MAX_STEPS = 64  # of a path; more than a scenario has, even with each label of a sysctl counted as one


def apply_overrides(root: TreeNode, overrides: tuple[str, ...], reader: Reader) -> TreeNode:
    """Set each KEY=VALUE, in order. KEY is a path with dots, VALUE is YAML. Problems have positions in the argument.

    A step of the path is a key of a mapping (a key that contains dots is found too) or a number of a list entry,
    counted from 0. Keys that do not exist yet are created; the parser reports those that the language does not have.
    """
    for word in overrides:
        root = _apply(root, word, reader)
    return root


def _older_names(root: TreeNode) -> dict[str, str]:
    """The older names of keys, each with its present name, in a scenario of the model that the tree names."""
    items = root.items if isinstance(root, Map) else ()
    model = next((value for key, value in items if isinstance(key, Text) and key.value == "model"), None)
    known = isinstance(model, Text) and models.has_model(model.value)
    return older_names(models.find_model(model.value) if isinstance(model, Text) and known else None)


def _apply(root: TreeNode, override: str, reader: Reader) -> TreeNode:
    position = Position("--set " + shorten(override))
    path, equals, value = override.partition("=")
    if not equals or not path.strip():
        reader.add_problem(position, "expected KEY=VALUE", "such as --set routing=host or --set nodes.node1.pods=5")
        return root
    steps = path.strip().split(".")
    if len(steps) > MAX_STEPS:
        reader.add_problem(position, f"a path of {len(steps)} steps", f"a key of a scenario has at most {MAX_STEPS}")
        return root
    shift = len(path) + 1
    try:
        node = parse_yaml(value, position.file, reader)
    except ScenarioError as error:
        for item in error.problems:
            at = Position(item.file, item.line, item.column + (shift if item.line == 1 else 0))
            reader.add_problem(at, item.what, item.hint)
        return root
    value_node = Text(Position(position.file, 1, shift + 1), "") if node is None else _shift_positions(node, shift)
    return _Setter(position, reader, _older_names(root)).set(root, steps, value_node, top=True)


def _shift_positions(node: TreeNode, shift: int) -> TreeNode:
    """The tree, with the positions in its first line moved to the position of the value in the argument."""
    at = node.position
    position = Position(at.file, at.line, at.column + shift) if at.line == 1 else at
    if isinstance(node, Text):
        return Text(position, node.value, node.plain)
    if isinstance(node, Seq):
        return Seq(position, tuple(_shift_positions(item, shift) for item in node.items))
    pairs = []
    for key, value in node.items:
        shifted_key = _shift_positions(key, shift)
        assert isinstance(shifted_key, Text)
        pairs.append((shifted_key, _shift_positions(value, shift)))
    return Map(position, tuple(pairs))


class _Setter:
    """Sets one value. `position` is that of problems: the argument that the value comes from. `older_names` has the
    older names of keys with their present names: a path may use either for the key in the file."""

    def __init__(self, position: Position, reader: Reader, older_names: Mapping[str, str]) -> None:
        self.position, self.reader, self.older_names = position, reader, older_names

    def set(self, node: TreeNode, path: list[str], value: TreeNode, top: bool = False) -> TreeNode:
        """The tree with `value` at `path`."""
        if not path:
            return value
        if isinstance(node, Seq):
            return self._in_list(node, path, value)
        if isinstance(node, Text) and (node.is_null or top):
            node = Map(node.position)
        if isinstance(node, Text):
            self.reader.add_problem(self.position, f"{quote_text(node.value)} does not contain {quote_text(path[0])}")
            return node
        indexes: dict[str, int] = {}
        for index, (key, _) in enumerate(node.items):
            indexes.setdefault(self._present_name(key.value, top), index)
        for length in range(len(path), 0, -1):
            found = indexes.get(self._present_name(".".join(path[:length]), top))
            if found is not None:
                key, old = node.items[found]
                kept = self._key(key.value) if length == len(path) else key
                new = (kept, self.set(old, path[length:], value))
                return Map(node.position, (*node.items[:found], new, *node.items[found + 1 :]))
        inner = self.set(Map(self.position), path[1:], value)
        return Map(node.position, (*node.items, (self._key(path[0]), inner)))

    def _in_list(self, node: Seq, path: list[str], value: TreeNode) -> TreeNode:
        size = len(node.items)
        if not path[0].isdecimal() or len(path[0]) > 6 or int(path[0]) >= size:
            hint = f"its entries are 0 to {size - 1}" if size else "the list is empty"
            self.reader.add_problem(self.position, f"{quote_text(path[0])} is not an entry of the list", hint)
            return node
        index = int(path[0])
        new = self.set(node.items[index], path[1:], value)
        return Seq(node.position, (*node.items[:index], new, *node.items[index + 1 :]))

    def _present_name(self, name: str, top: bool) -> str:
        """The name by which a key is the same as another: the present one, at the top with underscores for dashes."""
        name = name.replace("-", "_") if top else name
        return self.older_names.get(name, name)

    def _key(self, name: str) -> Text:
        return Text(self.position, name, False)
