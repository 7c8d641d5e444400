"""Handouts of everything that is built in, for tests."""

from __future__ import annotations

from pathlib import Path

import labctl
from labctl.core.scenario_types import Lab
from labctl.report.handout import Subject
from labctl.scenario.catalog import exercise_files, names

LARGE = "name: large\nmodel: kubenet\nnodes: {count: 20, pods: 20}\n"


def exercise(name: str) -> Lab:
    return labctl.load(exercise_files()[name]).compiled


def subjects(*, answers: bool = False) -> list[Subject]:
    """A handout of each built-in scenario and of each exercise."""
    scenarios = [Subject(name, labctl.load(name).compiled, answers) for name in names()]
    return [*scenarios, *(Subject(name, exercise(name), answers) for name in exercise_files())]


def large(folder: Path) -> Subject:
    """A lab of 20 nodes with 20 pods each."""
    file = folder / "large.yaml"
    file.write_text(LARGE)
    return Subject("large.yaml", labctl.load(str(file)).compiled)
