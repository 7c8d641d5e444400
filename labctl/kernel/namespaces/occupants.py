"""The processes in a lab's namespaces: found by their network namespace, never by their name.

A namespace exists as long as a process is in it, so `down` ends these processes first. It ends no other process: not
itself, not the shell that called it, none outside the lab's namespaces, and none in the machine's own namespace, even
if that is bound to a name of the lab.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from labctl.kernel.host.ancestors import ancestry
from labctl.kernel.namespaces.entry import host_namespaces
from labctl.kernel.namespaces.lab_namespaces import is_namespace

GRACE_S = 1.0  # seconds between SIGTERM and SIGKILL


def find(paths: Iterable[Path]) -> tuple[int, ...]:
    """The ids of the processes in the namespaces bound to these files, without this process and its ancestors."""
    return tuple(find_with_path(paths))


def find_with_path(paths: Iterable[Path]) -> dict[int, Path]:
    """As `find`, with the file that the namespace of each process is bound to."""
    host, bound = host_namespaces(), {}
    for path in paths:
        if is_namespace(path):
            stat = os.lstat(path)
            if (stat.st_dev, stat.st_ino) not in host:
                bound[stat.st_dev, stat.st_ino] = path
    return {pid: bound[netns] for pid, netns in _others() if netns in bound} if bound else {}


def find_in_current_netns() -> tuple[int, ...]:
    """The ids of the processes in this thread's namespace (of any owner), without this process and its ancestors."""
    stat = os.stat("/proc/thread-self/ns/net")
    return tuple(pid for pid, netns in _others() if netns == (stat.st_dev, stat.st_ino))


def find_outside_host() -> tuple[int, ...]:
    """The ids of all processes in any namespace other than the machine's own."""
    host = host_namespaces()
    return tuple(pid for pid, netns in _others() if netns not in host)


def _others() -> Iterator[tuple[int, tuple[int, int]]]:
    """Every process except this one and its ancestors, with its network namespace by device and inode."""
    ancestors = set(ancestry())
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in ancestors:
            continue
        try:
            stat = os.stat(f"/proc/{name}/ns/net")
        except OSError:
            continue  # it ended meanwhile, or this user may not look at it
        yield int(name), (stat.st_dev, stat.st_ino)


def terminate(pids: Iterable[int], grace_s: float = GRACE_S) -> None:
    """End processes: send SIGTERM, wait `grace_s` seconds, then send SIGKILL and wait again. Returns early when all
    have ended. If this process may not open so many files, one group after the other is ended."""
    left = list(pids)
    while left:
        handles: dict[int, int] = {}
        try:
            while left and _open(left[-1], handles):
                left.pop()
            for number in (signal.SIGTERM, signal.SIGKILL):
                for fd in handles:
                    _signal(fd, number)
                _wait(handles, grace_s)
        finally:
            for fd in handles:
                os.close(fd)


def _open(pid: int, handles: dict[int, int]) -> bool:
    """Open a handle of a process, if it has not ended. Returns False if no more files can be opened; raises OSError if
    not even the first one can."""
    try:
        handles[os.pidfd_open(pid)] = pid
    except ProcessLookupError:
        pass
    except OSError as error:
        if error.errno != errno.EMFILE or not handles:
            raise
        return False
    return True


def _signal(fd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass


def _wait(handles: dict[int, int], grace_s: float) -> None:
    """Wait at most `grace_s` seconds until all have ended; close the handles of those that have."""
    poll = select.poll()
    for fd in handles:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + grace_s
    while handles and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            os.close(fd)
            del handles[fd]
