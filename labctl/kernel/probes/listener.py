"""Listeners that labctl opens in a target: they echo what they receive, so a reply proves that the target answered.

They are created inside the target's namespace, and the loop of the checks calls `step`. They have neither a thread nor
a process, so nothing of them is left after the run.
"""

from __future__ import annotations

import select
import socket

from labctl.packets.probe_id import MAGIC, MARKER_BYTES, REPLY_SUFFIX, REQUEST_SUFFIX

IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50


class Listener:
    """A listening port of one namespace, on all addresses of one family. Raises OSError if the port is in use."""

    def __init__(self, kind: str, version: int, port: int) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        style = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        self._stream = kind == "tcp"
        self._version = version
        self._connections: dict[int, socket.socket] = {}
        self.request_count = 0
        self._socket = socket.socket(family, style | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
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
        elif self._version == 4:
            self._socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        self._socket.bind(("", port))
        if self._stream:
            self._socket.listen(16)

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
                talk, _ = self._socket.accept()
                talk.setblocking(False)
                self._connections[talk.fileno()] = talk
                self.request_count += 1
        except BlockingIOError:
            pass
        for talk in list(self._connections.values()):
            self._echo_stream(talk)

    def close(self) -> None:
        """Close the port and every connection to it."""
        for sock in (self._socket, *self._connections.values()):
            sock.close()
        self._connections.clear()

    def _echo_stream(self, talk: socket.socket) -> None:
        try:
            data = talk.recv(2048)
            if data:
                talk.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # the other end is gone: close this connection
        del self._connections[talk.fileno()]
        talk.close()

    def _echo_datagrams(self) -> None:
        """Answer with the address that was asked as the source: on a router, the kernel would choose another one."""
        while True:
            try:
                data, notes, _, sender = self._socket.recvmsg(65536, 256)
            except OSError:
                return
            self.request_count += 1
            wanted = IP_PKTINFO if self._version == 4 else IPV6_PKTINFO
            back = [(level, kind, self._from(body)) for level, kind, body in notes if kind == wanted]
            asked = data.startswith(MAGIC) and data[MARKER_BYTES : MARKER_BYTES + 1] == REQUEST_SUFFIX
            answer = data[:MARKER_BYTES] + REPLY_SUFFIX + data[MARKER_BYTES + 1 :] if asked else data
            try:
                self._socket.sendmsg([answer], back, 0, sender)
            except OSError:
                continue  # no route back: the client correctly gets no answer

    def _from(self, body: bytes) -> bytes:
        if self._version == 4:  # struct in_pktinfo: interface, address to answer from, address in the header
            return bytes(4) + body[4:8] + bytes(4)
        return body[:16] + bytes(4)
