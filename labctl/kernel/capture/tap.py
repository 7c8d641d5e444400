"""Taps: one AF_PACKET socket per namespace that receives the frames of all its devices, filtered in the kernel.

A tap is created with protocol 0, so it receives nothing. Then it gets its filter, and only then it is bound to all
protocols, so no unfiltered frame enters. A canary proves that the tap works: a frame with a unique token, sent over
`lo`, which the tap must receive.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from labctl.core.resources import Interface
from labctl.kernel.capture import bpf
from labctl.kernel.host import paths
from labctl.kernel.host.receive_buffer import set_receive_buffer
from labctl.kernel.host.thread_pool import call_all
from labctl.kernel.namespaces.thread import NetnsThread, libc, raise_on_error
from labctl.packets.decode import CANARY, OTHERHOST, OUTGOING, Frame, Packet
from labctl.packets.probe_id import decode_frames

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS, PACKET_AUXDATA = 263, 6, 8
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35
RCVBUF_BYTES = 8 << 20  # bytes of frames that may wait; the kernel allocates them only when frames arrive
AUXDATA = struct.Struct("=IIIHHHH")  # status, len, snaplen, mac, net, vlan_tci, vlan_tpid
VLAN_VALID, CSUM_NOT_READY = 1 << 4, 1 << 3
CANARY_TIMEOUT_S = 1.0  # seconds within which a canary must arrive
POLL_MS = 50  # milliseconds to wait for frames before the time is checked again
# how often the same frame is kept at a device; more of it, as in a loop of bridges, has no new information
MAX_LOOP_PASSES = 64


class Tap:
    """The packet socket of one namespace. Create it inside; any thread may use it.

    It receives what `program` accepts (an array of `struct sock_filter`; None accepts everything); by default the
    probes. Raises OSError.
    """

    def __init__(self, node: str, program: bytes | None = b"probes") -> None:
        self.node = node
        self.lost_count = 0
        self._program = bpf.probe_filter() if program == b"probes" else program
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            self._bind_all()
        except OSError:
            self.socket.close()
            raise

    def _bind_all(self) -> None:
        if self._program is not None:
            keep = ctypes.create_string_buffer(self._program, len(self._program))
            fprog = struct.pack("@HP", len(self._program) // 8, ctypes.addressof(keep))
            self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        set_receive_buffer(self.socket, RCVBUF_BYTES)
        everything = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(ETH_P_ALL), 0, 0, 0, 0, b"")
        raise_on_error(libc.bind(self.socket.fileno(), everything, len(everything)), "bind a tap")

    def send_canary(self, token: bytes) -> None:
        """Send a canary over `lo`. Raises OSError (ENETDOWN if lo is down)."""
        frame = bytes(12) + struct.pack("!H", CANARY) + token
        self.socket.sendto(frame.ljust(60, b"\0"), ("lo", CANARY))

    def read(self, limit: int = 4096) -> list[Frame]:
        """The waiting frames, but at most `limit`, so that a flood of frames cannot keep the reader here forever."""
        frames: list[Frame] = []
        while len(frames) < limit:
            try:
                data, ancdata, _, address = self.socket.recvmsg(65536, 256)
            except BlockingIOError:
                break
            except OSError as error:  # ENETDOWN: a device went down; the tap still works
                if error.errno == errno.ENETDOWN:
                    continue
                raise
            time_ns, vlan, partial = _parse_ancdata(ancdata)
            device, protocol, kind, hatype = address[:4]
            direction = "out" if kind == OUTGOING else "in"
            at = Interface(self.node, device)
            other = kind == OTHERHOST
            shape = (protocol, hatype, vlan, other, partial)
            frames.append(Frame(at, time_ns, direction, data, *shape))  # type: ignore[arg-type]
        return frames

    def count_losses(self) -> int:
        """How many frames the kernel could not deliver since the tap was created."""
        _, drops = struct.unpack("=II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.lost_count += drops
        return self.lost_count


class Taps:
    """The taps of a run. A context manager: it closes all in parallel, so it waits for only one RCU grace period.

    `not_receiving` has the nodes with a tap that does not work, each with the reason.
    """

    def __init__(self, lab: str, nodes: Iterable[str], thread: NetnsThread) -> None:
        self._taps: dict[str, Tap] = {}
        self._frames: list[Frame] = []
        self._packets: list[tuple[Frame, Packet]] = []
        self._decoded_count = 0
        self._pass_counts: Counter[tuple[Interface, str, bytes]] = Counter()
        self._poll = select.poll()
        self._by_fd: dict[int, Tap] = {}
        self.not_receiving: dict[str, str] = {}
        try:
            for node in nodes:
                self._open_tap(lab, node, thread)
            self._await_stamps()
            self.not_receiving.update(self.verify_receiving())
        except BaseException:
            self.close()
            raise

    def _open_tap(self, lab: str, node: str, thread: NetnsThread) -> None:
        try:
            tap = thread.run(paths.netns_path(lab, node), Tap, node)
        except OSError as error:
            self.not_receiving[node] = "no such namespace" if error.errno == errno.ENOENT else str(error)
            return
        self._taps[node] = tap
        self._by_fd[tap.socket.fileno()] = tap
        self._poll.register(tap.socket, select.POLLIN)

    def _await_stamps(self) -> None:
        """Wait until the kernel stamps frames when they pass. It starts shortly after the first socket requests it.
        Until then a frame has the time at which it was read, and the hops of a probe lose their order."""
        deadline = time.monotonic() + CANARY_TIMEOUT_S
        for tap in self._taps.values():
            with suppress(OSError):  # its lo is down, which `verify_receiving` reports
                while time.monotonic() < deadline:
                    tap.send_canary(os.urandom(16))
                    self._poll.poll(POLL_MS)
                    arrived = time.time_ns()
                    if any(frame.protocol == CANARY and frame.time_ns < arrived for frame in tap.read()):
                        return

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all taps, in parallel: each close waits for an RCU grace period."""
        taps, self._taps = self._taps, {}
        call_all("close-taps", (tap.socket.close for tap in taps.values()))

    def socket_of(self, node: str) -> socket.socket | None:
        """The tap's socket, for queries about the namespace's devices; None if there is no tap."""
        tap = self._taps.get(node)
        return tap.socket if tap else None

    def inodes(self) -> frozenset[int]:
        """The inodes of the taps' sockets, as /proc/net/packet lists them."""
        return frozenset(os.fstat(tap.socket.fileno()).st_ino for tap in self._taps.values())

    def verify_receiving(self) -> dict[str, str]:
        """Send a canary in every namespace and wait until it arrives. Returns the nodes with a tap that does not work,
        each with the reason."""
        problems: dict[str, str] = {}
        waiting: dict[str, bytes] = {}
        for node, tap in self._taps.items():
            token = os.urandom(16)
            try:
                tap.send_canary(token)
            except OSError as error:
                problem = f"no canary could be sent: {os.strerror(error.errno or 0)}"
                problems[node] = "its lo is down" if error.errno == errno.ENETDOWN else problem
                continue
            waiting[node] = token
        deadline = time.monotonic() + CANARY_TIMEOUT_S
        while waiting and time.monotonic() < deadline:
            self._collect(POLL_MS, waiting)
        problems.update({node: "a canary was sent over its lo and never received" for node in waiting})
        return problems

    def frames(self) -> list[Frame]:
        """All frames since the last `discard`, up to this moment. If frames keep arriving (in a loop of bridges), those
        that are newer than this call are left for the next call."""
        now, unfinished = time.time_ns(), dict(self._by_fd)
        while unfinished and (ready := [fd for fd, _ in self._poll.poll(0) if fd in unfinished]):
            for fd in ready:
                if any(frame.time_ns > now for frame in self._read_tap(unfinished[fd], {})):
                    del unfinished[fd]
        return self._frames

    def packets(self) -> list[tuple[Frame, Packet]]:
        """The same frames with their packets; frames that cannot be decoded are left out. Each is decoded once."""
        frames = self.frames()
        self._packets += decode_frames(frames[self._decoded_count :])
        self._decoded_count = len(frames)
        return self._packets

    def discard(self) -> None:
        """Read and discard all frames so far, before a new check."""
        self.frames()
        self._frames, self._packets, self._decoded_count = [], [], 0
        self._pass_counts.clear()

    def looping(self) -> tuple[Interface, ...]:
        """The devices where the same frame came in and went out many times: it circles in a loop of bridges."""
        frequent = {key for key, times in self._pass_counts.items() if times >= MAX_LOOP_PASSES}
        return tuple(
            sorted(
                {at for at, direction, data in frequent if direction == "in" and (at, "out", data) in frequent}, key=str
            )
        )

    def losses(self) -> dict[str, int]:
        """The number of frames lost so far, by node; nodes without losses are left out."""
        return {node: lost for node, tap in self._taps.items() if (lost := tap.count_losses())}

    def _collect(self, timeout_ms: int, waiting: dict[str, bytes]) -> bool:
        ready = self._poll.poll(timeout_ms)
        for fd, _ in ready:
            self._read_tap(self._by_fd[fd], waiting)
        return bool(ready)

    def _read_tap(self, tap: Tap, waiting: dict[str, bytes]) -> list[Frame]:
        """Read a tap and keep its frames, except canaries: when its canary arrived, the node is removed from `waiting`.
        Returns all frames that were read."""
        frames = tap.read()
        for frame in frames:
            if frame.protocol != CANARY:
                key = (frame.at, frame.direction, frame.data)
                self._pass_counts[key] += 1
                if self._pass_counts[key] <= MAX_LOOP_PASSES:
                    self._frames.append(frame)
            elif (token := waiting.get(tap.node)) and token in frame.data:
                del waiting[tap.node]
        return frames


def _parse_ancdata(ancdata: list[tuple[int, int, bytes]]) -> tuple[int, int, bool]:
    """From the control messages of a frame: the time stamp (ns since the epoch), the VLAN tag (0: none), and whether
    the checksum is not computed yet."""
    time_ns, vlan, partial = 0, 0, False
    for level, kind, data in ancdata:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("@ll", data[: struct.calcsize("@ll")])
            time_ns = seconds * 1_000_000_000 + nanoseconds
        elif level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, *_, tci, _ = AUXDATA.unpack(data[: AUXDATA.size])
            vlan = tci if status & VLAN_VALID else 0
            partial = bool(status & CSUM_NOT_READY)
    return time_ns or time.time_ns(), vlan, partial
