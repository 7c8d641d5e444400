"""The types of values in the scenario language: scalars, lists, mappings, sections.

Each type reads a node and describes itself. The parser, the JSON Schema and the reference in docs/ use the same
declarations, so that they cannot disagree. A type that refuses a value reports the problem with its position and
returns None. `SettingsClass` is for sections that become objects of a class of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from typing import Any, Protocol

from labctl.core.names import did_you_mean
from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode, quote_text

Json = dict[str, Any]
MIN_SIMILARITY = 0.65  # of a word to the known word that a hint suggests, from 0 to 1


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
    label: str = ""  # the name of its key in messages: an older name, if the file uses one


class FieldType(Protocol):
    """The type of a key's value. `what` completes the sentence "expected ..."."""

    @property
    def what(self) -> str: ...

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any: ...

    def schema(self) -> Json: ...


@dataclass(frozen=True, slots=True)
class Scalar:
    """One text. `convert` returns its value, or raises InvalidValue."""

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
    """A list, read as a tuple of Located. With `allow_single`, a single value counts as a list of one entry."""

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
    """A mapping from names to values of one type, read as a tuple of pairs (Located name, Located value)."""

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
class LaterField:
    """The type `name` of the module `module`, which is imported only when a file has the key."""

    module: str
    name: str

    @property
    def _type(self) -> FieldType:
        found: FieldType = getattr(import_module(self.module), self.name)
        return found

    @property
    def what(self) -> str:
        return self._type.what

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        return self._type.read(node, label, reader)

    def schema(self) -> Json:
        return self._type.schema()


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping: the type of its value, a help text, and the default if the key is absent."""

    name: str
    field_type: Any
    help: str
    default: str = ""
    required: bool = False
    allow_dashes: bool = False  # whether `-` and `_` are the same in this key
    old: tuple[str, ...] = ()  # the names that it had before: files may still use them
    listed: bool = True  # whether the hint for an unknown key names it, even if it is not similar

    def matches(self, text: str) -> bool:
        """Whether a key in the file means this key."""
        return self.spelling(text) in (self.name, *self.old)

    def spelling(self, text: str) -> str:
        """A key of the file as this key writes it: with underscores, if dashes are the same."""
        return text.replace("-", "_") if self.allow_dashes else text

    @property
    def meaning(self) -> str:
        """Its help text for the reference, with its older names."""
        names = ", ".join(f"`{name}`" for name in self.old)
        return f"{self.help} (older name{'s' if len(self.old) > 1 else ''}: {names})" if names else self.help


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with declared keys, read as {name: Located}. Exactly one key of `exactly_one` must be present."""

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
        current_names = {name: key.name for key in self.keys for name in key.old}
        wrote: dict[str, Text] = {}
        for key, _ in node.items:
            wrote.setdefault(current_names.get(key.value, key.value), key)
        missing = [key.name for key in self.keys if key.required and not any(map(key.matches, wrote))]
        for name in missing:
            reader.add_problem(node, f"{self.label}: {name!r} is missing")
        several = [key for name, key in wrote.items() if name in self.exactly_one]
        if len(several) > 1:
            what = f"{self.label}: {several[0].value!r} and {several[1].value!r} cannot be used together"
            reader.add_problem(several[1], what, "write an entry for each")
        elif self.exactly_one and not several:
            reader.add_problem(node, f"{self.label}: one of {', '.join(self.exactly_one)} is missing")

    def schema(self) -> Json:
        schema = object_schema(self.keys)
        if self.exactly_one:
            old = [name for key in self.keys if key.name in self.exactly_one for name in key.old]
            schema["oneOf"] = [{"required": [name]} for name in (*self.exactly_one, *old)]
        return schema


@dataclass(frozen=True, slots=True)
class OptionalSection:
    """A section that may be empty, so that only its name is given."""

    section: Section

    @property
    def what(self) -> str:
        return self.section.what

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        return self.section.read(node, label, reader)

    def schema(self) -> Json:
        return {**self.section.schema(), "type": ["object", "null"]}


@dataclass(frozen=True, slots=True)
class SettingsClass:
    """The settings of each container or network of a model: the model's class for them, and the keys."""

    model_class: Any
    keys: tuple[Key, ...]

    def make(self, found: dict[str, Located]) -> Any:
        """An object of the model's class from what was read."""
        return self.model_class(**plain_values(found))


