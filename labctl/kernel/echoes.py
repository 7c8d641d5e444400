"""ICMP echo requests as bytes: what a probe and a mesh of labctl's own send."""

from __future__ import annotations

import struct

from labctl.marks import STAMP


def echo_request(version: int, identifier: int, sequence: int, marker: bytes, size: int = 56) -> bytes:
    """An ICMP echo request that carries the marker where ping would; ICMPv6's checksum is the kernel's work."""
    kind = 8 if version == 4 else 128
    payload = (bytes(STAMP) + marker * (size // len(marker)))[:size]
    total = checksum(struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + payload) if version == 4 else 0
    return struct.pack("!BBHHH", kind, 0, total, identifier, sequence) + payload


def checksum(data: bytes) -> int:
    """The internet checksum."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
