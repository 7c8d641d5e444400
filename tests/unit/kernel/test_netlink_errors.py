"""Hints for changes that the kernel refuses."""

from __future__ import annotations

import errno
from ipaddress import ip_address

import pytest

from labctl.core.resources import Interface, Neighbour
from labctl.kernel.netlink.errors import hint_for


@pytest.mark.parametrize(("address", "version"), [("10.0.0.1", 4), ("2001:db8::1", 6)])
def test_a_neighbour_that_the_table_has_no_room_for(address: str, version: int) -> None:
    entry = Neighbour(Interface("a", "eth0"), ip_address(address), "02:00:00:00:00:01", "reachable")

    assert hint_for(entry, errno.ENOBUFS) == (
        "the machine's neighbour table, which all labs share, is full:"
        f" sysctl -w net.ipv{version}.neigh.default.gc_thresh3=8192"
    )
    assert hint_for(entry, errno.EINVAL) == ""
