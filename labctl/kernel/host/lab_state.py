"""A running lab's definition, and a lock for changes of the lab: small files in the state directory.

The kernel itself is the record of what runs. With these files, a user does not have to give the scenario again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labctl.errors import LockError
from labctl.kernel.host import paths

LOCK_TIMEOUT_S = 30.0  # seconds to wait for a lock
LOCK_INTERVAL_S = 0.02  # seconds between two attempts to lock: flock has no timeout
FILES = {"definition.json", "faults.json", "xtables.lock", "bin", "cni"}  # what a lab's directory can contain
_DRAFT = re.compile(r"\.(.+)\.\d+")  # a file that `save` has not finished


def directory(lab: str) -> Path:
    """The directory of a lab's files."""
    return paths.state_dir() / lab


def labs_with_files() -> tuple[str, ...]:
    """The labs that have files in the state directory, sorted, running or not. Directories of others are left out."""
    try:
        with os.scandir(paths.state_dir()) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return tuple(sorted(name for name in names if _is_lab_directory(name)))
    except OSError:
        return ()


def _is_lab_directory(lab: str) -> bool:
    found = {_without_draft(path.name) for path in directory(lab).iterdir()}
    return "definition.json" in found or bool(found and found <= FILES)


def _without_draft(name: str) -> str:
    """The name of a file, or the name that a draft was to get."""
    draft = _DRAFT.fullmatch(name)
    return name if draft is None else draft[1]


def locked_labs() -> tuple[str, ...]:
    """The labs with a lock file: those that change now, and those for which the change was killed."""
    try:
        names = os.listdir(paths.state_dir())
    except OSError:
        return ()
    return tuple(sorted(name.removesuffix(paths.LOCK_SUFFIX) for name in names if name.endswith(paths.LOCK_SUFFIX)))


def remove_drafts(lab: str) -> None:
    """Remove the files that a killed `save` has not finished. The caller holds the lock. Raises OSError."""
    for path in directory(lab).rglob(".*"):
        if _DRAFT.fullmatch(path.name) and path.is_file():
            path.unlink()


def remove_incomplete(lab: str) -> None:
    """Remove the files of a lab that has no namespace: its `up` was killed before the first, or its `down` after the
    last. The caller holds the lock. A directory of others stays. Raises OSError."""
    with suppress(FileNotFoundError):
        if _is_lab_directory(lab):
            remove_files(lab)
        else:
            with suppress(OSError):  # what others have put there
                directory(lab).rmdir()


def save(lab: str, name: str, text: str) -> Path:
    """Write one of a lab's files atomically; its name may contain folders. Returns its path. Raises OSError."""
    path = directory(lab) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, "utf-8", "surrogateescape")
    os.replace(draft, path)
    return path


def load(lab: str) -> dict[str, Any] | None:
    """The recorded definition of a lab; None if there is none or it cannot be read."""
    try:
        found = json.loads((directory(lab) / "definition.json").read_text("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remove_files(lab: str) -> None:
    """Remove a lab's files."""
    folder = directory(lab)
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    folder.rmdir()


@contextmanager
def lock(lab: str, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock for changes of a lab. Raises LockError, with the holder's name, after `timeout_s` seconds.

    The lock file is removed when the lock is released, so that nothing is left after `down`.
    """
    paths.state_dir().mkdir(parents=True, exist_ok=True)
    path = paths.state_dir() / f"{lab}{paths.LOCK_SUFFIX}"
    fd = _acquire(lab, path, time.monotonic() + timeout_s)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{' '.join(['labctl', *sys.argv[1:]])} (pid {os.getpid()})".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _acquire(lab: str, path: Path, deadline: float) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        holder = os.pread(fd, 4096, 0).decode(errors="replace").strip() or "another process"
                        raise LockError(f"lab {lab} is held by {holder}", "wait until it ends, or end it") from None
                    time.sleep(LOCK_INTERVAL_S)
            if _same(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # the holder removed this file meanwhile: lock the new one


def _same(fd: int, path: Path) -> bool:
    try:
        return os.fstat(fd).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False
