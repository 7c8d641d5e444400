"""Entering namespaces: one dedicated thread that never does anything else, and so never has to return.

`setns` moves a thread, not a process. A thread that once entered a lab must not come back to ordinary
work (a forgotten return would aim a write at the machine itself), so all entering happens in `Inside`.
Sockets and processes that are made there stay in their namespace and may be used from anywhere.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

T = TypeVar("T")
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Turn a libc call's -1 into an OSError that says what was tried."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace behind `fd`."""
    check(libc.setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    """Give the calling thread (or a single-threaded process) new namespaces of the kinds in `flags`."""
    check(libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    check(libc.mount(*words, ctypes.c_ulong(flags), None if data is None else os.fsencode(data)), f"mount {target}")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2). Raises OSError."""
    check(libc.umount2(os.fsencode(target), flags), f"umount {target}")


class Inside:
    """A thread for work inside namespaces; a context manager that ends it.

    `run(where, function, ...)` calls the function in that thread after entering `where`, which is a path,
    an open namespace's file descriptor, or None to stay wherever the thread is. Calls are served in
    order; what the function raises is raised at the caller. Processes started by the function live in
    the namespace, and their parent-death signal waits for this thread, not for the caller.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], int | str | Path | None, Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="inside", daemon=True)
        self._thread.start()

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; what it made stays."""
        self._jobs.put(None)
        self._thread.join()

    def run(self, where: int | str | Path | None, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `function(*args, **kwargs)` inside `where` and return its result."""
        future: Future[T] = Future()
        self._jobs.put((future, where, lambda: function(*args, **kwargs)))
        return future.result()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, where, work = job
            try:
                if where is not None:
                    self._enter(where)
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

    @staticmethod
    def _enter(where: int | str | Path) -> None:
        if isinstance(where, int):
            setns(where)
            return
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd)
        finally:
            os.close(fd)
