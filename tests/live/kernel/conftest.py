"""Fixtures of the tests of labctl.kernel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from tests.support.person import NOBODY, USER, Person


@pytest.fixture
def fresh() -> Iterator[Callable[..., Any]]:
    """A function that calls others inside a new network namespace, which goes with the test."""
    with NetnsThread() as inside:
        inside.run(None, unshare, CLONE_NEWNET)
        yield lambda work, *args, **named: inside.run(None, work, *args, **named)


@pytest.fixture(params=["root", "nobody"])
def person(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Person]:
    """Root, which has the same rights in a user namespace as a user; and a user, if it may read all files here."""
    someone = Person(tmp_path / "own", ())
    if request.param == "nobody":
        someone = Person(Path(f"/run/netns/of-nobody-{os.getpid()}"), USER)  # a folder that the user cannot reach else
    if reason := someone.reason_to_skip:
        pytest.skip(reason)
    someone.folder.mkdir()
    if someone.prefix:
        os.chown(someone.folder, NOBODY, NOBODY)
    yield someone
    someone.types("down", "--all")
    left = someone.holder
    shutil.rmtree(someone.folder)
    assert left is None
