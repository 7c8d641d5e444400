"""Whether the fields of a dataclass have the types that its annotations say: for objects read from a file. Pure."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance


def wrong_field(instance: DataclassInstance) -> str:
    """The name of the first field with a value of another type; "" if there is none."""
    fields = _tests_of_fields(type(instance))
    return next((name for name, matches in fields if not matches(getattr(instance, name))), "")


@cache
def _tests_of_fields(kind: type[DataclassInstance]) -> tuple[tuple[str, Callable[[Any], bool]], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((field.name, _test(hints[field.name])) for field in dataclasses.fields(kind))


@cache
def _test(hint: Any) -> Callable[[Any], bool]:
    """Whether a value is of the type of an annotation: a class, a union, a Literal, a tuple. Others match anything."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        choices = tuple(map(_test, inner))
        return lambda value: any(matches(value) for matches in choices)
    if origin is typing.Literal:
        return lambda value: isinstance(value, (str, int)) and value in inner
    if origin is tuple:
        return _test_of_tuple(inner)
    if hint is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if isinstance(hint, type):
        return lambda value: isinstance(value, hint)
    return lambda value: True


def _test_of_tuple(inner: tuple[Any, ...]) -> Callable[[Any], bool]:
    if inner[-1:] == (Ellipsis,):
        matches = _test(inner[0])
        return lambda value: isinstance(value, tuple) and all(map(matches, value))
    tests = tuple(map(_test, inner))
    return lambda value: (
        isinstance(value, tuple)
        and len(value) == len(tests)
        and all(matches(item) for matches, item in zip(tests, value, strict=True))
    )
