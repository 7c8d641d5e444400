"""A page whose worker processes are replaced: requests to it need no lab and no root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from labctl.view import capture as capture_module
from labctl.view import page as page_module
from labctl.view.page import LabPage
from labctl.view.processes import WorkerError
from labctl.view.server import create_app
from tests.support.command_line import pretend_empty_machine

TOKEN = "a-token-of-24-bytes"
BASE = "http://127.0.0.1:8000"
CHECKS = [{"id": str(number), "text": f"check {number}", "state": "unknown"} for number in range(2)]
STATE = {
    "lab": "k",
    "svg": "<svg/>",
    "machines": [],
    "checks": CHECKS,
    "drift": [],
    "broken": [],
    "stamp": "1",
    "cost_s": 0.0,
}
STATUS = {key: STATE[key] for key in ("drift", "broken", "stamp", "cost_s")}
USAGE = {"error": "lab k has no node 'z'", "hint": "labctl show lists them", "kind": "usage"}


class ReplacedWorker:
    """Answers requests from `answers`: a document, an error, or a function. Verbs wait for the `gate`."""

    def __init__(self, lab: str) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {
            "state": STATE,
            "faults": {"faults": []},
            "status": STATUS,
            "trace": {"steps": []},
            "machine": USAGE,
        }
        self.gate: asyncio.Event | None = None
        self.closed = False

    async def request(self, verb: str, arguments: Any, on_event: Callable[[Any], None] = lambda _: None) -> Any:
        self.requests.append((verb, arguments))
        if self.gate is not None and verb not in ("state", "status"):
            await self.gate.wait()
        found = self.answers[verb]
        if callable(found):
            found = found(on_event)
        if "error" in found:
            raise WorkerError(found)
        return dict(found)

    async def close(self) -> None:
        self.closed = True


class ReplacedPage:
    """A page of the lab `k`, and requests to its server as its own browser sends them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = pretend_empty_machine(monkeypatch, folder)
        self.namespace = machine / "netns" / "labctl.k.a"
        self.namespace.touch()
        static = folder / "static"
        static.mkdir()
        for name in ("index.html", "view.js", "view.css", "secret.txt"):
            (static / name).write_text(f"this is {name}")
        for module in (page_module, capture_module):
            monkeypatch.setattr(module, "WorkerProcess", ReplacedWorker)
        self.page = LabPage("k")
        self.verbs: Any = self.page._verbs
        self.reads: Any = self.page._reads
        self.app: Any = create_app(self.page, TOKEN, static)

    async def send(
        self, method: str, path: str, body: Any = None, *, address: str = f"/{TOKEN}/", **headers: str | None
    ) -> httpx.Response:
        """Send a request. `headers` replace those of a browser; None leaves one out."""
        own: dict[str, str | None] = {"Host": "127.0.0.1:8000"}
        if method not in ("GET", "HEAD"):
            own |= {"Origin": BASE}
        content = body if isinstance(body, bytes) else None
        if body is not None:
            own |= {"Content-Type": "application/json"}
        given = {name: value for name, value in {**own, **headers}.items() if value is not None}
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            sent = {"content": content} if content is not None else {} if body is None else {"json": body}
            return await client.request(method, address + path, headers=given, **sent)  # type: ignore[arg-type]

    def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> httpx.Response:
        """One request, in a new event loop."""

        async def run() -> httpx.Response:
            await self.page.load()
            return await self.send(method, path, body, **headers)

        return asyncio.run(run())
