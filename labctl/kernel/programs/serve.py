"""A container's server: `serve NAME tcp:80 udp:53 ...` listens on every given port, on all IPv4 addresses, or with
`tcp:127.0.0.1:80` at that address only.

It echoes what it receives, so that a probe can recognise its own reply. To an HTTP request, as of curl, it replies with
NAME. Without a port it only waits, like the program of a container that does not use the network.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Sequence
from contextlib import suppress

from labctl.kernel.host.pktinfo import ANCDATA_BYTES, reply_pktinfo
from labctl.kernel.programs.daemon import accept, daemonize, report_ready
from labctl.kernel.programs.host_sockets import bind_port

BACKLOG = 64  # connections that may wait to be accepted
MAX_DATAGRAM_BYTES = 65535


def main(args: Sequence[str]) -> int:
    """Serve until a signal ends the process. Returns 1 if a port cannot be bound."""
    name, *ports = args
    daemonize(name)
    selector = selectors.DefaultSelector()
    for port in ports:
        protocol, _, place = port.partition(":")
        address, _, number = place.rpartition(":")
        try:
            sock = bind_port(protocol, address, int(number), BACKLOG, pktinfo=True)
        except OSError as error:
            print(f"{protocol} port {place}: {error.strerror}", flush=True)
            return 1
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, accept_connection if protocol == "tcp" else echo_datagram)
    report_ready()
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj, selector, name)


def accept_connection(sock: socket.socket, selector: selectors.BaseSelector, name: str) -> None:
    """Accept a new connection."""
    if (connection := accept(sock)) is not None:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, serve_connection)


def serve_connection(connection: socket.socket, selector: selectors.BaseSelector, name: str) -> None:
    """Echo the received data. To an HTTP request, send the server's name and close the connection."""
    try:
        data = connection.recv(4096)
        if data.startswith((b"GET ", b"HEAD ")):
            body = f"{name}\n".encode()
            connection.send(
                b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        elif data:
            connection.send(data)
            return
    except BlockingIOError:
        return
    except OSError:
        pass
    selector.unregister(connection)
    connection.close()


def echo_datagram(sock: socket.socket, selector: selectors.BaseSelector, name: str) -> None:
    """Echo a datagram, with the address that it was sent to as the source address."""
    with suppress(OSError):
        data, ancdata, _, sender = sock.recvmsg(MAX_DATAGRAM_BYTES, ANCDATA_BYTES)
        sock.sendmsg([data], reply_pktinfo(ancdata), 0, sender)
