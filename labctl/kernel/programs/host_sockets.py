"""Sockets of a program at a port of its machine."""

from __future__ import annotations

import errno
import socket

from labctl.kernel.host.pktinfo import request_pktinfo

GO_BACKLOG = 4096  # connections that may wait to be accepted; what a Go program asks for, as Docker's are
NO_IPV6_ERRNOS = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # a kernel without IPv6


def bind_everywhere(
    protocol: str, port: int, backlog: int = GO_BACKLOG, *, pktinfo: bool = False
) -> list[socket.socket]:
    """The sockets of one port at all addresses: one of each IP version that the kernel has. Raises OSError."""
    found = [bind_port(protocol, "", port, backlog, pktinfo=pktinfo)]
    try:
        found.append(bind_port(protocol, "::", port, backlog, pktinfo=pktinfo))
    except OSError as error:
        if error.errno not in NO_IPV6_ERRNOS:
            raise
    return found


def bind_port(
    protocol: str, address: str, port: int, backlog: int = GO_BACKLOG, *, pktinfo: bool = False
) -> socket.socket:
    """A socket that listens on a TCP port, or is bound to a UDP port, at an address: "" are all IPv4 addresses, and
    "::" are all IPv6 addresses without those of IPv4.

    With `pktinfo`, the kernel says with each datagram to which address it was sent. Raises OSError.
    """
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    version_6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if version_6 else socket.AF_INET, kind)
    try:
        if version_6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
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
