"""The server's side of a worker process: start it, send it requests, and end it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from labctl.kernel.host.child_process import Child
from labctl.translation.language import current_language
from labctl.view.protocol import Document, Lines, encode

END_TIMEOUT_S = 15.0  # seconds that a verb may take to remove what it has made
CHUNK_BYTES = 65536
MAX_STDERR_BYTES = 4000  # kept of what a worker writes there, for the message if it ends
START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from labctl.view.worker import main; main(sys.argv[1], sys.argv[3])"
)


class BusyError(Exception):
    """Another verb works on the lab. The message says which."""


class GoneError(Exception):
    """The lab does not run any more."""


class WorkerError(Exception):
    """An error that a worker has reported: `document` has its `error`, `hint` and `kind`."""

    def __init__(self, document: Document) -> None:
        super().__init__(document["error"])
        self.document = document


def command(lab: str) -> list[str]:
    """The command line of a worker. Its Python is this one, isolated: it imports from where this process imports, and
    not from the current directory. Its language is that of this process."""
    cache = ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
    dont_write = ["-B"] if sys.dont_write_bytecode else []
    places = json.dumps([one for one in sys.path if one])
    return [sys.executable, "-I", *dont_write, *cache, "-c", START, lab, places, current_language()]


class WorkerProcess:
    """One worker process of a lab. It starts with the first request, and again with the next one if it has ended."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self._child: Child | None = None
        self._lines = Lines()
        self._stderr = b""
        self._number = 0
        self._answer: asyncio.Future[Document] | None = None
        self._on_event: Callable[[Document], None] = lambda _: None
        self._turn = asyncio.Lock()
        self._gone = asyncio.Event()

    async def request(
        self, verb: str, arguments: Document, on_event: Callable[[Document], None] = lambda _: None
    ) -> Document:
        """What the verb returns. `on_event` gets what it reports meanwhile. Requests run one after the other.

        Raises WorkerError.
        """
        async with self._turn:
            child = self._child or self._start()
            self._number += 1
            self._answer = asyncio.get_running_loop().create_future()
            self._on_event = on_event
            line = encode({"id": self._number, "verb": verb, "arguments": arguments})
            try:
                if os.write(child.stdin, line) != len(line):
                    raise BlockingIOError
            except OSError as error:
                self._ended(f"it does not read: {error}")
            try:
                return await self._answer
            finally:
                self._answer = None

    async def close(self) -> None:
        """End the process: a verb that runs is interrupted, and removes what it has made for the time of its run."""
        child = self._child
        if child is None:
            return
        try:
            child.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self._gone.wait(), END_TIMEOUT_S)  # the end of its output is its end
        except (ProcessLookupError, asyncio.TimeoutError):
            pass
        finally:
            self._ended("it was ended")

    def _start(self) -> Child:
        child = Child(command(self.lab), folder="/", with_input=True)
        self._child, self._lines, self._stderr = child, Lines(), b""
        self._gone.clear()
        loop = asyncio.get_running_loop()
        loop.add_reader(child.stdout, self._read, child)
        loop.add_reader(child.stderr, self._read_stderr, child)
        return child

    def _read(self, child: Child) -> None:
        data = _available(child.stdout)
        if data is None:
            return
        if not data:
            self._ended("it ended by itself")
            return
        try:
            documents = self._lines.add(data)
        except ValueError as error:
            self._ended(f"its answer cannot be read: {error}")
            return
        for document in documents:
            self._take(document)

    def _take(self, document: dict[str, Any]) -> None:
        if document["id"] != self._number or self._answer is None or self._answer.done():
            return
        if "event" in document:
            self._on_event(document["event"])
        elif "error" in document:
            self._answer.set_exception(WorkerError(document["error"]))
        else:
            self._answer.set_result(document["result"])

    def _read_stderr(self, child: Child) -> None:
        data = _available(child.stderr)
        if data == b"":
            asyncio.get_running_loop().remove_reader(child.stderr)
        elif data:
            self._stderr = (self._stderr + data)[-MAX_STDERR_BYTES:]

    def _ended(self, why: str) -> None:
        """Forget the process, and kill it if it still runs. A request that waits fails."""
        child, self._child = self._child, None
        if child is None:
            return
        loop = asyncio.get_running_loop()
        for fd in (child.stdout, child.stderr):
            loop.remove_reader(fd)
        child.close()
        self._gone.set()
        if self._answer is not None and not self._answer.done():
            last = self._stderr.decode(errors="replace").strip().splitlines()[-1:]
            message = f"the process that worked on the lab ended: {': '.join([why, *last])}"
            self._answer.set_exception(WorkerError({"error": message, "hint": "try again", "kind": "ended"}))


def _available(fd: int) -> bytes | None:
    """What a pipe has now, b"" at its end, None if it has nothing."""
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return None
