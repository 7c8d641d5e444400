"""Giving up a neighbour: only one that the kernel still asks for."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from labctl.kernel.netlink.neighbours import give_up

SILENT, KNOWN, ABSENT = (ip_address(f"10.0.0.{number}") for number in (77, 78, 79))


def ip(words: str) -> str:
    return subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True).stdout


def test_only_an_entry_that_waits_is_given_up(fresh: Callable[..., Any]) -> None:
    for words in ("link set lo up", "link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"):
        fresh(ip, words)
    fresh(ip, "address add 10.0.0.1/24 dev v0")
    fresh(ip, f"neigh add {KNOWN} dev v0 lladdr 02:00:00:00:00:09 nud reachable")
    with fresh(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: also errors that are not final
        sock.connect((str(SILENT), 9))
        sock.send(b"once")
        assert "INCOMPLETE" in fresh(ip, f"neigh show {SILENT}")

        assert fresh(give_up, "v0", SILENT)
        assert "FAILED" in fresh(ip, f"neigh show {SILENT}")
        with pytest.raises(OSError, match="No route to host"):  # the kernel has reported it
            sock.send(b"again")
    assert not fresh(give_up, "v0", SILENT)
    assert not fresh(give_up, "v0", KNOWN)
    assert not fresh(give_up, "v0", ABSENT)
    assert "REACHABLE" in fresh(ip, f"neigh show {KNOWN}")
    assert str(ABSENT) not in fresh(ip, "neigh show")
