"""`labctl view` as a child process, and requests to it as a browser sends them."""

from __future__ import annotations

import http.client
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import labctl.view

STATIC = Path(labctl.view.__file__).parent / "static"
IS_BUILT = (STATIC / "index.html").is_file()
TIMEOUT_S = 30.0
# where the page is not built, the server serves the files of another folder
WITH_FOLDER = (
    "import pathlib, sys; folder = pathlib.Path(sys.argv.pop(1)); import labctl.cli.verbs.view as verb; "
    "verb._built_page = lambda: folder; from labctl.cli import run_program; run_program()"
)


class Events:
    """The events of a page, as they come. A context manager."""

    def __init__(self, server: PageServer) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
        self.connection.request("GET", f"{server.path}events")
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        self.received: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        name = ""
        try:
            for line in self.response:
                text = line.decode().rstrip("\r\n")
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    self.received.put((name, json.loads(text.removeprefix("data: "))))
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # the test has closed the connection
        self.received.put(("closed", None))

    def wait(self, name: str, timeout_s: float = TIMEOUT_S) -> Any:
        """The data of the next event of this name; what comes before is left out."""
        while True:
            found, data = self.received.get(timeout=timeout_s)
            if found == name:
                return data
            assert found != "closed", f"the stream has ended, and no event {name} came"

    def names(self) -> Iterator[str]:
        """The names of the events that have come and were not read yet."""
        while not self.received.empty():
            yield self.received.get()[0]

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(TIMEOUT_S)
        self.response.close()
        self.connection.close()


class PageServer:
    """A running `labctl view`. A context manager: leaving it ends the process as ^C does."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        command: tuple[str, ...] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        start = (sys.executable, "-m", "labctl") if IS_BUILT else (sys.executable, "-c", WITH_FOLDER, str(folder))
        if not IS_BUILT:
            folder.mkdir(exist_ok=True)
            (folder / "index.html").write_text("<!doctype html><title>labctl</title>")
        self.process = subprocess.Popen(
            [*(command or start), "view", "--json", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        lines = []
        while (line := self.process.stdout.readline()) not in ("}\n", ""):
            lines.append(line)
        if not line:
            raise AssertionError(f"labctl view has ended: {self.process.communicate()}")
        self.document: dict[str, Any] = json.loads("".join([*lines, line]))
        self.address: str = self.document["url"]
        parts = urlsplit(self.address)
        assert parts.port is not None
        self.port, self.path, self.origin = parts.port, parts.path, f"http://{parts.netloc}"

    def request(
        self, method: str, path: str = "", body: object = None, headers: dict[str, str | None] | None = None
    ) -> tuple[int, Any]:
        """The status and the JSON document (or the text) of the answer. A header of None is left out."""
        given: dict[str, str | None] = {"Origin": self.origin} if method in ("POST", "DELETE") else {}
        if body is not None:
            given["Content-Type"] = "application/json"
        sent = {name: value for name, value in {**given, **(headers or {})}.items() if value is not None}
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path if path.startswith("/") else self.path + path, data, sent)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        kind = response.headers.get("Content-Type", "")
        return response.status, json.loads(text) if kind.startswith("application/json") else text

    def post(self, path: str, **body: object) -> tuple[int, Any]:
        return self.request("POST", path, body)

    def events(self) -> Events:
        return Events(self)

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """End it by a signal. Returns its exit code, and what it wrote to standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, errors

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.stop()
        finally:
            self.process.kill()
