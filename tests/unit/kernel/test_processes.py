"""Which process of a group is the one that a plan means, without starting any."""

from __future__ import annotations

import pytest

from labctl.core.resources import Process
from labctl.kernel import processes

PAUSE = Process("a", "pause", ("pause",), sandbox=True)
WEB = Process("a", "web", ("serve", "web"), inside="pause")


@pytest.mark.parametrize(
    ("process", "parents", "chosen"),
    [
        (PAUSE, {11: 1, 12: 11}, 12),  # the shim and its pause
        (PAUSE, {10: 1, 11: 10, 12: 11}, 12),  # the starter has not exited yet
        (PAUSE, {11: 1}, 11),  # pause has ended
        (WEB, {20: 1}, 20),
        (WEB, {20: 1, 21: 20}, 20),
    ],
)
def test_the_main_process_of_a_group(
    monkeypatch: pytest.MonkeyPatch, process: Process, parents: dict[int, int], chosen: int
) -> None:
    monkeypatch.setattr(processes, "_parent", parents.__getitem__)

    assert processes._main_process(dict.fromkeys(parents, process)).pid == chosen
