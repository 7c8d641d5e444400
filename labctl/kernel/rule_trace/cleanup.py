"""Records of what a trace changes outside its own process, so that the changes of a killed trace can be undone.

A record is written before the change. The changes are the receiver of a namespace's firewall reports (the sysctls
nf_log), the tracing instance, and the nft table on kernels without table owners (other kernels delete the table
themselves). A record is locked while its trace runs. An unlocked record belongs to a trace that was killed, and
`cleanup` undoes what it lists.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from labctl.errors import KernelError
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread

FOLDER = ".trace"


def instance(lab: str) -> str:
    """The name of the tracing instance and of the nft tables of a trace that runs in this thread. The number is that of
    the thread, which for a command's main thread is the process id."""
    return f"labctl-{lab}-{threading.get_native_id()}"


class TraceRecord:
    """The record of a running trace. A context manager: leaving it removes the record."""

    def __init__(self, lab: str) -> None:
        self._folder = paths.state_dir() / FOLDER
        self._path = self._folder / f"{instance(lab)}.json"
        self._document: dict[str, Any] = {"lab": lab, "instance": "", "logs": {}, "tables": {}}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def note(self, kind: str, value: Any) -> None:
        """Record a change before it is made: `instance` (a name), `logs` (by node), `tables` (by node)."""
        self._document[kind] = value
        os.pwrite(self._fd, json.dumps(self._document).encode(), 0)

    def __enter__(self) -> TraceRecord:
        return self

    def __exit__(self, *exc: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)
        with suppress(OSError):
            self._folder.rmdir()


def has_leftovers() -> bool:
    """Whether there may be records of killed traces. It only checks that a directory exists."""
    return os.path.isdir(paths.state_dir() / FOLDER)


def cleanup() -> tuple[str, ...]:
    """Undo the changes of killed traces. Returns a sentence for each of them. Running traces are not affected."""
    sentences: list[str] = []
    folder = paths.state_dir() / FOLDER
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with suppress(OSError), open(path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError if its trace still runs
            sentences += _undo(path, file.read())
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
    return tuple(sentences)


def _undo(path: Path, text: bytes) -> list[str]:
    from labctl.kernel.rule_trace import nflog, nft_mark, tracefs

    try:
        document = json.loads(text)
        lab, name = document["lab"], path.stem
        logs, tables = document["logs"], document["tables"]
    except (ValueError, KeyError, TypeError):
        return []  # killed before it changed anything
    done = []
    with NetnsThread() as inside:
        for node, before in logs.items():
            with suppress(OSError):
                inside.run(paths.netns_path(lab, node), nflog.restore_loggers, before)
                done.append(f"nf_log in {node}")
        for node in tables:
            with suppress(OSError, KernelError):
                inside.run(paths.netns_path(lab, node), nft_mark.remove, name)
                done.append(f"an nft table in {node}")
    with suppress(OSError):
        if document["instance"] and tracefs.remove(document["instance"]):
            done.append("a tracing instance")
    return [f"a trace of lab {lab} was killed; removed what it left: {', '.join(done)}"] if done else []
