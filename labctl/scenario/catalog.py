"""The built-in scenarios, and how an argument of the command line names a scenario: a built-in name or a file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.core.names import did_you_mean
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.fidelity import Fidelity


# names of products, each with the scenario that shows its usual network
ALIASES = {
    "aks": "azure-cni-overlay",
    "docker": "docker-bridge",
    "eks": "eks-vpc-cni",
    "gke": "gke-vpc-native",
    "netavark": "podman",
    "swarm": "docker-overlay",
}


_NUMBERED = re.compile(r"(\d+)-(.+)\.yaml")  # the file of an exercise or a lesson


@dataclass(frozen=True, slots=True)
class ScenarioEntry:
    """A built-in scenario: what it shows, its model, and the fidelity of the model's parts."""

    name: str
    say: str
    model: str
    parts: tuple[Fidelity, ...]

    @property
    def title(self) -> str:
        """What it shows, with the name of its model, if that has another name."""
        return self.say if self.model == self.name else f"{self.say} (model {self.model})"


def folder() -> Path:
    """The folder of the scenarios: in the installed package, or at the top of the source tree."""
    here = Path(__file__).resolve().parent.parent
    return next((place for place in (here / "scenarios", here.parent / "scenarios") if place.is_dir()), here)


def names() -> tuple[str, ...]:
    """The names of the built-in scenarios, sorted. Reads one directory."""
    try:
        files = os.listdir(folder())
    except OSError:
        return ()
    return tuple(sorted(file[:-5] for file in files if file.endswith(".yaml") and not file.startswith(".")))


def exercise_files() -> dict[str, str]:
    """The file of each built-in exercise by its name, in the order of the course: that of the numbers before the names.
    Reads one directory."""
    return _numbered_files("exercises")


def lesson_files() -> dict[str, str]:
    """The file of each built-in lesson by its name, in the order of the course. Reads one directory."""
    return _numbered_files("lessons")


def _numbered_files(name: str) -> dict[str, str]:
    place = folder() / name
    try:
        files = os.listdir(place)
    except OSError:
        return {}
    numbered = sorted((int(match[1]), match[2], file) for file in files if (match := _NUMBERED.fullmatch(file)))
    return {name: str(place / file) for _, name, file in numbered}


def find(name_or_file: str) -> tuple[str, str]:
    """A scenario's file and text. A word with a `/`, or ending in .yaml or .yml, is a file; else a built-in name, or
    one of `ALIASES`.

    The returned file is a path that can be opened: the given one, or that of the built-in scenario.
    Raises UsageError for an unknown name or an unreadable file, ScenarioError for a file that is not text.
    """
    from labctl.scenario.yaml_reader import read_file

    if "/" in name_or_file or name_or_file.endswith((".yaml", ".yml")):
        return name_or_file, read_file(name_or_file)
    known = names()
    name = name_or_file if name_or_file in known else ALIASES.get(name_or_file, name_or_file)
    if name not in known:
        raise UsageError(f"unknown scenario {name_or_file!r}", _hint(name_or_file, (*known, *ALIASES)))
    path = str(folder() / f"{name}.yaml")
    return path, read_file(path)


def _hint(word: str, known: tuple[str, ...]) -> str:
    if word in exercise_files():
        return f"{word} is an exercise: labctl exercise start {word}"
    if word in lesson_files():
        return f"{word} is a lesson: labctl learn {word}"
    hint = did_you_mean(word, known)
    if hint:
        return hint
    for file in (word, f"{word}.yaml", f"{word}.yml"):
        if os.path.isfile(file):
            return f"for the file, write ./{file}"
    return "`labctl list --scenarios` shows the names; the name of a file has a / or ends in .yaml"


def entries() -> tuple[ScenarioEntry, ...]:
    """Every built-in scenario. Its sentence (`say:`, else the first comment) is read without parsing YAML, and the
    model's parts are read without importing the model."""
    parts_by_model: dict[str, tuple[Fidelity, ...]] = {}
    return tuple(_entry(name, folder() / f"{name}.yaml", parts_by_model) for name in names())


def _entry(name: str, path: Path, parts_by_model: dict[str, tuple[Fidelity, ...]]) -> ScenarioEntry:
    lines = path.read_text(encoding="utf-8").splitlines()
    say = next((_value(line) for line in lines if line.startswith("say:")), "")
    model = next((_value(line) for line in lines if line.startswith("model:")), name)
    comment = next((line.lstrip("# ").rstrip() for line in lines if line.startswith("#")), "")
    if model not in parts_by_model:
        parts_by_model[model] = _parts(model.replace("-", "_"))
    return ScenarioEntry(name, say or comment, model, parts_by_model[model])


@cache  # several models share the parts of one file
def _parts(module: str) -> tuple[Fidelity, ...]:
    """The fidelity parts that a file of labctl/models declares; shared ones are in a file of labctl/models/lib."""
    from labctl.core.fidelity import read_parts

    file = Path(__file__).resolve().parent.parent / "models" / f"{module}.py"
    return read_parts(file.read_text(encoding="utf-8"), lambda shared: _parts(f"lib/{shared}"))


def _value(line: str) -> str:
    return line.partition(":")[2].split(" #")[0].strip().strip("\"'")
