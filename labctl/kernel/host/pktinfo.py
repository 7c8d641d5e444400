"""Answer a datagram from the address that it was sent to: the control messages IP_PKTINFO and IPV6_PKTINFO."""

from __future__ import annotations

import socket
from collections.abc import Iterable

IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50
ANCDATA_BYTES = 256  # bytes of control messages to receive with a datagram

Ancillary = tuple[int, int, bytes]  # one control message: level, type, data


def request_pktinfo(sock: socket.socket) -> None:
    """Let the kernel report the destination address of each datagram. Raises OSError."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


def reply_pktinfo(ancdata: Iterable[Ancillary]) -> list[Ancillary]:
    """The control messages for a reply, from those of the datagram: its destination address becomes the source."""
    reply: list[Ancillary] = []
    for level, kind, data in ancdata:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):  # struct in_pktinfo: interface, address, header's address
            reply.append((level, kind, bytes(4) + data[4:8] + bytes(4)))
        elif (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):  # struct in6_pktinfo: address, interface
            reply.append((level, kind, data[:16] + bytes(4)))
    return reply


def destination(ancdata: Iterable[Ancillary]) -> str:
    """The address that a datagram was sent to, from its control messages; "" without any."""
    for level, kind, data in ancdata:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""