def plain_values(found: dict[str, Located]) -> dict[str, Any]:
    """The values that were read, without their positions."""
    return {
        name: tuple(one.value for one in item.value) if isinstance(item.value, tuple) else item.value
        for name, item in found.items()
    }


def read_keys(node: Map, keys: Iterable[Key], label: str, reader: Reader) -> dict[str, Located]:
    """Read the declared keys of a mapping.

    An undeclared key is a problem. So is a key that is written twice, with the same name or with an older one.
    """
    keys = tuple(keys)
    exact = {key.name: key for key in keys}
    found: dict[str, Located] = {}
    written: dict[str, Text] = {}
    for text, value in node.items:
        key = exact.get(text.value) or next((key for key in keys if key.matches(text.value)), None)
        if key is None:
            hint = _suggest_key(text.value, keys) or f"known keys: {', '.join(key.name for key in keys if key.listed)}"
            reader.add_problem(text, f"{label}: unknown key {quote_text(text.value)}", hint)
        elif key.name in written:
            reader.add_problem(text, *_repetition(key, written[key.name], text))
        else:
            written[key.name] = text
            name = key.spelling(text.value)
            result = key.field_type.read(value, name, reader)
            if result is not None:
                found[key.name] = Located(result, value.position, text.position, name)
    return found


def _suggest_key(text: str, keys: Iterable[Key]) -> str:
    """A hint with the present name of a key that has a similar name, now or before."""
    present_names = {name: key.name for key in keys for name in (key.name, *key.old)}
    return did_you_mean(text, present_names, MIN_SIMILARITY, lambda name: repr(present_names[name]))


def _repetition(key: Key, first: Text, second: Text) -> tuple[str, str]:
    """The message and the hint for a key that a mapping has twice, perhaps by an older name."""
    if key.spelling(first.value) == key.spelling(second.value):
        return f"{quote_text(second.value)} is written twice (first in line {first.position.line})", ""
    at = f"line {first.position.line}, column {first.position.column}"
    if first.position.file != second.position.file:
        at = f"{first.position.file}:{first.position.line}:{first.position.column}"
    old = next(name for name in (key.spelling(first.value), key.spelling(second.value)) if name != key.name)
    what = f"{quote_text(second.value)} and {quote_text(first.value)} are the same key (first in {at})"
    return what, f"keep {key.name!r}: {old!r} is an older name of it"


def object_schema(keys: Iterable[Key]) -> Json:
    """The JSON Schema of a mapping with these keys and no others."""
    schema: Json = {"type": "object", "additionalProperties": False, "properties": {}}
    patterns: Json = {}
    required = []
    rules: list[Json] = []
    for key in keys:
        schema["properties"][key.name] = key_schema(key)
        for name in key.old:
            old_schema = {"description": f"the older name of {key.name}", "deprecated": True}
            schema["properties"][name] = {**old_schema, **key.field_type.schema()}
        for name in (key.name, *key.old):
            if key.allow_dashes and "_" in name:
                patterns[f"^{name.replace('_', '[-_]')}$"] = key.field_type.schema()
        rules += _old_name_rules(key)
        if key.required and not key.old:
            required.append(key.name)
    if required:
        schema["required"] = required
    if patterns:
        schema["patternProperties"] = patterns
    if rules:
        schema["allOf"] = rules
    return schema


def _old_name_rules(key: Key) -> Iterator[Json]:
    """The rules for a key with older names: a mapping has at most one of its names; one of them if it is required."""
    names = (key.name, *key.old)
    for two in combinations(names, 2):
        yield {"not": {"type": "object", "required": list(two)}}
    if key.old and key.required:
        yield {"anyOf": [{"required": [name]} for name in names]}


def key_schema(key: Key) -> Json:
    """A key's schema with its description, which editors show."""
    tail = f" (default: {key.default})" if key.default else ""
    return {"description": key.help + tail, **key.field_type.schema()}


def suggest(name: str, candidates: Iterable[str]) -> str:
    """A hint "did you mean ...?", or "" if no known word is similar."""
    return did_you_mean(name, candidates, MIN_SIMILARITY, repr)


def shorten(text: str) -> str:
    """A text of the file for a message, as `quote_text` makes it but without the quotes."""
    return quote_text(text)[1:-1]
