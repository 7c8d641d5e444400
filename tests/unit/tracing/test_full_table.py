"""A full neighbour table of the machine as the cause of a loss. The recordings were made by
tests/live/tracing/test_full_table.py."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from labctl.core.neighbour_tables import FullTable
from labctl.render import dataclass_json
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.result import with_command
from tests.support.full_table_cases import CASES, FULL_TABLES, FullTableCase
from tests.support.traces import recording


def recorded(case: FullTableCase) -> TraceEvidence:
    return dataclass_json.from_json(TraceEvidence, json.loads(case.file.read_text()))


def test_every_recording_has_its_case() -> None:
    assert {path.name for path in FULL_TABLES.iterdir()} == {case.file.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("drops", [True, False], ids=["drops", "no drops"])
def test_a_full_table_is_the_cause_and_the_sysctl_is_named(case: FullTableCase, drops: bool) -> None:
    evidence = recorded(case)
    if not drops:
        evidence = replace(evidence, events=(), drops_traced=False)
    story = diagnose(evidence)

    assert story.why is not None
    assert story.why.kind == "neighbour-table"
    assert story.why.sentence.startswith(
        f"{case.node} could create no neighbour entry: the machine's table for IPv{case.version} is full (1024 entries"
    )
    assert story.why.tries == (f"sysctl -w net.ipv{case.version}.neigh.default.gc_thresh3=8192",)
    assert with_command(story, "sudo labctl", "sudo ").tries == (f"sudo {story.why.tries[0]}",)
    assert case.place in story.sentence


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_a_full_table_it_is_another_cause_unless_the_kernel_says_so(case: FullTableCase) -> None:
    evidence = replace(recorded(case), full_tables=())
    why = diagnose(evidence).why
    says = any(event.reason == "NEIGH_CREATEFAIL" for event in evidence.events)

    assert (why is not None and why.kind == "neighbour-table") <= says
    other = replace(evidence, events=(), full_tables=(FullTable(10 - case.version),))
    why = diagnose(other).why
    assert why is None or why.kind != "neighbour-table", "the table of the other IP version was full"


@pytest.mark.parametrize("name", ["no-route", "arp-6", "forwarding-off", "loop", "closed-port"])
def test_what_is_broken_in_the_lab_is_named_although_a_table_was_full(name: str) -> None:
    evidence = recording(name)
    full = replace(evidence, full_tables=(FullTable(4), FullTable(6)))

    assert diagnose(full).why == diagnose(evidence).why
