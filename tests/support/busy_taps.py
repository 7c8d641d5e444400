"""Taps that always have something to read, without a kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labctl.kernel.capture.tap import Taps


@contextmanager
def busy_taps(lab: str, tap: Any, thread: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taps]:
    """The taps of a lab with one tap, which is ready to be read at every moment. `thread` may be None if the test opens
    no tap."""
    monkeypatch.setattr(Taps, "_await_stamps", lambda self: None)
    monkeypatch.setattr(Taps, "verify_receiving", lambda self: {})
    taps = Taps(lab, (), thread)
    ready, writer = os.pipe()
    try:
        os.write(writer, b"!")
        taps._poll.register(ready)
        taps._by_fd[ready] = tap
        yield taps
    finally:
        os.close(ready)
        os.close(writer)
