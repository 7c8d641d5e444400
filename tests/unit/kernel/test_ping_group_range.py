"""The range of groups that may ping, in a user namespace."""

from __future__ import annotations

import pytest

from labctl.kernel.host import ping_group_range


def test_every_group_is_the_last_that_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping_group_range, "last", lambda: 65536)

    assert ping_group_range.to_kernel(ping_group_range.NAME, ping_group_range.ALL_GROUPS) == "0 65536"
    assert ping_group_range.from_kernel(ping_group_range.NAME, "0 65536") == ping_group_range.ALL_GROUPS
    assert ping_group_range.from_kernel(ping_group_range.NAME, "1 0") == "1 0"
    assert ping_group_range.to_kernel("net.ipv4.ip_forward", "1") == "1"
