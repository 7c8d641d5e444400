"""Records of what a verb makes for the time of its run, so that what a killed verb left can be removed.

Each entry is written before the thing that it names is made: an nft table, a neighbour entry, a lab of `compare`. The
process that works holds a lock on its record. A record without a holder belongs to a verb that was killed, or that
could not remove everything; `labctl.kernel.leftovers` then undoes the entries, the last one first.

A record is a file of JSON lines. An incomplete last line is an entry that was not written to its end, and so names
nothing that was made.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import KernelError
from labctl.kernel.host import paths, state_files

Entry = dict[str, Any]
_NUMBERS = itertools.count()
_SUFFIX = ".jsonl"
_WORK = "work"  # the kind of the first entry, which says what the work is


class WorkRecord:
    """The record of one piece of work: `work` is such as `a trace of lab kubenet`. This process holds it until
    `finish`. Raises KernelError if no record can be written."""

    def __init__(self, work: str) -> None:
        self._path, self._fd = _create()
        try:
            self.note(_WORK, name=work)
        except KernelError:
            self._close()
            raise

    def note(self, kind: str, **values: Any) -> None:
        """Record what is made next. Raises KernelError if that cannot be written: then it must not be made."""
        line = json.dumps({"kind": kind, **values}).encode() + b"\n"
        try:
            while line:  # a full file system takes a part of it, and refuses the rest
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            raise _refused(error, self._path) from None

    def finish(self, undo: Callable[[], object]) -> None:
        """Undo what is recorded, and remove the record. If `undo` raises, the next verb tries it again."""
        try:
            undo()
        except BaseException:
            os.close(self._fd)
            raise
        self._close()

    def _close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)
        remove_folder()


@dataclass(frozen=True, slots=True)
class AbandonedRecord:
    """A record that no process holds: what the work was, and what it made, in this order."""

    path: Path
    work: str
    entries: tuple[Entry, ...]


def abandoned() -> Iterator[AbandonedRecord]:
    """The records that no process holds. Each is locked until the next one is asked for."""
    folder = paths.state_dir() / paths.WORK_FOLDER
    for name in sorted(name for name in state_files.names(paths.WORK_FOLDER) if name.endswith(_SUFFIX)):
        path = folder / name
        with suppress(OSError, state_files.RecordError), state_files.open_file(paths.WORK_FOLDER, name) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError while its holder lives
            found = _entries(state_files.read_all(fd))
            work = next((str(entry.get("name")) for entry in found if entry["kind"] == _WORK), "a verb")
            yield AbandonedRecord(path, work, tuple(entry for entry in found if entry["kind"] != _WORK))


def remove(record: AbandonedRecord) -> None:
    """Remove a record that `abandoned` has yielded, because everything in it is undone."""
    record.path.unlink(missing_ok=True)


def remove_folder() -> None:
    """Remove the folder of the records if it is empty."""
    with suppress(OSError):
        (paths.state_dir() / paths.WORK_FOLDER).rmdir()


def _entries(text: bytes) -> list[Entry]:
    """The complete lines that are entries."""
    found = []
    for line in text.split(b"\n")[:-1]:
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
                found.append(entry)
    return found


def _create() -> tuple[Path, int]:
    """A new, empty record, locked. A sweep can remove it before it is locked; then this makes another one."""
    folder = paths.state_dir() / paths.WORK_FOLDER
    while True:
        path = folder / f"{threading.get_native_id()}-{next(_NUMBERS)}{_SUFFIX}"
        state_files.make_folder(paths.WORK_FOLDER)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except (FileExistsError, FileNotFoundError):  # the last record was removed, and the folder with it
            continue
        except OSError as error:
            raise _refused(error, path) from None
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)


def _refused(error: OSError, path: Path) -> KernelError:
    message = f"cannot write the record of what is made meanwhile, {path}: {error.strerror}"
    return KernelError(message, f"make room in {paths.state_dir()}", error.errno or 0)
