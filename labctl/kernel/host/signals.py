"""Time to clean up in: while it lasts, an impatient second ^C does not leave half a lab behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

IMPATIENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore the signals that ask a process to end, until the block is done. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IMPATIENT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
