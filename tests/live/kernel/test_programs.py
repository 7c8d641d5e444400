"""labctl's own servers: what they answer to echoes, to HTTP clients, and to health checks."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.kernel.programs import NODE_VARIABLE, READY, argv

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.fixture
def started(fresh: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """Start programs in a new network namespace, and end them."""
    pids: list[int] = []

    def start(*command: str) -> None:
        words, environment = argv(command), {**os.environ, NODE_VARIABLE: "b"}
        child = fresh(lambda: subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, start_new_session=True))
        assert child.stdout.readline() == READY
        pids.append(child.pid)
        child.wait()
        child.stdout.close()

    fresh(subprocess.run, ["ip", "link", "set", "lo", "up"], check=True)
    yield start
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)


def ask(fresh: Callable[..., Any], port: int, *parts: bytes, at: tuple[int, str] = FAMILIES[0]) -> bytes:
    """What a server answers to a request that comes in parts, until it closes the connection."""
    with fresh(socket.socket, at[0], socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect((at[1], port))
        for part in parts:
            client.sendall(part)
        found = b""
        while data := client.recv(4096):
            found += data
    return found


def body(found: bytes) -> Any:
    return json.loads(found.partition(b"\r\n\r\n")[2])


def test_a_server_tells_its_name_and_who_it_is(fresh: Callable[..., Any], started: Callable[..., None]) -> None:
    started("serve", "web", "tcp:80")

    assert ask(fresh, 80, b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nweb\n")
    who = body(ask(fresh, 80, b"GET /who HTTP/1.0\r\n", b"X-Forwarded-For: 192.0.2.1\r\n\r\n"))
    assert who.pop("client").startswith("127.0.0.1:")
    assert who == {
        "name": "web",
        "machine": "b",
        "local": "127.0.0.1:80",
        "host": None,
        "path": "/who",
        "forwarded_for": "192.0.2.1",
    }
    accepted = body(ask(fresh, 80, b"GET /shop HTTP/1.1\r\nHost: a.example\r\nAccept: application/json\r\n\r\n"))
    assert (accepted["host"], accepted["path"]) == ("a.example", "/shop")


@pytest.mark.parametrize("at", FAMILIES)
def test_a_server_echoes_by_tcp_and_udp(
    fresh: Callable[..., Any], started: Callable[..., None], at: tuple[int, str]
) -> None:
    if at[0] == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("the kernel has no IPv6")
    started("serve", "dns", "tcp:53", "udp:53")

    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with fresh(socket.socket, at[0], kind) as client:
            client.settimeout(5)
            client.connect((at[1], 53))
            client.send(b"GETTER of labctl")
            assert client.recv(100) == b"GETTER of labctl"
            if kind == socket.SOCK_DGRAM:
                client.send(b"GET /who")
                who = json.loads(client.recv(1000))
                host = f"[{at[1]}]" if ":" in at[1] else at[1]
                assert (who["machine"], who["local"]) == ("b", f"{host}:53")
                assert who["client"] == f"{host}:{client.getsockname()[1]}"


def test_health_checks_answer_with_the_number_of_endpoints(
    fresh: Callable[..., Any], started: Callable[..., None]
) -> None:
    started("healthcheck", "10256", "default/web:31000:2", "shop/cart:31001:0")

    good, bad = (ask(fresh, port, b"GET / HTTP/1.1\r\n\r\n") for port in (31000, 31001))
    assert good.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"X-Load-Balancing-Endpoint-Weight: 2\r\n" in good
    assert bad.startswith(b"HTTP/1.0 503 Service Unavailable\r\n")
    assert body(good) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }
    assert body(bad)["localEndpoints"] == 0
    health = ask(fresh, 10256, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert health.startswith(b"HTTP/1.0 200 OK\r\n")
    assert body(health)["nodeEligible"] is True
    assert ask(fresh, 10256, b"GET /other HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 404 ")


def test_a_silent_client_does_not_hold_up_others(fresh: Callable[..., Any], started: Callable[..., None]) -> None:
    started("healthcheck", "10256")
    with fresh(socket.create_connection, ("127.0.0.1", 10256)):
        assert ask(fresh, 10256, b"GET /livez HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 200 OK\r\n")


def test_a_server_has_files_for_more_ports_than_the_usual_limit(
    fresh: Callable[..., Any], started: Callable[..., None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        started("serve", "web", *(f"tcp:{port}" for port in range(2000, 2400)))
        started("healthcheck", "10256", *(f"default/s{port}:{port}:1" for port in range(3000, 3200)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert ask(fresh, 2399, b"GET / HTTP/1.0\r\n\r\n").endswith(b"web\n")
    assert ask(fresh, 3199, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK\r\n")
