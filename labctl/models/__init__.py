"""The models: every module of this package is one model. What models share is in `lib`.

A model is a module (`labctl/models/azure_cni_transparent.py` is the model `azure-cni-transparent`) with

    a docstring             first line: one sentence; then the command that shows how the lab is built; then a
                            drawing; then why the network is built this way; then the project and release that
                            it follows (file and version)
    FOLLOWS: str            the release it follows, in a few words
    PARTS: tuple            how faithful it is to the original, part by part (`labctl.core.fidelity`)
    Options                 a frozen dataclass of `labctl.core.options.option` fields
    MACHINES: tuple         the keys of a scenario file for its machines: ("nodes", "pods"), ("hosts",
                            "containers"), or another pair of plural words such as ("computes", "instances")
    RESERVED_NAMES: tuple   names of machines that the model creates itself, besides `fabric`, `internet` and `vm`;
                            a scenario cannot use them (optional)
    CLUSTER                 the `ClusterDefaults` of its clusters, for Services on top (Kubernetes models; optional)
    Container, Network      frozen dataclasses like Options: the settings of a pod or container, and of an entry
                            of the lab's `networks:` (both optional; the objects are in `ScenarioNode.settings`
                            and `Scenario.networks`)
    compile(scenario)       yields Resources (kernel objects) and Machines (names, roles and addresses). It does
                            not use the kernel features in `scenario.substitute_features`, but builds the substitutes
                            that `PARTS` names for them (`instead=`)
    checks(scenario)        yields the checks that every lab of this model has (optional)
    address_use(scenario)   yields an AddressUse for each range of which the lab takes addresses (optional)
    refuse(scenario)        yields (key, what, hint) for each thing that this model cannot build (optional);
                            `key` is the option or top-level key of the file where the error is reported, or a
                            path below it, such as `hosts/host1/containers/web/publish/0`

A model does not access the kernel and does not import another model. What models share is in `labctl.models.lib`.
Everything that a model needs for its own objects is in `labctl.modeling`, the stable module for models of other
packages. Other packages add models through the entry-point group `labctl.models`. docs/extending.md explains all of
this, and `scripts/new-model NAME` writes a first version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, get_args

from labctl.core.names import did_you_mean
from labctl.core.resources import Resource, assemble
from labctl.core.scenario_types import Check, Lab, Machine, MachineRole, Scenario, with_netns_names
from labctl.errors import UsageError

ROLES: tuple[str, ...] = get_args(MachineRole)


class Model(Protocol):
    """The interface of a model's module; see the docstring of this package. What it calls optional is not here."""

    __doc__: str | None
    FOLLOWS: str
    MACHINES: tuple[str, str]
    Options: type

    def compile(self, scenario: Scenario) -> Iterator[Resource | Machine]: ...


def model_names() -> tuple[str, ...]:
    """The names of all models, sorted. Imports none of them."""
    import pkgutil

    found = (module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    own_models = {name.replace("_", "-") for name in found if not name.startswith("_")}
    return tuple(sorted(own_models | set(_entry_points())))


def has_model(name: str) -> bool:
    """Whether there is a model with this name. The installed packages are searched only if it is none of labctl's own,
    because that takes as long as reading a scenario."""
    return ("_" not in name and _is_own_model(name)) or name in _entry_points()


def find_model(name: str) -> Any:
    """The model with this name.

    Raises UsageError, with a suggestion, if there is none, and if a module of another package is not a model.
    """
    if _is_own_model(name):
        return import_module(f"labctl.models.{name.replace('-', '_')}")
    external_models = _entry_points()
    if name in external_models:
        model = external_models[name].load()
        if problem := contract_problem(model):
            raise UsageError(f"the model {name!r} of {external_models[name].value} is not a model: {problem}", CONTRACT)
        return model
    hint = did_you_mean(name, model_names()) or "the models are " + ", ".join(model_names())
    raise UsageError(f"unknown model {name!r}", hint)


CONTRACT = "docs/extending.md says what a model has"


def contract_problem(model: Any) -> str:
    """What a module lacks to be a model, in a few words; "" if it has everything that is required."""
    missing = [name for name in ("FOLLOWS", "MACHINES", "PARTS", "Options", "compile") if not hasattr(model, name)]
    if missing:
        return f"it has no {', '.join(missing)}"
    words = model.MACHINES
    if not isinstance(words, tuple) or len(words) != 2 or not all(isinstance(word, str) for word in words):
        return 'MACHINES is not a pair of words such as ("nodes", "pods")'
    other_keys = {"name", "say", "model", "approximate", "break", "checks", "networks", "count"}
    invalid = [word for word in words if not re.fullmatch("[a-z]+", word) or word in other_keys]
    if invalid:
        return f"{invalid[0]!r} in MACHINES cannot be a key: it is not a word of a-z, or is another key"
    return "the two words of MACHINES are the same" if words[0] == words[1] else ""


def compile_lab(scenario: Scenario) -> Lab:
    """Compile a scenario with its model: to the plan, the machines and all checks. Pure: builds nothing.

    Raises UsageError if the model makes two machines with one name, or one with a role that labctl does not have.
    """
    model = find_model(scenario.model)
    resources: list[Resource] = []
    machines: list[Machine] = []
    for item in model.compile(scenario):
        if isinstance(item, Machine):
            machines.append(item)
        else:
            resources.append(item)
    _verify_machines(scenario.model, machines)
    model_checks: Iterable[Check] = model.checks(scenario) if hasattr(model, "checks") else ()
    checks = (*scenario.checks, *model_checks)
    netns_of = {machine.name: machine.netns_of for machine in machines if machine.netns_of is not None}
    if netns_of:
        checks = tuple(with_netns_names(check, netns_of) for check in checks)
    return Lab(
        scenario.name,
        scenario.model,
        assemble(resources),
        tuple(machines),
        checks,
        scenario.say,
        tuple(getattr(model, "PARTS", ())),
        tuple(sorted(scenario.substitute_features)),
        scenario.use_substitutes,
        faults=scenario.faults,
        address_use=tuple(model.address_use(scenario)) if hasattr(model, "address_use") else (),
    )


def _verify_machines(model: str, machines: Iterable[Machine]) -> None:
    names: set[str] = set()
    for machine in machines:
        if machine.name in names:
            hint = "rename yours; the model may list its own names in RESERVED_NAMES"
            raise UsageError(f"the model {model} makes two machines with the name {machine.name!r}", hint)
        if machine.role not in ROLES:
            what = f"the model {model} gives {machine.name!r} the role {machine.role!r}, which labctl does not have"
            raise UsageError(what, f"the roles are {', '.join(ROLES)}")
        names.add(machine.name)


def _is_own_model(name: str) -> bool:
    """Whether a module of this package is this model: not a package, not private. pkgutil would import inspect."""
    module = name.replace("-", "_")
    if not module.isidentifier() or module.startswith("_"):
        return False
    spec = find_spec(f"{__name__}.{module}")
    return spec is not None and spec.submodule_search_locations is None


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="labctl.models")}
