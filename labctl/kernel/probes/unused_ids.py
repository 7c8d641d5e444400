"""ICMP identifiers and source ports that no earlier probe used, and a way to forget learned path MTUs.

The kernel remembers a connection for half a minute and longer, and uses its nat table only for new connections. A probe
with the numbers of an earlier one would be handled by the rules of that time, not by the present rules.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

TRIES = 256  # ports to try before the choice is left to the kernel


def _below(limit: int) -> int:
    """A random number from 0 to `limit` - 1."""
    return int.from_bytes(os.urandom(8), "big") % limit


class UnusedIds:
    """The numbers from `low` to `high` in a random order, each once before any of them is repeated."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._size = low, high - low + 1
        self._next = _below(self._size)
        self._stride = 1 + _below(self._size - 1) if self._size > 1 else 1
        while math.gcd(self._stride, self._size) > 1:
            self._stride += 1
        self._lock = threading.Lock()

    def next_id(self) -> int:
        """The next number."""
        with self._lock:
            self._next = (self._next + self._stride) % self._size
            return self._low + self._next


ICMP_IDS = UnusedIds(1, 65535)  # of ICMP echoes
SOURCE_PORTS = UnusedIds(32768, 60999)  # source ports of TCP and UDP: Linux's own default range


def bind_unused_port(sock: socket.socket, target: int) -> int:
    """Bind to a source port that no earlier probe used and that differs from the target's port. Returns it.

    Raises OSError.
    """
    for port in (SOURCE_PORTS.next_id() for _ in range(TRIES)):
        try:
            if port != target:
                sock.bind(("", port))
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    sock.bind(("", 0))
    return int(sock.getsockname()[1])


def bind_source_port(sock: socket.socket, sport: int | None, target: int) -> int:
    """Bind to the source port `sport`, or if it is None to an unused one (`bind_unused_port`). Returns the port.

    Raises OSError: with EADDRINUSE if another socket of the namespace has the port.
    """
    if sport is None:
        return bind_unused_port(sock, target)
    if sock.family == socket.AF_INET6:  # a socket of IPv4 with this port does not matter
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", sport))
    return sport


def flush_path_mtu() -> None:
    """Make this thread's namespace forget the path MTUs that it learned; otherwise it keeps them for ten minutes.

    This works for IPv4 only. IPv6 has no such sysctl, so there the source itself may refuse a later probe.
    """
    with suppress(OSError):
        Path("/proc/sys/net/ipv4/route/flush").write_text("1")
