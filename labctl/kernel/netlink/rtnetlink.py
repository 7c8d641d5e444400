"""One rtnetlink socket of one namespace: it sends messages in batches, and the kernel acknowledges each message."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from labctl.kernel.netlink.encoding import DUMP, REQUEST

SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK = 10, 11
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
BATCH = 60  # the acknowledgements of so many messages fit several times into the default receive buffer
RECV_BYTES = 1 << 18  # more than the kernel puts into one datagram
TYPE_MASK = 0x3FFF  # the type of an attribute without the flags for nesting and byte order

_header = struct.Struct("=IHHII")
_attr = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One message that the kernel refused: its tag, the errno, and the kernel's own error text (extack) or ""."""

    tag: Any
    errno: int
    text: str

    def __str__(self) -> str:
        return f"{os.strerror(self.errno)}: {self.text}" if self.text else os.strerror(self.errno)


class Channel:
    """An rtnetlink socket. It stays in the namespace in which it was created; any thread may use it."""

    __slots__ = ("_queue", "_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        for name in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, name, 1)
        self._queue: list[tuple[bytearray, Any]] = []
        self._sequence = 0

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; messages that are still queued are dropped."""
        self._socket.close()

    def queue(self, message: bytearray, tag: Any) -> None:
        """Queue a message for the next flush; a Refusal of it has this `tag`."""
        self._queue.append((message, tag))

    def flush(self) -> list[Refusal]:
        """Send all queued messages in order. Returns those that the kernel refused; the others are done."""
        refused: list[Refusal] = []
        queue, self._queue = self._queue, []
        for start in range(0, len(queue), BATCH):
            batch = queue[start : start + BATCH]
            first = self._sequence + 1
            for message, _ in batch:
                self._sequence += 1
                message[8:12] = self._sequence.to_bytes(4, "little" if _LITTLE else "big")
            self._socket.send(b"".join(message for message, _ in batch))
            refused += self._wait_for_acks(batch, first)
        return refused

    def _wait_for_acks(self, batch: list[tuple[bytearray, Any]], first: int) -> Iterator[Refusal]:
        pending = len(batch)
        while pending:
            data = receive(self._socket)
            for kind, flags, sequence, start, end in iter_messages(data):
                index = sequence - first
                if kind != NLMSG_ERROR or not 0 <= index < len(batch):
                    continue
                pending -= 1
                (code,) = struct.unpack_from("=i", data, start)
                if code:
                    yield Refusal(batch[index][1], -code, _ext_ack_text(data, flags, start, end))

    def request(self, kind: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
        """One request with one reply; yields (data, start, end) of the reply's body, or nothing if it is an error."""
        self._sequence += 1
        self._socket.send(_header.pack(16 + len(body), kind, REQUEST, self._sequence, 0) + body)
        data = receive(self._socket)
        for answer, _, sequence, start, end in iter_messages(data):
            if sequence == self._sequence and answer != NLMSG_ERROR:
                yield data, start, end

    def dump(self, kind: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
        """Request a whole table; yields (data, start, end) of each message's body. Raises OSError."""
        self._sequence = expected = self._sequence + 1
        self._socket.send(_header.pack(16 + len(body), kind, REQUEST | DUMP, expected, 0) + body)
        unpack = _header.unpack_from
        while True:
            data = receive(self._socket)
            offset, size = 0, len(data)
            while offset + 16 <= size:  # as `iter_messages`, without its cost
                length, answer, _, sequence, _ = unpack(data, offset)
                if length < 16:
                    break
                if sequence == expected:
                    if answer == NLMSG_DONE:
                        return
                    if answer == NLMSG_ERROR:
                        code = -struct.unpack_from("=i", data, offset + 16)[0]
                        raise OSError(code, os.strerror(code))
                    yield data, offset + 16, offset + length
                offset += (length + 3) & ~3


_LITTLE = struct.pack("=H", 1) == b"\x01\x00"
_buffer = threading.local()  # of each thread: to get a quarter of a megabyte for each datagram takes longer than a dump


def receive(sock: socket.socket) -> bytes:
    """The next datagram of a netlink socket, whatever its size; waits for it. Raises OSError."""
    try:
        view = _buffer.view
    except AttributeError:
        view = _buffer.view = memoryview(bytearray(RECV_BYTES))
    return view[: sock.recv_into(view)].tobytes()  # type: ignore[no-any-return]


def iter_messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """The netlink messages in a datagram, each as (type, flags, sequence, start and end of the body)."""
    offset, size = 0, len(data)
    while offset + 16 <= size:
        length, kind, flags, sequence, _ = _header.unpack_from(data, offset)
        if length < 16:
            return
        yield kind, flags, sequence, offset + 16, offset + length
        offset += (length + 3) & ~3


def attributes(data: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    """The attributes in a part of a message, by type: the start and the end of each payload."""
    found = {}
    while start + 4 <= end:
        length, kind = _attr.unpack_from(data, start)
        if length < 4:
            break
        found[kind & TYPE_MASK] = (start + 4, start + length)
        start += (length + 3) & ~3
    return found


def iter_attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """The attributes in a part of a message in order, also several of one type: each with its type, start and end."""
    while start + 4 <= end:
        length, kind = _attr.unpack_from(data, start)
        if length < 4:
            return
        yield kind & TYPE_MASK, (start + 4, start + length)
        start += (length + 3) & ~3


def encode_attribute(kind: int, payload: bytes) -> bytes:
    """An encoded attribute, with its header and padding."""
    return _attr.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attribute_text(data: bytes, span: tuple[int, int]) -> str:
    """The payload of an attribute, decoded as text."""
    return data[span[0] : span[1]].rstrip(b"\0").decode(errors="replace")


def _ext_ack_text(data: bytes, flags: int, start: int, end: int) -> str:
    if not flags & NLM_F_ACK_TLVS:
        return ""
    inner = 16 if flags & NLM_F_CAPPED else struct.unpack_from("=I", data, start + 4)[0]
    span = attributes(data, start + 4 + inner, end).get(1)
    return attribute_text(data, span) if span else ""


def flush_all(channels: Iterable[Channel]) -> list[Refusal]:
    """Flush several channels, one after another (the kernel's RTNL lock makes parallel flushes useless)."""
    return [refusal for channel in channels for refusal in channel.flush()]
