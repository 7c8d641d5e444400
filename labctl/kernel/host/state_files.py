"""The files below the state directory: read without trust, and written as a whole or not at all.

Root reads and writes them, and a machine that crashed, a full disk or another program may have left anything there. So
no link below the state directory is followed, only a regular file of a limited size is read, a reader never
waits (as it would for a FIFO), and a JSON document has the shape that its user gives (`core.record_shape`). A file is
named by its folder and its name: `("kubenet", "cni/made.json")`. Fast to import: `labctl exec` uses it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager

from labctl.core.record_shape import shape_problem
from labctl.kernel.host import paths

TYPE_CHECKING = False  # and not typing's own, which costs more than all the rest here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any, TypeVar

    from labctl.core.record_shape import Shape
    from labctl.errors import KernelError

    _Result = TypeVar("_Result")

FOLDER_TRIES = 100  # to create a folder that another process removes
LOCK_INTERVAL_S = 0.02  # seconds between two attempts to lock: flock has no timeout
MAX_BYTES = 32 * 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RecordError(ValueError):
    """A file that cannot be a record of labctl's. The text says why."""


class LockedError(Exception):
    """Another process holds a lock."""


def read_json(folder: str, name: str, shape: Shape) -> Any:
    """The JSON document in a file. Raises FileNotFoundError if there is none, RecordError if it cannot be read, or
    has another shape."""
    return parse_json(read_text(folder, name), shape)


def parse_json(text: str, shape: Shape) -> Any:
    """The JSON document in a text. Raises RecordError if there is none, or it has another shape."""
    import json

    try:
        found = json.loads(text)
    except RecursionError:
        raise RecordError("it nests too deeply") from None
    except ValueError as error:
        raise RecordError(f"it is not JSON: {error}") from None
    if problem := shape_problem(found, shape):
        raise RecordError(problem)
    return found


def read_text(folder: str, name: str) -> str:
    """The text in a file. Raises FileNotFoundError if there is none, RecordError if it cannot be read."""
    try:
        with open_file(folder, name) as fd:
            return read_all(fd).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(error.strerror or str(error)) from None


@contextmanager
def open_file(folder: str, name: str) -> Iterator[int]:
    """A file descriptor to read a regular file. Raises OSError, RecordError if it is another kind of file."""
    with _Folder(folder, *name.split("/")[:-1]) as at:
        fd = os.open(_regular(at, name.rpartition("/")[2]), _READ, dir_fd=at)
    try:
        _require_regular(os.fstat(fd).st_mode)  # it may be another one now
        yield fd
    finally:
        os.close(fd)


