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
from labctl.scenario.check_parser import LocatedCheck, NameChecker, read_checks, scenario_pods
from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode, fail, quote_text
from labctl.scenario.field_types import InvalidValue, ListOf, Located, read_keys, suggest
from labctl.scenario.language import check_section, common_keys, machine_keys, model_keys, option_keys, setting_keys
from labctl.scenario.nodes_field import inner_words, plain_values, singular
from labctl.scenario.overrides import apply_overrides
from labctl.scenario.yaml_reader import parse_yaml, read_file


def parse(text: str, file: str, *, name: str | None = None, overrides: tuple[str, ...] = ()) -> Scenario:
    """Parse a scenario's text. `name` and `sets` are --name and --set of the command line.

    Raises ScenarioError with every problem.
    """
    return parse_and_compile(text, file, name=name, overrides=overrides)[0]


def parse_and_compile(
    text: str,
    file: str,
    *,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    substitute_features: Collection[str] | None = None,
    files: dict[str, str] | None = None,
) -> tuple[Scenario, Lab]:
    """As `parse`, and also return the compiled lab, which `parse` needs to verify the names in checks.

    `approximate` holds the kernel features to replace by substitutes; None means that substitutes are not requested.
    `files` maps the names of other files, as the scenario writes them, to their texts; files that are read are added.
    """
    reader = Reader(_opener(file, {} if files is None else files))
    root = apply_overrides(_root(text, file, reader), overrides, reader)
    if not isinstance(root, Map):
        reader.add_problem(root, "a scenario is a mapping of keys", "begin with model: and the name of a model")
        raise ScenarioError(reader.problems)
    scenario, lab = _Parser(root, file, name, reader, substitute_features).run()
    reader.raise_problems()
    assert lab is not None
    return scenario, lab


def _opener(file: str, files: dict[str, str]) -> Callable[[str], tuple[str, str]]:
    """Returns a function that reads another file by its name: from `files`, else relative to the scenario's folder."""

    def open_file(name: str) -> tuple[str, str]:
        path = str(Path(file).parent / name)
        if name not in files:
            files[name] = read_file(path)
        return path, files[name]

    return open_file


def _root(text: str, file: str, reader: Reader) -> TreeNode:
    root = parse_yaml(text, file, reader)
    if root is None or (isinstance(root, Text) and root.is_null):
        fail(Position(file), "the scenario is empty", "begin with model: and the name of a model")
    return root


