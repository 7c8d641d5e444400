"""The capture of a page: one at a time, for all viewers, while there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from labctl.core.text import count
from labctl.kernel.host import paths
from labctl.view.processes import BusyError, GoneError, WorkerError, WorkerProcess
from labctl.view.protocol import Document
from labctl.view.viewers import Viewers

LINES_INTERVAL_S = 0.1  # seconds in which the lines of a capture are collected for one event
UNWATCHED_S = 5.0  # seconds after the last viewer left until a capture ends


class LabCapture:
    """The capture in one lab. `state` says whether it runs, and where."""

    def __init__(self, lab: str, viewers: Viewers) -> None:
        self.lab = lab
        self.viewers = viewers
        self.state: Document = {"running": False}
        self._process: WorkerProcess | None = None
        self._lines: list[str] = []
        self._omitted = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, arguments: Document) -> Document:
        """Begin to send the frames at a point as events. Raises BusyError, GoneError, WorkerError."""
        if self.lab not in paths.labs():
            raise GoneError
        if self._process is not None:
            raise BusyError("a capture runs")
        process = self._process = WorkerProcess(self.lab)
        running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = self._begin(self._run(process, arguments, running))
        await asyncio.wait((running, task), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
            task.result()  # raises why it has not begun
            raise GoneError
        self.state = {"running": True, "point": arguments.get("point"), "filter": arguments.get("filter")}
        self.viewers.publish("capture", self.state)
        self.end_if_unwatched()
        return self.state

    async def stop(self, why: str = "stopped") -> None:
        """End the capture; nothing if there is none."""
        process, self._process = self._process, None
        if process is not None:
            await process.close()
            self._ended(why)

    def end_if_unwatched(self) -> None:
        """Call it after a viewer has left: a capture that no page shows ends soon."""
        if self._process is not None and not len(self.viewers):
            asyncio.get_running_loop().call_later(UNWATCHED_S, lambda: self._begin(self._end_unwatched()))

    async def close(self) -> None:
        """End the capture, because the server ends."""
        await self.stop("the page ends")
        for task in tuple(self._tasks):
            task.cancel()

    async def _run(self, process: WorkerProcess, arguments: Document, running: asyncio.Future[None]) -> None:
        def on_event(event: Document) -> None:
            if "line" in event:
                self._collect(event["line"])
            elif "omitted" in event:
                self._omitted += event["omitted"]
            elif not running.done():
                running.set_result(None)

        why = ""
        try:
            why = (await process.request("capture", arguments, on_event))["why"]
        except WorkerError as error:
            why = str(error)
            if not running.done():
                raise
        finally:
            if self._process is process:  # it was not stopped
                self._process = None
                await process.close()
                self._ended(why)

    async def _end_unwatched(self) -> None:
        if not len(self.viewers):
            await self.stop("no page is open")

    def _ended(self, why: str) -> None:
        self._send_lines()
        if self.state["running"]:
            self.state = {"running": False, "why": why}
            self.viewers.publish("capture", self.state)

    def _collect(self, line: str) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(LINES_INTERVAL_S, self._send_lines)
        self._lines.append(line)

    def _send_lines(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            omitted, self._omitted = self._omitted, 0
            note = [f"({count(omitted, 'frame')} not shown)"] if omitted else []
            self.viewers.publish("capture", {"lines": [*lines, *note]})

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # `start` reports it
