"""Everything that passes the devices of a lab, as one stream in the order of time.

One socket per namespace hears all of its devices. The kernel stamps each frame with one clock for all of them, so
frames are held back for a moment and told in the order of their stamps, whoever was read first.
"""

from __future__ import annotations

import heapq
import itertools
import select
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labctl.core.resources import Port
from labctl.errors import KernelError, MissingError, UsageError
from labctl.kernel.capture.tap import Tap
from labctl.kernel.capture.tcpdump import tcpdump_program
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import Inside
from labctl.packets.decode import CANARY, Frame

HELD = 0.05  # seconds that a frame waits for an earlier one of another namespace


def compiled(expression: str) -> bytes | None:
    """A pcap filter expression as the kernel takes it (`struct sock_filter`); None for an empty one.

    tcpdump compiles it, for frames with an Ethernet header. Raises UsageError in tcpdump's words, MissingError.
    """
    if not expression.strip():
        return None
    tcpdump = tcpdump_program()
    if tcpdump is None:
        raise MissingError("a filter needs tcpdump, which is not here", "apt-get install tcpdump")
    words = [tcpdump, "-y", "EN10MB", "-ddd", "-s", "262144", expression]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        why = said[-1].removeprefix("tcpdump: ") if said else "tcpdump says nothing"
        raise UsageError(f"--filter {expression!r}: {why}", "man pcap-filter has the language")
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return b"".join(struct.pack("=HBBI", *map(int, row)) for row in rows)


class Capture:
    """The ears of some namespaces of a lab. A context manager."""

    def __init__(self, lab: str, nodes: Iterable[str], points: Iterable[Port] = (), program: bytes | None = None):
        self._points = frozenset(points)
        self._taps: dict[int, Tap] = {}
        self._poll = select.poll()
        self._count = itertools.count()
        self._waiting: list[tuple[int, int, Frame]] = []
        self._spaces: dict[Path, tuple[int, int] | None] = {}
        try:
            with Inside() as inside:
                for node in nodes:
                    self._listen(lab, node, program, inside)
        except BaseException:
            self.close()
            raise

    def _listen(self, lab: str, node: str, program: bytes | None, inside: Inside) -> None:
        path = paths.netns_path(lab, node)
        self._spaces[path] = _space(path)
        try:
            tap = inside.run(path, Tap, node, program)
        except OSError as error:
            raise KernelError(f"cannot listen in {node}: {error.strerror or error}", errno=error.errno or 0) from None
        self._taps[tap.socket.fileno()] = tap
        self._poll.register(tap.socket, select.POLLIN)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def frames(self, seconds: float | None = None, reader: int | None = None) -> Iterator[Frame]:
        """The frames as they come, in the order of time; ends after so many seconds, once none of the namespaces
        has its name any more (see `gone`), or once nobody reads what is written to the pipe `reader`."""
        closed = select.poll()
        if reader is not None:
            closed.register(reader, 0)  # errors are told unasked
        deadline = None if seconds is None else time.monotonic() + seconds
        while (deadline is None or time.monotonic() < deadline) and not self.gone():
            if closed.poll(0):
                return
            self._read(int(HELD * 1000))
            yield from self._until(time.time_ns() - int(HELD * 1e9))
        yield from self.rest()

    def gone(self) -> bool:
        """Whether all namespaces are gone from where they were: the lab was taken down, or built anew."""
        return all(_space(path) != space for path, space in self._spaces.items())

    def rest(self) -> Iterator[Frame]:
        """What has come by now and is not told yet."""
        self._read(0)
        yield from self._until(None)

    def lost(self) -> dict[str, int]:
        """Frames that the kernel could not hand over, by namespace; those without losses are left out."""
        return {tap.node: lost for tap in self._taps.values() if (lost := tap.count_losses())}

    def close(self) -> None:
        """Close all, in parallel: each close waits for a grace period of the kernel's."""
        taps, self._taps = list(self._taps.values()), {}
        if taps:
            with ThreadPoolExecutor(min(64, len(taps))) as pool:
                list(pool.map(lambda tap: tap.socket.close(), taps))

    def _read(self, milliseconds: int) -> None:
        for fd, _ in self._poll.poll(milliseconds):
            for frame in self._taps[fd].read():
                if frame.protocol != CANARY and (not self._points or frame.at in self._points):
                    heapq.heappush(self._waiting, (frame.when, next(self._count), frame))

    def _until(self, when: int | None) -> Iterator[Frame]:
        while self._waiting and (when is None or self._waiting[0][0] <= when):
            yield heapq.heappop(self._waiting)[2]


def _space(path: Path) -> tuple[int, int] | None:
    """Which namespace has this name now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
