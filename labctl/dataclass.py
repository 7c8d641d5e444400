"""Dataclasses like Python's own, but their methods are compiled when they are first called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from reprlib import recursive_repr
from types import MappingProxyType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

# Python compiles six methods of each frozen dataclass while its module is imported. That was a quarter of the time of
# `labctl up`, which calls few of them. docs/adr/0042-dataclasses-compile-later.md has the measurements.

_MISSING: Any = type("MISSING", (), {"__repr__": lambda _: "MISSING"})()
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class _Field:
    """What is known of one field, under the names of `dataclasses.Field`."""

    __slots__ = (
        "compare", "default", "default_factory", "hash", "init", "kw_only", "metadata", "name", "repr", "type",
    )  # fmt: skip

    def __init__(
        self,
        default: Any = _MISSING,
        default_factory: Any = _MISSING,
        init: bool = True,
        repr: bool = True,
        hash: bool | None = None,
        compare: bool = True,
        metadata: Mapping[Any, Any] | None = None,
        kw_only: bool = False,
    ) -> None:
        self.default = default
        self.default_factory = default_factory
        self.init = init
        self.repr = repr
        self.hash = hash
        self.compare = compare
        self.metadata = metadata or _NOTHING
        self.kw_only = kw_only
        self.name = ""
        self.type: Any = None


class _ForPython:
    """`__dataclass_fields__` or `__dataclass_params__` of a class, which Python's own functions read. They are made
    when they are first read."""

    __slots__ = ("frozen", "kind", "name")

    def __init__(self, name: str, frozen: bool) -> None:
        self.name, self.frozen = name, frozen
        self.kind: Any = None

    def __get__(self, instance: object, owner: type) -> Any:
        from dataclasses import make_dataclass

        fields = [(one.name, one.type, _python_field(one)) for one in self.kind.__field_table__.values()]
        twin = make_dataclass(self.kind.__name__, fields, init=False, repr=False, eq=False, frozen=self.frozen)
        value = getattr(twin, self.name)
        setattr(self.kind, self.name, value)
        return value


def _dataclass(
    kind: type | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True, order: bool = False
) -> Any:
    """As `dataclasses.dataclass` with these options. Annotations are text; InitVar and KW_ONLY are not known."""
    if kind is None:
        return lambda kind: _made(kind, frozen, slots, eq, order)
    return _made(kind, frozen, slots, eq, order)


def _field(**settings: Any) -> Any:
    """As `dataclasses.field`."""
    python = sys.modules.get("dataclasses")  # the class can be one of Python's own: such a module has imported it
    return _Field(**settings) if python is None else python.field(**settings)


def _fields(kind: Any) -> tuple[Any, ...]:
    """As `dataclasses.fields`, also of an instance."""
    return tuple(_table(kind if isinstance(kind, type) else kind.__class__).values())


def _replace(instance: Any, /, **changes: Any) -> Any:
    """As `dataclasses.replace`."""
    kind = instance.__class__
    for name, one in _table(kind).items():
        if name not in changes and one.init:
            changes[name] = getattr(instance, name)
    return kind(**changes)


def _made(kind: type, frozen: bool, slots: bool, eq: bool, order: bool) -> type:
    """The class with the methods of a dataclass: another class with `slots`, else the same."""
    body = kind.__dict__
    own = {
        name: _own_field(name, annotation, body.get(name, _MISSING))
        for name, annotation in kind.__annotations__.items()
        if not annotation.startswith(("ClassVar", "typing.ClassVar"))
    }
    table: dict[str, _Field] = {}
    for base in kind.__mro__[-1:0:-1]:
        if "__dataclass_fields__" in base.__dict__:
            table.update(_table(base))
    table.update(own)
    for_python = [_ForPython(name, frozen) for name in ("__dataclass_fields__", "__dataclass_params__")]
    later = _Later(table, frozen)
    added: dict[str, Any] = {one.name: one for one in for_python}
    added["__field_table__"] = table
    added["__signature__"] = _SIGNATURE
    added["__match_args__"] = tuple(name for name, one in table.items() if one.init and not one.kw_only)
    added["__init__"] = later.method("__init__", _init)
    added["__repr__"] = _repr
    if eq:
        added["__eq__"] = later.method("__eq__", _comparison)
        if body.get("__hash__") is None:
            added["__hash__"] = later.method("__hash__", _hash) if frozen else None
    if order:
        for name in ("__lt__", "__le__", "__gt__", "__ge__"):
            added[name] = later.method(name, _comparison)
    if frozen:
        added |= {"__setattr__": _set_attribute, "__delattr__": _delete_attribute}
        if slots:
            added |= {"__getstate__": _state, "__setstate__": _set_state}
    for name in added.keys() & body.keys() - {"__hash__"}:
        del added[name]
    if slots:
        inherited = {slot for base in kind.__mro__[1:-1] for slot in base.__dict__.get("__slots__", ())}
        kept = {name: value for name, value in body.items() if name not in own}
        kept.pop("__dict__", None)
        kept.pop("__weakref__", None)
        names = tuple(name for name in table if name not in inherited)
        made = type(kind)(kind.__name__, kind.__bases__, {**kept, **added, "__slots__": names})
        made.__qualname__ = kind.__qualname__
    else:
        made = kind
        for name, one in own.items():
            if one.default is not _MISSING:
                setattr(made, name, one.default)
            elif name in body:
                delattr(made, name)
        for name, value in added.items():
            setattr(made, name, value)
    later.kind = made
    for attribute in for_python:
        attribute.kind = made
    return made


def _table(kind: Any) -> dict[str, _Field]:
    """The fields of a class, which can be one of Python's dataclasses."""
    if "__field_table__" in kind.__dict__:
        table: dict[str, _Field] = kind.__field_table__
        return table
    return {one.name: _own_field(one.name, one.type, one) for one in sys.modules["dataclasses"].fields(kind)}


