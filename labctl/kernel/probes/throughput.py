"""How fast two namespaces communicate: the round-trip time of an echo, and the rate of a TCP stream.

Both are measured with labctl's own sockets, created inside and used from outside, without packet sockets on the way.
The numbers hold for this machine at this moment; compare them only with each other. Other work on the machine can only
make them worse, so the best of several measurements at different times is the most accurate.
"""

from __future__ import annotations

import socket
import statistics
import struct
import threading
import time
from pathlib import Path

from labctl.core.resources import IP
from labctl.kernel.host.limits import starting
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.clients import ICMP_FILTER, SOL_RAW
from labctl.kernel.probes.unused_ids import ICMP_IDS
from labctl.packets.icmp import echo_request

ECHOES, WARM_UP_ECHOES = 60, 10  # echoes of a burst, and how many of them are not counted
STREAM_DURATION_S = 0.06
TIMEOUT_S = 1.0  # seconds that an answer may take
ECHO_MARKER = b"labctlRT"
CHUNK_BYTES = 1 << 18


def round_trip_time_s(thread: NetnsThread, source: Path, address: IP) -> float:
    """The median time of a burst of echoes from the namespace `source` to an IPv4 address and back, in seconds.

    Raises OSError (TimeoutError if there is no reply).
    """
    with thread.run(source, _raw, address) as sock:
        identifier = ICMP_IDS.next_id()
        times = [_echo(sock, identifier, sequence) for sequence in range(ECHOES)]
    return statistics.median(times[WARM_UP_ECHOES:])


def _echo(sock: socket.socket, identifier: int, sequence: int) -> float:
    request = echo_request(4, identifier, sequence, ECHO_MARKER)
    started = time.perf_counter()
    sock.send(request)
    while not _is_reply(sock.recv(2048), identifier, sequence):
        if time.perf_counter() - started > TIMEOUT_S:
            raise TimeoutError("no answer")
    return time.perf_counter() - started


def _raw(address: IP) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMP)
    try:
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~1))  # echo replies only
        sock.settimeout(TIMEOUT_S)
        sock.connect((str(address), 0))
    except OSError:
        sock.close()
        raise
    return sock


def _is_reply(data: bytes, identifier: int, sequence: int) -> bool:
    head = (data[0] & 15) * 4
    return data[head : head + 1] == b"\0" and struct.unpack_from("!HH", data, head + 4) == (identifier, sequence)


def tcp_rate(thread: NetnsThread, source: Path, target: Path, address: IP) -> float:
    """The rate of a short TCP stream from `source` to an address of the namespace `target`, in bits per second.

    Raises OSError (TimeoutError if no connection is established).
    """
    with thread.run(target, _server) as server:
        port = int(server.getsockname()[1])
        with thread.run(source, _client, address, port) as client:
            connection, _ = server.accept()
            with connection:
                return _measure_stream(client, connection)


def _server() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.settimeout(TIMEOUT_S)
    sock.bind(("", 0))
    sock.listen(1)
    return sock


def _client(address: IP, port: int) -> socket.socket:
    return socket.create_connection((str(address), port), TIMEOUT_S)


def _measure_stream(client: socket.socket, connection: socket.socket) -> float:
    """Send for STREAM_DURATION_S seconds in a thread and count here what arrives; returns bits per second."""
    connection.settimeout(TIMEOUT_S)
    sender = threading.Thread(target=_send, args=(client,), name="stream", daemon=True)
    buffer, received = memoryview(bytearray(CHUNK_BYTES)), 0
    started = time.perf_counter()
    with starting("a thread"):
        sender.start()
    try:
        while count := connection.recv_into(buffer):
            received += count
        duration_s = time.perf_counter() - started
    finally:
        sender.join(2 * TIMEOUT_S)
    return received * 8 / duration_s


def _send(client: socket.socket) -> None:
    """Send until the time is over or the receiver is gone."""
    data, deadline = bytes(CHUNK_BYTES), time.perf_counter() + STREAM_DURATION_S
    try:
        while time.perf_counter() < deadline:
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
    except OSError:
        client.close()
