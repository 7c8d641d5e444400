"""The types of values in API objects. Each reads a node of a tree to the value that JSON has for it.

The rules are those of the Kubernetes API server: a number without quotes is not a text, a text in quotes is not a
number, null means that the field is absent. Every mistake is reported with its position, and the rest is read on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol, TypeAlias

from labctl.core.names import did_you_mean
from labctl.scenario.document import Map, Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import InvalidValue, Json, shorten

Path: TypeAlias = tuple[str | int, ...]
Rule: TypeAlias = Callable[[Mapping[str, Any]], Iterator[tuple[Path, str, str]]]

INVALID: Final = object()  # what a type returns for a value that it has reported
SIMILARITY = 0.75  # from 0 to 1: an unknown field that is this similar to a known one is taken for a mistake
_BOOLEAN = re.compile("true|True|TRUE|yes|Yes|YES|on|On|ON|false|False|FALSE|no|No|NO|off|Off|OFF")
_TRUE = ("true", "yes", "on")
_WHOLE = re.compile("[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(
    r"[-+]?(0x[0-9a-fA-F_]+|0o?[0-7_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9]+|\.inf|\.nan)"
)


@dataclass(slots=True)
class ObjectContext:
    """The object that is read: its name in messages, and what was found in it.

    `plain_texts` is whether texts need no quotes, as everywhere in a scenario: `{version: 1}` has the text `1`.
    `unused` gets the paths of the fields that labctl does not use, without the numbers of entries.
    """

    reader: Reader
    title: str
    plain_texts: bool = False
    unused: dict[str, None] = field(default_factory=dict)

    def add_problem(self, at: TreeNode, path: Path, what: str, hint: str = "") -> None:
        """Report a problem of the field at this path."""
        self.reader.add_problem(at, f"{self.title}: {field_path(path)}{': ' if path else ''}{what}", hint)

    def add_unused(self, path: Path) -> None:
        """Record a field that labctl does not use."""
        self.unused[".".join(shorten(step) for step in path if isinstance(step, str))] = None


def field_path(path: Path) -> str:
    """A path in the words of the API server: `spec.ports[0].port`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" if text else shorten(step)
    return text


class ApiType(Protocol):
    """The type of a field. `what` completes the sentence "expected ..."."""

    @property
    def what(self) -> str: ...

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any: ...

    def schema(self) -> Json: ...


def scalar_kind(node: TreeNode) -> str:
    """What kind of value a node is, with its article: `a number`, `a text`, `a boolean`, `a list`, `a mapping`."""
    if isinstance(node, Seq):
        return "a list"
    if isinstance(node, Map):
        return "a mapping"
    if not node.plain:
        return "a text"
    if node.is_null:
        return "null"
    if _BOOLEAN.fullmatch(node.value):
        return "a boolean"
    return "a number" if _NUMBER.fullmatch(node.value) else "a text"


def _is_null(node: TreeNode) -> bool:
    return isinstance(node, Text) and node.is_null


def _refuse(node: TreeNode, path: Path, context: ObjectContext, what: str, hint: str = "") -> Any:
    kind = scalar_kind(node)
    found = f"{quote_text(node.value)} is {kind}" if isinstance(node, Text) and kind != "null" else f"this is {kind}"
    context.add_problem(node, path, f"expected {what}, but {found}", hint)
    return INVALID


@dataclass(frozen=True, slots=True)
class ApiText:
    """A text. `check` raises InvalidValue, or returns anything."""

    what: str = "a text"
    check: Callable[[str], object] | None = None
    example: str = ""

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        kind = scalar_kind(node)
        if not isinstance(node, Text) or (kind != "a text" and not (context.plain_texts and kind != "null")):
            quoted = f'write "{shorten(node.value)}"' if isinstance(node, Text) and kind != "null" else self.example
            return _refuse(node, path, context, self.what, quoted)
        if self.check is not None:
            try:
                self.check(node.value)
            except InvalidValue as bad:
                context.add_problem(node, path, bad.message, bad.hint)
                return INVALID
        return node.value

    def schema(self) -> Json:
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True, slots=True)
class ApiAny:
    """Any value, as it is."""

    what: str = "any value"

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        if isinstance(node, Seq):
            return [self.read(item, path, context) for item in node.items]
        if isinstance(node, Map):
            return {key.value: self.read(item, path, context) for key, item in node.items}
        return None if node.is_null else node.value

    def schema(self) -> Json:
        return {}


