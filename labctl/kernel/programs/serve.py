"""A container's server: `serve NAME tcp:80 udp:53 ...` listens on every port named, on all IPv4 addresses.

It sends back what it is sent, so that a probe can tell its own answer; to a web browser or curl it says who it
is. Without a port it waits, as a container does whose program speaks to nobody.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Sequence
from contextlib import suppress

from labctl.kernel.programs.daemon import leave, ready

IP_PKTINFO = 8


def main(words: Sequence[str]) -> int:
    """Serve until ended by a signal; 1 where a port cannot be had."""
    name, *ports = words
    leave(name)
    selector = selectors.DefaultSelector()
    for port in ports:
        protocol, _, number = port.partition(":")
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_INET, kind)
        try:
            if protocol == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("", int(number)))
            if protocol == "tcp":
                sock.listen(64)
        except OSError as error:
            print(f"{protocol} port {number}: {error.strerror}", flush=True)
            return 1
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, welcome if protocol == "tcp" else answer)
    ready()
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj, selector, name)


def welcome(sock: socket.socket, selector: selectors.BaseSelector, name: str) -> None:
    """Take a new connection."""
    with suppress(OSError):
        talk, _ = sock.accept()
        talk.setblocking(False)
        selector.register(talk, selectors.EVENT_READ, converse)


def converse(talk: socket.socket, selector: selectors.BaseSelector, name: str) -> None:
    """Send back what came; to an HTTP request, the server's name, and good-bye."""
    try:
        data = talk.recv(4096)
        if data.startswith((b"GET ", b"HEAD ")):
            body = f"{name}\n".encode()
            talk.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        elif data:
            talk.send(data)
            return
    except BlockingIOError:
        return
    except OSError:
        pass
    selector.unregister(talk)
    talk.close()


def answer(sock: socket.socket, selector: selectors.BaseSelector, name: str) -> None:
    """Send a datagram back from the very address it was sent to."""
    with suppress(OSError):
        data, notes, _, sender = sock.recvmsg(65535, 256)
        back = [
            (level, kind, bytes(4) + body[4:8] + bytes(4))
            for level, kind, body in notes
            if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO)
        ]
        sock.sendmsg([data], back, 0, sender)
