"""Parse a scenario's text into a valid `Scenario`. All problems of the file are reported at once, with positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from labctl import models
from labctl.core.scenario_types import Lab, Scenario
from labctl.errors import ScenarioError
from labctl.scenario import values as texts
from labctl.scenario.check_parser import Names, Placed, read_checks, scenario_pods
from labctl.scenario.document import Map, Node, Place, Reader, Seq, Text, fail, show
from labctl.scenario.field_types import Bad, Found, Many, read_keys, suggest
from labctl.scenario.language import CHECK, common, machine_keys, model_keys, option_keys, setting_keys
from labctl.scenario.nodes_field import values
from labctl.scenario.overrides import apply_sets
from labctl.scenario.yaml_reader import load, read


def parse(text: str, file: str, *, name: str | None = None, sets: tuple[str, ...] = ()) -> Scenario:
    """Parse a scenario's text. `name` and `sets` are --name and --set of the command line.

    Raises ScenarioError with every problem.
    """
    return parse_and_compile(text, file, name=name, sets=sets)[0]


def parse_and_compile(
    text: str,
    file: str,
    *,
    name: str | None = None,
    sets: tuple[str, ...] = (),
    approximate: Collection[str] | None = None,
    files: dict[str, str] | None = None,
) -> tuple[Scenario, Lab]:
    """As `parse`, and also return the compiled lab, which `parse` needs to verify the names in checks.

    `approximate` holds the kernel features to replace by substitutes; None means that substitutes are not requested.
    `files` maps the names of other files, as the scenario writes them, to their texts; files that are read are added.
    """
    reader = Reader(_opener(file, {} if files is None else files))
    root = apply_sets(_root(text, file, reader), sets, reader)
    if not isinstance(root, Map):
        reader.problem(root, "a scenario is a mapping of keys", "begin with model: and the name of a model")
        raise ScenarioError(reader.problems)
    scenario, lab = _Parser(root, file, name, reader, approximate).run()
    reader.finish()
    assert lab is not None
    return scenario, lab


def _opener(file: str, files: dict[str, str]) -> Callable[[str], tuple[str, str]]:
    """Returns a function that reads another file by its name: from `files`, else relative to the scenario's folder."""

    def opened(name: str) -> tuple[str, str]:
        path = str(Path(file).parent / name)
        if name not in files:
            files[name] = read(path)
        return path, files[name]

    return opened


def _root(text: str, file: str, reader: Reader) -> Node:
    root = load(text, file, reader)
    if root is None or (isinstance(root, Text) and root.is_null):
        fail(Place(file), "the scenario is empty", "begin with model: and the name of a model")
    return root


