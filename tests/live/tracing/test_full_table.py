"""Traces while the machine's neighbour table is full. They make the recordings in tests/golden/full_tables.

All namespaces of the machine share the table, those of other tests too. So these tests run alone, and on request:
`sudo ./scripts/test tests/live/tracing/test_full_table.py --update-golden`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from labctl.kernel.host import paths
from labctl.kernel.netlink import neighbour_tables
from labctl.lab import lifecycle
from labctl.render import dataclass_json
from tests.support.full_table_cases import ADDRESSES, CASES, LAB, WAY, FullTableCase
from tests.support.golden import OPTION
from tests.support.traces import trace_lab, traced

NAME = "fulltable"


def ip(node: str, *lines: str) -> None:
    """Run lines of `ip -batch` in a namespace of the lab."""
    command = ["ip", "-n", paths.netns_name(NAME, node), "-force", "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, stderr=subprocess.DEVNULL, check=False)


def mac(at: str) -> str:
    node, dev = at.split("/")
    command = ["ip", "-n", paths.netns_name(NAME, node), "-json", "link", "show", dev]
    found: str = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]["address"]
    return found


@contextmanager
def full_table(version: int) -> Iterator[None]:
    """The table of an IP version without room for a new entry."""
    table = next(table for table in neighbour_tables.read() if table.version == version)
    pattern = "fd99::{:x}" if version == 6 else "10.99.{}.{}"
    numbers = range(2, table.limit + 300)
    addresses = (pattern.format(*((number,) if version == 6 else divmod(number, 250))) for number in numbers)
    try:
        ip("full", *(f"neigh replace {one} lladdr 02:00:00:00:00:01 dev v nud reachable" for one in addresses))
        yield
    finally:
        ip("full", "link set v down", "link set v up")


@pytest.fixture(scope="module")
def definition(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lifecycle.Definition]:
    if not pytestconfig.getoption(OPTION):
        pytest.skip(f"it fills the neighbour table that all tests of the machine share; {OPTION} runs it")
    with trace_lab(tmp_path_factory.mktemp("lab"), LAB, NAME) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_full_table_is_the_cause(case: FullTableCase, definition: lifecycle.Definition) -> None:
    addresses = ADDRESSES[case.version]
    for node in paths.labs()[NAME]:
        ip(node, "neigh flush all")
    for node, dev, neighbour, at in WAY[: case.known]:
        ip(node, f"neigh replace {addresses[neighbour]} lladdr {mac(at)} dev {dev} nud permanent")
    if case.asking:
        node, dev, neighbour, _ = WAY[case.known]
        ip(node, f"neigh replace {addresses[neighbour]} dev {dev} nud none")
    try:
        with full_table(case.version):
            evidence, story = traced(NAME, case.probe)
    finally:
        lifecycle.up(definition)
        for node, dev, neighbour, _ in WAY[: case.known + 1]:
            ip(node, f"neigh del {addresses[neighbour]} dev {dev}")

    small = replace(evidence, namespaces=tuple(one for one in evidence.namespaces if one.node != "full"))
    case.file.parent.mkdir(exist_ok=True)
    case.file.write_text(json.dumps(dataclass_json.to_json(small)) + "\n")
    assert story.why is not None, story.sentence
    assert story.why.kind == "neighbour-table", (story.why, evidence.full_tables)
    assert story.why.sentence.startswith(f"{case.node} could create no neighbour entry")
    assert case.place in story.sentence
