"""The keys of raw scenarios on top of a model: "this model, plus mine".

They have the names of `raw_language`, but `namespaces` is `machines`: the models of Kubernetes have that key for the
namespaces of Kubernetes. Where a model has an option of one of these names, the value decides which is meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from labctl.scenario.document import Map, Reader, Seq, TreeNode
from labctl.scenario.field_types import Json, Key, Located
from labctl.scenario.raw_language import RAW

MACHINES = "machines"
_RAW = {key.name: key for key in RAW}


@dataclass(frozen=True, slots=True)
class OwnValue:
    """A value that belongs to the objects on top of a model, and not to the model."""

    value: Any


@dataclass(frozen=True, slots=True)
class OwnField:
    """The type of a raw key in the scenario of a model. Its schema is the one of the raw key."""

    raw: str

    @property
    def _type(self) -> Any:
        return _RAW[self.raw].field_type

    @property
    def what(self) -> str:
        return str(self._type.what)

    def read(self, node: TreeNode, label: str, reader: Reader) -> OwnValue | None:
        found = self._type.read(node, label, reader)
        return None if found is None else OwnValue(found)

    def schema(self) -> Json:
        return {"$ref": f"#/$defs/{definition(self.raw)}"}


@dataclass(frozen=True, slots=True)
class EitherField:
    """A key of the model that has the name of a raw key: mappings of `nftables`, and lists of `namespaces`, are meant
    for the raw key."""

    model: Any
    own: OwnField

    @property
    def what(self) -> str:
        return str(self.model.what)

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        is_own = isinstance(node, Seq if self.own.raw == "namespaces" else Map)
        return (self.own if is_own else self.model).read(node, label, reader)

    def schema(self) -> Json:
        return {"anyOf": [self.model.schema(), self.own.schema()]}


def definition(raw: str) -> str:
    """The name of a raw key's type in the JSON Schema."""
    return f"own-{raw}"


def definitions() -> Json:
    """The types of the raw keys for the JSON Schema, by name."""
    return {definition(key.name): key.field_type.schema() for key in RAW}


def own_keys() -> tuple[Key, ...]:
    """The keys on top of every model but `raw`."""
    keys = []
    for key in RAW:
        if key.name == "namespaces":
            help_ = "more machines: network namespaces, each with its loopback up"
            keys.append(replace(key, name=MACHINES, help=help_, field_type=OwnField("namespaces"), required=False))
        else:
            keys.append(replace(key, field_type=OwnField(key.name)))
    return tuple(replace(key, listed=False) for key in keys)


def with_own_keys(keys: Iterable[Key]) -> tuple[Key, ...]:
    """A model's keys, and those on top of it."""
    kept = {key.name: key for key in keys}
    for name in (MACHINES, "namespaces"):
        if name not in kept:
            own = next(key for key in own_keys() if key.name == MACHINES)
            kept[name] = replace(
                own, name=name, help=own.help if name == MACHINES else f"another name for `{MACHINES}`"
            )
    for key in own_keys():
        if key.name not in kept:
            kept[key.name] = key
    for name, key in kept.items():
        if name in _RAW and not isinstance(key.field_type, OwnField):
            kept[name] = replace(key, field_type=EitherField(key.field_type, OwnField(name)))
    return tuple(kept.values())


def take_own(located: dict[str, Located]) -> dict[str, Located]:
    """Take what is on top of the model out of what was read, by the names of raw keys."""
    found: dict[str, Located] = {}
    for name, item in list(located.items()):
        if isinstance(item.value, OwnValue):
            del located[name]
            raw = "namespaces" if name == MACHINES else name
            value = item.value.value
            found[raw] = replace(item, value=(*found[raw].value, *value) if raw in found else value)
    return found