class _Parser:
    """The steps from a tree to a scenario. Each step records its problems, and the next continues with the rest."""

    def __init__(
        self, root: Map, file: str, name: str | None, reader: Reader, substitute_features: Collection[str] | None
    ) -> None:
        self.root, self.file, self.reader = root, file, reader
        self.name_option, self.substitute_features = name, substitute_features
        self.key_positions = {key.value.replace("-", "_"): key.position for key, _ in root.items}
        self.located: dict[str, Located] = {}

    def run(self) -> tuple[Scenario, Lab | None]:
        """Read everything. The lab is None if problems make it impossible to compile."""
        model = self._model()
        if model is None:
            self._report_unknown_keys()
            raise ScenarioError(self.reader.problems)
        all_keys = model_keys(model, models.model_names())
        keys = [
            dataclasses.replace(key, field_type=_DeferredType()) if key.name == "checks" else key for key in all_keys
        ]
        self.located = read_keys(self.root, keys, "scenario", self.reader)
        scenario = self._scenario(model)
        self._report_unsupported(model, scenario)
        sound = not self.reader.problems
        checks = (
            ListOf(check_section(model)).read(self.located["checks"].value, "checks", self.reader)
            if "checks" in self.located
            else ()
        )
        located_checks = read_checks(checks or (), scenario_pods(scenario), self.reader)
        scenario = dataclasses.replace(scenario, checks=tuple(item.check for item in located_checks))
        return scenario, self._compile(scenario, located_checks) if sound else None

    def _model(self) -> Any:
        """The model's module; None, with a problem recorded, if there is none."""
        known = models.model_names()
        node = next((value for key, value in self.root.items if key.value == "model"), None)
        if node is None:
            hint = f"the models are {', '.join(known)}"
            self.reader.add_problem(self.root, "scenario: 'model' is missing", hint)
            return None
        if isinstance(node, Text) and not node.is_null and node.value not in known:
            hint = suggest(node.value, known) or f"the models are {', '.join(known)}"
            self.reader.add_problem(node, f"model: there is no model {quote_text(node.value)}", hint)
            return None
        name = texts.choice(*known).read(node, "model", self.reader)
        return None if name is None else models.find_model(name)

    def _report_unknown_keys(self) -> None:
        """The keys depend on the model: without a model, report only the keys that no model has."""
        keys = {key.name: key for key in common_keys(models.model_names())}
        for name in models.model_names():
            keys |= {key.name: key for key in model_keys(models.find_model(name), ())}
        for text, _ in self.root.items:
            if not any(key.matches(text.value) for key in keys.values()):
                hint = suggest(text.value, keys)
                self.reader.add_problem(text, f"scenario: unknown key {quote_text(text.value)}", hint)

    def _scenario(self, model: Any) -> Scenario:
        say = self.located["say"].value if "say" in self.located else ""
        name = self._name()
        options = self._options(model)
        scenario = Scenario(name, self.located["model"].value, (), options, (), say, self.file)
        asks, features = self._use_substitutes(), frozenset(self.substitute_features or ())
        scenario = dataclasses.replace(scenario, use_substitutes=asks, substitute_features=features)
        if not model.MACHINES[1]:
            from labctl.scenario.raw_parser import read_raw

            raw, machines = read_raw(self.located, self.root, self.reader)
            return dataclasses.replace(scenario, raw_plan=raw, raw_machines=machines)
        return dataclasses.replace(scenario, nodes=self._nodes(model), networks=self._networks(model))

    def _use_substitutes(self) -> bool | None:
        """The file's key `approximate`. If it is false, --approximate is a problem."""
        found = self.located.get("approximate")
        if found is not None and found.value is False and self.substitute_features is not None:
            what = "approximate: false forbids the option --approximate"
            self.reader.add_problem(found.at, what, "remove the option --approximate, or this key")
        return None if found is None else bool(found.value)

    def _name(self) -> str:
        """The lab's name: --name, the key `name`, or the name of the file."""
        if self.name_option is not None:
            return self._valid_name(self.name_option, Position("--name"), "") or "?"
        if "name" in self.key_positions:
            return self.located["name"].value if "name" in self.located else "?"
        stem = Path(self.file).stem
        return (
            self._valid_name(stem, self.root.position, "the lab's name is the file's name; name: sets another") or "?"
        )

    def _valid_name(self, name: str, position: Position, hint: str) -> str | None:
        try:
            return str(texts.LABEL.convert(name))
        except InvalidValue as bad:
            self.reader.add_problem(position, f"name: {bad.message}", hint or bad.hint)
            return None

    def _nodes(self, model: Any) -> Any:
        names = [key.name for key in machine_keys(model)]
        written = [name for name in names if name in self.key_positions]
        if not written:
            outer, inner = model.MACHINES
            hint = f"such as {outer}: {{{singular(outer)}1: {{{inner}: [a, b]}}}}"
            self.reader.add_problem(self.root, f"scenario: {names[0]!r} is missing", hint)
            return ()
        if len(written) > 1:
            what = f"{written[0]!r} and {written[1]!r} are the same key"
            self.reader.add_problem(self.key_positions[written[1]], what, "keep one of them")
        nodes = self.located[written[0]].value if written[0] in self.located else ()
        if not nodes and written[0] in self.located:
            self.reader.add_problem(self.located[written[0]].at, f"{written[0]}: a lab needs at least one")
        return nodes

    def _options(self, model: Any) -> Any:
        names = (key.name for key in option_keys(model))
        return model.Options(**plain_values({name: self.located[name] for name in names if name in self.located}))

    def _networks(self, model: Any) -> tuple[tuple[str, Any], ...]:
        settings = setting_keys(model, "Network")
        if settings is None or "networks" not in self.located:
            return ()
        return tuple((name.value, settings.make(found.value)) for name, found in self.located["networks"].value)

    def _report_unsupported(self, model: Any, scenario: Scenario) -> None:
        """Ask the model what it cannot build. A key with an invalid value is not reported twice."""
        if not hasattr(model, "refuse"):
            return
        for path, what, hint in model.refuse(scenario):
            key = path.partition("/")[0]
            if key in self.located or key not in self.key_positions:
                self.reader.add_problem(self._position(path, model), what, hint)

    def _position(self, path: str, model: Any) -> Position:
        """The position of a key in the file, or of a path such as `hosts/host1/containers/web` as far as it exists.
        The position of `model` if no part of it exists."""
        position = self.key_positions.get("model") or self.root.position
        node: TreeNode | None = self.root
        outer = {"nodes", model.MACHINES[0]} if model.MACHINES[1] else set()
        inner = set(inner_words(model.MACHINES[1]))
        steps = path.split("/")
        for number, step in enumerate(steps):
            synonyms = outer if number == 0 else inner if number == 2 and steps[0] in outer else set()
            names = synonyms if step in synonyms else {step}
            position, node = _child(node, names) or (position, None)
            if node is None:
                break
        return position

    def _compile(self, scenario: Scenario, located_checks: list[LocatedCheck]) -> Lab | None:
        lab = models.compile_lab(scenario)
        names = NameChecker(lab, self.reader)
        for item in located_checks:
            names.verify(item)
        return lab


def _child(node: TreeNode | None, names: set[str]) -> tuple[Position, TreeNode] | None:
    """A value in a mapping by one of these keys, or in a list by its number, and the position to report."""
    if isinstance(node, Map):
        for key, value in node.items:
            if key.value in names or key.value.replace("-", "_") in names:
                return key.position, value
    if isinstance(node, Seq):
        return next(((item.position, item) for number, item in enumerate(node.items) if str(number) in names), None)
    return None


class _DeferredType:
    """A value that is read later, after all other keys."""

    what = "a list of checks"

    def read(self, node: TreeNode, label: str, reader: Reader) -> TreeNode:
        return node
