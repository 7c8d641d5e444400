"""The models: one file each, found by being here.

A model is a module (`labctl/models/azure_cni_transparent.py` is the model `azure-cni-transparent`) with

    a docstring             first line: one sentence; then the drawing; then why it is shaped so; then
                            which release of which project it follows (file and version)
    FOLLOWS: str            the release it follows, in a few words
    PARTS: tuple            how true it is to the real thing, part by part (`labctl.core.fidelity`)
    Options                 a frozen dataclass of `labctl.core.options.option` fields
    MACHINES: tuple         the words a file uses: ("nodes", "pods") or ("hosts", "containers")
    Container, Network      frozen dataclasses like Options: what a file may say of each pod or container, and
                            of each of the lab's own `networks:` (both optional; `Node.settings` and
                            `Scenario.networks` have their objects)
    compile(scenario)       yields Resources (kernel objects) and Machines (who is who); without the features that
                            `scenario.approximate` names, for which `PARTS` has an `instead`
    checks(scenario)        yields the checks every lab of this model carries (optional)
    refuse(scenario)        yields (key, what, hint) for what this model cannot build (optional); `key` is
                            the option or top-level key of the file that the problem is placed at, or a
                            path below it, such as `hosts/host1/containers/web/publish/0`

A model never touches the kernel and never imports another model; what two share is in `_parts.py`.
Models of other packages come in through the entry-point group `labctl.models`.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, Protocol

from labctl.core.resources import Resource, assemble
from labctl.core.scenario_types import Check, Lab, Machine, Scenario, at_home
from labctl.errors import UsageError


class Model(Protocol):
    """What a model's module offers; see the package's docstring. `checks` and `refuse` are optional."""

    __doc__: str | None
    FOLLOWS: str
    MACHINES: tuple[str, str]
    Options: type

    def compile(self, scenario: Scenario) -> Iterator[Resource | Machine]: ...


def names() -> tuple[str, ...]:
    """The names of all models, sorted; without importing any of them."""
    here = {module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if _is_model(module)}
    return tuple(sorted(here | set(_outside())))


def find(name: str) -> Any:
    """The model of that name. Raises UsageError, with a suggestion, if there is none."""
    module = name.replace("-", "_")
    if any(item.name == module and _is_model(item) for item in pkgutil.iter_modules(__path__)):
        return import_module(f"labctl.models.{module}")
    outside = _outside()
    if name in outside:
        return outside[name].load()
    close = difflib.get_close_matches(name, names(), 1)
    hint = f"did you mean {close[0]}?" if close else "the models are " + ", ".join(names())
    raise UsageError(f"unknown model {name!r}", hint)


def compile_lab(scenario: Scenario) -> Lab:
    """Run a scenario through its model: the plan, the machines and all checks. Pure; nothing is built."""
    model = find(scenario.model)
    resources: list[Resource] = []
    machines: list[Machine] = []
    for item in model.compile(scenario):
        if isinstance(item, Machine):
            machines.append(item)
        else:
            resources.append(item)
    own: Iterable[Check] = model.checks(scenario) if hasattr(model, "checks") else ()
    checks = (*scenario.checks, *own)
    within = {machine.name: machine.within for machine in machines if machine.within is not None}
    if within:
        checks = tuple(at_home(check, within) for check in checks)
    return Lab(
        scenario.name,
        scenario.model,
        assemble(resources),
        tuple(machines),
        checks,
        scenario.say,
        tuple(getattr(model, "PARTS", ())),
        tuple(sorted(scenario.approximate)),
        scenario.asks,
    )


def _is_model(module: pkgutil.ModuleInfo) -> bool:
    """Whether a module of this package is a model: not a package, not private."""
    return not module.ispkg and not module.name.startswith("_")


def _outside() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="labctl.models")}
