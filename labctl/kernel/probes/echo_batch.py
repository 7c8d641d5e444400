"""Many ICMP echoes by one system call: sendmmsg and recvmmsg, on raw sockets.

A message for each target is laid out once. It points to two buffers: the beginning of the packet, which is the same for
all packets of one source, and its end, which is the same for all packets to one target. So one source sends to many
targets without any work for a packet but the kernel's. Both numbers of a packet, the source's and the target's, are
followed by their complement: the checksum does not depend on them.

The objects of this module belong to one thread each. ctypes releases the interpreter's lock during a call, so several
threads keep as many processors busy.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import TypeAlias

from labctl.kernel.host.syscalls import libc
from labctl.kernel.probes.clients import EXHAUSTED_ERRNOS
from labctl.packets.checksum import checksum
from labctl.packets.probe_id import MESH_MAGIC

ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}  # types of ICMP messages, by IP version
TAG_BYTES = 8  # of the marker that all packets of one mesh have
MESSAGES = 64  # that one call receives at most
CHUNK = 128  # targets whose buffers are allocated together

# what a socket got: the sender's address, the type of the message, the tag, the numbers of the source and the target
Echo: TypeAlias = tuple[bytes, int, bytes, int, int]

_message = struct.Struct("@PIPNPNi0PI0P")  # struct mmsghdr; its last field is the length of what was received
_LENGTH = struct.calcsize("@PIPNPNi0P") // 4  # where that field is, in words
_iovec = struct.Struct("@PN")
_head = struct.Struct("!BBHHH")  # of an echo: type, code, checksum, identifier, sequence
_numbered = struct.Struct("=II")  # a number and its complement
_PREFIX_BYTES = _head.size + TAG_BYTES + _numbered.size
_ECHO_BYTES = _PREFIX_BYTES + _numbered.size
_ADDRESS_BYTES = {4: 16, 6: 28}  # sockaddr_in, sockaddr_in6
_SUFFIX_AT, _IOVEC_AT = 32, 40  # in the buffer of a target: its address, the end of the packet, two iovecs
_TARGET_BYTES = _IOVEC_AT + 2 * _iovec.size
_SLOT = 64  # bytes for what is received: for IPv4 a packet, for IPv6 the sender's address and an ICMP message
_NAME_BYTES = {4: 0, 6: 32}  # of a slot
_LENGTHS = {4: 20 + _ECHO_BYTES, 6: _ECHO_BYTES}  # of an echo as the kernel hands it over
_fields = {4: struct.Struct("=12x4s4xB7x8sI4xI4x12x"), 6: struct.Struct("=8x16s8xB7x8sI4xI4x")}  # of a slot


def new_tag() -> bytes:
    """A marker that no other mesh has."""
    return MESH_MAGIC + os.urandom(TAG_BYTES - len(MESH_MAGIC))


def prefix(version: int, identifier: int, tag: bytes, source: int) -> bytes:
    """The beginning of every echo request of one source."""
    kind = ECHO_REQUEST[version]
    summed = 0 if version == 6 else checksum(_head.pack(kind, 0, 0, identifier, 0) + tag)  # the kernel sums ICMPv6
    return _head.pack(kind, 0, summed, identifier, 0) + tag + _complemented(source)


def _complemented(number: int) -> bytes:
    return _numbered.pack(number, number ^ 0xFFFFFFFF)


class EchoSender:
    """Sends echo requests of one IP version."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._prefix = ctypes.create_string_buffer(_PREFIX_BYTES)
        self._chunks: list[ctypes.Array[ctypes.c_char]] = []
        self._messages: dict[int, bytes] = {}
        self._targets: tuple[int, ...] = ()  # of the last call, ...
        self._vector = ctypes.create_string_buffer(b"", 0)  # ... and their messages

    def _lay_out(self, target: int, address: bytes) -> None:
        """Make the message for a target."""
        at = len(self._messages) % CHUNK * _TARGET_BYTES
        if not at:
            self._chunks.append(ctypes.create_string_buffer(CHUNK * _TARGET_BYTES))
        base = ctypes.addressof(self._chunks[-1]) + at
        data = _socket_address(address).ljust(_SUFFIX_AT, b"\0") + _complemented(target)
        data += _iovec.pack(ctypes.addressof(self._prefix), _PREFIX_BYTES)
        data += _iovec.pack(base + _SUFFIX_AT, _numbered.size)
        ctypes.memmove(base, data, len(data))
        name_bytes = _ADDRESS_BYTES[self._version]
        self._messages[target] = _message.pack(base, name_bytes, base + _IOVEC_AT, 2, 0, 0, 0, 0)

    def _lay_out_all(self, targets: tuple[int, ...], addresses: Sequence[bytes]) -> None:
        """Make the messages for the present targets."""
        for target, address in zip(targets, addresses, strict=True):
            if target not in self._messages:
                self._lay_out(target, address)
        messages = b"".join([self._messages[target] for target in targets])
        self._vector = ctypes.create_string_buffer(messages, len(messages))
        self._targets = targets

    def send(
        self, fd: int, prefix: bytes, targets: tuple[int, ...], addresses: Sequence[bytes]
    ) -> list[tuple[int, int]]:
        """Send a request to each of these targets, which have these addresses. Returns those that the kernel refused,
        each with the errno. It is fastest if many calls have the same targets, as one object."""
        if targets is not self._targets:
            self._lay_out_all(targets, addresses)
        refused: list[tuple[int, int]] = []
        ctypes.memmove(self._prefix, prefix, len(prefix))
        base = ctypes.addressof(self._vector)
        done, tried = 0, -1
        while done < len(targets):
            sent = send_messages(fd, base + done * _message.size, len(targets) - done)
            if sent > 0:
                done += sent
                continue
            # the first attempt may only return a pending error of an earlier packet, so there is a second one
            if -sent in EXHAUSTED_ERRNOS or tried == done:
                refused.append((targets[done], -sent))
                done += 1
            else:
                tried = done
        return refused


