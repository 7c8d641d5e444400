"""Parse a scenario's text into a `Scenario`. All problems of the file are collected, with their positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl import models
from labctl.core.address_use import OverlapRefusal
from labctl.core.scenario_types import Scenario
from labctl.errors import ScenarioError
from labctl.scenario import values
from labctl.scenario.check_language import check_section
from labctl.scenario.check_parser import LocatedCheck, read_checks, scenario_pods
from labctl.scenario.document import (
    FileOpener,
    Map,
    Position,
    Reader,
    Seq,
    Text,
    TextLimits,
    TreeNode,
    fail,
    quote_text,
)
from labctl.scenario.fault_field import FaultField
from labctl.scenario.field_types import InvalidValue, ListOf, Located, plain_values, read_keys, suggest
from labctl.scenario.language import (
    OWN_KEYS,
    common_keys,
    machine_keys,
    model_keys,
    older_names,
    option_keys,
    setting_keys,
)
from labctl.scenario.manifests import keys as object_keys
from labctl.scenario.nodes_field import inner_words, singular
from labctl.scenario.overrides import apply_overrides
from labctl.scenario.yaml_reader import SCENARIO, parse_yaml, read_file

if TYPE_CHECKING:
    from labctl.scenario.manifests.places import ObjectPlaces

LATER_KEYS = ("checks", "break", "exercise", "lesson")  # keys that are read when the rest of the scenario is known


@dataclass(frozen=True, slots=True)
class ParsedScenario:
    """What a text says. The names in its checks are not verified yet: that needs the compiled lab."""

    scenario: Scenario
    located_checks: tuple[LocatedCheck, ...]  # `scenario.checks` with the positions of what was read for them
    located_faults: tuple[Located, ...] = ()  # `scenario.faults` with their positions
    object_places: ObjectPlaces | None = None  # where the API objects of `scenario.kubernetes` stand
    located_exercise: dict[str, Located] | None = None  # the section `exercise`, as it was read
    located_lesson: dict[str, Located] | None = None  # the section `lesson`, as it was read
    located_own: dict[str, Located] = dataclasses.field(default_factory=dict)  # what it adds to the model's lab


def parse_scenario(
    text: str,
    file: str,
    reader: Reader,
    *,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    substitute_features: Collection[str] | None = None,
    manifests: tuple[tuple[str, str], ...] = (),
) -> ParsedScenario:
    """Parse a scenario's text. `name` and `overrides` are --name and --set of the command line, `manifests` the names
    and texts of its --manifest.

    `substitute_features` holds the kernel features to replace by substitutes; None means that substitutes are not
    requested. Raises ScenarioError with every problem if the scenario cannot be compiled. Problems in the checks alone
    do not prevent that: they are only in `reader`, so that the caller can report them together with the problems that
    `check_parser.resolve` finds.
    """
    root = apply_overrides(_root(text, file, reader), overrides, reader)
    if not isinstance(root, Map):
        reader.add_problem(root, "a scenario is a mapping of keys", "begin with model: and the name of a model")
        raise ScenarioError(reader.problems)
    return _Parser(root, file, name, reader, substitute_features, manifests).run()


def file_opener(file: str, files: dict[str, str]) -> FileOpener:
    """The function that opens another file for a `Reader`: from `files`, else relative to the scenario's folder.

    A file that it reads is added to `files`.
    """

    def open_file(name: str, limits: TextLimits | None) -> tuple[str, str]:
        path = str(Path(file).parent / name)
        if name not in files:
            files[name] = read_file(path, limits or SCENARIO)
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
        self,
        root: Map,
        file: str,
        name: str | None,
        reader: Reader,
        substitute_features: Collection[str] | None,
        manifests: tuple[tuple[str, str], ...],
    ) -> None:
        self.root, self.file, self.reader = root, file, reader
        self.name_option, self.substitute_features, self.manifests = name, substitute_features, manifests
        self.object_places: ObjectPlaces | None = None
        self.key_positions = {key.value.replace("-", "_"): key.position for key, _ in root.items}
        self.located: dict[str, Located] = {}
        self.own: dict[str, Located] = {}  # what is on top of the model, by raw keys

    def run(self) -> ParsedScenario:
        """Read everything: first all keys but `checks`, `break`, `exercise` and `lesson`, which do not prevent that the
        lab is compiled. A mesh needs the pods."""
        model = self._model()
        if model is None:
            self._report_unknown_keys()
            raise ScenarioError(self.reader.problems)
        later = (*LATER_KEYS, *self._refused_object_keys(model))
        others = Map(self.root.position, tuple(pair for pair in self.root.items if pair[0].value not in later))
        names = (value.value for key, value in self.root.items if key.value == "model" and isinstance(value, Text))
        used = [key.value for key, _ in others.items]
        keys = model_keys(model, tuple(names), used)  # the model is known here, so its own name is enough
        self.located = read_keys(others, keys, "scenario", self.reader)
        if model.MACHINES[1] and any(name in self.located for name in OWN_KEYS):
            from labctl.scenario.own_language import take_own

            self.own = take_own(self.located)
        older = {old: key.name for key in keys for old in key.old}
        self.key_positions = {older.get(name, name): position for name, position in self.key_positions.items()}
        scenario = self._scenario(model)
        self._report_unsupported(model, scenario)
        can_compile = not self.reader.problems
        located_checks = self._checks(model, scenario)
        faults = self._list("break", FaultField(), allow_single=True)
        exercise, lesson = self._exercise(), self._lesson()
        if not can_compile:
            self.reader.raise_problems()
        checks = tuple(item.check for item in located_checks)
        scenario = dataclasses.replace(scenario, checks=checks, faults=tuple(item.value for item in faults))
        return ParsedScenario(scenario, located_checks, faults, self.object_places, exercise, lesson, self.own)

    def _refused_object_keys(self, model: Any) -> tuple[str, ...]:
        """The keys for API objects that a model without them cannot have, each with a problem recorded."""
        if object_keys.has_objects(model):
            return ()
        own = {key.name for key in model_keys(model, ())}
        refused = [key for key, _ in self.root.items if key.value in object_keys.NAMES and key.value not in own]
        what, hint = "this model has no objects of Kubernetes", "models with nodes and pods have them, such as kubenet"
        for key in refused:
            self.reader.add_problem(key, f"{key.value}: {what}", hint)
        for file, _ in self.manifests[:1]:
            self.reader.add_problem(Position(f"--manifest {file}"), what, hint)
        return tuple(key.value for key in refused)

    def _model(self) -> Any:
        """The model's module; None, with a problem recorded, if there is none."""
        node = next((value for key, value in self.root.items if key.value == "model"), None)
        if isinstance(node, Text) and not node.is_null and models.has_model(node.value):
            return models.find_model(node.value)
        known = models.model_names()
        written = {key.value for key, _ in self.root.items}
        if node is None and {"apiVersion", "kind"} <= written:
            what = "this is a manifest of Kubernetes, not a scenario"
            self.reader.add_problem(self.root, what, "name a scenario, and this file by --manifest FILE")
            raise ScenarioError(self.reader.problems)
        if node is None:
            hint = f"the models are {', '.join(known)}"
            self.reader.add_problem(self.root, "scenario: 'model' is missing", hint)
            return None
        if isinstance(node, Text) and not node.is_null:
            hint = suggest(node.value, known) or f"the models are {', '.join(known)}"
            self.reader.add_problem(node, f"model: there is no model {quote_text(node.value)}", hint)
            return None
        values.choice(*known).read(node, "model", self.reader)  # reports what it is instead of a name
        return None

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
        """Everything that was read, but the checks."""
        say = self.located["say"].value if "say" in self.located else ""
        scenario = Scenario(
            self._name(),
            self.located["model"].value,
            options=self._options(model),
            say=say,
            file=self.file,
            use_substitutes=self._use_substitutes(),
            overlap=bool(self.located["overlap"].value) if "overlap" in self.located else False,
            substitute_features=frozenset(self.substitute_features or ()),
        )
        if not model.MACHINES[1]:
            from labctl.scenario.raw_parser import read_raw

            raw, machines = read_raw(self.located, self.root, self.reader)
            return dataclasses.replace(scenario, raw_plan=raw, raw_machines=machines)
        scenario = dataclasses.replace(scenario, nodes=self._nodes(model), networks=self._networks(model))
        own = {key.name for key in object_keys.object_keys(model)}
        if not object_keys.has_objects(model) or not (self.manifests or own & {*self.located}):
            return scenario
        from labctl.scenario.manifests.declaration import with_objects

        scenario, self.object_places = with_objects(
            scenario, model, self.located, self.manifests, self.root, self.reader
        )
        return scenario

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
        """The name; None, with a problem recorded, if it is not a DNS label."""
        try:
            return str(values.LABEL.convert(name))
        except InvalidValue as bad:
            self.reader.add_problem(position, f"name: {bad.message}", hint or bad.hint)
            return None

    def _nodes(self, model: Any) -> Any:
        """The nodes. Records a problem if they are missing, empty, or given by two names of the key."""
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
        places = self.object_places
        for path, what, hint in model.refuse(scenario):
            if scenario.overlap and isinstance(what, OverlapRefusal):
                continue
            key = path.partition("/")[0]
            if places is not None and places.report_pod(path, what, hint, scenario, self.reader):
                continue
            if key in self.located or key not in self.key_positions:
                self.reader.add_problem(self._position(path, model), what, hint)

    def _position(self, path: str, model: Any) -> Position:
        """The position of a key in the file, or of a path such as `hosts/host1/containers/web` as far as it exists.
        The position of `model` if no part of it exists."""
        position = self.key_positions.get("model") or self.root.position
        node: TreeNode | None = self.root
        outer = {"nodes", model.MACHINES[0]} if model.MACHINES[1] else set()
        inner = set(inner_words(model.MACHINES[1]))
        steps, older = path.split("/"), older_names(model)
        for number, step in enumerate(steps):
            synonyms = outer if number == 0 else inner if number == 2 and steps[0] in outer else set()
            names = synonyms if step in synonyms else {step, *(old for old, name in older.items() if name == step)}
            position, node = _child(node, names) or (position, None)
            if node is None:
                break
        return position

    def _checks(self, model: Any, scenario: Scenario) -> tuple[LocatedCheck, ...]:
        rows = self._list("checks", check_section(model))
        return tuple(read_checks(rows, scenario_pods(scenario), self.reader))

    def _exercise(self) -> dict[str, Located] | None:
        """The section `exercise`; None if it is absent."""
        node = next((value for key, value in self.root.items if key.value == "exercise"), None)
        if node is None:
            return None
        from labctl.scenario.exercise_language import EXERCISE

        found: dict[str, Located] | None = EXERCISE.read(node, "exercise", self.reader)
        return found

    def _lesson(self) -> dict[str, Located] | None:
        """The section `lesson`; None if it is absent."""
        node = next((value for key, value in self.root.items if key.value == "lesson"), None)
        if node is None:
            return None
        from labctl.scenario.lesson_language import LESSON

        found: dict[str, Located] | None = LESSON.read(node, "lesson", self.reader)
        return found

    def _list(self, key: str, item: Any, *, allow_single: bool = False) -> tuple[Located, ...]:
        """The entries of one of LATER_KEYS; none if it is absent."""
        node = next((value for name, value in self.root.items if name.value == key), None)
        found = None if node is None else ListOf(item, allow_single).read(node, key, self.reader)
        return found or ()


def _child(node: TreeNode | None, names: set[str]) -> tuple[Position, TreeNode] | None:
    """A value in a mapping by one of these keys, or in a list by its number, and the position to report."""
    if isinstance(node, Map):
        for key, value in node.items:
            if key.value in names or key.value.replace("-", "_") in names:
                return key.position, value
    if isinstance(node, Seq):
        return next(((item.position, item) for number, item in enumerate(node.items) if str(number) in names), None)
    return None
