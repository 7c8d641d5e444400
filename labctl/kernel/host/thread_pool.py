"""A pool of threads that works without them, too: where the kernel gives no thread, the caller does the work itself.

What labctl set up in a lab must be removed also when the limit of processes is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

MAX_THREADS = 64  # each mostly waits for the kernel


class ThreadPool(ThreadPoolExecutor):
    """A ThreadPoolExecutor that works in the thread that calls `submit` if no other can be started."""

    def __init__(self, name: str) -> None:
        super().__init__(MAX_THREADS, name)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin to call a function; the future has its result or its exception."""
        future: Future[Any] = Future()
        pending = [partial(function, *args, **kwargs)]

        def work() -> None:
            try:
                call = pending.pop()
            except IndexError:
                return  # it was done elsewhere
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

        try:
            super().submit(work)
        except (RuntimeError, MemoryError):  # no new thread; those that run may have taken the work
            work()
        return future


def call_all(name: str, functions: Iterable[Callable[[], object]]) -> None:
    """Call functions at the same time, and wait until all have ended. Their errors are lost."""
    calls = tuple(functions)
    if calls:
        with ThreadPool(name) as pool:
            for call in calls:
                pool.submit(call)
