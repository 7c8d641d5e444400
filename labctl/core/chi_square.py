"""Pearson's chi-square test: how probable it is that counts differ so much from expected ones by chance. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

MIN_EXPECTED = 5  # below this expected count, the distribution of the statistic is not that of chi-square


def chi_square(counts: Sequence[int], weights: Sequence[int]) -> float:
    """The statistic of counts of which the shares should be as the weights. Weights are positive."""
    total, whole = sum(counts), sum(weights)
    expected = [total * weight / whole for weight in weights]
    return sum((count - want) ** 2 / want for count, want in zip(counts, expected, strict=True))


def probability(statistic: float, degrees: int) -> float:
    """The probability of a statistic at least this large, with this many degrees of freedom (at least 1).

    This is the regularised gamma function Q(degrees/2, statistic/2), by its recurrence from Q(1/2) or Q(1).
    """
    x = statistic / 2
    if x <= 0:
        return 1.0
    a, found = (0.5, math.erfc(math.sqrt(x))) if degrees % 2 else (1.0, math.exp(-x))
    while a < degrees / 2:
        found += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(found, 1.0)
