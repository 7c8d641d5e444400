"""What a lab is made from: found, read, compiled, and kept in the state directory while the lab runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from labctl.errors import UsageError
from labctl.scenario import Lab


@dataclass(frozen=True, slots=True)
class Definition:
    """What a lab was made from: enough to compile it again. Kept in the state directory while it runs."""

    name: str  # the lab's name
    file: str  # where the text came from, for messages
    text: str  # the scenario, as written
    sets: tuple[str, ...] = ()  # the --set KEY=VALUE of the command line
    approximate: tuple[str, ...] = ()  # the kernel features that are built otherwise
    files: tuple[tuple[str, str], ...] = ()  # the other files that the scenario names, and their texts
    lab: Lab | None = field(default=None, compare=False, repr=False)  # what it compiles to, once that is known

    @property
    def compiled(self) -> Lab:
        """What it compiles to: every kernel object, the machines, the checks. Raises ScenarioError."""
        return compiled(self)


@dataclass(frozen=True, slots=True)
class Running:
    """A lab that has namespaces on this machine."""

    name: str
    nodes: tuple[str, ...]
    model: str | None  # None if its definition is lost
    scenario: str | None
    approximate: tuple[str, ...] = ()  # the kernel features that are built otherwise


def define(
    scenario: str, name: str | None = None, sets: tuple[str, ...] = (), *, approximate: bool = False
) -> Definition:
    """Find a scenario by built-in name or file and read it. Raises UsageError, ScenarioError.

    `approximate` is --approximate of the command line, which a scenario may forbid. What is built otherwise is
    for the kernel to decide (`labctl.fit`).
    """
    from labctl import catalog

    return written(*catalog.find(scenario), name, sets, approximate=approximate)


def written(
    file: str, text: str, name: str | None = None, sets: tuple[str, ...] = (), *, approximate: bool = False
) -> Definition:
    """The same of a scenario's text; `file` is what messages call it, and beside it lie the files that it names."""
    from labctl.parse import parse_and_compile

    files: dict[str, str] = {}
    features = () if approximate else None
    _, lab = parse_and_compile(text, file, name=name, sets=sets, approximate=features, files=files)
    return Definition(lab.name, file, text, sets, files=tuple(files.items()), lab=lab)


def approximated(definition: Definition, features: Iterable[str]) -> Definition:
    """The same scenario with what its model builds instead of these kernel features."""
    return replace(definition, approximate=tuple(sorted(features)), lab=None)


def compiled(definition: Definition) -> Lab:
    """Parse and compile a definition. Pure. Raises ScenarioError with every problem."""
    from labctl.parse import parse_and_compile

    if definition.lab is not None:
        return definition.lab
    features, files = definition.approximate or None, dict(definition.files)
    it = definition
    return parse_and_compile(it.text, it.file, name=it.name, sets=it.sets, approximate=features, files=files)[1]


def running() -> tuple[Running, ...]:
    """Every lab on this machine."""
    from labctl.kernel import places, state

    found = []
    for name, nodes in places.labs().items():
        record = state.load(name) or {}
        features = tuple(record.get("approximate", ()))
        found.append(Running(name, nodes, record.get("model"), record.get("file"), features))
    return tuple(found)


def choose(name: str | None) -> str:
    """The lab a command means: the named one, else the only one. Raises UsageError, listing the labs."""
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
        raise UsageError("no lab runs", "start one: sudo labctl up kubenet")
    raise UsageError("several labs run: " + ", ".join(labs), "name one: -l " + labs[0])


def recall(name: str, scenario: str | None = None, sets: tuple[str, ...] = ()) -> Lab:
    """The compiled lab behind a running lab, from its kept definition or from `scenario` (a file or name).

    Raises UsageError asking for --scenario FILE where the definition is lost.
    """
    if scenario is not None:
        return compiled(define(scenario, name, sets))
    definition = kept(name)
    if definition is None:
        raise UsageError(f"what lab {name} was made from is not known here", "name it: --scenario FILE")
    return compiled(definition)


def kept(name: str) -> Definition | None:
    """The definition that a running lab was made from; None if it is lost."""
    from labctl.kernel import state

    record = state.load(name)
    if record is None:
        return None
    try:
        features = tuple(record.get("approximate", ()))
        files = tuple((one, text) for one, text in record.get("files", ()))
        return Definition(name, record["file"], record["text"], tuple(record["sets"]), features, files)
    except (KeyError, TypeError):
        return None


def keep(definition: Definition, lab: Lab) -> None:
    """Keep what the lab is made from, and who is who in it, so that entering it needs no compiling."""
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
        "files": [list(pair) for pair in definition.files],
        "machines": machines,
    }
    state.save(lab.name, "definition.json", json.dumps(record))
