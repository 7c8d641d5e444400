"""Frozen dataclasses as plain JSON, and back, by their own annotations; kernel objects as everywhere. Pure."""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

from labctl.core.resources import IP, PHASES, Iface, Net
from labctl.render.plan_json import resource_from_json, resource_json

T = TypeVar("T")
_TEXTS: dict[Any, Any] = {IP: ip_address, Iface: ip_interface, Net: ip_network}


def encode(value: Any) -> Any:
    """A dataclass (or a part of one) as what `json.dumps` takes."""
    if type(value) in PHASES:
        return resource_json(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def decode(kind: type[T], document: Any) -> T:
    """The dataclass behind what `encode` made of it. Raises KeyError, ValueError, TypeError for anything else."""
    return typing.cast("T", _decode(kind, document))


def _decode(kind: Any, value: Any) -> Any:
    if kind in _TEXTS:
        return _TEXTS[kind](value)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decode(_without_none(kind), value)
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return tuple(_decode(inner[0], one) for one in value)
        return tuple(_decode(part, one) for part, one in zip(inner, value, strict=True))
    if origin is not None and issubclass(origin if isinstance(origin, type) else object, Mapping):
        return {key: _decode(inner[1], one) for key, one in value.items()}
    if kind in PHASES:
        return resource_from_json(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {field.name for field in dataclasses.fields(kind)}
        return kind(**{name: _decode(hints[name], one) for name, one in value.items() if name in known})
    return value


def _without_none(kind: Any) -> Any:
    """What an optional type is when it is not None; a union that is a type of text is itself."""
    left = tuple(part for part in typing.get_args(kind) if part is not type(None))
    return left[0] if len(left) == 1 else functools.reduce(operator.or_, left)
