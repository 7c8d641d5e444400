"""Frozen dataclasses as plain JSON, and back, by their annotations; kernel objects as in `plan_json`. Pure."""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.core.resources import IP, RESOURCE_TYPES, InterfaceAddress, Net
from labctl.render.plan_json import resource_from_json, resource_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
_TEXT_PARSERS: dict[Any, Any] = {IP: ip_address, InterfaceAddress: ip_interface, Net: ip_network}


def to_json(value: Any) -> Any:
    """A dataclass (or a value of one of its fields) in a form that `json.dumps` accepts."""
    if type(value) in RESOURCE_TYPES:
        return resource_json(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        keys = _json_keys(type(value))
        names = (field.name for field in dataclasses.fields(value))
        return {keys.get(name, name): to_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): to_json(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def from_json(kind: type[T], document: Any) -> T:
    """The dataclass from the document that `to_json` returned. Raises KeyError, ValueError, TypeError for any other."""
    annotation: Any = kind
    return typing.cast("T", _reader(annotation)(document))


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """The function that reads a value of an annotation."""
    if kind in _TEXT_PARSERS:
        return typing.cast("Callable[[Any], Any]", _TEXT_PARSERS[kind])
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        present = _reader(_without_none(kind))
        return lambda value: None if value is None else present(value)
    if origin is tuple:
        return _reader_of_tuple(inner)
    if origin is not None and issubclass(origin if isinstance(origin, type) else object, Mapping):
        of_item = _reader(inner[1])
        return lambda value: {key: of_item(item) for key, item in value.items()}
    if kind in RESOURCE_TYPES:
        return resource_from_json
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return functools.partial(_read_dataclass, kind)
    return _as_it_is


def _reader_of_tuple(inner: tuple[Any, ...]) -> Callable[[Any], Any]:
    if inner[-1] is Ellipsis:
        of_item = _reader(inner[0])
        return lambda value: tuple(map(of_item, value))
    parts = tuple(map(_reader, inner))
    return lambda value: tuple(read(item) for read, item in zip(parts, value, strict=True))


def _read_dataclass(kind: type[DataclassInstance], value: Any) -> DataclassInstance:
    fields = _fields(kind)
    named = ((fields.get(key), item) for key, item in value.items())
    return kind(**{one[0]: one[1](item) for one, item in named if one is not None})


def _as_it_is(value: Any) -> Any:
    return value


@functools.cache
def _fields(kind: type[DataclassInstance]) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """The name and the reader of each field, by its key in JSON and by its name."""
    hints = typing.get_type_hints(kind)
    by_name = {field.name: (field.name, _reader(hints[field.name])) for field in dataclasses.fields(kind)}
    return by_name | {key: by_name[name] for name, key in _json_keys(kind).items() if name in by_name}


def _json_keys(kind: type) -> Mapping[str, str]:
    """The published keys of fields that have another name in JSON."""
    keys: Mapping[str, str] = getattr(kind, "JSON_KEYS", {})
    return keys


def _without_none(kind: Any) -> Any:
    """An optional type without None: the type itself, or the union of the types that are left."""
    types_left = tuple(part for part in typing.get_args(kind) if part is not type(None))
    return types_left[0] if len(types_left) == 1 else functools.reduce(operator.or_, types_left)
