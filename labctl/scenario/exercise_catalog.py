"""The built-in exercises, in the order of a course; an argument names an exercise by its built-in name, or its file."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.core.exercise_types import Exercise
from labctl.core.names import did_you_mean
from labctl.errors import UsageError
from labctl.scenario.catalog import exercise_files, names
from labctl.scenario.exercise_language import EXERCISE
from labctl.scenario.exercise_parser import read_exercise
from labctl.scenario.section_file import read_section


@dataclass(frozen=True, slots=True)
class ExerciseEntry:
    """A built-in exercise: its name, its file, and what it asks."""

    name: str
    file: str
    exercise: Exercise


def find(name_or_file: str) -> str:
    """The file of an exercise. A word with a `/`, or ending in .yaml or .yml, is a file.

    Raises UsageError for an unknown name."""
    if "/" in name_or_file or name_or_file.endswith((".yaml", ".yml")):
        return name_or_file
    known = exercise_files()
    if name_or_file in known:
        return known[name_or_file]
    hint = did_you_mean(name_or_file, known, 0.5)
    if not hint and name_or_file in names():
        hint = f"{name_or_file} is a scenario: labctl exercise start --random {name_or_file} hides a fault in it"
    hint = hint or "labctl exercise list shows the names; the name of a file has a / or ends in .yaml"
    raise UsageError(f"unknown exercise {name_or_file!r}", hint)


def entries() -> tuple[ExerciseEntry, ...]:
    """Every built-in exercise, without compiling its lab. Raises ScenarioError for a file with mistakes."""
    return tuple(
        ExerciseEntry(name, file, read_section(file, EXERCISE, read_exercise))
        for name, file in exercise_files().items()
    )
