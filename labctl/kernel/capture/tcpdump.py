"""The real tcpdump as a second observer: its pcap stream, read live, with proof that it missed nothing.

tcpdump is ready when it prints `listening on`. On SIGUSR1 it prints its counters: once it has captured as many packets
as its filter received, and none was dropped, every packet that passed the device is in the stream.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import shutil
import signal
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from labctl.core.resources import Interface
from labctl.errors import KernelError
from labctl.kernel.host.child_process import Child
from labctl.kernel.namespaces.thread import libc
from labctl.packets.decode import ETHERNET, IPV4, IPV6, LOOPBACK, QINQ, VLAN, Frame

PR_SET_PDEATHSIG = 1
TIMEOUT_S = 3.0  # seconds that tcpdump may take to start, or to print its counters
COUNTS = re.compile(rb"(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped")
ARPHRD_NONE = 65534
RAW_IP_LINKTYPES = frozenset({12, 14, 101, 228, 229})  # of pcap: packets without a header before the IP header


def tcpdump_program() -> str | None:
    """The path of tcpdump, or None if it is not installed."""
    return shutil.which("tcpdump")


class PcapParser:
    """Splits a pcap stream, as it arrives, into packets: (nanoseconds since the epoch, bytes)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._order = ""
        self._unit_ns = 1
        self.linktype = 1

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add a part of the stream; yield the packets that are now complete. Raises ValueError if it is not pcap."""
        self._data += data
        if not self._order and not self._header():
            return
        while len(self._data) >= 16:
            seconds, fraction, length, _ = struct.unpack_from(f"{self._order}IIII", self._data)
            if len(self._data) < 16 + length:
                return
            packet = bytes(self._data[16 : 16 + length])
            del self._data[: 16 + length]
            yield seconds * 1_000_000_000 + fraction * self._unit_ns, packet

    def _header(self) -> bool:
        if len(self._data) < 24:
            return False
        for order in "<>":
            magic = struct.unpack_from(f"{order}I", self._data)[0]
            if magic in (0xA1B2C3D4, 0xA1B23C4D):
                self._order, self._unit_ns = order, 1000 if magic == 0xA1B2C3D4 else 1
                self.linktype = struct.unpack_from(f"{order}I", self._data, 20)[0]
                del self._data[:24]
                return True
        raise ValueError("not a pcap stream")


class Tcpdump:
    """One tcpdump process at one device. Create it inside the device's namespace."""

    def __init__(self, program: str, at: Interface) -> None:
        self.at = at
        self.packets: list[tuple[int, bytes]] = []
        self.lost_count = 0
        self._pcap = PcapParser()
        self._stderr_text = b""
        command = [program, "-U", "--immediate-mode", "--time-stamp-precision=nano", "-n", "-i", at.dev, "-w", "-"]
        self._child = Child(command, before_exec=_die_with_parent)

    def wait_ready(self) -> None:
        """Wait until it captures. Raises KernelError with tcpdump's message if it does not."""
        if not self._until(lambda: b"listening on" in self._stderr_text):
            message = self._stderr_text.decode(errors="replace").strip() or "it printed nothing"
            raise KernelError(f"cannot start tcpdump at {self.at}: {message}")
        self._stderr_text = b""

    def wait_until_complete(self) -> str | None:
        """Wait until every packet that passed the device has been read. Returns None, or what is wrong."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            self._stderr_text = b""
            try:
                self._child.send_signal(signal.SIGUSR1)
            except ProcessLookupError:
                return "tcpdump has ended"
            if not self._until(lambda: COUNTS.search(self._stderr_text) is not None):
                return "tcpdump no longer answers"
            match = COUNTS.search(self._stderr_text)
            assert match is not None
            captured, received, self.lost_count = (int(text) for text in match.groups())
            if self.lost_count:
                return f"tcpdump lost {self.lost_count} packets"
            if captured >= received:
                complete = self._until(lambda enough=captured: len(self.packets) >= enough)  # type: ignore[misc]
                return None if complete else "tcpdump did not write what it captured"
        return "tcpdump did not process all packets in time"

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _until(self, done: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + TIMEOUT_S
        poll = select.poll()
        poll.register(self._child.stdout, select.POLLIN)
        poll.register(self._child.stderr, select.POLLIN)
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
            received = [self._read_fd(self._child.stdout), self._read_fd(self._child.stderr)]
            if not any(received) and self._child.wait(0):
                return done()
        return True

    def _read_fd(self, fd: int) -> bool:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if fd == self._child.stderr:
            self._stderr_text += data
        else:
            self.packets += self._pcap.feed(data)
        return bool(data)

    def frames(self, tapped: Iterable[Frame]) -> list[Frame]:
        """tcpdump's packets that the taps' filter accepts, as frames.

        The pcap format does not contain the direction of a packet; the tap's frame with the same bytes does. Of equal
        packets, the first one is the first for both, because both receive all packets in the kernel's order. Time
        stamps do not help: an incoming TCP segment may get a new stamp for each listener.
        """
        tap_frames: dict[tuple[int, bytes], deque[Frame]] = {}
        for frame in tapped:
            if frame.at == self.at:
                tap_frames.setdefault(_without_vlan_tag(frame.data, frame.vlan, frame.hatype), deque()).append(frame)
        hatype = ARPHRD_NONE if self._pcap.linktype in RAW_IP_LINKTYPES else ETHERNET
        found = []
        for time_ns, data in self.packets:
            same = tap_frames.get(_without_vlan_tag(data, 0, hatype))
            if same:
                protocol = IPV6 if data[:1] and data[0] >> 4 == 6 else IPV4
                found.append(Frame(self.at, time_ns, same.popleft().direction, data, protocol, hatype))
        return found


def _without_vlan_tag(data: bytes, vlan: int, hatype: int) -> tuple[int, bytes]:
    """A frame's outer VLAN and its bytes without that tag. A tap gets the tag apart from the bytes (`vlan`); tcpdump
    puts it back into the bytes."""
    if not vlan and hatype in (ETHERNET, LOOPBACK) and int.from_bytes(data[12:14], "big") in (VLAN, QINQ):
        return int.from_bytes(data[14:16], "big") & 0xFFF, data[:12] + data[16:]
    return vlan & 0xFFF, data


def _die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
