"""The viewers of a page, and the events that all of them get: each has a queue of limited length."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

MAX_WAITING = 500  # events that wait for one viewer: one that reads no more is dropped
MAX_WAITING_BYTES = 8 * 1024 * 1024  # of these events; they are shared by all viewers
MAX_VIEWERS = 200


class TooManyViewersError(Exception):
    """No more viewers are served."""


class Viewer:
    """One browser that gets the events. It is `closed` when it was dropped, or when the server ends."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    def put(self, event: bytes) -> None:
        """Queue an event. A viewer that is too far behind is closed, and what waits for it is forgotten."""
        if self.closed:
            return
        self._waiting.append(event)
        self._bytes += len(event)
        if len(self._waiting) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            self._waiting.clear()
            self.closed = True
        self._ready.set()

    def close(self) -> None:
        """Let it end after the events that wait."""
        self.closed = True
        self._ready.set()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The events as they come, until it is closed."""
        while True:
            while self._waiting:
                event = self._waiting.popleft()
                self._bytes -= len(event)
                yield event
            if self.closed:
                return
            self._ready.clear()
            await self._ready.wait()


class Viewers:
    """All viewers. An event is encoded once for all of them."""

    def __init__(self) -> None:
        self._viewers: set[Viewer] = set()
        self._some = asyncio.Event()
        self.closed = False

    def __len__(self) -> int:
        return len(self._viewers)

    def add(self) -> Viewer:
        """A new viewer. Raises TooManyViewersError."""
        if self.closed or len(self._viewers) >= MAX_VIEWERS:
            raise TooManyViewersError
        viewer = Viewer()
        self._viewers.add(viewer)
        self._some.set()
        return viewer

    def remove(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self._viewers.discard(viewer)
        if not self._viewers:
            self._some.clear()

    def publish(self, name: str, data: Any) -> None:
        """Send an event to all viewers."""
        event = encode_event(name, data)
        for viewer in tuple(self._viewers):
            viewer.put(event)
            if viewer.closed:
                self.remove(viewer)

    async def wait(self) -> None:
        """Wait until there is a viewer."""
        await self._some.wait()

    def close(self) -> None:
        """End the streams of all viewers."""
        self.closed = True
        for viewer in self._viewers:
            viewer.close()


def encode_event(name: str, data: Any) -> bytes:
    """An event as bytes of the stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
