"""Sockets of a program at a port of its machine."""

from __future__ import annotations

import socket

from labctl.kernel.host.pktinfo import request_pktinfo

GO_BACKLOG = 4096  # connections that may wait to be accepted; what a Go program asks for, as Docker's are


def bind_port(
    protocol: str, address: str, port: int, backlog: int = GO_BACKLOG, *, pktinfo: bool = False
) -> socket.socket:
    """A socket that listens on a TCP port, or is bound to a UDP port, at an IPv4 address ("" for all addresses).

    With `pktinfo`, the kernel says with each datagram to which address it was sent. Raises OSError.
    """
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, kind)
    try:
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if pktinfo:
            request_pktinfo(sock)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock
