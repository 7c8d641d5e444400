"""One nfnetlink socket of one namespace: netfilter's netlink, for nf_tables, conntrack, IP sets and nfnetlink_log.

The type of a message is its subsystem and its number, `subsystem << 8 | number`, and each body begins with a struct
nfgenmsg (`nfgenmsg`). No program is started.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator

from labctl.kernel.host.receive_buffer import set_receive_buffer
from labctl.kernel.netlink.encoding import ACK, DUMP, REQUEST
from labctl.kernel.netlink.rtnetlink import NLMSG_DONE, NLMSG_ERROR, SOL_NETLINK, iter_messages, receive

NETLINK_NETFILTER = 12
NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_ULOG, NFNL_SUBSYS_IPSET = 1, 4, 6
NFNL_SUBSYS_NFTABLES, NFNL_SUBSYS_NFT_COMPAT = 10, 11
_NETLINK_ADD_MEMBERSHIP = 1
_BATCH_BEGIN, _BATCH_END = 16, 17
_header = struct.Struct("=IHHII")
HEADER_BYTES = _header.size


class NfnetlinkSocket:
    """An nfnetlink socket of the namespace of the thread that creates it; any thread may use it. A context manager.

    `timeout_s` limits each wait for an answer, in seconds. `receive_buffer_bytes` is for a socket with messages that
    are read late. Raises OSError if there is no such socket.
    """

    def __init__(self, timeout_s: float | None = None, receive_buffer_bytes: int | None = None) -> None:
        self._timeout_s = timeout_s
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            if receive_buffer_bytes is not None:
                set_receive_buffer(self._socket, receive_buffer_bytes)
            self._socket.settimeout(timeout_s)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> NfnetlinkSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> int:
        """Send one request and wait for its acknowledgement. Returns 0, or the errno with which the kernel refused it.
        Raises OSError for the socket."""
        self._send(kind, REQUEST | ACK | flags, body)
        while True:
            data = receive(self._socket)
            for answer, _, sequence, start, _ in iter_messages(data):
                if answer == NLMSG_ERROR and sequence == self._sequence:
                    return _errno(data, start)

    def get(self, kind: int, body: bytes) -> tuple[bytes, int, int] | None:
        """Request one object: (data, start, end) of the answer's body, or None if the kernel refused the request, as it
        does if there is no such object. Raises OSError for the socket."""
        self._send(kind, REQUEST, body)
        while True:
            data = receive(self._socket)
            for answer, _, sequence, start, end in iter_messages(data):
                if sequence == self._sequence:
                    return None if answer == NLMSG_ERROR else (data, start, end)

    def dump(self, kind: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
        """Request a whole table; yields (data, start, end) of each message's body. An error of the kernel ends it, as
        the last message does. Raises OSError for the socket."""
        self._send(kind, REQUEST | DUMP, body)
        while True:
            data = receive(self._socket)
            for answer, _, sequence, start, end in iter_messages(data):
                if sequence != self._sequence:
                    continue
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    return
                yield data, start, end

    def nft_transaction(self, requests: Iterable[tuple[int, int, bytes]]) -> None:
        """Send nf_tables some requests (type, flags, body). It carries out all of them or none. Raises OSError for the
        first refusal."""
        frame = nfgenmsg(0, NFNL_SUBSYS_NFTABLES)
        messages = [
            _message(kind, REQUEST | ACK | flags, number, body)
            for number, (kind, flags, body) in enumerate(requests, 1)
        ]
        begin, end = (_message(kind, REQUEST, 0, frame) for kind in (_BATCH_BEGIN, _BATCH_END))
        self._socket.send(b"".join((begin, *messages, end)))
        pending, refused = len(messages), 0
        while pending:
            data = receive(self._socket)
            for answer, _, sequence, start, _ in iter_messages(data):
                if answer != NLMSG_ERROR:
                    continue
                if sequence == 0:  # an error of the batch as a whole
                    raise OSError(_errno(data, start), "nf_tables refused the batch")
                pending -= 1
                refused = refused or _errno(data, start)
        if refused:
            raise OSError(refused, "nf_tables refused")

    def join(self, group: int) -> None:
        """Receive the messages of a multicast group. Raises OSError."""
        self._socket.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def waiting(self) -> tuple[list[tuple[int, bytes, int, int]], bool]:
        """The messages that wait in the receive buffer, each as (type, data, start and end of the body), and whether
        any message was lost."""
        found: list[tuple[int, bytes, int, int]] = []
        self._socket.setblocking(False)
        try:
            while True:
                data = receive(self._socket)
                found += ((kind, data, start, end) for kind, _, _, start, end in iter_messages(data))
        except BlockingIOError:
            return found, False
        except OSError:  # ENOBUFS
            return found, True
        finally:
            self._socket.settimeout(self._timeout_s)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(_message(kind, flags, self._sequence, body))


def nfgenmsg(family: int, resource: int = 0) -> bytes:
    """The head of every body: the address family, version 0, and a number that each subsystem uses in its way."""
    return struct.pack("!BBH", family, 0, resource)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _header.pack(HEADER_BYTES + len(body), kind, flags, sequence, 0) + body


def _errno(data: bytes, start: int) -> int:
    return -int(struct.unpack_from("=i", data, start)[0])
