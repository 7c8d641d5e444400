"""One lab as its page shows it: its state, one verb at a time, and the drift while somebody watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from labctl.errors import LabError
from labctl.kernel.host import lab_state, paths
from labctl.report.plain_text import with_command, with_sudo
from labctl.view.capture import LabCapture
from labctl.view.processes import BusyError, GoneError, WorkerError, WorkerProcess
from labctl.view.protocol import Document, error_document
from labctl.view.viewers import Viewers

LOOK_INTERVAL_S = 1.0  # seconds between two looks for drift, at least
LOOK_SHARE = 0.05  # of the time that looks may take: a lab that takes 300 ms to read is read every 6 seconds
FAULTS_WAIT_S = 2.0  # seconds for which a page waits for the faults that its lab can have; otherwise they come later


class LabPage:
    """The state of one lab and the verbs on it. All viewers see the same."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.viewers = Viewers()
        self.state: Document = {}
        self.busy: Document | None = None
        self.gone = False
        self._verbs, self._reads = WorkerProcess(lab), WorkerProcess(lab)
        self._faults: WorkerProcess | None = None  # that finds the faults which the lab can have
        self._number = 0  # of the last verb
        self._stamp = ""
        self._look_now = asyncio.Event()
        self._look_problem = ""  # why the last look failed
        self._checking: asyncio.Task[None] | None = None
        self._finding: asyncio.Task[Document] | None = None  # the search for faults
        self.capture = LabCapture(lab, self.viewers)

    async def load(self) -> None:
        """Read all that the page shows at first. Raises WorkerError."""
        found = await self._reads.request("state", {})
        if "gone" in found:
            self.gone = True
            return
        old = {check["id"]: check for check in self.state.get("checks", ()) if self._stamp == found["stamp"]}
        found["checks"] = [old.get(check["id"], check) for check in found["checks"]]
        found["faults"] = self.state.get("faults", []) if self._stamp == found["stamp"] else []
        self._stamp, self.gone = found.pop("stamp"), False
        del found["cost_s"]
        self.state = found
        self._finding = finding = asyncio.get_running_loop().create_task(self._find_faults())
        await asyncio.wait((finding,), timeout=FAULTS_WAIT_S)
        if finding.done() and not finding.cancelled():
            self.state |= finding.result()
        else:
            finding.add_done_callback(lambda task: None if task.cancelled() else self._publish_state(task.result()))

    async def _find_faults(self) -> Document:
        """The faults that the lab can have, from a separate process, because it takes long in a large lab; {} if they
        are not found, or another search has begun."""
        last, process = self._faults, WorkerProcess(self.lab)
        self._faults = process
        try:
            if last is not None:
                await last.close()
            found = await process.request("faults", {})
            return found if self._faults is process else {}
        except WorkerError as error:
            if self._faults is process and not self.viewers.closed:
                self._publish_error(error)
            return {}
        finally:
            await process.close()
            if self._faults is process:
                self._faults = None

    def document(self) -> Document:
        """The state for a browser."""
        return {**self.state, "busy": self.busy, "capture": self.capture.state, "ended": self.gone}

    def changing(self) -> Document:
        """The part of the state that events change, for a browser that begins to listen."""
        return {key: value for key, value in self.document().items() if key not in ("svg", "machines", "faults")}

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

    async def lesson(self, arguments: Document) -> Document:
        """Where the learner is; with an action, after a step, which all viewers see. Raises BusyError, GoneError,
        WorkerError."""
        if not arguments:
            if self.gone:
                raise GoneError
            return await self._reads.request("lesson", {})
        number = self._number + 1
        found = await self._run("lesson", "learn", arguments)
        traced = found.pop("traced")
        if traced is not None:
            self.viewers.publish("trace", {"id": number, **traced})
        self.viewers.publish("lesson", found)
        return found

    def check(self, arguments: Document) -> None:
        """Begin to run the checks; their results are events. Raises BusyError, GoneError."""
        self._require_free()
        self.busy = {"verb": "check"}  # at once: the task begins later
        self._checking = asyncio.get_running_loop().create_task(self._check(arguments))

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

    async def reasons(self, name: str, text: str) -> Document:
        """Why the objects of a machine are there, or all of one object; also while a verb works. Raises GoneError,
        WorkerError."""
        if self.gone:
            raise GoneError
        return await self._reads.request("reasons", {"name": name, "object": text})

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

    async def close(self) -> None:
        """End the processes: what they do is interrupted, and what they have made is removed."""
        self.viewers.close()
        ends = (self._verbs, self._reads, self._faults, self.capture)
        await asyncio.gather(*(one.close() for one in ends if one is not None))
        for task in (self._checking, self._finding):
            if task is not None:
                task.cancel()
