"""The types of values in the scenario language: scalars, lists, mappings. Each reads a node and describes itself.

The parser, the JSON Schema and the reference in docs/ use the same declarations, so that they cannot disagree.
A type that refuses a value reports the problem with its position and returns None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from labctl.core.names import did_you_mean
from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode, quote_text

Json = dict[str, Any]


class InvalidValue(Exception):
    """A text that is not valid for a field: what is wrong with it, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True, slots=True)
class Located:
    """A value that was read, with its position and the position of its key."""

    value: Any
    at: Position
    key: Position


class FieldType(Protocol):
    """The type of a key's value. `what` completes the sentence "expected ..."."""

    @property
    def what(self) -> str: ...

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any: ...

    def schema(self) -> Json: ...


@dataclass(frozen=True, slots=True)
class Scalar:
    """One text. `convert` returns its value, or raises Bad."""

    what: str
    convert: Callable[[str], Any]
    json: Json
    nullable: bool = False  # whether null is allowed; it reads as None

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if not isinstance(node, Text):
            kind = "a list" if isinstance(node, Seq) else "a mapping"
            reader.add_problem(node, f"{label}: expected {self.what}, not {kind}")
        elif node.is_null:
            if not self.nullable:
                reader.add_problem(node, f"{label}: expected {self.what}, but the value is empty")
        else:
            try:
                return self.convert(node.value)
            except InvalidValue as bad:
                reader.add_problem(node, f"{label}: {bad.message}", bad.hint)
        return None

    def schema(self) -> Json:
        return {"anyOf": [self.json, {"type": "null"}]} if self.nullable else dict(self.json)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, read as a tuple of Found. With `one`, a single value counts as a list of one entry."""

    item: Any
    allow_single: bool = False
    min_items: int = 0

    @property
    def what(self) -> str:
        return f"{self.item.what}, or a list of them" if self.allow_single else f"a list, each entry {self.item.what}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Text) and node.is_null and not self.allow_single:
            return ()
        if not isinstance(node, Seq):
            if not self.allow_single:
                reader.add_problem(node, f"{label}: expected {self.what}")
                return None
            nodes: tuple[TreeNode, ...] = (node,)
        else:
            nodes = node.items
        if len(nodes) < self.min_items:
            reader.add_problem(node, f"{label}: expected at least {self.min_items} of {self.item.what}")
        values = [(self.item.read(item, label, reader), item.position) for item in nodes]
        return tuple(Located(value, at, at) for value, at in values if value is not None)

    def schema(self) -> Json:
        many: Json = {"type": "array", "items": self.item.schema()}
        if self.min_items:
            many["minItems"] = self.min_items
        return {"anyOf": [self.item.schema(), many]} if self.allow_single else {**many, "type": ["array", "null"]}


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping from names to values of one type, read as a tuple of pairs (Found name, Found value)."""

    name: Scalar
    value: Any

    @property
    def what(self) -> str:
        return f"a mapping from {self.name.what} to {self.value.what}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Text) and node.is_null:
            return ()
        if not isinstance(node, Map):
            reader.add_problem(node, f"{label}: expected {self.what}")
            return None
        found = []
        for key, item in node.items:
            name = self.name.read(Text(key.position, key.value, False), label, reader)
            value = self.value.read(item, f"{label}: {shorten(key.value)}", reader)
            if name is not None and value is not None:
                found.append((Located(name, key.position, key.position), Located(value, item.position, key.position)))
        return tuple(found)

    def schema(self) -> Json:
        names = {key: value for key, value in self.name.json.items() if key in ("pattern", "maxLength", "enum", "not")}
        schema: Json = {"type": ["object", "null"], "additionalProperties": self.value.schema()}
        if names:
            schema["propertyNames"] = names
        return schema


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping: the type of its value, a help text, and the default if the key is absent."""

    name: str
    field_type: Any
    help: str
    default: str = ""
    required: bool = False
    allow_dashes: bool = False  # whether `-` and `_` are the same in this key

    def matches(self, text: str) -> bool:
        """Whether a key in the file means this key."""
        return text == self.name or (self.allow_dashes and text.replace("-", "_") == self.name)


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with declared keys, read as {name: Found}. Exactly one key of `exactly_one` must be present."""

    label: str
    keys: tuple[Key, ...]
    exactly_one: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        names = ", ".join(key.name for key in self.keys[:3])
        return f"a mapping with {names}{', ...' if len(self.keys) > 3 else ''}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Text) and node.is_null:
            node = Map(node.position)
        if not isinstance(node, Map):
            reader.add_problem(node, f"{label}: expected {self.what}")
            return None
        found = read_keys(node, self.keys, self.label, reader)
        self._check_presence(node, found, reader)
        return found

    def _check_presence(self, node: Map, found: dict[str, Located], reader: Reader) -> None:
        wrote = {key.value for key, _ in node.items}
        missing = [key.name for key in self.keys if key.required and key.name not in wrote]
        for name in missing:
            reader.add_problem(node, f"{self.label}: {name!r} is missing")
        several = [key for key, _ in node.items if key.value in self.exactly_one]
        if len(several) > 1:
            what = f"{self.label}: {several[0].value!r} and {several[1].value!r} cannot be used together"
            reader.add_problem(several[1], what, "write an entry for each")
        elif self.exactly_one and not several:
            reader.add_problem(node, f"{self.label}: one of {', '.join(self.exactly_one)} is missing")

    def schema(self) -> Json:
        schema = object_schema(self.keys)
        if self.exactly_one:
            schema["oneOf"] = [{"required": [name]} for name in self.exactly_one]
        return schema


