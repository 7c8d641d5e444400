"""The shape of a JSON document, written as a value: what a record must look like before anything uses it. Pure.

str, int, bool     a value of that type (true is not a number)
None               null
dict, list         any object, any list
[shape]            a list in which every entry has the shape
{"key": shape}     an object with these keys, and perhaps others; "key?" may be missing
(shape, shape)     one of the shapes
a function         what it returns true for
"""

from __future__ import annotations

TYPE_CHECKING = False  # and not typing's own: `labctl exec` reads a record, and typing costs more than that
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Shape: TypeAlias = Any


def shape_problem(value: Any, shape: Shape, place: str = "the document") -> str:
    """The first place at which a value has another shape, as a sentence; "" if it has the shape."""
    if isinstance(shape, dict):
        return _object_problem(value, shape, place)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is not a list"
        found = (shape_problem(one, shape[0], f"{place}[{index}]") for index, one in enumerate(value))
        return next(filter(None, found), "")
    if isinstance(shape, tuple):
        problems = [shape_problem(value, one, place) for one in shape]
        return problems[0] if all(problems) else ""
    if shape is None:
        fits = value is None
    elif isinstance(shape, type):
        fits = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    else:
        fits = bool(shape(value))
    return "" if fits else f"{place} is not {getattr(shape, '__name__', 'null').strip('_').replace('_', ' ')}"


def _object_problem(value: Any, shape: dict[str, Shape], place: str) -> str:
    if not isinstance(value, dict):
        return f"{place} is not an object"
    for key, inner in shape.items():
        name = key.removesuffix("?")
        if name in value:
            if problem := shape_problem(value[name], inner, name if place == "the document" else f"{place}.{name}"):
                return problem
        elif name == key:
            return f"{place} has no {name!r}"
    return ""


def a_word(value: object) -> bool:
    """A text without spaces and control characters: a name or an address, which can be a word in another file."""
    return isinstance(value, str) and value != "" and value.isprintable() and " " not in value


def a_file_name(value: object) -> bool:
    """A text that names an entry of a folder, and no other place."""
    return a_word(value) and "/" not in str(value) and value not in (".", "..")


def a_pair_of_texts(value: object) -> bool:
    """A list of two texts."""
    return isinstance(value, list) and [*map(type, value)] == [str, str]
