"""Frames that a bridge loop repeats without end: the taps read a bounded number of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from labctl.core.resources import Interface
from labctl.kernel.capture.tap import MAX_LOOP_PASSES, Taps
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.packets.decode import Frame
from tests.support.busy_taps import busy_taps


class Endless:
    """A tap in which every read finds another frame: the same, or each time another."""

    def __init__(self, same: bool) -> None:
        self.node, self.reads, self.same = "s", 0, same

    def read(self) -> list[Frame]:
        self.reads += 1
        data = b"the same" if self.same else self.reads.to_bytes(8, "big")
        way = "in" if self.reads % 2 else "out"
        return [Frame(Interface("s", "l1"), time.time_ns(), way, data, 0x0806)]


def taps(tap: Endless, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taps]:
    """Taps of which one always has something to read."""
    with NetnsThread() as thread, busy_taps("loop", tap, thread, monkeypatch) as made:
        yield made


def test_frames_that_never_end_are_read_up_to_now(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = Endless(same=False)
    for made in taps(tap, monkeypatch):
        assert len(made.frames()) == tap.reads == 1
        assert len(made.frames()) == tap.reads == 2
        made.discard()
        assert made._frames == []
        assert tap.reads == 3


@pytest.mark.parametrize("same", [True, False], ids=["one frame", "many frames"])
def test_of_the_same_frame_so_many_are_kept_and_more_is_told(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tap = Endless(same)
    for made in taps(tap, monkeypatch):
        for _ in range(2 * MAX_LOOP_PASSES + 10):
            found = made.frames()
        assert len(found) == (2 * MAX_LOOP_PASSES if same else tap.reads)
        assert made.looping() == ((Interface("s", "l1"),) if same else ())
        made.discard()
        assert made.looping() == ()


def test_what_only_comes_goes_round_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = SimpleNamespace(node="s", read=lambda: [Frame(Interface("s", "l1"), time.time_ns(), "in", b"again", 0x0806)])
    for made in taps(tap, monkeypatch):  # type: ignore[arg-type]
        for _ in range(2 * MAX_LOOP_PASSES):
            made.frames()
        assert made.looping() == ()
