"""The built-in lessons, in the order of the course; an argument names a lesson by its built-in name, or its file."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.core.lesson_types import Lesson
from labctl.core.names import did_you_mean
from labctl.errors import UsageError
from labctl.scenario.catalog import exercise_files, lesson_files
from labctl.scenario.lesson_language import LESSON
from labctl.scenario.lesson_parser import read_lesson
from labctl.scenario.section_file import read_section


@dataclass(frozen=True, slots=True)
class LessonEntry:
    """A built-in lesson: its name, its file, and what it says."""

    name: str
    file: str
    lesson: Lesson


def find(name_or_file: str) -> str:
    """The file of a lesson. A word with a `/`, or ending in .yaml or .yml, is a file.

    Raises UsageError for an unknown name."""
    if "/" in name_or_file or name_or_file.endswith((".yaml", ".yml")):
        return name_or_file
    known = lesson_files()
    if name_or_file in known:
        return known[name_or_file]
    hint = did_you_mean(name_or_file, known, 0.5)
    if name_or_file in exercise_files():
        hint = f"{name_or_file} is an exercise: labctl exercise start {name_or_file}"
    hint = hint or "`labctl learn` shows the names; the name of a file has a / or ends in .yaml"
    raise UsageError(f"unknown lesson {name_or_file!r}", hint)


def entries() -> tuple[LessonEntry, ...]:
    """Every built-in lesson, without compiling its lab. Raises ScenarioError for a file with mistakes."""
    return tuple(
        LessonEntry(name, file, read_section(file, LESSON, read_lesson)) for name, file in lesson_files().items()
    )
