"""docker-bridge with the backend nftables on a live lab: who reaches whom, seen with which address, as in a daemon's.

tests/golden/daemons/nftables/answers.json has what 46 connections met on a host with a real daemon. A server tells a
client the address that it sees.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.lab import lifecycle
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.firewall

NAME = "behaviour"
PATIENCE = 1.0  # seconds that a packet which is dropped is waited for
HOST_PORT, STRANGER_PORT, NOBODY = 7000, 7001, 9999  # a program of the host, one outside, a port that nobody has
SCENARIO = """
name: behaviour
model: docker-bridge
release: "29"
firewall_backend: nftables
routed: true
networks:
  net0: {bridge: net0}
  int0: {bridge: int0, internal: true}
  noicc: {bridge: noicc0, icc: false, subnet: 10.77.0.0/24}
hosts:
  host1:
    containers:
      c1:
      web: {publish: ["8080:80"]}
      weblo: {publish: ["127.0.0.1:8081:80"]}
      u1: {networks: [net0]}
      u2: {networks: [net0], publish: ["8090:80"]}
      i1: {networks: [int0]}
      i2: {networks: [int0]}
      q1: {networks: [noicc]}
      q2: {networks: [noicc], publish: ["8092:80"]}
      both: {networks: [net0], connect: int0}
"""
HOST, WEB, STRANGER = "192.168.50.11", "172.17.0.3", "192.168.50.1"
# each connection: who begins it, the address and the port, and the address that it comes from, if it chooses one
PROBES: dict[str, tuple[Any, ...]] = {
    "same network, host address": ("c1", HOST, 8080),
    "same network, bridge address": ("c1", "172.17.0.1", 8080),
    "itself, host address": ("web", HOST, 8080),
    "other network, host address": ("u1", HOST, 8080),
    "other network, other bridge address": ("u1", "172.17.0.1", 8080),
    "other network, own bridge address": ("u1", "172.18.0.1", 8080),
    "other network, direct": ("u1", WEB, 80),
    "other network direct, unpublished": ("u1", "172.17.0.2", 80),
    "docker0 to a user network port": ("c1", HOST, 8090),
    "user network itself": ("u2", HOST, 8090),
    "user network peer": ("u1", HOST, 8090),
    "host to 127.0.0.1": ("host1", "127.0.0.1", 8080),
    "host to its address": ("host1", HOST, 8080),
    "host to bridge address": ("host1", "172.17.0.1", 8080),
    "host to 127.0.0.1 of a port at 127.0.0.1": ("host1", "127.0.0.1", 8081),
    "host to its address of a port at 127.0.0.1": ("host1", HOST, 8081),
    "container to a port at 127.0.0.1": ("c1", HOST, 8081),
    "host direct": ("host1", WEB, 80),
    "stranger to port": ("internet", HOST, 8080),
    "stranger to port at 127.0.0.1": ("internet", HOST, 8081),
    "stranger direct, published": ("internet", WEB, 80),
    "stranger direct, unpublished": ("internet", "172.17.0.2", 80),
    "stranger to bridge address port": ("internet", "172.17.0.1", 8080, STRANGER),
    "stranger to a host port of nobody": ("internet", HOST, NOBODY),
    "internal to stranger": ("i1", "203.0.113.1", STRANGER_PORT),
    "internal to peer": ("i1", "172.19.0.3", 80),
    "internal to published port": ("i1", HOST, 8080),
    "internal to its bridge": ("i1", "172.19.0.1", HOST_PORT),
    "internal to its bridge, published port": ("i1", "172.19.0.1", 8080),
    "host to internal": ("host1", "172.19.0.2", 80),
    "stranger to internal": ("internet", "172.19.0.2", 80),
    "user network to internal": ("u1", "172.19.0.2", 80),
    "icc off, peer": ("q1", "10.77.0.3", 80),
    "icc off, published port of peer": ("q1", HOST, 8092),
    "icc off, own bridge, port of peer": ("q1", "10.77.0.1", 8092),
    "icc off, from docker0": ("c1", HOST, 8092),
    "icc off, itself": ("q2", HOST, 8092),
    "icc off, host": ("host1", "10.77.0.3", 80),
    "icc off, stranger": ("internet", HOST, 8092),
    "icc off, to stranger": ("q1", "203.0.113.1", STRANGER_PORT),
    "docker0 to stranger": ("c1", "203.0.113.1", STRANGER_PORT),
    "user network to stranger": ("u1", "203.0.113.1", STRANGER_PORT),
    "docker0 to host": ("c1", HOST, HOST_PORT),
    "two networks: to docker0": ("both", WEB, 80),
    "two networks: to internal": ("both", "172.19.0.2", 80),
    "two networks: to stranger": ("both", "203.0.113.1", STRANGER_PORT),
}
CONTAINERS = ("c1", "web", "weblo", "u1", "u2", "i1", "i2", "q1", "q2", "both")


def inside(node: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in the network of a machine."""
    with NetnsThread() as thread:
        return thread.run(paths.netns_path(NAME, node), function, *args)


def listening(port: int) -> socket.socket:
    return socket.create_server(("", port), backlog=16)


def tell(server: socket.socket) -> None:
    """Tell each client the address that it is seen with, until the socket is closed."""
    while True:
        try:
            connection, (address, _) = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(address.encode())


def ask(address: str, port: int, source: str = "") -> str:
    """What a connection meets, in the words of the record."""
    try:
        with socket.create_connection((address, port), PATIENCE, (source, 0)) as connection:
            connection.settimeout(PATIENCE)
            return f"seen as {connection.recv(64).decode()}"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return str(error.strerror)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What every connection meets in a lab."""
    file = tmp_path_factory.mktemp("lab") / "behaviour.yaml"
    file.write_text(SCENARIO)
    lifecycle.up(lifecycle.define(str(file)))
    ports = {**dict.fromkeys(CONTAINERS, 80), "host1": HOST_PORT, "internet": STRANGER_PORT}
    try:
        with ExitStack() as servers:
            for node, port in ports.items():
                server = servers.enter_context(inside(node, listening, port))
                servers.callback(server.shutdown, socket.SHUT_RDWR)  # ends accept()
                threading.Thread(target=tell, args=(server,), daemon=True).start()
            with ThreadPoolExecutor(len(PROBES)) as pool:
                asked = {name: pool.submit(inside, node, ask, *to) for name, (node, *to) in PROBES.items()}
                yield {name: one.result() for name, one in asked.items()}
    finally:
        lifecycle.down(NAME)


def test_every_connection_meets_what_it_meets_with_a_real_daemon(answers: dict[str, str]) -> None:
    record = json.loads((GOLDEN / "daemons" / "nftables" / "answers.json").read_text())
    assert answers == record["answers"]
