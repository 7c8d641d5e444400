"""ICMP echo requests as bytes: what a probe and a mesh of labctl's own send."""

from __future__ import annotations

import struct

from labctl.packets.checksum import checksum
from labctl.packets.probe_id import STAMP


def echo_request(version: int, identifier: int, sequence: int, marker: bytes, size: int = 56) -> bytes:
    """An ICMP echo request that carries the marker where ping would; ICMPv6's checksum is the kernel's work."""
    kind = 8 if version == 4 else 128
    payload = (bytes(STAMP) + marker * (size // len(marker)))[:size]
    total = checksum(struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + payload) if version == 4 else 0
    return struct.pack("!BBHHH", kind, 0, total, identifier, sequence) + payload
