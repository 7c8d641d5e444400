"""A sample of the points at which scripts/reliability kills verbs; the whole takes an hour and is not in the suite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

MAIN = ROOT / "scripts/reliability.d/main.py"
POINTS = 3  # for each verb


def reliability(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(MAIN), *words], capture_output=True, text=True, check=False)


def test_nothing_is_left_of_verbs_that_were_killed(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    verbs = [word for verb in ("up", "check", "trace") for word in ("--verb", verb)]
    done = reliability("kill", "docker-bridge", *verbs, "--points", str(POINTS), "--output", str(rows))
    if "skipped" in done.stdout:
        pytest.skip(done.stdout)

    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row for row in found if row["problems"]] == [], done.stdout
    assert done.returncode == 0, done.stderr
    assert len(found) == 3 * POINTS
    assert (
        sum(row["killed"] for row in found) >= 3 * POINTS - 2
    )  # the last operations of a trace are not always as many


def test_nothing_is_left_of_three_cycles(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    done = reliability("soak", "docker-bridge", "--cycles", "3", "--every", "1", "--output", str(rows))
    first, *_, last = [json.loads(line) for line in rows.read_text().splitlines()]
    counted = ("threads", "file descriptors", "child processes", "named namespaces", "mounts", "files")
    assert {name: last[name] for name in counted} == {name: first[name] for name in counted}, done.stdout
    assert last["named namespaces"] == last["files"] == 0


def test_a_part_that_does_not_exist_is_refused_with_the_list() -> None:
    done = reliability("kil")
    assert done.returncode == 2
    assert "  kill            Kill every verb before each of its kernel operations" in done.stdout
