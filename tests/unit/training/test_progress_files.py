"""What learners have reached: where it is, and that two commands at the same time lose nothing of it."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.errors import KernelError
from labctl.exercises.progress import Progress
from labctl.kernel.host import paths, state_files
from labctl.training import progress_files, progress_records
from tests.support import samples

NAMES = ("LABCTL_PROGRESS_DIR", "LABCTL_STATE_DIR", "XDG_STATE_HOME", paths.HOLDER_VARIABLE, paths.SANDBOX_VARIABLE)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "/var/lib/labctl"),
        ({"LABCTL_STATE_DIR": "/run/other"}, "/run/other"),
        ({"LABCTL_PROGRESS_DIR": "/srv/p", "LABCTL_STATE_DIR": "/run/other"}, "/srv/p"),
        ({paths.HOLDER_VARIABLE: "/x", "HOME": "/home/ana"}, "/home/ana/.local/state/labctl"),
        ({paths.HOLDER_VARIABLE: "/x", "XDG_STATE_HOME": "/home/ana/s"}, "/home/ana/s/labctl"),
        ({paths.SANDBOX_VARIABLE: "1"}, "/run/labctl"),
    ],
)
def test_progress_is_where_a_reboot_keeps_it(
    variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert str(paths.progress_dir()) == place
    assert paths.directory_of(".lessons", "ana") == paths.directory_of(".exercises") == paths.progress_dir()
    assert paths.directory_of("kubenet") == paths.directory_of() == paths.state_dir()


def test_two_writers_lose_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_PROGRESS_DIR", str(tmp_path))
    progress_records.save(samples.PROGRESS)

    def count() -> None:
        for _ in range(20):
            progress_records.update(samples.PROGRESS, lambda one: replace(one, checks=one.checks + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = progress_records.load("ana", "a-way-out")
    assert found is not None
    assert found.checks == 80
    assert progress_records.learners() == ("ana",)
    assert progress_records.load_all("ana") == (found,), "the file of the lock is not a record"


def test_an_update_of_other_tasks_begins_with_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_PROGRESS_DIR", str(tmp_path))
    progress_records.save(replace(samples.PROGRESS, tasks=samples.PROGRESS.tasks[:1], checks=7))

    def after(one: Progress) -> Progress:
        return replace(one, checks=one.checks + 1)

    assert progress_records.update(samples.PROGRESS, after) == replace(samples.PROGRESS, checks=1)


def test_a_lock_that_is_held_is_an_error_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_PROGRESS_DIR", str(tmp_path))
    monkeypatch.setattr(progress_files, "LOCK_TIMEOUT_S", 0.05)

    with state_files.lock(".exercises", "ana/.a-way-out.lock", 0.0):
        with pytest.raises(KernelError, match="the progress of ana in a-way-out is locked"):
            progress_records.save(samples.PROGRESS)
        with pytest.raises(state_files.LockedError), state_files.lock(".exercises", "ana/.a-way-out.lock", 0.0):
            pass
    progress_records.save(samples.PROGRESS)


def test_a_link_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_PROGRESS_DIR", str(tmp_path))
    (tmp_path / ".exercises/ana").mkdir(parents=True)
    os.symlink("/etc/passwd", tmp_path / ".exercises/ana/.a-way-out.lock")

    with pytest.raises(KernelError, match="a link"):
        progress_records.save(samples.PROGRESS)