def write_text(folder: str, name: str, text: str) -> None:
    """Write a file atomically, and the folders that lead to it. Raises KernelError; then the file is as before."""
    last, draft = name.rpartition("/")[2], f".{name.rpartition('/')[2]}.{os.getpid()}"
    content = text.encode("utf-8", "surrogateescape")

    def write(at: int) -> None:
        data = memoryview(content)
        try:
            _discard(at, draft)  # of a process that had this number
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=at)
            try:
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
            os.replace(draft, last, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            _discard(at, draft)
            raise

    try:
        _in_folder(write, folder, *name.split("/")[:-1])
    except OSError as error:
        raise refusal("write", paths.directory_of(folder) / folder / name, error) from None


def remove(folder: str, name: str) -> None:
    """Remove a file if it exists. Raises KernelError."""
    try:
        with _Folder(folder, *name.split("/")[:-1]) as at:
            os.unlink(name.rpartition("/")[2], dir_fd=at)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise refusal("remove", paths.directory_of(folder) / folder / name, error) from None


@contextmanager
def lock(folder: str, name: str, wait_s: float) -> Iterator[None]:
    """Hold a lock for the time of a `with` block: the file `name`, which stays. It ends with the process. Raises
    LockedError if another process holds it for `wait_s` seconds, KernelError if there can be no such file."""
    last = name.rpartition("/")[2]
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = _in_folder(lambda at: os.open(last, flags, 0o644, dir_fd=at), folder, *name.split("/")[:-1])
    except OSError as error:
        raise refusal("lock", paths.directory_of(folder) / folder / name, error) from None
    try:
        _flock(fd, name, time.monotonic() + wait_s)
        yield
    finally:
        os.close(fd)


def _flock(fd: int, name: str, deadline: float) -> None:
    import fcntl

    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockedError(f"another process holds {name}") from None
            time.sleep(LOCK_INTERVAL_S)


def names(*folders: str) -> list[str]:
    """The names in a folder, oldest first; none if there is no such folder, or it cannot be read."""
    times: dict[str, int] = {}
    try:
        with _Folder(*folders) as at:
            for name in sorted(os.listdir(at)):
                times[name] = os.lstat(name, dir_fd=at).st_mtime_ns
    except OSError:
        pass  # what was found so far
    return sorted(times, key=lambda name: times[name])


def make_folder(*folders: str) -> Path:
    """The path of a folder below the state directory, which is created. Raises KernelError, also for a link."""
    path = paths.directory_of(*folders).joinpath(*folders)
    try:
        _in_folder(lambda _at: None, *folders)
        return path
    except OSError as error:
        raise refusal("use", path, error, is_folder=True) from None


def refusal(verb: str, path: Path, error: OSError, *, is_folder: bool = False) -> KernelError:
    """The error for a file or folder of the state directory that the kernel refuses, with what is in the way."""
    from labctl.errors import KernelError

    number = error.errno or 0
    root = next((one for one in (paths.state_dir(), paths.progress_dir()) if one in path.parents), paths.state_dir())
    above = [place for place in reversed(path.parents) if place == root or root in place.parents]
    for place in (*above, path):
        mode = _mode(place, follow=place == root)
        is_good = stat.S_ISDIR if is_folder or place != path else stat.S_ISREG
        if mode is not None and not is_good(mode):
            wanted = "a file" if is_good is stat.S_ISREG else "a folder"
            where = "it" if place == path else str(place)
            hint = f"labctl did not make that: look at it, and remove {place}"
            return KernelError(f"cannot {verb} {path}: {where} is {kind_of(mode)}, not {wanted}", hint, number)
    hint = ""
    if number in (errno.ENOSPC, errno.EDQUOT):
        hint = f"make room in {root}: df {root}, df -i {root}"
    elif number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
        variable = "LABCTL_STATE_DIR" if root == paths.state_dir() else "LABCTL_PROGRESS_DIR"
        hint = f"{variable} can name another folder, one that root may write to"
    return KernelError(f"cannot {verb} {path}: {error.strerror}", hint, number)


def _in_folder(use: Callable[[int], _Result], *folders: str) -> _Result:
    """What `use` does with the file descriptor of a folder, which is created. Another process may remove the folder
    while it is empty; then it is created again. Raises OSError, as `use` does."""
    for _ in range(FOLDER_TRIES - 1):
        try:
            with _Folder(*folders, create=True) as at:
                return use(at)
        except FileNotFoundError:
            continue
    with _Folder(*folders, create=True) as at:
        return use(at)


class _Folder:
    """A file descriptor of a folder below the state directory, reached without following a link. A context manager."""

    def __init__(self, *names: str, create: bool = False) -> None:
        self._names, self._create = names, create

    def __enter__(self) -> int:
        root = paths.directory_of(*self._names)
        if self._create:
            os.makedirs(root, mode=0o755, exist_ok=True)
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in self._names:
                if self._create:
                    self._make(name, fd)
                inner = os.open(name, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
                self._require_trust(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    @staticmethod
    def _require_trust(fd: int) -> None:
        """Raises PermissionError if another user could replace the files in a folder."""
        found = os.fstat(fd)
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "other users can write to its folder")

    @staticmethod
    def _make(name: str, fd: int) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=fd)
        except FileExistsError:
            pass


def _regular(at: int, name: str) -> str:
    """The name, if it is that of a regular file: to open a device may already do something."""
    _require_regular(os.lstat(name, dir_fd=at).st_mode)
    return name


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise RecordError(f"it is {kind_of(mode)}, not a file")


def read_all(fd: int) -> bytes:
    """The content of an open file. Raises RecordError if it is larger than MAX_BYTES."""
    parts, size = [], 0
    while part := os.read(fd, 1 << 20):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise RecordError(f"it is larger than {MAX_BYTES >> 20} MiB")
    return b"".join(parts)


def _discard(at: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=at)
    except OSError:
        pass


def _mode(path: Path, *, follow: bool) -> int | None:
    try:
        return os.stat(path, follow_symlinks=follow).st_mode
    except OSError:
        return None


def kind_of(mode: int) -> str:
    """What a file is, by its mode."""
    kinds = {
        stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "a file")
