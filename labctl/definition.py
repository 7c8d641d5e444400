"""The definition of a lab: found, read, compiled, and kept in the state directory while the lab runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labctl.errors import UsageError
from labctl.scenario import Lab
from labctl.xtables import BACKENDS, Backend


@dataclass(frozen=True, slots=True)
class Definition:
    """The source of a lab: enough to compile it again. Kept in the state directory while the lab runs."""

    name: str  # the lab's name
    file: str  # the source of the text, for messages
    text: str  # the scenario, as written
    sets: tuple[str, ...] = ()  # the --set KEY=VALUE of the command line
    approximate: tuple[str, ...] = ()  # the kernel features that are replaced by substitutes
    files: tuple[tuple[str, str], ...] = ()  # the other files that the scenario names, and their texts
    firewall: Backend | None = None  # the back end of its rules; None if not yet decided
    lab: Lab | None = field(default=None, compare=False, repr=False)  # the compiled lab, if it is known

    @property
    def compiled(self) -> Lab:
        """The compiled lab: every kernel object, the machines, the checks. Raises ScenarioError."""
        return compiled(self)


@dataclass(frozen=True, slots=True)
class Running:
    """A lab that has namespaces on this machine."""

    name: str
    nodes: tuple[str, ...]
    model: str | None  # None if its definition is lost
    scenario: str | None
    approximate: tuple[str, ...] = ()  # the kernel features that are replaced by substitutes
    firewall: Backend | None = None  # the back end of its rules


def define(
    scenario: str,
    name: str | None = None,
    sets: tuple[str, ...] = (),
    *,
    approximate: bool = False,
    firewall: Backend | None = None,
) -> Definition:
    """Find a scenario by built-in name or file and read it. Raises UsageError, ScenarioError.

    `approximate` is --approximate of the command line, which a scenario may forbid. The features that need a substitute
    depend on the kernel (`labctl.fit`), and so does the back end of the rules if `firewall` is None.
    """
    from labctl import catalog

    return written(*catalog.find(scenario), name, sets, approximate=approximate, firewall=firewall)


def written(
    file: str,
    text: str,
    name: str | None = None,
    sets: tuple[str, ...] = (),
    *,
    approximate: bool = False,
    firewall: Backend | None = None,
) -> Definition:
    """The definition of a scenario's text; `file` is its name in messages, and the files that it names are next to
    it."""
    from labctl.parse import parse_and_compile

    files: dict[str, str] = {}
    features = () if approximate else None
    _, lab = parse_and_compile(text, file, name=name, sets=sets, approximate=features, files=files)
    made = Definition(lab.name, file, text, sets, files=tuple(files.items()), lab=lab)
    return made if firewall is None else written_with(made, firewall)


def approximated(definition: Definition, features: Iterable[str]) -> Definition:
    """The same scenario with the model's substitutes for these kernel features."""
    return replace(definition, approximate=tuple(sorted(features)), lab=None)


def written_with(definition: Definition, firewall: Backend) -> Definition:
    """The same scenario with its rules in this back end."""
    lab = None if definition.lab is None else replace(definition.lab, firewall=firewall)
    return replace(definition, firewall=firewall, lab=lab)


def compiled(definition: Definition) -> Lab:
    """Parse and compile a definition. Pure. Raises ScenarioError with every problem."""
    from labctl.parse import parse_and_compile

    if definition.lab is not None:
        return definition.lab
    features, files = definition.approximate or None, dict(definition.files)
    it = definition
    lab = parse_and_compile(it.text, it.file, name=it.name, sets=it.sets, approximate=features, files=files)[1]
    return lab if it.firewall is None else replace(lab, firewall=it.firewall)


def running() -> tuple[Running, ...]:
    """Every lab on this machine."""
    from labctl.kernel import places, state

    found = []
    for name, nodes in places.labs().items():
        record = state.load(name) or {}
        features = tuple(record.get("approximate", ()))
        found.append(Running(name, nodes, record.get("model"), record.get("file"), features, _firewall(record)))
    return tuple(found)


def choose(name: str | None) -> str:
    """The lab of a command: the named one, else the only one. Raises UsageError, which lists the labs."""
    from labctl.kernel import places

    labs = tuple(places.labs())
    if name is not None and name in labs:
        return name
    if name is not None:
        close = difflib.get_close_matches(name, labs, 1)
        known = ", ".join(labs) or "none"
        raise UsageError(f"no lab {name!r} runs", f"did you mean {close[0]}?" if close else f"running: {known}")
    if len(labs) == 1:
        return labs[0]
    if not labs:
        raise UsageError("no lab runs", f"start one: {places.command()} up kubenet")
    raise UsageError("several labs run: " + ", ".join(labs), "name one: -l " + labs[0])


def recall(name: str, scenario: str | None = None, sets: tuple[str, ...] = ()) -> Lab:
    """The compiled lab of a running lab, from its kept definition or from `scenario` (a file or name).

    Raises UsageError with a hint at --scenario FILE if the definition is lost.
    """
    if scenario is not None:
        from labctl.kernel import backends

        return compiled(define(scenario, name, sets, firewall=backends.of(name)))
    definition = kept(name)
    if definition is None:
        raise UsageError(f"the definition of lab {name} is lost", "name its scenario: --scenario FILE")
    return compiled(definition)


def kept(name: str) -> Definition | None:
    """The kept definition of a running lab; None if it is lost."""
    from labctl.kernel import state

    record = state.load(name)
    if record is None:
        return None
    try:
        features = tuple(record.get("approximate", ()))
        files = tuple((one, text) for one, text in record.get("files", ()))
        sets, firewall = tuple(record["sets"]), _firewall(record)
        return Definition(name, record["file"], record["text"], sets, features, files, firewall)
    except (KeyError, TypeError):
        return None


def _firewall(record: Mapping[str, Any]) -> Backend | None:
    """The back end in a record; legacy in an older record without one. None if there is no record."""
    word = record.get("firewall")
    return (word if word in BACKENDS else "legacy") if record else None


def keep(definition: Definition, lab: Lab) -> None:
    """Keep the lab's definition and its machines, so that entering a node needs no compilation."""
    from labctl.kernel import state

    machines = [
        {
            "name": one.name,
            "role": one.role,
            "on": one.on,
            "within": one.within,
            "addresses": [*map(str, one.addresses)],
        }
        for one in lab.machines
    ]
    record = {
        "name": lab.name,
        "model": lab.model,
        "file": definition.file,
        "text": definition.text,
        "sets": list(definition.sets),
        "approximate": list(definition.approximate),
        "firewall": lab.firewall,
        "files": [list(pair) for pair in definition.files],
        "machines": machines,
    }
    state.save(lab.name, "definition.json", json.dumps(record))