def _own_field(name: str, annotation: str, value: Any) -> _Field:
    """A field of a class. `value` is what the class has under this name: a field, a default or nothing."""
    python = sys.modules.get("dataclasses")
    if python is not None and isinstance(value, python.Field):
        given = (value.default, value.default_factory)
        default, factory = (_MISSING if one is python.MISSING else one for one in given)
        shown = (value.init, value.repr, value.hash, value.compare)
        field = _Field(default, factory, *shown, value.metadata, value.kw_only is True)
    else:
        field = value if isinstance(value, _Field) else _Field(value)
    if field.default is not _MISSING and field.default.__class__.__hash__ is None:
        raise ValueError(f"the default of {name} can change: use default_factory")
    field.name, field.type = name, annotation
    return field


def _python_field(one: _Field) -> Any:
    """The field as one of Python's."""
    from dataclasses import field

    defaults = {"default": one.default, "default_factory": one.default_factory}
    given: dict[str, Any] = {name: value for name, value in defaults.items() if value is not _MISSING}
    shown: dict[str, Any] = {"init": one.init, "repr": one.repr, "hash": one.hash, "compare": one.compare}
    return field(**given, **shown, kw_only=one.kw_only, metadata=one.metadata)


# methods that are compiled for each class, when they are first called


class _Later:
    """Methods of one class that are compiled when they are first called."""

    __slots__ = ("frozen", "kind", "table")

    def __init__(self, table: Mapping[str, _Field], frozen: bool) -> None:
        self.table, self.frozen = table, frozen
        self.kind: Any = None

    def method(self, name: str, write: Callable[[str, _Later], tuple[str, dict[str, Any]]]) -> Any:
        """What stands for the method `name`. `write` returns its text, and the values of other names in the text."""

        def compiled() -> Any:
            text, values = write(name, self)
            inner = "\n ".join(text.splitlines())
            namespace: dict[str, Any] = {}
            exec(
                f"def make({', '.join(values)}):\n {inner}\n return {name}",
                sys.modules[self.kind.__module__].__dict__,
                namespace,
            )
            made = namespace["make"](**values)
            made.__qualname__ = f"{self.kind.__qualname__}.{name}"
            if name == "__init__":
                made.__annotations__ = {one.name: one.type for one in self.table.values() if one.init}
            setattr(self.kind, name, made)
            return made

        def method(*arguments: Any, **named: Any) -> Any:
            return compiled()(*arguments, **named)

        method.__name__ = name
        method.compiled = compiled  # type: ignore[attr-defined]
        return method


