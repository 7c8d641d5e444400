"""The time limits of a mesh check."""

from __future__ import annotations

import pytest

from labctl.checks.mesh import time_limits
from labctl.core.scenario_types import Check

MESH = Check("all", "mesh")
NOW = 1000.0


@pytest.mark.parametrize("within", [0.3, 2.0, 30.0])
def test_within_holds_the_whole_check(within: float) -> None:
    limits = time_limits(Check("all", "mesh", within=within), 1_000_000, 10, NOW)

    assert limits.end == NOW + within
    assert limits.end - limits.asking == pytest.approx(min(1, within / 2)), "there is time for the last answers"
    assert limits.retrying(limits.asking) == limits.end
    assert limits.retrying(NOW) == limits.end
    assert limits.retrying(limits.end) - limits.end == limits.end - limits.asking, "a pair that was asked may answer"


def test_without_within_the_time_grows_with_the_pairs_and_machines_and_the_last_may_take_five_seconds() -> None:
    few, many = time_limits(MESH, 30, 6, NOW), time_limits(MESH, 40_000, 2_000, NOW)

    assert few.retrying(NOW + 0.1) == pytest.approx(NOW + 5.1), "as in any other check"
    assert many.asking == NOW + 55
    assert many.end == NOW + 60
    assert many.retrying(many.asking) == many.end