@dataclass(frozen=True, slots=True)
class ApiChoice:
    """One word of several."""

    words: tuple[str, ...]

    @property
    def what(self) -> str:
        return f"one of {', '.join(self.words)}"

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        if not isinstance(node, Text) or scalar_kind(node) == "null":
            return _refuse(node, path, context, self.what)
        if node.value not in self.words:
            context.add_problem(
                node, path, f"{quote_text(node.value)} is not {self.what}", similar(node.value, self.words)
            )
            return INVALID
        return node.value

    def schema(self) -> Json:
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class ApiNumber:
    """A whole number within bounds."""

    minimum: int | None = None
    maximum: int | None = None

    @property
    def what(self) -> str:
        low, high = self.minimum, self.maximum
        bounds = (f" from {low}" if low is not None else "") + (f" up to {high}" if high is not None else "")
        return f"a whole number{bounds}"

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        if not isinstance(node, Text) or scalar_kind(node) != "a number":
            digits = isinstance(node, Text) and _WHOLE.fullmatch(node.value) is not None
            hint = f"write it without quotes: {shorten(node.value)}" if digits and isinstance(node, Text) else ""
            return _refuse(node, path, context, self.what, hint)
        return _whole_number(node, path, context, self.minimum, self.maximum, self.what)

    def schema(self) -> Json:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return {"type": "integer", **{name: value for name, value in bounds.items() if value is not None}}


def _whole_number(node: Text, path: Path, context: ObjectContext, low: int | None, high: int | None, what: str) -> Any:
    if not _WHOLE.fullmatch(node.value) or len(node.value) > 18:
        context.add_problem(node, path, f"{quote_text(node.value)} is not a whole number", f"expected {what}")
        return INVALID
    number = int(node.value)
    if (low is not None and number < low) or (high is not None and number > high):
        context.add_problem(node, path, f"{number} is out of bounds", f"expected {what}")
        return INVALID
    return number


@dataclass(frozen=True, slots=True)
class ApiFlag:
    """`true` or `false`."""

    what: str = "true or false"

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        if not isinstance(node, Text) or scalar_kind(node) != "a boolean":
            known = isinstance(node, Text) and _BOOLEAN.fullmatch(node.value) is not None
            return _refuse(node, path, context, self.what, "write it without quotes" if known else "")
        return node.value.lower() in _TRUE

    def schema(self) -> Json:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class ApiPort:
    """The number of a port, or the name that a container gives it."""

    what: str = "the number of a port, or its name"

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        kind = scalar_kind(node)
        if not isinstance(node, Text) or kind not in ("a number", "a text"):
            return _refuse(node, path, context, self.what)
        if kind == "a number":
            return _whole_number(node, path, context, 1, 65535, "a port from 1 up to 65535")
        try:
            port_name(node.value)
        except InvalidValue as bad:
            quoted = f"a number stands without quotes: {node.value}" if node.value.isdecimal() else bad.hint
            context.add_problem(node, path, bad.message, quoted)
            return INVALID
        return node.value

    def schema(self) -> Json:
        return {"type": ["integer", "string"]}


def port_name(text: str) -> None:
    """The name of a port of a container, as RFC 6335 has it. Raises InvalidValue."""
    if re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", text) and len(text) <= 15 and "--" not in text:
        if re.search("[a-z]", text):
            return
        raise InvalidValue(f"the text {quote_text(text)} is not the name of a port: it has no letter")
    raise InvalidValue(f"{quote_text(text)} is not the name of a port", "at most 15 of a-z, 0-9 and -, such as http")


@dataclass(frozen=True, slots=True)
class ApiList:
    """A list."""

    item: Any
    min_items: int = 0

    @property
    def what(self) -> str:
        return f"a list, each entry {self.item.what}"

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        if _is_null(node):
            return []
        if not isinstance(node, Seq):
            return _refuse(node, path, context, self.what, "put a - before each entry" if isinstance(node, Map) else "")
        if len(node.items) < self.min_items:
            context.add_problem(node, path, f"expected at least {self.min_items} of {self.item.what}")
            return INVALID
        read = self.item.read
        found = [read(item, (*path, number), context) for number, item in enumerate(node.items)]
        return INVALID if INVALID in found else found

    def schema(self) -> Json:
        return {"type": ["array", "null"], "items": self.item.schema()}