class _Parser:
    """The steps from a tree to a scenario. Each step records its problems, and the next continues with the rest."""

    def __init__(
        self, root: Map, file: str, name: str | None, reader: Reader, approximate: Collection[str] | None
    ) -> None:
        self.root, self.file, self.reader = root, file, reader
        self.given, self.approximate = name, approximate
        self.places = {key.value.replace("-", "_"): key.place for key, _ in root.items}
        self.found: dict[str, Found] = {}

    def run(self) -> tuple[Scenario, Lab | None]:
        """Read everything. The lab is None if problems make it impossible to compile."""
        model = self._model()
        if model is None:
            self._without_model()
            raise ScenarioError(self.reader.problems)
        all_keys = model_keys(model, models.names())
        keys = [dataclasses.replace(key, kind=_Later()) if key.name == "checks" else key for key in all_keys]
        self.found = read_keys(self.root, keys, "scenario", self.reader)
        scenario = self._scenario(model)
        self._refuse(model, scenario)
        sound = not self.reader.problems
        checks = Many(CHECK).read(self.found["checks"].value, "checks", self.reader) if "checks" in self.found else ()
        placed = read_checks(checks or (), scenario_pods(scenario), self.reader)
        scenario = dataclasses.replace(scenario, checks=tuple(item.check for item in placed))
        return scenario, self._compile(scenario, placed) if sound else None

    def _model(self) -> Any:
        """The model's module; None, with a problem recorded, if there is none."""
        known = models.names()
        node = next((value for key, value in self.root.items if key.value == "model"), None)
        if node is None:
            hint = f"the models are {', '.join(known)}"
            self.reader.problem(self.root, "scenario: 'model' is missing", hint)
            return None
        if isinstance(node, Text) and not node.is_null and node.value not in known:
            hint = suggest(node.value, known) or f"the models are {', '.join(known)}"
            self.reader.problem(node, f"model: there is no model {show(node.value)}", hint)
            return None
        name = texts.choice(*known).read(node, "model", self.reader)
        return None if name is None else models.find(name)

    def _without_model(self) -> None:
        """The keys depend on the model: without a model, report only the keys that no model has."""
        keys = {key.name: key for key in common(models.names())}
        for name in models.names():
            keys |= {key.name: key for key in model_keys(models.find(name), ())}
        for text, _ in self.root.items:
            if not any(key.spelled(text.value) for key in keys.values()):
                hint = suggest(text.value, keys)
                self.reader.problem(text, f"scenario: unknown key {show(text.value)}", hint)

    def _scenario(self, model: Any) -> Scenario:
        say = self.found["say"].value if "say" in self.found else ""
        name = self._name()
        options = self._options(model)
        scenario = Scenario(name, self.found["model"].value, (), options, (), say, self.file)
        asks, features = self._asks(), frozenset(self.approximate or ())
        scenario = dataclasses.replace(scenario, asks=asks, approximate=features)
        if not model.MACHINES[1]:
            from labctl.scenario.raw_parser import read_raw

            raw, machines = read_raw(self.found, self.root, self.reader)
            return dataclasses.replace(scenario, raw=raw, raw_machines=machines)
        return dataclasses.replace(scenario, nodes=self._nodes(model), networks=self._networks(model))

    def _asks(self) -> bool | None:
        """The file's key `approximate`. If it is false, --approximate is a problem."""
        found = self.found.get("approximate")
        if found is not None and found.value is False and self.approximate is not None:
            what = "approximate: false forbids the option --approximate"
            self.reader.problem(found.at, what, "remove the option --approximate, or this key")
        return None if found is None else bool(found.value)

    def _name(self) -> str:
        """The lab's name: --name, the key `name`, or the name of the file."""
        if self.given is not None:
            return self._checked(self.given, Place("--name"), "") or "?"
        if "name" in self.places:
            return self.found["name"].value if "name" in self.found else "?"
        stem = Path(self.file).stem
        return self._checked(stem, self.root.place, "the lab's name is the file's name; name: sets another") or "?"

    def _checked(self, name: str, place: Place, hint: str) -> str | None:
        try:
            return str(texts.LABEL.convert(name))
        except Bad as bad:
            self.reader.problem(place, f"name: {bad.what}", hint or bad.hint)
            return None

    def _nodes(self, model: Any) -> Any:
        names = [key.name for key in machine_keys(model)]
        written = [name for name in names if name in self.places]
        if not written:
            outer, inner = model.MACHINES
            hint = f"such as {outer}: {{{outer[:-1]}1: {{{inner}: [a, b]}}}}"
            self.reader.problem(self.root, f"scenario: {names[0]!r} is missing", hint)
            return ()
        if len(written) > 1:
            what = f"{written[0]!r} and {written[1]!r} are the same key"
            self.reader.problem(self.places[written[1]], what, "keep one of them")
        nodes = self.found[written[0]].value if written[0] in self.found else ()
        if not nodes and written[0] in self.found:
            self.reader.problem(self.found[written[0]].at, f"{written[0]}: a lab needs at least one")
        return nodes

    def _options(self, model: Any) -> Any:
        names = (key.name for key in option_keys(model))
        return model.Options(**values({name: self.found[name] for name in names if name in self.found}))

    def _networks(self, model: Any) -> tuple[tuple[str, Any], ...]:
        own = setting_keys(model, "Network")
        if own is None or "networks" not in self.found:
            return ()
        return tuple((name.value, own.make(found.value)) for name, found in self.found["networks"].value)

    def _refuse(self, model: Any, scenario: Scenario) -> None:
        """Ask the model what it cannot build. A key with an invalid value is not reported twice."""
        if not hasattr(model, "refuse"):
            return
        for path, what, hint in model.refuse(scenario):
            key = path.partition("/")[0]
            if key in self.found or key not in self.places:
                self.reader.problem(self._place(path, model), what, hint)

    def _place(self, path: str, model: Any) -> Place:
        """The position of a key in the file, or of a path such as `hosts/host1/containers/web` as far as it exists.
        The position of `model` if no part of it exists."""
        place = self.places.get("model") or self.root.place
        node: Node | None = self.root
        words = [{"nodes", item.name} for item in machine_keys(model)] + [{"pods", "containers"}]
        for step in path.split("/"):
            names = next((same for same in words if step in same), {step})
            place, node = _inside(node, names) or (place, None)
            if node is None:
                break
        return place

    def _compile(self, scenario: Scenario, placed: list[Placed]) -> Lab | None:
        lab = models.compile_lab(scenario)
        names = Names(lab, self.reader)
        for item in placed:
            names.verify(item)
        return lab


def _inside(node: Node | None, names: set[str]) -> tuple[Place, Node] | None:
    """A value in a mapping by one of these keys, or in a list by its number, and the position to report."""
    if isinstance(node, Map):
        for key, value in node.items:
            if key.value in names or key.value.replace("-", "_") in names:
                return key.place, value
    if isinstance(node, Seq):
        return next(((item.place, item) for number, item in enumerate(node.items) if str(number) in names), None)
    return None


class _Later:
    """A value that is read later, after all other keys."""

    what = "a list of checks"

    def read(self, node: Node, label: str, reader: Reader) -> Node:
        return node
