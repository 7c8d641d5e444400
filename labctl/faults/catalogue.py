"""All kinds of faults by name, and the faults that one lab can have."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from types import ModuleType

from labctl.core.names import did_you_mean, summarize_names
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.faults import (
    addresses,
    bridge_filtering,
    bridges,
    cloud_checks,
    conntrack,
    destination_nat,
    docker_chains,
    filtering,
    forwarding,
    interfaces,
    listeners,
    mtu,
    neighbours,
    nft_tables,
    routing,
    source_nat,
    tunnels,
)
from labctl.faults.fault import Fault, FaultKind
from labctl.faults.lab_objects import LabObjects

MODULES = (
    routing,
    forwarding,
    interfaces,
    addresses,
    neighbours,
    bridges,
    mtu,
    tunnels,
    filtering,
    bridge_filtering,
    source_nat,
    destination_nat,
    conntrack,
    listeners,
    cloud_checks,
    docker_chains,
    nft_tables,
)


@cache
def kinds() -> dict[str, FaultKind]:
    """Every kind of fault, by name, in the order of the catalogue."""
    return {kind.name: kind for module in MODULES for kind in module.KINDS}


@cache
def subjects() -> dict[str, str]:
    """The subject of every kind, by its name: the first words of the docstring of its module."""
    return {kind.name: subject(module) for module in MODULES for kind in module.KINDS}


def subject(module: ModuleType) -> str:
    """What the kinds of a module are about, as a title: `Routing`."""
    title = (module.__doc__ or "").partition("\n")[0].removeprefix("Faults of ").partition(":")[0].rstrip(".")
    return title[:1].upper() + title[1:]


def find_kind(name: str) -> FaultKind:
    """The kind with this name. Raises UsageError with a suggestion."""
    if name in kinds():
        return kinds()[name]
    raise UsageError(f"there is no fault {name!r}", did_you_mean(name, kinds(), 0.5) or "labctl break --list shows all")


def faults_of(lab: Lab | LabObjects, kind: FaultKind) -> tuple[Fault, ...]:
    """The faults of one kind that this lab can have; objects with one name are listed once."""
    objects = lab if isinstance(lab, LabObjects) else LabObjects(lab)
    found: dict[str, Fault] = {}
    for fault in kind.find(objects):
        found.setdefault(fault.on, fault)
    return tuple(found.values())


def applicable(lab: Lab) -> Iterator[tuple[FaultKind, tuple[Fault, ...]]]:
    """Every kind that this lab can have, with its faults."""
    objects = LabObjects(lab)
    for kind in kinds().values():
        if faults := faults_of(objects, kind):
            yield kind, faults


def find_fault(lab: Lab, name: str, on: str | None = None) -> Fault:
    """The fault of this name on the object `on`, which may be cut after its machine if that is unique; without it, on
    the first object that fits.

    Raises UsageError with the objects of the lab that fit.
    """
    faults = faults_of(lab, find_kind(name))
    if not faults:
        raise UsageError(f"lab {lab.name} has no object for the fault {name}", "labctl break --list shows what fits")
    if on is None:
        return faults[0]
    by_name = {fault.on: fault for fault in faults}
    if on in by_name:
        return by_name[on]
    inside = [fault for fault in faults if fault.on.startswith(on + "/")]
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise UsageError(f"{on} has several objects for {name}", summarize_names([item.on for item in inside], 20))
    hint = did_you_mean(on, by_name, 0.5) or f"it fits {summarize_names(list(by_name), 20)}"
    raise UsageError(f"the fault {name} does not fit {on!r}", hint)


def random_fault(lab: Lab, seed: int) -> Fault:
    """A fault for this lab that a check can notice; the same seed gives the same fault. First the kind is drawn, then
    the object, so that a kind with many objects is no more likely than another. Raises UsageError if none fits."""
    noticed = [faults for kind, faults in applicable(lab) if not kind.unnoticed]
    if not noticed:
        raise UsageError(f"no fault of the catalogue fits lab {lab.name}")
    generator = random.Random(seed)
    return generator.choice(generator.choice(noticed))
