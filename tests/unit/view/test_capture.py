"""The capture of a page, with a replaced worker process: lines come together, and it ends with the last page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from labctl.view import capture as module
from labctl.view.viewers import Viewer
from tests.support.page import ReplacedPage, ReplacedWorker

DENIED = {"error": "--filter 'x': syntax error", "hint": "man pcap-filter", "kind": "usage"}


class CapturingWorker(ReplacedWorker):
    """Reports what `events` has, and then runs until it is closed."""

    events: tuple[dict[str, Any], ...] = ({"running": True},)
    answer: dict[str, Any] | None = None

    async def request(self, verb: str, arguments: Any, on_event: Any = None) -> Any:
        for event in self.events:
            on_event(event)
        while self.answer is None and not self.closed:
            await asyncio.sleep(0.001)
        self.answers["capture"] = self.answer or {"error": "it was ended", "hint": "", "kind": "ended"}
        return await super().request(verb, arguments, on_event)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReplacedPage:
    found = ReplacedPage(tmp_path, monkeypatch)
    monkeypatch.setattr(module, "WorkerProcess", CapturingWorker)
    monkeypatch.setattr(CapturingWorker, "events", CapturingWorker.events)
    monkeypatch.setattr(CapturingWorker, "answer", None)
    return found


async def received(viewer: Viewer) -> list[str]:
    viewer.close()
    return [event.decode().split("data: ")[1].strip() async for event in viewer.events()]


def test_lines_that_come_together_are_one_event(page: ReplacedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"line": f"frame {number}"} for number in range(3)]
    monkeypatch.setattr(CapturingWorker, "events", ({"running": True}, *lines[:2], {"omitted": 7}, lines[2]))

    async def run() -> list[str]:
        await page.page.load()
        viewer = page.page.viewers.add()
        assert (await page.send("POST", "capture", {"filter": "icmp"})).json()["running"] is True
        assert (await page.send("POST", "capture")).status_code == 409
        assert (await page.send("DELETE", "capture")).status_code == 200
        assert (await page.send("GET", "state")).json()["capture"] == {"running": False, "why": "stopped"}
        return await received(viewer)

    assert asyncio.run(asyncio.wait_for(run(), 20)) == [
        '{"running":true,"point":null,"filter":"icmp"}',
        '{"lines":["frame 0","frame 1","frame 2","(7 frames not shown)"]}',
        '{"running":false,"why":"stopped"}',
    ]


@pytest.mark.parametrize(("answer", "status"), [(DENIED, 400), ({"why": "the lab k is gone"}, 410)])
def test_a_capture_that_cannot_begin_is_an_error_and_another_can(
    page: ReplacedPage, monkeypatch: pytest.MonkeyPatch, answer: dict[str, str], status: int
) -> None:
    async def run() -> None:
        await page.page.load()
        monkeypatch.setattr(CapturingWorker, "events", ())
        monkeypatch.setattr(CapturingWorker, "answer", answer)
        assert (await page.send("POST", "capture")).status_code == status
        assert page.page.capture.state["running"] is False
        monkeypatch.setattr(CapturingWorker, "events", ({"running": True},))
        monkeypatch.setattr(CapturingWorker, "answer", None)
        assert (await page.send("POST", "capture")).status_code == 200
        await page.page.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_it_ends_some_time_after_the_last_viewer_has_left(page: ReplacedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNWATCHED_S", 0.01)

    async def run() -> None:
        await page.page.load()
        viewer = page.page.viewers.add()
        await page.send("POST", "capture")
        page.page.capture.end_if_unwatched()
        await asyncio.sleep(0.05)
        assert page.page.capture.state["running"] is True
        page.page.viewers.remove(viewer)
        page.page.capture.end_if_unwatched()
        while page.page.capture.state["running"]:
            await asyncio.sleep(0.001)
        assert page.page.capture.state["why"] == "no page is open"

    asyncio.run(asyncio.wait_for(run(), 20))


def test_the_end_of_the_lab_ends_it_with_a_reason(page: ReplacedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        await page.page.load()
        page.page.viewers.add()
        await page.send("POST", "capture")
        monkeypatch.setattr(CapturingWorker, "answer", {"why": "the lab k is gone"})
        while page.page.capture.state["running"]:
            await asyncio.sleep(0.001)
        assert page.page.capture.state == {"running": False, "why": "the lab k is gone"}

    asyncio.run(asyncio.wait_for(run(), 20))