class EchoReceiver:
    """Receives the echoes that wait at sockets of one IP version."""

    def __init__(self, version: int) -> None:
        self._fields, self._length = _fields[version], _LENGTHS[version]
        self._slots = ctypes.create_string_buffer(MESSAGES * _SLOT)
        self._data = memoryview(self._slots)
        self._iovecs = ctypes.create_string_buffer(MESSAGES * _iovec.size)
        base, iovecs, name = ctypes.addressof(self._slots), ctypes.addressof(self._iovecs), _NAME_BYTES[version]
        messages = []
        for number in range(MESSAGES):
            at = base + number * _SLOT
            _iovec.pack_into(self._iovecs, number * _iovec.size, at + name, _SLOT - name)
            messages.append(_message.pack(at if name else 0, name, iovecs + number * _iovec.size, 1, 0, 0, 0, 0))
        self._vector = ctypes.create_string_buffer(b"".join(messages), MESSAGES * _message.size)
        self._lengths = memoryview(self._vector).cast("B").cast("I")[_LENGTH :: _message.size // 4]

    def receive(self, fd: int) -> tuple[list[Echo], int]:
        """The echoes that wait at a socket, but at most `MESSAGES`; and the number of packets, with those of another
        kind. Raises OSError: BlockingIOError if nothing waits."""
        count = _receive(fd, ctypes.addressof(self._vector), MESSAGES, socket.MSG_DONTWAIT, None)
        if count < 0:
            raise OSError(ctypes.get_errno(), "recvmmsg")
        lengths = self._lengths[:count].tolist()
        echoes: list[Echo] = list(self._fields.iter_unpack(self._data[: count * _SLOT]))
        if lengths.count(self._length) != count:  # a packet of another length has left older bytes in its slot
            echoes = [echo for echo, length in zip(echoes, lengths, strict=True) if length == self._length]
        return echoes, count


def send_messages(fd: int, address: int, count: int) -> int:
    """Send `count` messages that lie at an address; returns how many were sent, or the negative errno."""
    sent: int = _send(fd, address, count, 0)
    return sent if sent > 0 else -(ctypes.get_errno() or errno.EIO)


def _socket_address(packed: bytes) -> bytes:
    """The sockaddr of an IP address."""
    if len(packed) == 4:
        return struct.pack("=HH4s8x", socket.AF_INET, 0, packed)
    return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed, 0)


_send, _receive = libc.sendmmsg, libc.recvmmsg
_send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_receive.argtypes = (*_send.argtypes, ctypes.c_void_p)
