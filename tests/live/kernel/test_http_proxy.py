"""The HTTP load balancer, with real connections on the loopback device of a new namespace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labctl.kernel.programs import NODE_VARIABLE, READY, argv
from labctl.kubernetes.api.http_routes import HttpBackend, HttpMatch, HttpRoute, ordered, to_json

ONE, TWO, CLOSED = "127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"
TABLE = ordered(
    (
        HttpRoute(HttpMatch("web.example"), (HttpBackend("web", (ONE,)),)),
        HttpRoute(HttpMatch("web.example", "/split"), (HttpBackend("one", (ONE,), 9), HttpBackend("two", (TWO,), 1))),
        HttpRoute(HttpMatch("web.example", "/turn"), (HttpBackend("both", (ONE, TWO)),)),
        HttpRoute(HttpMatch("web.example", "/half"), (HttpBackend("half", (CLOSED, TWO)),)),
        HttpRoute(HttpMatch("web.example", "/down"), (HttpBackend("down", (CLOSED,)),)),
        HttpRoute(HttpMatch("web.example", "/empty"), (HttpBackend("empty"),)),
        HttpRoute(HttpMatch("web.example", "/invalid"), (HttpBackend("invalid", (), 1, 500),)),
        HttpRoute(HttpMatch("web.example", "/zero"), (HttpBackend("zero", (ONE,), 0),)),
        HttpRoute(HttpMatch("web.example", "/new", headers=(("x-version", "2"),)), (HttpBackend("two", (TWO,)),)),
    )
)
Fresh = Callable[..., Any]


@pytest.fixture
def proxy(fresh: Fresh) -> Iterator[None]:
    """Two servers and the proxy."""
    fresh(subprocess.run, ["ip", "link", "set", "lo", "up"], check=True)
    commands = [
        ("serve", name, f"tcp:127.0.0.1:{port}") for name, port in (("one", "8001"), ("two", "8002"))
    ] + [("http-proxy", "127.0.0.1", "80", to_json(TABLE))]  # fmt: skip
    pids = []
    for command in commands:
        words, environment = argv(command), {**os.environ, NODE_VARIABLE: command[1]}

        def start(words: list[str] = words, environment: dict[str, str] = environment) -> Any:
            return subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, start_new_session=True)

        child = fresh(start)
        assert child.stdout.readline() == READY
        pids.append(child.pid)
        child.wait()
        child.stdout.close()
    yield
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)


def request(path: str, *fields: str, method: str = "GET", body: bytes = b"", host: str = "web.example") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/json", *fields, "", "")
    return "\r\n".join(lines).encode() + body


def exchange(fresh: Fresh, *requests: bytes) -> bytes:
    """All that comes back through one connection, until it ends."""
    with fresh(socket.socket, socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", 80))
        for one in requests:
            client.sendall(one)
        found = b""
        while data := client.recv(65536):
            found += data
    return found


def ask(fresh: Fresh, path: str, *fields: str, **more: Any) -> tuple[int, Any]:
    """The status and the JSON body of an answer; no body if the proxy itself answered."""
    head, _, body = exchange(fresh, request(path, "Connection: close", *fields, **more)).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if b"application/json" in head else None


def test_the_server_sees_the_proxy_and_is_told_the_client(fresh: Fresh, proxy: None) -> None:
    status, who = ask(fresh, "/cart?x=1", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")

    assert (status, who["machine"], who["host"], who["path"]) == (200, "one", "web.example", "/cart?x=1")
    assert who["forwarded_for"] == "192.0.2.7, 127.0.0.1"
    assert who["client"].startswith("127.0.0.1:")


def test_headers_choose_a_route(fresh: Fresh, proxy: None) -> None:
    assert ask(fresh, "/new", "X-Version: 2")[1]["machine"] == "two"
    assert ask(fresh, "/new", "X-Version: 3")[1]["machine"] == "one"


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", "other.example", 404),
        ("/empty", "web.example", 503),
        ("/invalid", "web.example", 500),
        ("/zero", "web.example", 500),
        ("/down", "web.example", 502),
    ],
)
def test_answers_of_the_proxy_itself(fresh: Fresh, proxy: None, path: str, host: str, status: int) -> None:
    assert ask(fresh, path, host=host) == (status, None)


@pytest.mark.parametrize(
    ("path", "host", "text"),
    [
        ("/", "other.example", "404 page not found"),
        ("/empty", "web.example", "no available server"),
        ("/zero", "web.example", "Internal Server Error"),
        ("/down", "web.example", "Bad Gateway"),
    ],
)
def test_own_answers_are_plain_text(fresh: Fresh, proxy: None, path: str, host: str, text: str) -> None:
    found = exchange(fresh, request(path, "Connection: close", host=host)).decode()
    head, _, body = found.partition("\r\n\r\n")

    assert (body, "Content-Type: text/plain; charset=utf-8" in head) == (f"{text}\n", True)


def test_a_target_that_accepts_no_connection_is_left_out(fresh: Fresh, proxy: None) -> None:
    assert {ask(fresh, "/half")[1]["machine"] for _ in range(5)} == {"two"}


def test_targets_take_turns(fresh: Fresh, proxy: None) -> None:
    machines = [ask(fresh, "/turn")[1]["machine"] for _ in range(6)]
    assert machines in (["one", "two"] * 3, ["two", "one"] * 3)


def test_backends_get_requests_by_their_weights(fresh: Fresh, proxy: None) -> None:
    """400 requests in shares of nine to one: 40 for the small one, give or take 6 (one standard deviation). Less than
    one of a million runs is outside of six of them."""
    counts = Counter(ask(fresh, "/split")[1]["machine"] for _ in range(400))

    assert 4 <= counts["two"] <= 76, counts
    assert counts["one"] + counts["two"] == 400


def test_one_connection_carries_several_requests(fresh: Fresh, proxy: None) -> None:
    found = exchange(fresh, request("/a"), request("/b"), request("/c", "Connection: close"))

    assert [found.count(f'"path": "{path}"'.encode()) for path in ("/a", "/b", "/c")] == [1, 1, 1]
    assert found.count(b"HTTP/1.1 200") == 3


def test_bodies_are_forwarded_or_refused(fresh: Fresh, proxy: None) -> None:
    """A server of labctl echoes what is not GET, so the echo shows what the proxy sent."""
    chunked = request("/", "Transfer-Encoding: chunked", "Connection: close", method="POST",
                      body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")  # fmt: skip
    bad = request("/", "Content-Length: x", method="POST")

    assert exchange(fresh, bad).startswith(b"HTTP/1.1 400")
    assert exchange(fresh, chunked).startswith(b"HTTP/1.1 502")  # the echo is not an HTTP answer


def test_the_head_alone(fresh: Fresh, proxy: None) -> None:
    found = exchange(fresh, request("/who", "Connection: close", method="HEAD"))
    head, _, body = found.partition(b"\r\n\r\n")

    assert (head.split()[1], body) == (b"200", b"")
    assert b"Content-Length: " in head
