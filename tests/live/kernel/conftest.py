"""Fixtures of the tests of labctl.kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare


@pytest.fixture
def fresh() -> Iterator[Callable[..., Any]]:
    """A function that calls others inside a new network namespace, which goes with the test."""
    with NetnsThread() as inside:
        inside.run(None, unshare, CLONE_NEWNET)
        yield lambda work, *args, **named: inside.run(None, work, *args, **named)
