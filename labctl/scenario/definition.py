"""What a lab is made from: found, read, compiled, and kept in the state directory while the lab runs.

The text of the scenario is the record of a lab: each command parses and compiles it again, but a process that runs
several commands on a lab does it once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from labctl.core.iptables import Backend
from labctl.core.scenario_types import Lab, Scenario
from labctl.core.text import short_repr

if TYPE_CHECKING:
    from labctl.scenario.document import Reader
    from labctl.scenario.parser import ParsedScenario

MAX_COMPILED = 8  # labs that are remembered


@dataclass(frozen=True, slots=True)
class Definition:
    """The source of a lab: enough to compile it again. Kept in the state directory while the lab runs."""

    name: str  # the lab's name
    file: str  # the source of the text, for messages
    text: str  # the scenario, as written
    overrides: tuple[str, ...] = ()  # the --set KEY=VALUE of the command line
    substitute_features: tuple[str, ...] = ()  # the kernel features that are replaced by substitutes
    files: tuple[tuple[str, str], ...] = ()  # the other files that the scenario names, and their texts
    firewall: Backend | None = None  # the back end of its rules; None if not yet decided
    manifests: tuple[str, ...] = ()  # the names of --manifest; `files` has their texts, by `manifest_key`
    lab: Lab | None = field(default=None, compare=False, repr=False)  # the compiled lab, if it is known

    def __repr__(self) -> str:
        changes = "".join(f", {one}" for one in self.overrides)
        return short_repr(self, f"{self.name}: {self.file}{changes}")

    @property
    def compiled(self) -> Lab:
        """The compiled lab: every kernel object, the machines, the checks. Raises ScenarioError."""
        return compile_definition(self)


_compiled: dict[Definition, Lab] = {}


def define(
    scenario: str,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    *,
    approximate: bool = False,
    firewall: Backend | None = None,
    manifests: tuple[str, ...] = (),
) -> Definition:
    """Find a scenario by built-in name or file and read it. Raises UsageError, ScenarioError.

    `approximate` is --approximate of the command line, which a scenario may forbid. The features that need a substitute
    depend on the kernel (`labctl.lab.fallback`), and so does the back end of the rules if `firewall` is None.
    `manifests` are the files of --manifest; `-` is the standard input.
    """
    from labctl.scenario import catalog

    found = catalog.find(scenario)
    return define_text(*found, name, overrides, approximate=approximate, firewall=firewall, manifests=manifests)


def define_text(
    file: str,
    text: str,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    *,
    approximate: bool = False,
    firewall: Backend | None = None,
    manifests: tuple[str, ...] = (),
    known_files: Mapping[str, str] | None = None,
) -> Definition:
    """The definition of a scenario's text; `file` is its name in messages, and the files that it names are next to
    it. The texts in `known_files` are not read again."""
    files = dict(known_files or {})
    _read_manifests(manifests, files)
    features = () if approximate else None
    options: dict[str, Any] = {"name": name, "overrides": overrides, "substitute_features": features}
    _, lab = parse_and_compile(text, file, **options, files=files, manifests=manifests)
    definition = Definition(lab.name, file, text, overrides, files=tuple(files.items()), manifests=manifests, lab=lab)
    return definition if firewall is None else with_firewall(definition, firewall)


def _read_manifests(manifests: Iterable[str], files: dict[str, str]) -> None:
    """Read the files of --manifest that are not in `files` yet. Raises UsageError, ScenarioError."""
    if not manifests:
        return
    from labctl.scenario.manifests.documents import read_manifest

    for name in manifests:
        if manifest_key(name) not in files:
            files[manifest_key(name)] = read_manifest(name)


def with_substitutes(definition: Definition, features: Iterable[str]) -> Definition:
    """The same scenario with the model's substitutes for these kernel features."""
    return replace(definition, substitute_features=tuple(sorted(features)), lab=None)


def with_firewall(definition: Definition, firewall: Backend) -> Definition:
    """The same scenario with its rules in this back end."""
    lab = None if definition.lab is None else replace(definition.lab, firewall=firewall)
    return replace(definition, firewall=firewall, lab=lab)


def compile_definition(definition: Definition) -> Lab:
    """Parse and compile a definition. Pure. Raises ScenarioError with every problem."""
    if definition.lab is not None:
        return definition.lab
    if (known := _compiled.get(definition)) is not None:
        return known
    features, files = definition.substitute_features or None, dict(definition.files)
    it = definition
    options: dict[str, Any] = {"name": it.name, "overrides": it.overrides, "substitute_features": features}
    lab = parse_and_compile(it.text, it.file, **options, files=files, manifests=it.manifests)[1]
    if it.firewall is not None:
        lab = replace(lab, firewall=it.firewall)
    if len(files) == len(it.files):  # a file that was read now can be another one the next time
        if len(_compiled) >= MAX_COMPILED:
            _compiled.clear()
        _compiled[definition] = lab
    return lab


