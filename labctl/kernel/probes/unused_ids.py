"""What no probe had before: identifiers of echoes, source ports, and a path whose MTU is not remembered.

The kernel remembers a connection for half a minute and more, and asks its nat table only about new ones.
A probe that looks like an earlier one would be treated as the rules said then, not as they say now.
"""

from __future__ import annotations

import errno
import math
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path

TRIES = 256  # ports to try before the choice is left to the kernel


class Fresh:
    """The numbers from `low` to `high` in an order nobody foresees, each once before any comes again."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._size = low, high - low + 1
        self._next = secrets.randbelow(self._size)
        self._stride = 1 + secrets.randbelow(self._size - 1) if self._size > 1 else 1
        while math.gcd(self._stride, self._size) > 1:
            self._stride += 1
        self._lock = threading.Lock()

    def take(self) -> int:
        """The next number."""
        with self._lock:
            self._next = (self._next + self._stride) % self._size
            return self._low + self._next


IDENTIFIERS = Fresh(1, 65535)  # of ICMP echoes
PORTS = Fresh(32768, 60999)  # sources of TCP and UDP: the range that Linux itself takes them from


def bind_fresh(sock: socket.socket, target: int) -> int:
    """Bind to a source port that no probe had before, and that is not the target's own. Returns it."""
    for port in (PORTS.take() for _ in range(TRIES)):
        try:
            if port != target:
                sock.bind(("", port))
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    sock.bind(("", 0))
    return int(sock.getsockname()[1])


def forget_paths() -> None:
    """Make the namespace this thread is in forget the path MTUs that it learned, which it keeps for ten minutes.

    IPv4's: IPv6 has no such switch, and there a later probe may be refused by the source itself.
    """
    with suppress(OSError):
        Path("/proc/sys/net/ipv4/route/flush").write_text("1")
