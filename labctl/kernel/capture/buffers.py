"""How much a socket may hold for a reader that is late."""

from __future__ import annotations

import socket

SO_RCVBUFFORCE = 33


def hold(sock: socket.socket, size: int) -> None:
    """Let a socket hold so many bytes. Beyond the machine's limit (net.core.rmem_max) only its root may go: without
    root it is that limit, and what is lost then is counted as everywhere."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
