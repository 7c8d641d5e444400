"""The kernel's neighbour tables: what labctl reads of them, and which entries do not count."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from labctl.kernel.netlink import neighbour_tables

pytestmark = pytest.mark.kernel
IPV6_RECVERR = 25


def ip(words: str, lines: str = "") -> str:
    return subprocess.run(["ip", *words.split()], input=lines, check=True, capture_output=True, text=True).stdout


def test_the_limits_are_those_that_ip_prints_in_any_namespace(fresh: Callable[..., Any]) -> None:
    found = {table.version: table for table in fresh(neighbour_tables.read)}

    assert sorted(found) == [4, 6]
    for version, name in ((4, "arp_cache"), (6, "ndisc_cache")):
        limit = re.search(r"thresh3 (\d+)", ip(f"ntable show name {name}"))
        assert limit is not None
        assert found[version].limit == int(limit[1])
        assert found[version].entry_count >= 0
        assert found[version].full_count >= 0


@pytest.mark.parametrize("state", ["nud permanent", "nud reachable extern_learn"])
def test_permanent_and_learned_entries_leave_room_for_others(fresh: Callable[..., Any], state: str) -> None:
    """There are more of them than the table may have, and the kernel still creates the entry of a new neighbour."""
    limit = next(table.limit for table in neighbour_tables.read() if table.version == 6)
    for words in ("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"):
        fresh(ip, words)
    fresh(ip, "address add fd99::1/64 dev v0 nodad")
    numbers = range(9, limit + 59)
    entries = "\n".join(f"neigh add fd99::{number:x} lladdr 02:00:00:00:00:01 dev v0 {state}" for number in numbers)
    fresh(ip, "-batch -", entries)
    with fresh(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        sock.sendto(b"x", ("fd99::2", 9))
        shown = fresh(ip, "-6 neigh show fd99::2")

    assert next(table.entry_count for table in neighbour_tables.read() if table.version == 6) > limit
    assert "INCOMPLETE" in shown
