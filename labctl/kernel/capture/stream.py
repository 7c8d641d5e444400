"""labctl capture: the frames at all devices of a lab as one stream, in order of time.

One socket per namespace receives the frames of all its devices. The kernel stamps all frames with the same clock. So
frames are held back for a moment and then returned in the order of their time stamps, not of the reads.
"""

from __future__ import annotations

import heapq
import itertools
import select
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from labctl.core.resources import Interface
from labctl.errors import KernelError, MissingError, UsageError
from labctl.kernel.capture.tap import Tap
from labctl.kernel.capture.tcpdump import tcpdump_program
from labctl.kernel.host import child_process, paths
from labctl.kernel.host.thread_pool import call_all
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.packets.decode import CANARY, Frame

COMPILE_TIMEOUT_S = 10.0  # seconds that tcpdump may take to compile a filter
REORDER_DELAY_S = 0.05  # seconds that a frame waits for an earlier one of another namespace


def compile_filter(expression: str) -> bytes | None:
    """A pcap filter expression as a BPF program for the kernel (`struct sock_filter`); None for an empty expression.

    tcpdump compiles it, for frames with an Ethernet header. Raises UsageError with tcpdump's message, MissingError.
    """
    if not expression.strip():
        return None
    tcpdump = tcpdump_program()
    if tcpdump is None:
        raise MissingError("a filter needs tcpdump, which is not installed", "apt-get install tcpdump")
    command = [tcpdump, "-y", "EN10MB", "-ddd", "-s", "262144", expression]
    done = child_process.run(command, timeout_s=COMPILE_TIMEOUT_S)
    if done.returncode:
        messages = done.stderr.strip().splitlines()
        problem = messages[-1].removeprefix("tcpdump: ") if messages else "tcpdump gave no reason"
        raise UsageError(f"--filter {expression!r}: {problem}", "for the filter language see: man pcap-filter")
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return b"".join(struct.pack("=HBBI", *map(int, row)) for row in rows)


class Capture:
    """Packet sockets in some namespaces of a lab. A context manager."""

    def __init__(
        self, lab: str, nodes: Iterable[str], interfaces: Iterable[Interface] = (), program: bytes | None = None
    ):
        self._interfaces = frozenset(interfaces)
        self._taps: dict[int, Tap] = {}
        self._poll = select.poll()
        self._count = itertools.count()
        self._waiting: list[tuple[int, int, Frame]] = []
        self._netns_ids: dict[Path, tuple[int, int] | None] = {}
        try:
            with NetnsThread() as thread:
                for node in nodes:
                    self._open_tap(lab, node, program, thread)
        except BaseException:
            self.close()
            raise

    def _open_tap(self, lab: str, node: str, program: bytes | None, thread: NetnsThread) -> None:
        path = paths.netns_path(lab, node)
        self._netns_ids[path] = _netns_id(path)
        try:
            tap = thread.run(path, Tap, node, program)
        except OSError as error:
            raise KernelError(f"cannot capture in {node}: {error.strerror or error}", errno=error.errno or 0) from None
        self._taps[tap.socket.fileno()] = tap
        self._poll.register(tap.socket, select.POLLIN)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def frames(self, duration_s: float | None = None, reader: int | None = None) -> Iterator[Frame]:
        """The frames as they arrive, in order of time. Ends after `duration_s` seconds, when all namespaces are gone
        (see `is_gone`), or when the other end of the pipe `reader` is closed."""
        closed = select.poll()
        if reader is not None:
            closed.register(reader, 0)  # poll always reports errors
        deadline = None if duration_s is None else time.monotonic() + duration_s
        while (deadline is None or time.monotonic() < deadline) and not self.is_gone():
            if closed.poll(0):
                return
            self._read(int(REORDER_DELAY_S * 1000))
            yield from self._until(time.time_ns() - int(REORDER_DELAY_S * 1e9))
        yield from self.rest()

    def is_gone(self) -> bool:
        """Whether no namespace is the same as at the start: the lab was removed or built again."""
        return all(_netns_id(path) != netns_id for path, netns_id in self._netns_ids.items())

    def rest(self) -> Iterator[Frame]:
        """The frames that have arrived by now and were not returned yet."""
        self._read(0)
        yield from self._until(None)

    def lost_frames(self) -> dict[str, int]:
        """The number of frames that the kernel could not deliver, by node; nodes without losses are left out."""
        return {tap.node: lost for tap in self._taps.values() if (lost := tap.count_losses())}

    def close(self) -> None:
        """Close all sockets, in parallel: each close waits for an RCU grace period."""
        taps, self._taps = self._taps, {}
        call_all("close-taps", (tap.socket.close for tap in taps.values()))

    def _read(self, timeout_ms: int) -> None:
        for fd, _ in self._poll.poll(timeout_ms):
            for frame in self._taps[fd].read():
                if frame.protocol != CANARY and (not self._interfaces or frame.at in self._interfaces):
                    heapq.heappush(self._waiting, (frame.time_ns, next(self._count), frame))

    def _until(self, until_ns: int | None) -> Iterator[Frame]:
        while self._waiting and (until_ns is None or self._waiting[0][0] <= until_ns):
            yield heapq.heappop(self._waiting)[2]


def _netns_id(path: Path) -> tuple[int, int] | None:
    """The namespace that has this name now, by device and inode; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
