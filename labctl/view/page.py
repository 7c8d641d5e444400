"""One lab as its page shows it: its state, one verb at a time, the drift while somebody watches, and a capture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labctl.core.text import count
from labctl.errors import LabError
from labctl.kernel.host import lab_state, paths
from labctl.report.plain_text import with_command, with_sudo
from labctl.view.processes import WorkerError, WorkerProcess
from labctl.view.protocol import Document, error_document
from labctl.view.viewers import Viewers

LOOK_INTERVAL_S = 1.0  # seconds between two looks for drift, at least
LOOK_SHARE = 0.05  # of the time that looks may take: a lab that takes 300 ms to read is read every 6 seconds
LINES_INTERVAL_S = 0.1  # seconds in which the lines of a capture are collected for one event
UNWATCHED_S = 5.0  # seconds after the last viewer left until a capture ends


class BusyError(Exception):
    """Another verb works on the lab. The message says which."""


class GoneError(Exception):
    """The lab does not run any more."""


class LabPage:
    """The state of one lab and the verbs on it. All viewers see the same."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.viewers = Viewers()
        self.state: Document = {}
        self.busy: Document | None = None
        self.gone = False
        self._verbs, self._reads = WorkerProcess(lab), WorkerProcess(lab)
        self._number = 0  # of the last verb
        self._stamp = ""
        self._look_now = asyncio.Event()
        self._look_problem = ""  # why the last look failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._capture: WorkerProcess | None = None
        self._capture_state: Document = {"running": False}
        self._lines: list[str] = []
        self._omitted = 0

    # ---- the state --------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read all that the page shows at first. Raises WorkerError."""
        found = await self._reads.request("state", {})
        if "gone" in found:
            self.gone = True
            return
        old = {check["id"]: check for check in self.state.get("checks", ()) if self._stamp == found["stamp"]}
        found["checks"] = [old.get(check["id"], check) for check in found["checks"]]
        self._stamp, self.gone = found.pop("stamp"), False
        del found["cost_s"]
        self.state = found

    def document(self) -> Document:
        """The state for a browser."""
        return {**self.state, "busy": self.busy, "capture": self._capture_state, "ended": self.gone}

    def changing(self) -> Document:
        """The part of the state that events change, for a browser that begins to listen."""
        return {key: value for key, value in self.document().items() if key not in ("svg", "machines", "faults")}

    # ---- verbs ------------------------------------------------------------------------------------------

    async def trace(self, arguments: Document) -> Document:
        """Follow one packet. Raises BusyError, GoneError, WorkerError."""
        number = self._number + 1
        text = f"trace {arguments['from']} -> {arguments['to']}"
        found = {"id": number, **await self._run("trace", text, arguments)}
        self.viewers.publish("trace", found)
        return found

    async def break_or_fix(self, verb: str, arguments: Document) -> Document:
        """Give the lab a fault, or remove faults. Raises BusyError, GoneError, WorkerError."""
        found = await self._run(verb, verb, arguments)
        self._publish_state({"broken": found["broken"]})
        return found

    def check(self, arguments: Document) -> None:
        """Begin to run the checks; their results are events. Raises BusyError, GoneError."""
        self._require_free()
        self.busy = {"verb": "check"}  # at once: the task begins later
        self._start(self._check(arguments))

    async def _check(self, arguments: Document) -> None:
        self.busy = None
        try:
            await self._run("check", "check", arguments, lambda event: self._publish_check(event["check"]))
        except (WorkerError, BusyError, GoneError) as error:
            self._publish_error(error)
        for check in self.state.get("checks", ()):
            if check["state"] == "running":
                self._publish_check({**check, "state": "unknown"})

    def _publish_check(self, check: Document) -> None:
        self.state["checks"] = [check if one["id"] == check["id"] else one for one in self.state.get("checks", ())]
        self.viewers.publish("check", check)

    async def machine(self, name: str) -> Document:
        """The tables of a machine; also while a verb works. Raises GoneError, WorkerError."""
        if self.gone:
            raise GoneError
        return await self._reads.request("machine", {"name": name})

    async def _run(
        self, verb: str, text: str, arguments: Document, on_event: Callable[[Document], None] = lambda _: None
    ) -> Document:
        self._require_free()
        self._number += 1
        self._set_busy({"verb": text})
        try:
            return await self._verbs.request(verb, arguments, on_event)
        finally:
            self._set_busy(None)
            self._look_now.set()

    def _require_free(self) -> None:
        """Raises BusyError if a verb works on the lab, of this page or of another process; GoneError."""
        if self.gone or self.lab not in paths.labs():
            raise GoneError
        if self.busy is not None:
            raise BusyError(f"{self.busy['verb']} runs")
        holder = lab_state.lock_holder(self.lab)
        if holder is not None:
            raise BusyError(f"{holder} works on the lab")

    def _set_busy(self, busy: Document | None) -> None:
        self.busy = busy
        self.viewers.publish("busy", busy)

    # ---- the drift, while somebody watches -----------------------------------------------------------------

    async def watch(self) -> None:
        """Look for drift, again and again, while there is a viewer. Runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self.viewers.wait()
            begun = loop.time()
            try:
                await self._look()
                self._look_problem = ""
            except (WorkerError, LabError) as error:
                if str(error) != self._look_problem:  # each problem once, not again with every look
                    self._look_problem = str(error)
                    self._publish_error(error)
            interval_s = max(LOOK_INTERVAL_S, (loop.time() - begun) / LOOK_SHARE)
            self._look_now.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), interval_s)

    async def refresh(self) -> None:
        """Look for drift now, unless `watch` does so already. Raises WorkerError."""
        if not len(self.viewers):
            await self._look()

    async def _look(self) -> None:
        """Compare the lab with its definition once. What a verb has made for the time of its run is not drift, so a
        look during which one began, or ran, does not count."""
        number = self._number
        if self._verb_works():
            return
        found = await self._reads.request("status", {})
        if self._verb_works() or self._number != number:
            return
        if "gone" in found:
            if not self.gone:
                self.gone = True
                self.viewers.publish("end", {"lab": self.lab})
            return
        if self.gone or found["stamp"] != self._stamp:
            await self.load()
            self.viewers.publish("state", self.document())
            return
        if found["drift"] != self.state["drift"]:
            self.state["drift"] = found["drift"]
            self.viewers.publish("drift", found["drift"])
        self._publish_state({"broken": found["broken"]})

    def _verb_works(self) -> bool:
        return self.busy is not None or lab_state.lock_holder(self.lab) is not None

    def _publish_state(self, part: Document) -> None:
        changes = {key: value for key, value in part.items() if self.state.get(key) != value}
        if changes:
            self.state |= changes
            self.viewers.publish("state", changes)

    def _publish_error(self, error: Exception) -> None:
        self.viewers.publish("refusal", self.error_document(error))

    def error_document(self, error: Exception) -> Document:
        """An error for a browser, with its hint as a user types it here."""
        document = {"error": str(error), "hint": "", "kind": "busy"}
        if isinstance(error, WorkerError):
            document = error.document
        elif isinstance(error, LabError):
            document = error_document(error)
        elif isinstance(error, GoneError):
            document["error"] = f"the lab {self.lab} does not run any more"
        hint = with_command(with_sudo(document["hint"], paths.sudo()), paths.command_prefix(self.lab))
        return {**document, "hint": hint}

    # ---- a capture ------------------------------------------------------------------------------------------

    async def start_capture(self, arguments: Document) -> Document:
        """Begin to send the frames at a point as events. Raises BusyError, GoneError, WorkerError."""
        if self.gone or self.lab not in paths.labs():
            raise GoneError
        if self._capture is not None:
            raise BusyError("a capture runs")
        process = self._capture = WorkerProcess(self.lab)
        running = asyncio.get_running_loop().create_future()
        task = self._start(self._run_capture(process, arguments, running))
        await asyncio.wait((running, task), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
            task.result()  # raises why it has not begun
        self._capture_state = {"running": True, "point": arguments.get("point"), "filter": arguments.get("filter")}
        self.viewers.publish("capture", self._capture_state)
        self._end_if_unwatched()
        return self._capture_state

    async def stop_capture(self, why: str = "stopped") -> None:
        """End the capture; nothing if there is none."""
        process, self._capture = self._capture, None
        if process is not None:
            await process.close()
            self._capture_ended(why)

    async def _run_capture(self, process: WorkerProcess, arguments: Document, running: asyncio.Future[None]) -> None:
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
            if self._capture is process:  # it was not stopped
                self._capture = None
                await process.close()
                self._capture_ended(why)

    def _capture_ended(self, why: str) -> None:
        self._send_lines()
        if self._capture_state["running"]:
            self._capture_state = {"running": False, "why": why}
            self.viewers.publish("capture", self._capture_state)

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

    def viewer_left(self) -> None:
        """Call it after a viewer has left: a capture that nobody sees ends soon."""
        self._end_if_unwatched()

    def _end_if_unwatched(self) -> None:
        if self._capture is not None and not len(self.viewers):
            asyncio.get_running_loop().call_later(UNWATCHED_S, lambda: self._start(self._end_unwatched()))

    async def _end_unwatched(self) -> None:
        if not len(self.viewers):
            await self.stop_capture("no page is open")

    # ---- the end ----------------------------------------------------------------------------------------------

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is reported where it matters

    async def close(self) -> None:
        """End the processes: what they do is interrupted, and what they have made is removed."""
        self.viewers.close()
        capture, self._capture = self._capture, None
        processes = [self._verbs, self._reads, *([] if capture is None else [capture])]
        await asyncio.gather(*(one.close() for one in processes))
        for task in tuple(self._tasks):
            task.cancel()
