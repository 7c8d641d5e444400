"""labctl's dataclasses behave as Python's own; only their methods are compiled later."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from labctl.dataclass import MISSING, dataclass, field, fields, replace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Own:
    """A class of labctl."""

    KEYS: ClassVar[tuple[str, ...]] = ("a",)
    a: int
    b: str = "b"
    c: dict[str, int] = field(default_factory=dict, hash=False)
    d: int = field(default=0, compare=False, repr=False, kw_only=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Python:
    """The same class of Python."""

    KEYS: ClassVar[tuple[str, ...]] = ("a",)
    a: int
    b: str = "b"
    c: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)
    d: int = dataclasses.field(default=0, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Derived(Own):
    """With one more field, and another default."""

    b: str = "derived"
    e: int = 5


@dataclasses.dataclass(frozen=True)
class PythonDerived(Own):
    """What a model of others does with a class of labctl."""

    e: int = 5


@dataclass(frozen=True, slots=True)
class FromPython(Python):
    """A class of labctl from one of Python's."""

    e: int = 5


@dataclass(slots=True)
class Mutable:
    """A class whose fields change."""

    a: int
    seen: list[int] = field(default_factory=list)
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = 2 * self.a


@dataclass(frozen=True, slots=True, order=True)
class Ordered(Generic[T]):
    """A class with an order."""

    a: int
    b: T


@dataclass(frozen=True)
class WithoutSlots:
    """A class without slots."""

    a: int
    b: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return "its own"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WithoutSlots) and self.a == other.a


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A class whose objects are equal only to themselves."""

    a: int


ARGUMENTS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((1,), {}), ((1, "x"), {"d": 3}), ((1,), {"c": {"k": 1}}), ((2, "b", {}), {}),
)  # fmt: skip


@pytest.mark.parametrize(("positional", "named"), ARGUMENTS)
def test_objects_are_as_those_of_python(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    own, python = Own(*positional, **named), Python(*positional, **named)

    assert repr(own) == repr(python).replace("Python", "Own")
    assert dataclasses.asdict(own) == dataclasses.asdict(python)
    assert hash(own) == hash(python)
    for other in ARGUMENTS:
        assert (own == Own(*other[0], **other[1])) == (python == Python(*other[0], **other[1]))


@pytest.mark.parametrize(("positional", "named"), [((), {}), ((1, "b", {}, 4), {}), ((1,), {"f": 1})])
def test_wrong_arguments_are_refused(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    for kind in (Own, Python):
        with pytest.raises(TypeError):
            kind(*positional, **named)


def test_no_class_has_the_default_of_another_object() -> None:
    one, other = Own(1), Own(1)
    one.c["k"] = 1

    assert other.c == {}


def test_a_frozen_object_does_not_change() -> None:
    for one in (Own(1), Derived(1), WithoutSlots(1)):
        for change in (lambda one: setattr(one, "a", 2), lambda one: delattr(one, "a")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                change(one)
        assert one.a == 1


def test_a_copy_is_equal() -> None:
    for one in (Own(1, d=4), Derived(1, e=6), PythonDerived(1, e=7), WithoutSlots(3)):
        for made in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one)), replace(one)):
            assert (type(made), dataclasses.asdict(made)) == (type(one), dataclasses.asdict(one))


def test_a_derived_class_has_all_fields() -> None:
    assert [one.name for one in fields(Derived)] == ["a", "b", "c", "d", "e"]
    assert Derived(1) == Derived(1, "derived", {}, 5) != Derived(1, e=6)
    assert Derived.__slots__ == ("e",)
    assert Derived(1) != Own(1, "derived")
    assert repr(Derived(1)) == "Derived(a=1, b='derived', c={}, e=5)"


def test_classes_of_python_and_of_labctl_derive_from_each_other() -> None:
    for kind in (PythonDerived, FromPython):
        one = kind(1, e=6, d=7)
        assert replace(one, a=2) == dataclasses.replace(one, a=2) == kind(2, e=6)
        assert replace(one, a=2).d == 7
        assert [field.name for field in fields(kind)] == [field.name for field in dataclasses.fields(kind)]


def test_python_knows_the_fields() -> None:
    assert dataclasses.is_dataclass(Own)
    for own, python in zip(dataclasses.fields(Own), dataclasses.fields(Python), strict=True):
        for name in ("name", "type", "default", "default_factory", "init", "repr", "hash", "compare", "kw_only"):
            assert getattr(own, name) == getattr(python, name)
    assert dataclasses.replace(Own(1, d=2), a=3) == Own(3)
    assert fields(Own)[0].default is MISSING
    assert (fields(Own(1))[1].default, fields(Own)[2].default_factory) == ("b", dict)


def test_the_signature_is_that_of_python() -> None:
    @dataclass(frozen=True, slots=True)
    class Fresh:
        a: int
        b: str = "b"

    assert str(inspect.signature(Fresh)) == "(a: 'int', b: 'str' = 'b')"


def test_an_object_that_changes() -> None:
    one = Mutable(1)
    one.a = 3
    one.seen.append(1)

    assert (one.a, one.total, one.seen, Mutable(1).seen) == (3, 2, [1], [])
    assert Mutable.__hash__ is None
    with pytest.raises(AttributeError):
        one.other = 1  # type: ignore[attr-defined]


def test_the_order_is_that_of_the_fields() -> None:
    assert sorted([Ordered(2, "a"), Ordered(1, "b"), Ordered(1, "a")]) == [
        Ordered(1, "a"), Ordered(1, "b"), Ordered(2, "a"),
    ]  # fmt: skip
    assert Ordered(1, "a") <= Ordered(1, "a") >= Ordered(1, "a") > Ordered(0, "z")
    with pytest.raises(TypeError):
        assert Own(1) < Own(2)  # type: ignore[operator]


def test_own_methods_of_a_class_stay() -> None:
    assert repr(WithoutSlots(1)) == "its own"
    assert WithoutSlots(1, (1,)) == WithoutSlots(1, (2,))
    assert hash(WithoutSlots(1, (1,))) == hash((1, (1,)))
    assert Identity(1) != Identity(1)
    assert len({Identity(1), Identity(1)}) == 2


def test_a_default_that_changes_is_refused() -> None:
    with pytest.raises(ValueError, match="default_factory"):

        @dataclass(frozen=True)
        class Wrong:
            a: list[int] = []  # noqa: RUF012


def test_positions_match() -> None:
    match Own(1, "x"):
        case Own(a, b):
            assert (a, b) == (1, "x")


def test_a_method_is_compiled_when_it_is_called() -> None:
    @dataclass(frozen=True, slots=True)
    class Fresh:
        a: int

    before = Fresh.__init__
    one = Fresh(1)

    assert Fresh.__init__ is not before
    assert Fresh.__init__.__code__.co_varnames == ("self", "a")
    assert Fresh(a=1) == one
