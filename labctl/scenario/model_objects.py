"""The objects of a model's lab, as far as what a scenario adds to them refers to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labctl.core.resources import Address, Chain, Interface, IpSet, Link, Netns, NftObject, Plan, Route, Sysctl
from labctl.core.scenario_types import Lab

TableKey = tuple[str, str, str]  # namespace, family, table


@dataclass(frozen=True, slots=True)
class ModelObjects:
    """The objects of a lab by what they are; empty for a raw scenario, which states everything itself."""

    model: str = ""
    names: frozenset[str] = frozenset()  # of all machines, also of those without a namespace
    namespaces: frozenset[str] = frozenset()
    links: dict[Interface, Link] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    ipsets: dict[str, frozenset[str]] = field(default_factory=dict)
    chains: dict[TableKey, tuple[Chain, ...]] = field(default_factory=dict)
    nftables: dict[str, tuple[NftObject, ...]] = field(default_factory=dict)
    keys: frozenset[Any] = frozenset()  # of what a scenario cannot state again


NOTHING = ModelObjects()


def model_objects(lab: Lab) -> ModelObjects:
    """The objects of a lab."""
    plan = lab.plan
    keys: set[Any] = set()
    ipsets: dict[str, set[str]] = {}
    chains: dict[TableKey, list[Chain]] = {}
    native: dict[str, list[NftObject]] = {}
    for item in plan:
        if isinstance(item, Netns):
            keys.add(("netns", item.name))
        elif isinstance(item, Link):
            keys.add(("link", item.at))
        elif isinstance(item, Address):
            keys.add(("address", item.at, item.addr.ip))
        elif isinstance(item, Chain):
            chains.setdefault((item.ns, item.family, item.table), []).append(item)
        elif isinstance(item, NftObject):
            native.setdefault(item.ns, []).append(item)
        elif not isinstance(item, Sysctl):
            keys.add(item.key)
        if isinstance(item, IpSet):
            ipsets.setdefault(item.ns, set()).add(item.name)
    return ModelObjects(
        lab.model,
        frozenset(machine.name for machine in lab.machines),
        frozenset(item.name for item in plan if isinstance(item, Netns)),
        {item.at: item for item in plan if isinstance(item, Link)},
        _all(plan, Address),
        _all(plan, Route),
        _all(plan, Sysctl),
        {ns: frozenset(names) for ns, names in ipsets.items()},
        {key: tuple(those) for key, those in chains.items()},
        {ns: tuple(those) for ns, those in native.items()},
        frozenset(keys),
    )


def _all(plan: Plan, kind: Any) -> tuple[Any, ...]:
    return tuple(item for item in plan if isinstance(item, kind))