def read_keys(node: Map, keys: Iterable[Key], label: str, reader: Reader) -> dict[str, Located]:
    """Read the declared keys of a mapping. An undeclared key is a problem."""
    keys = tuple(keys)
    exact = {key.name: key for key in keys}
    found: dict[str, Located] = {}
    positions: dict[str, Position] = {}
    for text, value in node.items:
        key = exact.get(text.value) or next((key for key in keys if key.matches(text.value)), None)
        if key is None:
            hint = suggest(text.value, exact) or f"known keys: {', '.join(exact)}"
            reader.add_problem(text, f"{label}: unknown key {quote_text(text.value)}", hint)
        elif key.name in positions:
            reader.add_problem(
                text, f"{quote_text(text.value)} is written twice (first in line {positions[key.name].line})"
            )
        else:
            positions[key.name] = text.position
            result = key.field_type.read(value, key.name, reader)
            if result is not None:
                found[key.name] = Located(result, value.position, text.position)
    return found


def object_schema(keys: Iterable[Key]) -> Json:
    """The JSON Schema of a mapping with these keys and no others."""
    schema: Json = {"type": "object", "additionalProperties": False, "properties": {}}
    patterns: Json = {}
    required = []
    for key in keys:
        schema["properties"][key.name] = key_schema(key)
        if key.allow_dashes and "_" in key.name:
            patterns[f"^{key.name.replace('_', '[-_]')}$"] = key.field_type.schema()
        if key.required:
            required.append(key.name)
    if required:
        schema["required"] = required
    if patterns:
        schema["patternProperties"] = patterns
    return schema


def key_schema(key: Key) -> Json:
    """A key's schema with its description, which editors show."""
    tail = f" (default: {key.default})" if key.default else ""
    return {"description": key.help + tail, **key.field_type.schema()}


def suggest(name: str, candidates: Iterable[str]) -> str:
    """A hint "did you mean ...?", or "" if no known word is similar."""
    return did_you_mean(name, candidates, 0.65, repr)


def shorten(text: str) -> str:
    """A text of the file for a message, as `show` makes it but without the quotes."""
    return quote_text(text)[1:-1]
