"""The receive buffers of sockets that may be read late."""

from __future__ import annotations

import socket

SO_RCVBUFFORCE = 33


def set_receive_buffer(sock: socket.socket, size_bytes: int) -> None:
    """Set a socket's receive buffer to `size_bytes` bytes.

    Only the machine's root may exceed net.core.rmem_max. Otherwise (also for root in a user namespace) the buffer gets
    at most that limit, and losses are counted as usual. Raises OSError.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size_bytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)
