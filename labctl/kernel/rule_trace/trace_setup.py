"""What surrounds one trace: its record, its tracing instance, and the removal of everything that it set up.

The kernel needs tens of milliseconds to create a tracing instance, and to remove it, a packet socket or an nft table,
because it waits until no processor uses them (RCU grace periods). This time costs no processor. So the instance is
created while the caller reads the lab, and everything is removed at the same time, while the caller explains what was
seen. Leaving a `TraceSetup` waits for all of it: nothing outlives the trace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from labctl.kernel.host.signals import ignore_signals
from labctl.kernel.host.thread_pool import Call, ThreadPool
from labctl.kernel.host.work_record import WorkRecord
from labctl.kernel.rule_trace.tracefs import Tracing


class TraceSetup:
    """The surroundings of one trace in a lab. A context manager.

    `tracing` is the tracing instance; None if the kernel refuses it, for the reason in `problem`.
    """

    def __init__(self, lab: str) -> None:
        # the name of the tracing instance and of the nft tables; the number is that of this thread, which for a
        # command's main thread is the process id
        self.name = f"labctl-{lab}-{threading.get_native_id()}"
        self.tracing: Tracing | None = None
        self.problem = ""
        self._held = ExitStack()
        self._pool = ThreadPool("trace-setup")
        self.record = WorkRecord(f"a trace of lab {lab}")
        self.record.note("tracing", name=self.name)
        try:
            self.tracing = Tracing(self.name)
        except OSError as error:
            self.problem = error.strerror or str(error)
        else:
            self._configuration = self._pool.submit(self.tracing.configure)

    def __enter__(self) -> TraceSetup:
        return self

    def __exit__(self, *exc: object) -> None:
        with ignore_signals():
            try:
                self.record.finish(self._remove_all)
            finally:
                self._held.close()

    def _remove_all(self) -> None:
        self.remove_tracing()
        self._pool.close()

    def hold(self, context: AbstractContextManager[None]) -> None:
        """Enter a context, and leave it when everything is removed."""
        self._held.enter_context(context)

    def beside(self, function: Callable[[], None]) -> Call[None]:
        """Call a function in another thread. Leaving the setup waits for its end; its error is in the call."""
        return self._pool.submit(function)

    @property
    def is_configured(self) -> bool:
        """Whether the kernel has created the tracing instance, or has refused it."""
        return self.tracing is None or self._configuration.is_done

    def watch_drops(self, lengths: tuple[int, ...]) -> None:
        """Switch on the events of the tracing instance, for packets of these lengths. If the kernel refuses that, there
        is no `tracing` afterwards."""
        if self.tracing is None:
            return
        try:
            self._configuration.result()
            self.tracing.watch(lengths)
        except OSError as error:
            self.problem = error.strerror or str(error)
            self.remove_tracing()

    def remove_tracing(self) -> None:
        """Begin to remove the tracing instance."""
        if self.tracing is not None:
            self._configuration.wait()
            self.beside(self.tracing.close)
            self.tracing = None
