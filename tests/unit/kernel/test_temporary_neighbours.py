"""The messages of temporary neighbour entries."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.core.resources import Interface, Neighbour
from labctl.kernel.netlink import messages
from labctl.kernel.netlink.rtnetlink import Refusal
from labctl.kernel.probes import neighbours
from labctl.kernel.probes.neighbours import _Entry


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::1:2"])
@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize(("ifindex", "mac"), [(1, "02:00:00:00:00:01"), (70_000, "fe:dc:ba:98:76:54")])
def test_an_entry_has_the_message_of_a_neighbour(address: str, delete: bool, ifindex: int, mac: str) -> None:
    ip = ip_address(address)
    wanted = messages.neighbour(Neighbour(Interface("", "eth0"), ip, mac), ifindex, delete=delete)

    assert _Entry("eth0", ifindex, ip, mac).message(delete=delete) == wanted


class Answers:
    """A channel that refuses every message with one errno, or only some."""

    def __init__(self, number: int, refused: int) -> None:
        self.number, self.refused = number, refused
        self.tags: list[Any] = []

    def queue(self, message: bytearray, tag: Any) -> None:
        self.tags.append(tag)

    def flush(self) -> list[Refusal]:
        return [Refusal(tag, self.number, "") for tag in self.tags[: self.refused]]


ENTRIES = [_Entry("eth0", 3, ip_address(f"10.0.0.{number}"), "02:00:00:00:00:01") for number in range(1, 5)]


def test_an_entry_that_the_kernel_finds_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours.dump, "neighbours", lambda channel: pytest.fail("a dump takes longer"))
    channel: Any = Answers(errno.ENOENT, 3)

    assert neighbours._missing(channel, ENTRIES) == ENTRIES[:3]


def test_a_kernel_that_cannot_be_asked_about_one_entry_lists_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours.dump, "neighbours", lambda channel: [SimpleNamespace(index=3, ip=ENTRIES[1].ip)])
    channel: Any = Answers(errno.EOPNOTSUPP, 4)

    assert neighbours._missing(channel, ENTRIES) == [ENTRIES[0], *ENTRIES[2:]]
