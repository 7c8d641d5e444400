"""The chi-square test against printed tables, and its statistic."""

from __future__ import annotations

import pytest

from labctl.core.chi_square import chi_square, probability


@pytest.mark.parametrize(
    ("degrees", "statistic", "chance"),
    [  # from the tables of the NIST/SEMATECH handbook, 1.3.6.7.4
        (1, 3.841, 0.05),
        (1, 10.828, 0.001),
        (2, 5.991, 0.05),
        (2, 13.816, 0.001),
        (3, 7.815, 0.05),
        (9, 27.877, 0.001),
        (10, 18.307, 0.05),
        (99, 148.230, 0.001),
        (100, 124.342, 0.05),
    ],
)
def test_probabilities_are_those_of_the_tables(degrees: int, statistic: float, chance: float) -> None:
    assert probability(statistic, degrees) == pytest.approx(chance, rel=2e-3)


def test_the_ends_of_the_range() -> None:
    assert probability(0, 1) == probability(0, 2) == 1
    assert 0 < probability(500, 7) < 1e-90
    assert probability(2000, 3) == pytest.approx(0)


def test_the_statistic_is_the_sum_of_relative_squares() -> None:
    assert chi_square([10, 10], [1, 1]) == 0
    assert chi_square([30, 10], [1, 1]) == pytest.approx(10)
    assert chi_square([30, 10], [3, 1]) == 0
    assert chi_square([24, 16], [3, 1]) == pytest.approx(36 / 30 + 36 / 10)
