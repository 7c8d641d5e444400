"""What every program does at its start: detach from the starter, set its name, report that it is ready."""

from __future__ import annotations

import os

from labctl.kernel.programs import READY


def daemonize(name: str) -> None:
    """Continue in a child process under the name that ps and ss show; the parent exits at once.

    The init process of the process namespace adopts the child and reaps it. A starter that runs on and does not reap
    its children would prevent a pod's process namespace from ending.
    """
    if os.fork():
        os._exit(0)
    set_process_name(name)


def set_process_name(name: str) -> None:
    """Set the name of this process that ps and ss show."""
    with open("/proc/self/comm", "w") as file:
        file.write(name)


def report_ready() -> None:
    """Report to the starter that the program works now. Everything printed after this is discarded."""
    os.write(1, READY)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
