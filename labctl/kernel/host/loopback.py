"""A socket that listens on the loopback address of the caller, also if this process enters other namespaces.

A socket stays in the network namespace in which it was created. So a process that is going to enter other namespaces
(labs without root) creates it before; it is bound later, when the port is known.
"""

from __future__ import annotations

import errno
import socket
from typing import TypeAlias

from labctl.errors import KernelError, UsageError

ADDRESS = "127.0.0.1"
BACKLOG = 128

Listening: TypeAlias = socket.socket
_kept: list[Listening] = []


def keep_socket() -> None:
    """Create the socket in the present network namespace, for a later `listen`."""
    _kept.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))


def listen(port: int) -> Listening:
    """A socket that listens on the port of 127.0.0.1 (0: on an unused one), in the namespace where `keep_socket` was
    called, else in the present one. Raises UsageError if the port is used, KernelError if the kernel refuses it."""
    one = _kept.pop() if _kept else socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((ADDRESS, port))
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} of {ADDRESS} is in use", "another --port, or none: an unused one") from None
        text = f"cannot listen on port {port} of {ADDRESS}: {error.strerror}"
        raise KernelError(text, errno=error.errno or 0) from None
    return one
