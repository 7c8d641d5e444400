"""Calls in other threads, and a pool of threads that works without them, too: where the kernel gives no thread, the
caller does the work itself.

What labctl set up in a lab must be removed also when the limit of processes is reached. `concurrent.futures` has more
of this, but imports `logging` and others: a fiftieth of the time of a trace.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

MAX_THREADS = 64  # each mostly waits for the kernel

T = TypeVar("T")


class Call(Generic[T]):
    """A call of a function, made by one thread with `make`; any thread may wait for its end."""

    _result: T

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function
        self._error: BaseException | None = None
        self.is_done = False
        self._busy = threading.Lock()  # held until the call has ended
        self._busy.acquire()

    def make(self) -> None:
        """Call the function, once. Its error is kept for `result`."""
        function, self._function = self._function, None
        assert function is not None
        try:
            self._result = function()
        except BaseException as error:
            self._error = error
        finally:
            self.is_done = True
            self._busy.release()
            del function, self  # the error refers to this frame: together they would live until a search for cycles

    def wait(self) -> BaseException | None:
        """Wait until the call has ended. Returns its error."""
        with self._busy:
            return self._error

    def result(self) -> T:
        """Wait until the call has ended. Returns its result, or raises its error."""
        if self.wait() is None:
            return self._result
        assert self._error is not None
        try:
            raise self._error
        finally:
            del self  # as in `make`


class ThreadPool:
    """Threads that make calls at the same time. A context manager: leaving it waits for all calls.

    If no thread can be started, the thread that calls `submit` makes the calls.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._pending: deque[Call[Any]] = deque()
        self._working = 0  # threads that take from `_pending` until it is empty
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> ThreadPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def submit(self, function: Callable[[], T]) -> Call[T]:
        """Begin to call a function."""
        call = Call(function)
        with self._lock:
            self._pending.append(call)
            if self._working == MAX_THREADS:
                return call
            self._working += 1
        thread = threading.Thread(target=self._work, name=self._name)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # no new thread; those that run may take the call
            self._work()
        else:
            self._threads.append(thread)
        return call

    def close(self) -> None:
        """Wait until all calls have ended, and their threads."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._working -= 1
                    return
                call = self._pending.popleft()
            call.make()
            del call  # it would keep its result and its error


def call_all(name: str, functions: Iterable[Callable[[], object]]) -> None:
    """Call functions at the same time, and wait until all have ended. Their errors are lost."""
    with ThreadPool(name) as pool:
        for function in tuple(functions):
            pool.submit(function)
