"""What a lab is made from: found, read, compiled, and kept in the state directory while the lab runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from labctl.core.iptables import Backend
from labctl.core.scenario_types import Lab


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
    lab: Lab | None = field(default=None, compare=False, repr=False)  # the compiled lab, if it is known

    @property
    def compiled(self) -> Lab:
        """The compiled lab: every kernel object, the machines, the checks. Raises ScenarioError."""
        return compile_definition(self)


def define(
    scenario: str,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    *,
    approximate: bool = False,
    firewall: Backend | None = None,
) -> Definition:
    """Find a scenario by built-in name or file and read it. Raises UsageError, ScenarioError.

    `approximate` is --approximate of the command line, which a scenario may forbid. The features that need a substitute
    depend on the kernel (`labctl.lab.fallback`), and so does the back end of the rules if `firewall` is None.
    """
    from labctl.scenario import catalog

    return define_text(*catalog.find(scenario), name, overrides, approximate=approximate, firewall=firewall)


def define_text(
    file: str,
    text: str,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    *,
    approximate: bool = False,
    firewall: Backend | None = None,
) -> Definition:
    """The definition of a scenario's text; `file` is its name in messages, and the files that it names are next to
    it."""
    from labctl.scenario.parser import parse_and_compile

    files: dict[str, str] = {}
    features = () if approximate else None
    _, lab = parse_and_compile(text, file, name=name, overrides=overrides, substitute_features=features, files=files)
    definition = Definition(lab.name, file, text, overrides, files=tuple(files.items()), lab=lab)
    return definition if firewall is None else with_firewall(definition, firewall)


def with_substitutes(definition: Definition, features: Iterable[str]) -> Definition:
    """The same scenario with the model's substitutes for these kernel features."""
    return replace(definition, substitute_features=tuple(sorted(features)), lab=None)


def with_firewall(definition: Definition, firewall: Backend) -> Definition:
    """The same scenario with its rules in this back end."""
    lab = None if definition.lab is None else replace(definition.lab, firewall=firewall)
    return replace(definition, firewall=firewall, lab=lab)


def compile_definition(definition: Definition) -> Lab:
    """Parse and compile a definition. Pure. Raises ScenarioError with every problem."""
    from labctl.scenario.parser import parse_and_compile

    if definition.lab is not None:
        return definition.lab
    features, files = definition.substitute_features or None, dict(definition.files)
    it = definition
    lab = parse_and_compile(
        it.text, it.file, name=it.name, overrides=it.overrides, substitute_features=features, files=files
    )[1]
    return lab if it.firewall is None else replace(lab, firewall=it.firewall)
