"""Handouts of everything that is built in, for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import labctl
from labctl.core.scenario_types import Lab
from labctl.report.handout import Subject
from labctl.scenario.catalog import exercise_files, lesson_files, names

LARGE = "name: large\nmodel: kubenet\nnodes: {count: 20, pods: 20}\n"


def exercise(name: str) -> Lab:
    return labctl.load(exercise_files()[name]).compiled


def lesson(name: str) -> Lab:
    return labctl.load(lesson_files()[name]).compiled


def subjects(code: str = "en", *, answers: bool = False) -> list[Subject]:
    """A handout of each built-in scenario, each exercise and each lesson."""
    return [Subject(name, lab, answers, code) for name, lab in labs(code)]


@cache
def labs(code: str) -> list[tuple[str, Lab]]:
    """Each lab that is built in, with its name, compiled once for each language."""
    found = [(name, labctl.load(name).compiled) for name in names()]
    found += [(name, exercise(name)) for name in exercise_files()]
    found += [(f"lessons/{name}", lesson(name)) for name in lesson_files()]
    return found


def large(folder: Path) -> Subject:
    """A lab of 20 nodes with 20 pods each."""
    file = folder / "large.yaml"
    file.write_text(LARGE)
    return Subject("large.yaml", labctl.load(str(file)).compiled)