class _Signature:
    """`__signature__` of a class: that of its `__init__`, which is compiled for it."""

    def __get__(self, instance: object, owner: Any) -> Any:
        import inspect

        init = owner.__init__
        signature = inspect.signature(init.compiled() if hasattr(init, "compiled") else init)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


_SIGNATURE = _Signature()


def _init(name: str, later: _Later) -> tuple[str, dict[str, Any]]:
    """`__init__`: as Python's, but it fills slots with their own `__set__`."""
    values: dict[str, Any] = {"_factory": _MISSING}
    parameters: list[str] = []
    named: list[str] = []
    lines: list[str] = []
    for number, one in enumerate(later.table.values()):
        value = one.name
        if one.default_factory is not _MISSING:
            values[f"_d{number}"] = one.default_factory
            value = f"_d{number}() if {value} is _factory else {value}" if one.init else f"_d{number}()"
        elif one.default is not _MISSING:
            values[f"_d{number}"] = one.default
            value = value if one.init else f"_d{number}"
        elif not one.init:
            continue
        if one.init:
            default = "" if f"_d{number}" not in values else f"=_d{number}"
            default = "=_factory" if one.default_factory is not _MISSING else default
            (named if one.kw_only else parameters).append(one.name + default)
        slot = getattr(later.kind, one.name, None)
        if not later.frozen:
            lines.append(f"self.{one.name} = {value}")
        elif isinstance(slot, MemberDescriptorType):
            values[f"_s{number}"] = slot.__set__
            lines.append(f"_s{number}(self, {value})")
        else:
            values["_set"] = object.__setattr__
            lines.append(f"_set(self, {one.name!r}, {value})")
    if hasattr(later.kind, "__post_init__"):
        lines.append("self.__post_init__()")
    head = ", ".join(["self", *parameters, *(["*", *named] if named else [])])
    return f"def __init__({head}):\n " + "\n ".join(lines or ["pass"]), values


def _comparison(name: str, later: _Later) -> tuple[str, dict[str, Any]]:
    """`__eq__`, or a method of the order: as Python's."""
    sign = {"__eq__": "==", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}[name]
    names = [one.name for one in later.table.values() if one.compare]
    text = (
        f"def {name}(self, other):\n if other.__class__ is self.__class__:\n"
        f"  return {_tuple('self', names)} {sign} {_tuple('other', names)}\n return NotImplemented"
    )
    return text, {}


def _hash(name: str, later: _Later) -> tuple[str, dict[str, Any]]:
    """`__hash__`: as Python's."""
    hashed = [one.name for one in later.table.values() if (one.compare if one.hash is None else one.hash)]
    return f"def __hash__(self):\n return hash({_tuple('self', hashed)})", {}


def _tuple(instance: str, names: Iterable[str]) -> str:
    return "(" + "".join(f"{instance}.{name}, " for name in names) + ")"


# methods that all classes share


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (one.name for one in _fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _set_attribute(self: Any, name: str, value: Any) -> None:
    _require_no_field(self, name, "assign to")
    object.__setattr__(self, name, value)


def _delete_attribute(self: Any, name: str) -> None:
    _require_no_field(self, name, "delete")
    object.__delattr__(self, name)


def _require_no_field(self: Any, name: str, action: str) -> None:
    """Raises FrozenInstanceError, except for other attributes of a subclass that is no dataclass."""
    if "__field_table__" in self.__class__.__dict__ or name in _table(self.__class__):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot {action} field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in _fields(self)]


def _set_state(self: Any, state: Iterable[Any]) -> None:
    for one, value in zip(_fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


if TYPE_CHECKING:  # type checkers know Python's own
    from dataclasses import MISSING as MISSING
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import replace as replace
else:
    MISSING = _MISSING
    dataclass, field, fields, replace = _dataclass, _field, _fields, _replace
