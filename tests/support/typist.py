"""Somebody who types at a terminal: a program with a pseudo-terminal, and what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 60.0


class Typist:
    """A run of labctl at a terminal of 80 columns. `shown` is all that it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self.master, self.shown = process, master, ""

    def wait_for(self, text: str, count: int = 1) -> str:
        """Wait until a text was shown so many times since the start. Returns all that was shown."""
        deadline = time.monotonic() + WAIT_S
        while self.shown.count(text) < count:
            assert time.monotonic() < deadline, f"{text!r} is not shown:\n{self.shown}"
            assert self._read(), f"it ended without {text!r}:\n{self.shown}"
        return self.shown

    def type(self, text: str) -> None:
        """Type characters: a line with its newline, or ^C. No person is as fast as a prompt is shown: a ^C before the
        program reads would wait for the next character."""
        time.sleep(0.2)
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        deadline = time.monotonic() + WAIT_S
        while self._read() and time.monotonic() < deadline:
            pass
        return self.process.wait(WAIT_S)

    def _read(self) -> bool:
        """Read what there is within a second. False at the end."""
        if not select.select([self.master], [], [], 1)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@contextmanager
def at_a_terminal(*words: str, rows: int = 24, columns: int = 80, **variables: str) -> Iterator[Typist]:
    """Run `labctl WORDS` at a terminal, which is its only one, so that ^C reaches it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", **variables}
    command = [sys.executable, "-m", "labctl", *words]

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(slave)
    try:
        yield Typist(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