def scenario_of(definition: Definition, lab: Lab) -> Scenario:
    """The scenario of a definition, under the name of its lab and with the substitutes that the lab has. Raises
    ScenarioError."""
    return parse_and_compile(
        definition.text,
        definition.file,
        name=lab.name,
        overrides=definition.overrides,
        substitute_features=lab.substitute_features or None,
        files=dict(definition.files),
        manifests=definition.manifests,
    )[0]


def manifest_key(name: str) -> str:
    """The key in `Definition.files` of a file that --manifest names: unlike those that the scenario names, its name is
    not relative to the scenario."""
    return f"--manifest {name}"


def parse_and_compile(
    text: str,
    file: str,
    *,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    substitute_features: Collection[str] | None = None,
    files: dict[str, str] | None = None,
    manifests: tuple[str, ...] = (),
) -> tuple[Scenario, Lab]:
    """Parse a scenario's text, compile it with its model, and verify the names in its checks.

    `name` and `overrides` are --name and --set of the command line. `substitute_features` holds the kernel features to
    replace by substitutes; None means that substitutes are not requested. `files` maps the names of other files, as the
    scenario writes them, to their texts; files that are read are added. `manifests` are the names of --manifest: their
    texts are in `files`, by `manifest_key`. Raises ScenarioError with every problem.
    """
    from labctl.scenario import fault_field
    from labctl.scenario.check_parser import resolve
    from labctl.scenario.document import Reader
    from labctl.scenario.parser import file_opener, parse_scenario

    files = {} if files is None else files
    reader = Reader(file_opener(file, files))
    texts = tuple((one, files[manifest_key(one)]) for one in manifests)
    features = substitute_features
    parsed = parse_scenario(
        text, file, reader, name=name, overrides=overrides, substitute_features=features, manifests=texts
    )
    lab = with_kubernetes(parsed.scenario)
    if parsed.scenario.kubernetes is not None:
        lab = _with_object_warnings(lab, parsed, reader)
    scenario = parsed.scenario
    if parsed.located_own:
        from labctl.core.own_objects import with_own_objects
        from labctl.scenario.raw_parser import read_own_objects

        own = read_own_objects(parsed.located_own, lab, reader, overlap=scenario.overlap)
        scenario = replace(scenario, own=own)
        lab = with_own_objects(lab, own)
    resolve(lab, parsed.located_checks, reader)
    if parsed.located_faults:
        fault_field.resolve(lab, parsed.located_faults, reader)
    if parsed.located_exercise is not None:
        from labctl.scenario import exercise_parser

        exercise = exercise_parser.read_exercise(parsed.located_exercise, reader)
        lab = exercise_parser.resolve(lab, exercise, parsed.located_exercise, reader)
    if parsed.located_lesson is not None:
        from labctl.scenario import lesson_parser

        lesson = lesson_parser.read_lesson(parsed.located_lesson, reader)
        lab = lesson_parser.resolve(lab, lesson, parsed.located_lesson, reader)
    reader.raise_problems()
    return scenario, lab


def with_kubernetes(scenario: Scenario) -> Lab:
    """The lab of a scenario: compiled by its model, with its Services, policies and the like on top, and the objects
    that the scenario states itself."""
    from labctl import models

    lab = models.compile_lab(scenario)
    if scenario.kubernetes is not None:
        from labctl.kubernetes.composition import compose

        lab = compose(lab, scenario, getattr(models.find_model(lab.model), "CLUSTER", None))
    if scenario.own is None:
        return lab
    from labctl.core.own_objects import with_own_objects

    return with_own_objects(lab, scenario.own)


def _with_object_warnings(lab: Lab, parsed: ParsedScenario, reader: Reader) -> Lab:
    """The lab with the warnings about its API objects. Their mistakes are added to the reader."""
    from labctl import models
    from labctl.kubernetes.validation.address_checks import address_problems
    from labctl.kubernetes.validation.object_checks import problems
    from labctl.kubernetes.validation.range_checks import cloud_refusals, range_problems

    if parsed.object_places is None:
        return lab
    declared = parsed.scenario.kubernetes
    refuse = getattr(getattr(models.find_model(lab.model), "CLUSTER", None), "refuse_service_cidr", None)
    of_ranges = tuple(range_problems(declared.service_cidrs, lab, overlap=parsed.scenario.overlap))
    known = {one.path for one in of_ranges}
    of_cloud = cloud_refusals(declared.service_cidrs, refuse, parsed.scenario.options)
    found = (
        *of_ranges,
        *(one for one in of_cloud if one.path not in known),
        *problems(declared, lab.kubernetes),
        *address_problems(declared.services, lab),
    )
    return replace(lab, warnings=(*lab.warnings, *parsed.object_places.report(found, reader)))
