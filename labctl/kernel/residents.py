"""The processes that live in a lab's namespaces: found by where they are, never by what they are called.

A namespace lives as long as a process is in it, so `down` ends those first. It ends nothing else: not
itself, not the shell it was typed in, nothing outside the lab's own namespaces, and nothing at all in
the machine's own, whatever name somebody gave that.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from labctl.kernel.rooms import is_namespace, own_namespaces

GRACE = 1.0  # seconds between SIGTERM and SIGKILL


def find(paths: Iterable[Path]) -> tuple[int, ...]:
    """The ids of the processes in the namespaces bound to these files, but for us and our ancestors."""
    inodes = set()
    for path in paths:
        if is_namespace(path):
            found_at = os.lstat(path)
            inodes.add((found_at.st_dev, found_at.st_ino))
    inodes -= own_namespaces()
    if not inodes:
        return ()
    ours = _ancestry()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in ours:
            continue
        try:
            lives = os.stat(f"/proc/{name}/ns/net")
        except OSError:
            continue  # it ended meanwhile, or is none of our business
        if (lives.st_dev, lives.st_ino) in inodes:
            found.append(int(name))
    return tuple(found)


def end(pids: Iterable[int], grace: float = GRACE) -> None:
    """End processes: ask, wait for them to go, then insist. Returns when all are gone."""
    handles = {}
    for pid in pids:
        try:
            handles[os.pidfd_open(pid)] = pid
        except ProcessLookupError:
            continue
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for fd in handles:
                _signal(fd, number)
            _wait(handles, grace)
    finally:
        for fd in handles:
            os.close(fd)


def _signal(fd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass


def _wait(handles: dict[int, int], grace: float) -> None:
    """Wait until all have ended; closes the handles of those that have."""
    poll = select.poll()
    for fd in handles:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + grace
    while handles and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            os.close(fd)
            del handles[fd]


def _ancestry() -> set[int]:
    pids, pid = set(), os.getpid()
    while pid > 1 and pid not in pids:
        pids.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return pids
