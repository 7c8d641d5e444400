"""Whether the fields of a dataclass have the types that its annotations say: for objects read from a file. Pure."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def wrong_field(instance: DataclassInstance) -> str:
    """The name of the first field with a value of another type; "" if there is none."""
    hints = _hints(type(instance))
    return next((name for name, hint in hints.items() if not matches(getattr(instance, name), hint)), "")


def matches(value: Any, hint: Any) -> bool:
    """Whether a value is of the type of an annotation: a class, a union, a Literal, a tuple. Others match anything."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, one) for one in inner)
    if origin is typing.Literal:
        return isinstance(value, (str, int)) and value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1:] == (Ellipsis,):
            return all(matches(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(map(matches, value, inner))
    if isinstance(hint, type):
        return isinstance(value, hint) and (hint is not int or not isinstance(value, bool))
    return True


@cache
def _hints(kind: type[DataclassInstance]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
