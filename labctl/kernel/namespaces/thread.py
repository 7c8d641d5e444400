"""Entering namespaces: one dedicated thread that never does anything else, and so never has to return.

`setns` moves a thread, not a process. A thread that once entered a lab must not come back to ordinary
work (a forgotten return would aim a write at the machine itself), so all entering happens in `Inside`.
Sockets and processes that are made there stay in their namespace and may be used from anywhere.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from labctl.kernel.host.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    check,
    libc,
    mount,
    setns,
    umount,
    unshare,
)

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_PRIVATE",
    "MS_REC",
    "MS_SHARED",
    "MS_SLAVE",
    "Inside",
    "check",
    "libc",
    "mount",
    "setns",
    "umount",
    "unshare",
]

T = TypeVar("T")


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
