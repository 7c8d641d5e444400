"""Captured frames as a pcapng file that Wireshark shows with the lab's names. Pure: frames in, bytes out.

Every device is an interface of the file (`node1/eth0`). Every frame has its direction and a comment. The file
contains the machines' names, so that Wireshark shows addresses as `a -> c`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from labctl.core.resources import IP, Interface
from labctl.packets.checksum import fill_checksums
from labctl.packets.decode import ETHERNET, LOOPBACK, VLAN, Frame, decode

LINK_ETHERNET, LINK_RAW = 1, 101
IF_NAME, IF_TSRESOL, EPB_FLAGS = 2, 9, 2
NANOSECONDS = 9  # the time stamps' unit is 10 to the power of -9 s
SECTION_HEADER, INTERFACE_DESCRIPTION, NAME_RESOLUTION, ENHANCED_PACKET = 0x0A0D0D0A, 1, 4, 6  # types of blocks
BYTE_ORDER_MAGIC = 0x1A2B3C4D
OPT_COMMENT = 1


class Writer:
    """Writes a file frame by frame: each call returns the next bytes of the file."""

    def __init__(self) -> None:
        self._devices: dict[tuple[Interface, bool], int] = {}

    def begin(self, names: Mapping[IP, str], comment: str = "") -> bytes:
        """The file's header. `names` are shown for addresses; `comment` is about the whole file."""
        return _section(comment) + _names(names)

    def add(self, frame: Frame) -> bytes:
        """One frame, preceded by its device if the file does not have that yet."""
        raw = frame.hatype not in (ETHERNET, LOOPBACK)
        device, out = (frame.at, raw), b""
        if device not in self._devices:
            self._devices[device] = len(self._devices)
            out = _interface(frame.at, LINK_RAW if raw else LINK_ETHERNET)
        return out + _packet(frame, self._devices[device])


def pcapng(frames: Iterable[Frame], names: Mapping[IP, str], comment: str = "") -> bytes:
    """A complete file. `names` are shown for addresses; `comment` is about the whole file (a check's description)."""
    writer = Writer()
    out = bytearray(writer.begin(names, comment))
    for frame in sorted(frames, key=lambda frame: frame.time_ns):
        out += writer.add(frame)
    return bytes(out)


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _section(comment: str) -> bytes:
    body = struct.pack("=IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
    if comment:
        body += _option(OPT_COMMENT, comment.encode()) + _option(0, b"")
    return _block(SECTION_HEADER, body)


def _interface(at: Interface, linktype: int) -> bytes:
    body = struct.pack("=HHI", linktype, 0, 0)
    body += _option(IF_NAME, str(at).encode()) + _option(IF_TSRESOL, bytes([NANOSECONDS])) + _option(0, b"")
    return _block(INTERFACE_DESCRIPTION, body)


def _names(names: Mapping[IP, str]) -> bytes:
    records = b"".join(
        _option(1 if ip.version == 4 else 2, ip.packed + name.encode() + b"\0") for ip, name in names.items()
    )
    return _block(NAME_RESOLUTION, records + _option(0, b"")) if records else b""


def _packet(frame: Frame, interface: int) -> bytes:
    data = frame.data
    if frame.checksum_partial:
        data = fill_checksums(data, frame.hatype in (ETHERNET, LOOPBACK), frame.protocol)
    if frame.vlan and len(data) >= 12:  # the kernel removed the tag from the bytes
        data = data[:12] + struct.pack("!HH", VLAN, frame.vlan) + data[12:]
    head = struct.pack("=IIIII", interface, frame.time_ns >> 32, frame.time_ns & 0xFFFFFFFF, len(data), len(data))
    packet = decode(frame)
    comment = f"{'entering' if frame.direction == 'in' else 'leaving'} {frame.at}"
    comment += f": {packet.text}" if packet is not None and packet.text else ""
    flags = struct.pack("=I", 1 if frame.direction == "in" else 2)
    options = _option(OPT_COMMENT, comment.encode()) + _option(EPB_FLAGS, flags) + _option(0, b"")
    return _block(ENHANCED_PACKET, head + data + bytes(-len(data) % 4) + options)
