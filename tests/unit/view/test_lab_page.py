"""The state of a page, with processes that answer when the test lets them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from labctl.view import page
from labctl.view.page import LabPage

STATE = {"stamp": "1", "cost_s": 0.0, "drift": [], "broken": [], "checks": []}
FAULTS = [{"id": "route-missing", "objects": ["a/0.0.0.0/0"]}]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_page_does_not_wait_for_the_faults_of_a_large_lab(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    async def scene() -> None:
        found = asyncio.Event()
        if at_once:
            found.set()

        class Process:
            def __init__(self, lab: str) -> None: ...

            async def request(self, verb: str, *_: Any) -> dict[str, Any]:
                if verb == "state":
                    return dict(STATE)
                assert verb == "faults"
                await found.wait()
                return {"faults": FAULTS}

            async def close(self) -> None: ...

        monkeypatch.setattr(page, "WorkerProcess", Process)
        monkeypatch.setattr(page, "FAULTS_WAIT_S", 0.05)
        shown = LabPage("x")
        events = shown.viewers.add().events()
        await asyncio.wait_for(shown.load(), 5)
        assert shown.document()["faults"] == (FAULTS if at_once else [])
        found.set()
        if not at_once:
            assert b"route-missing" in await asyncio.wait_for(anext(events), 5)
        assert shown.document()["faults"] == FAULTS
        await shown.close()

    asyncio.run(scene())
