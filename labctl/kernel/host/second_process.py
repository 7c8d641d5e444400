"""A second process that does a part of the work of this one: a fork, which has all that this process has in memory.

Python runs one thread at a time, so only a second process uses a second core. A fork copies one thread and the locks of
all, so a process that has more threads is not forked (`can_fork`). The second process sends what it has found as bytes.
If it ends before that, the first one knows: `receive` raises EOFError.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from labctl.kernel.host.limits import starting
from labctl.kernel.host.signals import TERMINATION_SIGNALS

_length = struct.Struct("=Q")
CHUNK_BYTES = 1 << 20


class Pipe:
    """One end of a connection between two processes: it sends and receives whole messages, of any length."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(self, data: bytes) -> None:
        """Send a message; waits while the other process does not receive. Raises OSError if it has ended."""
        self._socket.sendall(_length.pack(len(data)))
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """The next message; waits for it. Raises EOFError if the other process ends before it has sent all of it."""
        return self._read(_length.unpack(self._read(_length.size))[0])

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = self._socket.recv(min(count, CHUNK_BYTES))
            if not part:
                raise EOFError("the second process has ended early")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def can_fork() -> bool:
    """Whether a second process can share the work: there is a second core, and this process has one thread."""
    return len(os.sched_getaffinity(0)) > 1 and threading.active_count() == 1


@contextmanager
def second_process(work: Callable[[Pipe], object]) -> Iterator[Pipe]:
    """Start a second process, which calls `work` with its end of the connection and then ends, whatever happens in it.
    Inside the block is the other end. Leaving the block ends the second process.

    Meanwhile, unused cycles of objects are not searched in either process: a search writes to all objects, and each
    page of memory that is written becomes a copy. Raises LimitError if no process can be started.
    """
    ours, theirs = socket.socketpair()
    collects = gc.isenabled()
    gc.disable()
    try:
        pid = _fork(lambda: work(Pipe(theirs)), ours)
        theirs.close()
        try:
            yield Pipe(ours)
        finally:
            ours.close()
            _end(pid)
    finally:
        ours.close()
        theirs.close()
        if collects:
            gc.enable()


def _fork(work: Callable[[], object], unused: socket.socket) -> int:
    """Start the second process; returns its id. In it, a signal ends it at once, and an error is silent: without its
    messages, the first process does the work itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATION_SIGNALS)
    try:
        with starting("a second process"):
            pid = os.fork()
        if pid == 0:
            try:
                for number in TERMINATION_SIGNALS:
                    if callable(signal.getsignal(number)):
                        signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                unused.close()
                work()
            finally:
                os._exit(0)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)  # one that has done its work is about to end
        os.waitpid(pid, 0)
