"""Child processes that cannot keep labctl waiting: ping, tcpdump, iptables, modprobe, CNI plugins.

A child may start processes that run on and have its output open. A reader that waits for the end of the output waits
for all of them. Here a child has ended when its pidfd says so, and its output is what it has written by then. Each
child has its own session. A child that takes too long is killed with all processes of its process group.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.kernel.host.limits import starting

KILL_TIMEOUT_S = 1.0  # seconds to wait for the end of a killed process: one that waits for a device does not end
CHUNK_BYTES = 65536  # bytes that are read or written at once: what a pipe holds
MAX_WAITING_CHUNKS = 16  # that a pipe can hold, if a program enlarges it to 1 MiB (fs.pipe-max-size)


class ChildTimeoutError(Exception):
    """A child did not end in time. It was killed."""


class ChildOutputError(Exception):
    """A child wrote more than it may. It was killed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended, and what it had written by then. A negative exit code is the number of a signal."""

    returncode: int
    stdout: str
    stderr: str


class Child:
    """A child of this process, in its own session and in this thread's namespace. A context manager: leaving it kills
    what is left of the child and its process group.

    `stdout` and `stderr` are file descriptors that never block, and so is `stdin`, which is -1 without `with_input`.
    `pidfd` is readable when the child has ended. With `input_file` and `output_file`, which are descriptors too, it
    reads and writes these files: then it works on while no thread waits for it, whatever the size, and `stdout` is -1.
    Raises LimitError if no process can be started, OSError if the program cannot be run.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        executable: str | None = None,
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
        with_input: bool = False,
        input_file: int | None = None,
        output_file: int | None = None,
        before_exec: Callable[[], object] | None = None,
    ) -> None:
        pipe = subprocess.PIPE
        stdin = input_file if input_file is not None else pipe if with_input else subprocess.DEVNULL
        stdout = output_file if output_file is not None else pipe
        self.pidfd = -1
        self._outputs: dict[int, bytearray] = {}
        with starting(os.path.basename(command[0])):
            # all descriptors of Python close on exec, so close_fds is not needed
            self._process = subprocess.Popen(
                command, bufsize=0, executable=executable, stdin=stdin, stdout=stdout, stderr=pipe,
                env=environment, cwd=folder, start_new_session=True, close_fds=False, preexec_fn=before_exec,
            )  # fmt: skip
            self._pipes = [one for one in (self._process.stdin, self._process.stdout, self._process.stderr) if one]
            for one in self._pipes:
                os.set_blocking(one.fileno(), False)
            self.stdin, self.stdout, self.stderr = (
                -1 if one is None else one.fileno()
                for one in (self._process.stdin, self._process.stdout, self._process.stderr)
            )
            try:
                self.pidfd = os.pidfd_open(self._process.pid)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self.pidfd >= 0:
            self.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds for the end of the child; returns whether it has ended."""
        return self._process.returncode is not None or _wait(self.pidfd, timeout_s)

    @property
    def returncode(self) -> int:
        """The exit code of a child that has ended, or was killed; negative for a signal."""
        code = self._process.poll()
        return -signal.SIGKILL if code is None else code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal. Raises ProcessLookupError if it has ended."""
        if self.wait(0):
            raise ProcessLookupError
        signal.pidfd_send_signal(self.pidfd, number)

    def output(self) -> tuple[str, str]:
        """What it has written so far to standard output and standard error; nothing of an output file."""
        out, err = (self._read_all(fd) if fd >= 0 else bytearray() for fd in (self.stdout, self.stderr))
        return out.decode(errors="replace"), err.decode(errors="replace")

    def communicate(
        self, text: str, timeout_s: float, *, keep_group: bool = False, max_bytes: int | None = None
    ) -> Finished:
        """Write `text` to its standard input, and read its output until it ends. Then its process group is killed, but
        with `keep_group` only if the time is up.

        Raises ChildTimeoutError after `timeout_s` seconds, ChildOutputError after `max_bytes` of output.
        """
        data, deadline = memoryview(text.encode(errors="replace")), time.monotonic() + timeout_s
        poll = select.poll()
        for fd in (self.pidfd, self.stdout, self.stderr):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        if self.stdin >= 0:
            poll.register(self.stdin, select.POLLOUT)
        while (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(math.ceil(left * 1000))}
            if self.stdin in ready:
                data = data[self._write(data) :]
                if not data:
                    poll.unregister(self.stdin)
                    self._process.stdin.close()  # type: ignore[union-attr]
            for fd in ready & {self.stdout, self.stderr}:
                if self._read(fd) == b"":
                    poll.unregister(fd)  # closed by all that had it open
            if max_bytes is not None and any(len(data) > max_bytes for data in self._outputs.values()):
                self.kill()
                raise ChildOutputError
            if self.pidfd in ready:
                if not keep_group:
                    self.kill()
                return Finished(self._process.wait(), *self.output())
        self.kill()
        raise ChildTimeoutError

    def first_output(self, timeout_s: float) -> str:
        """Wait at most `timeout_s` seconds until it writes to its standard output, or ends; returns what it wrote."""
        poll = select.poll()
        for fd in (self.pidfd, self.stdout):
            poll.register(fd, select.POLLIN)
        poll.poll(math.ceil(timeout_s * 1000))
        return self.output()[0]

    def release(self) -> int:
        """Let it run on, and return its process id: this object no longer ends it."""
        self._process.returncode = 0  # no process waits for it
        return self._process.pid

    def kill(self) -> None:
        """Kill it, with all processes of its process group."""
        if self._process.returncode is None:  # until it is waited for, no other process can get its id
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if self.pidfd < 0 or _wait(self.pidfd, KILL_TIMEOUT_S):
                self._process.wait()

    def close(self) -> None:
        """Kill what is left, and close all files. Can be called twice."""
        self.kill()
        for one in self._pipes:
            one.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self.stdin, data[:CHUNK_BYTES])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            return len(data)  # it reads no more

    def _read(self, fd: int) -> bytes | None:
        """What waits in a pipe now; None if nothing does, b"" at its end."""
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return None
        self._outputs.setdefault(fd, bytearray()).extend(data)
        return data

    def _read_all(self, fd: int) -> bytearray:
        for _ in range(MAX_WAITING_CHUNKS):  # what waits, and not what other processes still write
            if not self._read(fd):
                break
        return self._outputs.setdefault(fd, bytearray())


def run(
    command: Sequence[str | Path],
    *,
    timeout_s: float,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
    keep_group: bool = False,
    max_bytes: int | None = None,
) -> Finished:
    """Run a program in this thread's namespace until it ends. `text` is its input. With `keep_group`, what it started
    may run on.

    Raises LimitError if no process can be started, OSError if the program cannot be run, ChildTimeoutError after
    `timeout_s` seconds, ChildOutputError after `max_bytes` of output.
    """
    with Child(command, environment=environment, folder=folder, with_input=text is not None) as child:
        return child.communicate(text or "", timeout_s, keep_group=keep_group, max_bytes=max_bytes)


def _wait(pidfd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(math.ceil(timeout_s * 1000)))
