"""One section of a scenario file, read without compiling the lab: for lists of exercises and lessons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from labctl.errors import UsageError
from labctl.scenario.document import Map, Reader
from labctl.scenario.field_types import Section
from labctl.scenario.yaml_reader import parse_yaml, read_file

T = TypeVar("T")


def read_section(file: str, section: Section, build: Callable[[Any, Reader], T | None]) -> T:
    """What `build` makes of a section of a file. Raises ScenarioError for a file with mistakes, UsageError for one
    without the section."""
    reader = Reader()
    root = parse_yaml(read_file(file), file, reader)
    items = root.items if isinstance(root, Map) else ()
    node = next((value for key, value in items if key.value == section.label), None)
    found = None if node is None else section.read(node, section.label, reader)
    built = None if found is None else build(found, reader)
    reader.raise_problems()
    if built is None:
        raise UsageError(f"{file} has no section '{section.label}'")
    return built
