"""Counters that increased between two readings."""

from __future__ import annotations

from labctl.kernel.host import counters

# ---- odds and ends ---------------------------------------------------------------------------------------


def test_only_counters_that_moved_are_told() -> None:
    assert counters.increases({"Ip.InAddrErrors": 4, "gone": 1}, {"Ip.InAddrErrors": 5, "same": 0, "new": 2}) == {
        "Ip.InAddrErrors": 1,
        "new": 2,
    }
