"""Which tests one worker runs together: those that share something do, and the files that take long are real ones."""

from __future__ import annotations

import pytest

from tests.support import schedule
from tests.support.paths import ROOT


def test_the_long_files_exist_and_are_named_once() -> None:
    assert [file for file in schedule.LONG if not (ROOT / file).is_file()] == []
    assert len(set(schedule.LONG)) == len(schedule.LONG)


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/live/lab/test_laws.py::test_a[kubenet]", "tests/live/lab/test_laws.py::test_a[kubenet]"),
        ("tests/live/tracing/test_run.py::test_a", "tests/live/tracing/test_run.py"),  # a lab for the whole module
        ("tests/live/view/test_browser.py::test_a", "tests/live/view/test_browser.py"),  # one in conftest.py
        ("tests/live/models/test_calico.py::TestX::test_a", "tests/live/models/test_calico.py"),  # one for a class
        ("tests/fidelity/test_cni.py::test_a", "fidelity"),
        ("tests/fidelity/test_docker.py::test_a", "fidelity"),
        ("tests/unit/core/test_diff.py::test_a", "tests/unit/core/test_diff.py"),
    ],
)
def test_what_shares_something_stays_together(nodeid: str, unit: str) -> None:
    assert schedule.unit_of(nodeid) == unit


def test_what_takes_longest_begins_first() -> None:
    first, second = schedule.LONG[:2]
    assert schedule.rank(f"{first}::test_a") < schedule.rank(f"{second}::test_a")
    assert schedule.rank(f"{schedule.LONG[-1]}::test_a") < schedule.rank("tests/unit/core/test_diff.py::test_a")
