"""This process and its ancestors: the shell that called labctl, and what called that shell."""

from __future__ import annotations

import os


def ancestry() -> tuple[int, ...]:
    """The ids of this process and of its ancestors that can be seen, this process first."""
    pids: dict[int, None] = {}
    pid = os.getpid()
    while pid > 1 and pid not in pids:
        pids[pid] = None
        try:
            with open(f"/proc/{pid}/stat", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            break
    return tuple(pids)
