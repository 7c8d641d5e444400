"""The files of a running lab, and a lock for changes of the lab: both in the state directory.

The kernel itself is the record of what runs. With these files, a user does not have to give the scenario again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labctl.core.record_shape import a_file_name
from labctl.errors import KernelError, LockError, UsageError
from labctl.kernel.host import paths, state_files
from labctl.kernel.host.definition_record import DEFINITION

LOCK_TIMEOUT_S = 30.0  # seconds to wait for a lock
LOCK_INTERVAL_S = 0.02  # seconds between two attempts to lock: flock has no timeout
# what a lab's directory can contain
FILES = {
    DEFINITION, "built.json", "exercise.json", "faults.json", "lesson.json", paths.OWNER_FILE, "xtables.lock", "bin",
    "cni",
}  # fmt: skip
_DRAFT = re.compile(r"\.(.+)\.\d+")  # a file that `save` has not finished


def directory(lab: str) -> Path:
    """The directory of a lab's files. Raises UsageError for a name that is not that of a lab."""
    if lab.startswith(".") or not a_file_name(lab):
        raise UsageError(f"{lab!r} is not the name of a lab")
    return paths.state_dir() / lab


def labs_with_files() -> tuple[str, ...]:
    """The labs that have files in the state directory, sorted, running or not. Directories of others are left out."""
    return tuple(sorted(name for name in state_files.names() if name[0] != "." and _is_lab_directory(name)))


def _is_lab_directory(lab: str) -> bool:
    found = {_without_draft(name) for name in state_files.names(lab)}
    return DEFINITION in found or bool(found and found <= FILES)


def _without_draft(name: str) -> str:
    """The name of a file, or the name that a draft was to get."""
    draft = _DRAFT.fullmatch(name)
    return name if draft is None else draft[1]


def locked_labs() -> tuple[str, ...]:
    """The labs with a lock file: those that change now, and those for which the change was killed."""
    names = (name for name in state_files.names() if name.endswith(paths.LOCK_SUFFIX) and name[0] != ".")
    return tuple(sorted(name.removesuffix(paths.LOCK_SUFFIX) for name in names))


def remove_drafts(lab: str) -> None:
    """Remove the files that a killed `save` has not finished. The caller holds the lock. Raises OSError."""
    top = directory(lab)
    for folder, _, names in os.walk(top) if not top.is_symlink() else ():  # it follows no link below
        for name in names:
            if _DRAFT.fullmatch(name):
                os.unlink(f"{folder}/{name}")


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
    """Write one of a lab's files atomically; its name may contain folders. Returns its path. Raises KernelError."""
    path = directory(lab) / name
    state_files.write_text(lab, name, text)
    return path


def xtables_lock(lab: str) -> Path:
    """The file that iptables locks for a lab, so that it does not wait for the machine's. Its folder is created.

    iptables would wait for the writer of a FIFO, and lock what a link leads to. Raises KernelError for these.
    """
    path = state_files.make_folder(lab) / "xtables.lock"
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise state_files.refusal("lock", path, OSError(errno.EINVAL, os.strerror(errno.EINVAL)))
    return path


def remove_files(lab: str) -> None:
    """Remove a lab's files; of a link only the link, and nothing that is not labctl's. Raises KernelError."""
    import shutil

    path = directory(lab)
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            path.unlink()
        elif not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        elif _is_lab_directory(lab):
            shutil.rmtree(path)  # it follows no link
        else:
            path.rmdir()  # an empty one; a folder of others stays
    except FileNotFoundError:
        pass
    except OSError as error:
        raise state_files.refusal("remove", path, error, is_folder=True) from None


@contextmanager
def lock(lab: str, timeout_s: float | None = None, *, needs_file: bool = True) -> Iterator[None]:
    """Hold the lock for changes of a lab. Raises LockError, with the holder's name, after `timeout_s` seconds
    (None: LOCK_TIMEOUT_S); KernelError if the lock file cannot be made.

    The lock file is removed when the lock is released, so that nothing is left after `down`. Without `needs_file`, for
    `down`, the directory of the namespaces is locked instead on a full or read-only disk.
    """
    deadline = time.monotonic() + (LOCK_TIMEOUT_S if timeout_s is None else timeout_s)
    path = directory(lab).with_name(f"{lab}{paths.LOCK_SUFFIX}")
    try:
        fd: int | None = _acquire(lab, path, deadline)
    except KernelError:
        if needs_file:
            raise
        fd = _lock_names(lab, fcntl.LOCK_EX, deadline)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        if fd is not None:
            os.close(fd)


def lock_holder(lab: str) -> str | None:
    """Who changes the lab now, or traces in it: the command and its process id; None if the lock is free."""
    path = directory(lab).with_name(f"{lab}{paths.LOCK_SUFFIX}")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    finally:
        os.close(fd)
    return None


def _acquire(lab: str, path: Path, deadline: float) -> int:
    while True:
        fd = _open_lock(path)
        try:
            _flock(lab, fd, fcntl.LOCK_EX, deadline)
            if _same(fd, path):
                if (names_fd := _lock_names(lab, fcntl.LOCK_SH, deadline)) is not None:
                    os.close(names_fd)  # it only waits for the end of a `down` without a lock file
                with suppress(OSError):  # the name is for people: a full disk may do without
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{' '.join(['labctl', *sys.argv[1:]])} (pid {os.getpid()})".encode(), 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # the holder removed this file meanwhile: lock the new one


def _open_lock(path: Path) -> int:
    """A file descriptor of the lock file, which is created. Raises KernelError."""
    paths.require_own_directories()
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        os.makedirs(path.parent, mode=0o755, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            try:
                fd = os.open(path, os.O_RDONLY | flags)  # one that exists can be locked on a read-only disk, too
            except OSError:
                raise error from None
    except OSError as error:
        raise state_files.refusal("lock", path, error) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise state_files.refusal("lock", path, OSError(errno.EINVAL, os.strerror(errno.EINVAL)))
    return fd


def _lock_names(lab: str, kind: int, deadline: float) -> int | None:
    """Lock the directory of the namespaces, which needs no disk space. None if it does not exist."""
    try:
        fd = os.open(paths.netns_dir(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None  # no lab runs, so no namespace can be removed
    try:
        _flock(lab, fd, kind, deadline)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _flock(lab: str, fd: int, kind: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LockError(f"lab {lab} is held by {_holder(fd)}", "wait until it ends, or end it") from None
            time.sleep(LOCK_INTERVAL_S)


def _holder(fd: int) -> str:
    try:
        text = os.pread(fd, 4096, 0).decode(errors="replace").strip()
    except OSError:
        text = ""
    return text or "another process"


def _same(fd: int, path: Path) -> bool:
    try:
        return os.fstat(fd).st_ino == os.lstat(path).st_ino
    except FileNotFoundError:
        return False
