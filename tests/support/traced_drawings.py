"""Recorded traces as drawings: the lab of each recording, and the picture of its packet's path."""

from __future__ import annotations

from functools import cache

from labctl.core.scenario_types import Lab
from labctl.drawing.model import Drawing
from labctl.report.trace_path import traced_drawing
from labctl.scenario.definition import parse_and_compile
from labctl.tracing.diagnosis import diagnose
from tests.support.trace_cases import CASES, LABS
from tests.support.traces import recording

NAMES = tuple(case.name for case in CASES)


@cache
def lab_of(name: str) -> Lab:
    case = next(case for case in CASES if case.name == name)
    return parse_and_compile(LABS[case.lab], f"{case.lab}.yaml")[1]


@cache
def traced(name: str) -> Drawing:
    """The drawing of a recorded trace."""
    evidence = recording(name)
    return traced_drawing(lab_of(name), evidence, diagnose(evidence))
