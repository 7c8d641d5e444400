"""A container's server: `serve NAME tcp:80 udp:53 ...` listens on every given port, on all IPv4 and IPv6 addresses, or
with `tcp:127.0.0.1:80` at that IPv4 address only.

It echoes what it receives, so that a probe can recognise its own reply. To an HTTP request, as of curl, it replies with
NAME. To `GET /who`, or if the client accepts application/json, it replies who it is and which client it saw; to a
datagram `GET /who` too:

    {"name": "web", "machine": "b", "client": "10.0.0.4:40123", "local": "10.244.0.3:80",
     "host": "web.example", "path": "/who", "forwarded_for": null}

`client` and `local` are the ends of the connection as this server has them, behind every address translation. `host`
and `forwarded_for` are what the client, or a proxy before this server, wrote in the headers Host and X-Forwarded-For.

Without a port it only waits, like the program of a container that does not use the network.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Sequence
from contextlib import suppress

from labctl.kernel.host.pktinfo import ANCDATA_BYTES, destination, reply_pktinfo
from labctl.kernel.programs import NODE_VARIABLE
from labctl.kernel.programs.daemon import accept, daemonize, report_ready
from labctl.kernel.programs.host_sockets import bind_everywhere, bind_port
from labctl.kernel.programs.http_messages import (
    MAX_REQUEST_BYTES,
    Request,
    answer,
    begins_request,
    parse_request,
)

MANY_PORTS = 100  # each needs two sockets, and connections need more
BACKLOG = 64  # connections that may wait to be accepted
MAX_DATAGRAM_BYTES = 65535
WHO_PATH = "/who"
WHO_DATAGRAM = b"GET /who"
JSON = "application/json"


def main(args: Sequence[str]) -> int:
    """Serve until a signal ends the process. Returns 1 if a port cannot be bound."""
    name, *ports = args
    daemonize(name)
    if len(ports) > MANY_PORTS:
        from labctl.kernel.host.limits import raise_open_file_limit

        raise_open_file_limit()
    selector = selectors.DefaultSelector()
    for port in ports:
        protocol, _, place = port.partition(":")
        address, _, number = place.rpartition(":")
        try:
            for sock in _sockets(protocol, address, int(number)):
                sock.setblocking(False)
                handler = accept_connection if protocol == "tcp" else answer_datagram
                selector.register(sock, selectors.EVENT_READ, handler)
        except OSError as error:
            print(f"{protocol} port {place}: {error.strerror}", flush=True)
            return 1
    report_ready()
    server = Server(name, os.environ.get(NODE_VARIABLE, ""), selector)
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj, server)


def _sockets(protocol: str, address: str, port: int) -> list[socket.socket]:
    """The sockets of one port, at one address or at all. Raises OSError."""
    if not address:
        return bind_everywhere(protocol, port, BACKLOG, pktinfo=True)
    return [bind_port(protocol, address, port, BACKLOG, pktinfo=True)]


class Server:
    """Who serves: its name, the machine that it runs in, and the unfinished requests by connection."""

    def __init__(self, name: str, machine: str, selector: selectors.BaseSelector) -> None:
        self.name, self.machine, self.selector = name, machine, selector
        self.requests: dict[socket.socket, bytes] = {}

    def who(self, client: str, local: str, request: Request | None = None) -> bytes:
        """Who this is and which client it saw, as JSON."""
        import json  # it takes longer than the rest of this program's start

        fields: dict[str, str | None] = {"name": self.name, "machine": self.machine, "client": client, "local": local}
        if request is not None:
            headers = request.headers
            forwarded_for = headers.get("x-forwarded-for")
            fields |= {"host": headers.get("host"), "path": request.path, "forwarded_for": forwarded_for}
        return json.dumps(fields).encode() + b"\n"


def accept_connection(sock: socket.socket, server: Server) -> None:
    """Accept a new connection."""
    if (connection := accept(sock)) is not None:
        connection.setblocking(False)
        server.selector.register(connection, selectors.EVENT_READ, serve_connection)


def serve_connection(connection: socket.socket, server: Server) -> None:
    """Echo the received data. An HTTP request is answered as soon as its head is complete; then the connection is
    closed."""
    try:
        data = connection.recv(4096)
        earlier = server.requests.pop(connection, b"")
        if data and (earlier or begins_request(data)):
            request = parse_request(earlier + data)
            if request is None and len(earlier) < MAX_REQUEST_BYTES:
                server.requests[connection] = earlier + data
                return
            if request is not None:
                connection.send(_http_answer(connection, server, request))
        elif data:
            connection.send(data)
            return
    except BlockingIOError:
        return
    except OSError:
        pass
    server.selector.unregister(connection)
    connection.close()


def _http_answer(connection: socket.socket, server: Server, request: Request) -> bytes:
    if request.path.partition("?")[0] != WHO_PATH and not request.wants(JSON):
        return answer(request, "200 OK", f"{server.name}\n".encode(), "text/plain")
    client, local = (_endpoint(name) for name in (connection.getpeername(), connection.getsockname()))
    return answer(request, "200 OK", server.who(client, local, request), JSON)


def answer_datagram(sock: socket.socket, server: Server) -> None:
    """Echo a datagram, or answer who this is, with the address that the datagram was sent to as the source address."""
    with suppress(OSError):
        data, ancdata, _, sender = sock.recvmsg(MAX_DATAGRAM_BYTES, ANCDATA_BYTES)
        if data.startswith(WHO_DATAGRAM):
            local = (destination(ancdata), sock.getsockname()[1])
            data = server.who(_endpoint(sender), _endpoint(local))
        sock.sendmsg([data], reply_pktinfo(ancdata), 0, sender)


def _endpoint(name: Sequence[object]) -> str:
    """An address and a port, as `10.0.0.4:40123` or `[fd00::4]:40123`."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
