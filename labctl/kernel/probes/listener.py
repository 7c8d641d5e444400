"""Listeners that labctl opens in a target: they echo what they receive, so a reply proves that the target answered.

They are created inside the target's namespace, and the loop of the checks calls `step`. They have neither a thread nor
a process, so nothing of them is left after the run.
"""

from __future__ import annotations

import select
import socket

from labctl.kernel.host.pktinfo import ANCDATA_BYTES, reply_pktinfo, request_pktinfo
from labctl.packets.probe_id import MAGIC, MARKER_BYTES, REPLY_SUFFIX, REQUEST_SUFFIX

MAX_DATAGRAM_BYTES = 65536
CHUNK_BYTES = 2048  # bytes of a stream that are echoed at once
BACKLOG = 16  # connections that may wait to be accepted


class Listener:
    """A listening port of one namespace, on all addresses of one family. Raises OSError if the port is in use."""

    def __init__(self, kind: str, version: int, port: int) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        sock_type = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        self._stream = kind == "tcp"
        self._version = version
        self._connections: dict[int, socket.socket] = {}
        self.request_count = 0
        self._socket = socket.socket(family, sock_type | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._open(port)
        except OSError:
            self._socket.close()
            raise

    def _open(self, port: int) -> None:
        if self._version == 6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if self._stream:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            request_pktinfo(self._socket)
        self._socket.bind(("", port))
        if self._stream:
            self._socket.listen(BACKLOG)

    @property
    def ready(self) -> bool:
        """Whether the kernel reports that the socket listens on its port."""
        if self._stream:
            return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        return int(self._socket.getsockname()[1]) != 0

    def fds(self) -> list[tuple[int, int]]:
        """The file descriptors and poll events to wait for."""
        return [(sock.fileno(), select.POLLIN) for sock in (self._socket, *self._connections.values())]

    def step(self) -> None:
        """Accept waiting connections and answer what has arrived, without waiting."""
        if not self._stream:
            self._echo_datagrams()
            return
        try:
            while True:
                connection, _ = self._socket.accept()
                connection.setblocking(False)
                self._connections[connection.fileno()] = connection
                self.request_count += 1
        except BlockingIOError:
            pass
        for connection in list(self._connections.values()):
            self._echo_stream(connection)

    def close(self) -> None:
        """Close the port and every connection to it."""
        for sock in (self._socket, *self._connections.values()):
            sock.close()
        self._connections.clear()

    def _echo_stream(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(CHUNK_BYTES)
            if data:
                connection.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # the other end is gone: close this connection
        del self._connections[connection.fileno()]
        connection.close()

    def _echo_datagrams(self) -> None:
        """Answer with the requested address as the source: on a router, the kernel would choose another one."""
        while True:
            try:
                data, ancdata, _, sender = self._socket.recvmsg(MAX_DATAGRAM_BYTES, ANCDATA_BYTES)
            except OSError:
                return
            self.request_count += 1
            is_request = data.startswith(MAGIC) and data[MARKER_BYTES : MARKER_BYTES + 1] == REQUEST_SUFFIX
            answer = data[:MARKER_BYTES] + REPLY_SUFFIX + data[MARKER_BYTES + 1 :] if is_request else data
            try:
                self._socket.sendmsg([answer], reply_pktinfo(ancdata), 0, sender)
            except OSError:
                continue  # no route back: the client correctly gets no answer
