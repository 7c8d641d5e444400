"""What every program does at its start: detach from the starter, set its name, report that it is ready."""

from __future__ import annotations

import errno
import os
import socket
import time

from labctl.kernel.programs import READY

EXHAUSTED_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # of accept: the connection waits
PAUSE_S = 0.1  # seconds until the next attempt to accept a connection that waits


def daemonize(name: str) -> None:
    """Continue in a child process under the name that ps and ss show; the parent exits at once.

    The init process of the process namespace adopts the child and reaps it. A starter that runs on and does not reap
    its children would prevent a pod's process namespace from ending.
    """
    if os.fork():
        os._exit(0)
    set_process_name(name)


def accept(sock: socket.socket) -> socket.socket | None:
    """Accept a connection; None if it is gone, or if this process can open no file for it. Then this pauses: the
    connection is still there, and would be reported at once again."""
    try:
        return sock.accept()[0]
    except OSError as error:
        if error.errno in EXHAUSTED_ERRNOS:
            time.sleep(PAUSE_S)
        return None


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
