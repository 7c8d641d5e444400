"""An HTTP load balancer: `http-proxy ADDRESS PORT TABLE [PORT TABLE]...` listens on every port of the address.

Each TABLE is JSON text, as `labctl.kubernetes.api.http_routes` writes it: which backend gets a request, by host,
path, method, headers, query and weight. The proxy ends the client's connection and opens another one to a target of the
backend, so the target sees the proxy's address. Which client it was is in the header X-Forwarded-For, which gets the
client's address at its end. X-Forwarded-Host and X-Forwarded-Proto say what the client asked for.

A target that accepts no connection gets no requests for some seconds; the request goes to the next target of the
backend. The proxy's own answers are 404 (no route), 503 (no endpoint), 502 and 504 (no target accepts a connection).
Statuses and texts of these are as Traefik has them, plain text.
"""

from __future__ import annotations

import random
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from labctl.kernel.programs.daemon import daemonize, report_ready
from labctl.kubernetes.api.http_routes import (
    NO_ENDPOINTS,
    NO_ROUTE,
    NO_SERVICE,
    HttpBackend,
    HttpTable,
    from_json,
    request_of,
)

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
HOP_HEADERS = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip  # header fields that concern one connection only (RFC 9110, section 7.6.1)
CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S = 1.0, 30.0
DOWN_S = 5.0  # seconds in which a target that accepted no connection gets no request
IDLE_TIMEOUT_S = 60.0  # seconds after which a client's idle connection is closed
CHUNK_BYTES = 65536
BAD_GATEWAY, GATEWAY_TIMEOUT = 502, 504
OWN_TEXTS = {
    NO_ROUTE: "404 page not found",
    NO_ENDPOINTS: "no available server",
    BAD_GATEWAY: "Bad Gateway",
    GATEWAY_TIMEOUT: "Gateway Timeout",
    NO_SERVICE: "Internal Server Error",
}


class TargetChoice:
    """Which target of which backend gets a request: backends by weight, the targets of a backend in turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn: dict[tuple[str, ...], int] = {}
        self._down_until: dict[str, float] = {}

    def backend(self, backends: Sequence[HttpBackend]) -> HttpBackend | None:
        """One of the backends, by weight; None if all weights are zero."""
        weights = [one.weight for one in backends]
        return random.choices(backends, weights)[0] if sum(weights) else None

    def targets(self, backend: HttpBackend) -> Iterator[str]:
        """The targets of a backend in the order in which to try them: those that are down come last."""
        if not backend.targets:
            return
        with self._lock:
            turn = self._turn[backend.targets] = self._turn.get(backend.targets, -1) + 1
        at = turn % len(backend.targets)
        now = time.monotonic()
        yield from sorted(
            (*backend.targets[at:], *backend.targets[:at]), key=lambda one: self._down_until.get(one, 0) > now
        )

    def set_down(self, target: str) -> None:
        """Prefer other targets for some time."""
        self._down_until[target] = time.monotonic() + DOWN_S


class Proxy(ThreadingHTTPServer):
    """The server of one port, with its table."""

    daemon_threads = True
    request_queue_size = 4096  # connections that may wait to be accepted, as of a Go program

    def __init__(self, address: str, port: int, table: HttpTable, choice: TargetChoice) -> None:
        self.table, self.choice = table, choice
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        """Bind without a look-up of the address's name, for which HTTPServer asks a resolver."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: Proxy
    protocol_version = "HTTP/1.1"
    server_version = "labctl"
    timeout = IDLE_TIMEOUT_S
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(explain)s\n"

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send the proxy's own answer."""
        super().send_error(code, message, explain or OWN_TEXTS.get(code))

    def log_message(self, format: str, *args: object) -> None:
        """A program prints nothing after it is ready."""

    def forward(self) -> None:
        """Answer one request."""
        try:
            body = self._body()
        except ValueError:
            self.close_connection = True
            return self.send_error(400)
        route = self.server.table.find(request_of(self.command, self.path, self.headers.items()))
        if route is None:
            return self.send_error(NO_ROUTE)
        backend = self.server.choice.backend(route.backends)
        if backend is None:
            return self.send_error(NO_SERVICE)
        status = backend.status
        for target in self.server.choice.targets(backend):
            host, _, port = target.rpartition(":")
            connection = HTTPConnection(host, int(port), timeout=CONNECT_TIMEOUT_S)
            try:
                connection.connect()
            except OSError as error:
                self.server.choice.set_down(target)
                status = GATEWAY_TIMEOUT if isinstance(error, TimeoutError) else BAD_GATEWAY
                continue
            return self._exchange(connection, body)
        return self.send_error(status)

    def _exchange(self, connection: HTTPConnection, body: bytes) -> None:
        """Send the request through a connection to a target, and its answer to the client."""
        try:
            connection.sock.settimeout(ANSWER_TIMEOUT_S)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self._request_headers(body):
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
        except TimeoutError:
            return self.send_error(GATEWAY_TIMEOUT)
        except (OSError, HTTPException):
            return self.send_error(BAD_GATEWAY)
        else:
            self._send(response)
        finally:
            connection.close()

    def _request_headers(self, body: bytes) -> Iterator[tuple[str, str]]:
        """The header fields for the target: those of the client, and what the proxy adds."""
        replaced = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "content-length"}
        listed = {name.strip().lower() for name in self.headers.get("Connection", "").split(",")}
        for name, value in self.headers.items():
            if name.lower() not in HOP_HEADERS | replaced | listed:
                yield name, value
        if body or "Content-Length" in self.headers:
            yield "Content-Length", str(len(body))
        earlier = self.headers.get_all("X-Forwarded-For", [])
        yield "X-Forwarded-For", ", ".join((*earlier, str(self.client_address[0])))
        yield "X-Forwarded-Host", self.headers.get("Host", "")
        yield "X-Forwarded-Proto", "http"
        yield "Connection", "close"

    def _send(self, response: HTTPResponse) -> None:
        """Send a target's answer to the client. Without a known length, the end of the connection ends it."""
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in HOP_HEADERS:
                self.send_header(name, value)
        if response.length is None:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        while data := response.read(CHUNK_BYTES):
            self.wfile.write(data)

    def _body(self) -> bytes:
        """The body of the request. Raises ValueError for a length that is not a number."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = int(self.headers.get("Content-Length", "0"))
            if length < 0:
                raise ValueError("a negative length")
            return self.rfile.read(length)
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailer fields
        return b"".join(chunks)


for _method in METHODS:
    setattr(Handler, f"do_{_method}", Handler.forward)


def main(args: Sequence[str]) -> int:
    """Serve until a signal ends the process. Returns 1 if a port cannot be bound."""
    address, *rest = args
    tables = {int(port): from_json(text) for port, text in zip(rest[::2], rest[1::2], strict=True)}
    daemonize("http-proxy")
    choice = TargetChoice()
    proxies = []
    for port, table in tables.items():
        try:
            proxies.append(Proxy(address, port, table, choice))
        except OSError as error:
            print(f"tcp port {address}:{port}: {error.strerror}", flush=True)
            return 1
    report_ready()
    threads = [threading.Thread(target=proxy.serve_forever) for proxy in proxies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0