@dataclass(frozen=True, slots=True)
class ApiMap:
    """A mapping from any names to texts, such as labels. `key` and `value` raise InvalidValue, or return anything."""

    what: str
    key: Callable[[str], object]
    value: Any = ApiText()
    hint: str = ""  # for a value of another type

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        if _is_null(node):
            return {}
        if not isinstance(node, Map):
            return _refuse(node, path, context, self.what)
        found: dict[str, Any] = {}
        for name, item in node.items:
            try:
                self.key(name.value)
            except InvalidValue as bad:
                context.add_problem(name, path, bad.message, bad.hint)
                continue
            if self.hint and not isinstance(item, Text):
                _refuse(item, (*path, name.value), context, self.value.what, self.hint)
            else:
                found[name.value] = "" if _is_null(item) else self.value.read(item, (*path, name.value), context)
        return INVALID if INVALID in found.values() else found

    def schema(self) -> Json:
        return {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}


@dataclass(frozen=True, slots=True, eq=False)
class ApiFields:
    """A mapping with the fields of one type of the API.

    `unused` are further fields of the API: a warning names those that an object has. `silent` are fields of the API
    that decide about no packet in any lab: no warning names them. In a `closed` mapping a field that is none of these
    is a mistake, because the others mean something else without it; in other mappings it is one only if its name is
    similar to a known one. `elsewhere` has fields that are often written in the wrong place, with the hint, and
    `not_supported` fields of the API that labctl refuses, because it cannot do what they say. Each of `rules` yields
    the path, the problem and the hint of what is wrong with the values together.
    """

    fields: Mapping[str, Any]
    required: tuple[str, ...] = ()
    unused: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    not_supported: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False
    closed_hint: str = ""  # for a field that a closed mapping does not have; by default, the names of its fields
    rules: tuple[Rule, ...] = ()
    short_forms: str = ""  # the texts that may stand for it in a scenario

    @property
    def what(self) -> str:
        names = list(self.fields)
        return f"a mapping with {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"

    def read(self, node: TreeNode, path: Path, context: ObjectContext) -> Any:
        if _is_null(node):
            node = Map(node.position)
        if not isinstance(node, Map):
            short = f"in short: {self.short_forms}" if self.short_forms and context.plain_texts else ""
            return _refuse(node, path, context, self.what, short)
        found: dict[str, Any] = {}
        all_known = True
        for key, item in node.items:
            name = key.value
            field_type = self.fields.get(name)
            if field_type is None:
                all_known &= self._is_allowed(key, item, path, context)
            elif not _is_null(item):
                found[name] = field_type.read(item, (*path, name), context)
        for name in self.required:
            if name not in found:
                context.add_problem(node, path, f"{name!r} is missing")
        if not all_known or INVALID in found.values() or not found.keys() >= set(self.required):
            return INVALID
        broken = [problem for rule in self.rules for problem in rule(found)]
        for inner, what, hint in broken:
            context.add_problem(descend(node, inner), (*path, *inner), what, hint)
        return INVALID if broken else found

    def _is_allowed(self, key: Text, item: TreeNode, path: Path, context: ObjectContext) -> bool:
        """Whether a mapping may have a field that is not read; else a problem is recorded."""
        name = key.value
        if name in self.silent or (name in self.unused and _is_null(item)):
            return True
        if name in self.unused:
            context.add_unused((*path, name))
            return True
        if name in self.not_supported:
            context.add_problem(key, (*path, name), "labctl does not support this field", self.not_supported[name])
        elif name in self.elsewhere:
            context.add_problem(key, path, f"unknown field {quote_text(name)}", self.elsewhere[name])
        elif (hint := similar(name, (*self.fields, *self.unused))) or self.closed:
            known = self.closed_hint or f"the fields are {', '.join((*self.fields, *sorted(self.unused)))}"
            context.add_problem(key, path, f"unknown field {quote_text(name)}", hint or known)
        else:
            context.add_unused((*path, name))
            return True
        return False

    def schema(self) -> Json:
        schema: Json = {
            "type": "object" if self.required else ["object", "null"],
            "properties": {name: one.schema() for name, one in self.fields.items()},
        }
        return {**schema, "required": list(self.required)} if self.required else schema


@cache
def similar(name: str, known: tuple[str, ...]) -> str:
    """A hint "did you mean ...?"; "" if no known word is similar. Upper and lower case do not count."""
    folded = {word.lower(): word for word in known}
    return did_you_mean(name.lower(), folded, SIMILARITY, lambda word: repr(folded[word]))


def descend(node: TreeNode, path: Path) -> TreeNode:
    """The value at a path below a node: the deepest one that exists."""
    for step in path:
        if isinstance(node, Map) and isinstance(step, str):
            found = next((value for key, value in node.items if key.value == step), None)
        elif isinstance(node, Seq) and isinstance(step, int) and step < len(node.items):
            found = node.items[step]
        else:
            found = None
        if found is None:
            break
        node = found
    return node
