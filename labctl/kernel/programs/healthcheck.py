"""The HTTP servers of kube-proxy for health checks: `healthcheck HEALTHZ_PORT NAMESPACE/SERVICE:PORT:ENDPOINTS ...`.

With `@ADDRESS,...` at its end, a Service's port is served at these addresses only: so kube-proxy does in mode nftables.

At HEALTHZ_PORT it answers `/healthz` and `/livez`: kube-proxy works on this node. At the healthCheckNodePort of each
Service it answers every path with the number of the Service's ready endpoints on this node, with the status 503 if
there are none. A load balancer sends the Service's packets only to nodes that answer 200.

As in Kubernetes, the number follows from the API objects: it does not change when a server in a pod ends.
Source: kubernetes pkg/proxy/healthcheck/service_health.go and proxier_health.go, 1.28 to 1.36.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

from labctl.kernel.programs.daemon import accept, daemonize, report_ready
from labctl.kernel.programs.host_sockets import bind_everywhere, bind_port
from labctl.kernel.programs.http_messages import MAX_REQUEST_BYTES, Request, answer, parse_request

MANY_PORTS = 100  # each needs two sockets, and connections need more
OK, NOT_FOUND, UNAVAILABLE = "200 OK", "404 Not Found", "503 Service Unavailable"
JSON = "application/json"
NO_SNIFF = "X-Content-Type-Options: nosniff"
Answer = Callable[[Request], bytes]


def main(args: Sequence[str]) -> int:
    """Serve until a signal ends the process. Returns 1 if a port cannot be bound."""
    healthz_port, *services = args
    daemonize("kube-proxy")
    if len(services) > MANY_PORTS:
        from labctl.kernel.host.limits import raise_open_file_limit

        raise_open_file_limit()
    servers: list[tuple[str, int, Answer]] = [("", int(healthz_port), healthz)]
    for service in services:
        words, _, addresses = service.partition("@")
        name, number, endpoints = words.rsplit(":", 2)
        servers.append((addresses, int(number), partial(service_health, name, int(endpoints))))
    selector = selectors.DefaultSelector()
    for addresses, port, reply in servers:
        try:
            at = [bind_port("tcp", one, port) for one in addresses.split(",")] if addresses else None
            for sock in at if at is not None else bind_everywhere("tcp", port):
                selector.register(sock, selectors.EVENT_READ, partial(accept_client, sock, selector, reply))
        except OSError as error:
            print(f"tcp port {port}: {error.strerror}", flush=True)
            return 1
    report_ready()
    while True:
        for key, _ in selector.select():
            key.data()


def accept_client(sock: socket.socket, selector: selectors.BaseSelector, reply: Answer) -> None:
    """Accept a connection, and answer its request when it is complete."""
    if (connection := accept(sock)) is not None:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, Client(connection, selector, reply))


class Client:
    """A connection, and what it has sent of its request."""

    def __init__(self, connection: socket.socket, selector: selectors.BaseSelector, reply: Answer) -> None:
        self.connection, self.selector, self.reply = connection, selector, reply
        self.received = b""

    def __call__(self) -> None:
        """Read. Answer a complete request, and close the connection."""
        try:
            data = self.connection.recv(4096)
            self.received += data
            request = parse_request(self.received)
            if data and request is None and len(self.received) < MAX_REQUEST_BYTES:
                return
            if request is not None:
                self.connection.send(self.reply(request))
        except BlockingIOError:
            return
        except OSError:
            pass  # the client is gone
        self.selector.unregister(self.connection)
        self.connection.close()


def service_health(name: str, endpoints: int, request: Request) -> bytes:
    """The answer at a healthCheckNodePort."""
    import json

    namespace, _, service = name.partition("/")
    body = {"service": {"namespace": namespace, "name": service}, "localEndpoints": endpoints}
    text = json.dumps({**body, "serviceProxyHealthy": True}, indent="\t")
    fields = (NO_SNIFF, f"X-Load-Balancing-Endpoint-Weight: {endpoints}")
    return answer(request, OK if endpoints else UNAVAILABLE, text.encode(), JSON, *fields)


def healthz(request: Request) -> bytes:
    """The answer of kube-proxy's own health check."""
    import json

    if request.path.partition("?")[0] not in ("/healthz", "/livez"):
        return answer(request, NOT_FOUND, b"404 page not found\n", "text/plain; charset=utf-8", NO_SNIFF)
    now = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime())
    body: dict[str, object] = {"lastUpdated": now, "currentTime": now}
    if request.path.startswith("/healthz"):
        body["nodeEligible"] = True
    return answer(request, OK, json.dumps(body).encode(), JSON, NO_SNIFF)
