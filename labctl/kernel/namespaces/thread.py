"""Enter namespaces: in one dedicated thread that does nothing else, and so never has to return.

`setns` moves a thread, not a process. A thread that entered a lab must not do ordinary work again: a forgotten return
to the machine's namespace would make a later write hit the wrong namespace. So only a `NetnsThread` enters namespaces
(except to read a lab where no thread can be started: see `entry.returning`).
Sockets and processes that are created there stay in their namespace, and any thread may use them.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from labctl.kernel.host.limits import SPARE_FILES, raise_open_file_limit, require_spare_files, starting
from labctl.kernel.host.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    libc,
    mount,
    raise_on_error,
    umount,
    unshare,
)
from labctl.kernel.host.thread_pool import Call
from labctl.kernel.namespaces.entry import enter_netns, open_netns

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_PRIVATE",
    "MS_REC",
    "MS_SHARED",
    "MS_SLAVE",
    "NetnsThread",
    "libc",
    "mount",
    "raise_on_error",
    "umount",
    "unshare",
]

T = TypeVar("T")


class NetnsThread:
    """A thread for work inside namespaces. A context manager: leaving it ends the thread. It starts when it is needed,
    and raises the limit of open files then: what works inside namespaces mostly has a file open for each.

    `run(netns, function, ...)` calls the function in that thread after it entered `netns`: a path, the file descriptor
    of an open namespace, or None to stay in the present one. The machine's own namespace is refused with KernelError
    (see `entry`). Calls run in order. An exception of the function is raised in the caller. Processes that the function
    starts run in the namespace. Their parent-death signal comes when this thread ends, not when the caller's does.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self.spare_files = SPARE_FILES  # must be free when a function begins in a namespace: it may open files

    def __enter__(self) -> NetnsThread:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread. The sockets and processes that were created in it stay."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()

    def start(self) -> None:
        """Start the thread, which the first `run` does otherwise. Raises LimitError if no thread can be started."""
        with self._start_lock:
            if self._thread is None:
                raise_open_file_limit()
                thread = threading.Thread(target=self._serve, name="netns", daemon=True)
                with starting("a thread"):
                    thread.start()
                self._thread = thread

    def run(self, netns: int | str | Path | None, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `function(*args, **kwargs)` inside `netns` and return its result.

        Raises LimitError if no thread can be started, or if only a few files more can be opened; else what the function
        raises, or OSError if the namespace cannot be entered.
        """
        call = self.begin(netns, function, *args, **kwargs)
        try:
            return call.result()
        finally:
            del call  # an error refers to this frame: together they would live until unused cycles are searched

    def begin(self, netns: int | str | Path | None, function: Callable[..., T], *args: Any, **kwargs: Any) -> Call[T]:
        """As `run`, but the caller works on meanwhile: `result()` of what it gets waits. Raises LimitError if no thread
        can be started."""
        if self._thread is None:
            self.start()
        call = Call(lambda: self._call(netns, lambda: function(*args, **kwargs)))
        self._calls.put(call)
        return call

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make()
            del call

    def _call(self, netns: int | str | Path | None, function: Callable[[], T]) -> T:
        if netns is not None:
            self._enter(netns)
        return function()

    def _enter(self, netns: int | str | Path) -> None:
        if isinstance(netns, int):
            enter_netns(netns)
            return
        fd = open_netns(netns)
        try:
            require_spare_files(fd, self.spare_files)
            enter_netns(fd)
        finally:
            os.close(fd)
