"""ICMP echo requests as bytes, for the probes that labctl itself sends."""

from __future__ import annotations

import struct

from labctl.packets.checksum import checksum
from labctl.packets.decode import ECHO_TYPES
from labctl.packets.probe_id import TIMESTAMP_BYTES


def echo_request(version: int, identifier: int, sequence: int, marker: bytes, payload_bytes: int = 56) -> bytes:
    """An ICMP echo request with the marker where ping puts its pattern. The kernel computes the ICMPv6 checksum."""
    kind, _ = ECHO_TYPES[version]
    payload = (bytes(TIMESTAMP_BYTES) + marker * (payload_bytes // len(marker)))[:payload_bytes]
    total = checksum(struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + payload) if version == 4 else 0
    return struct.pack("!BBHHH", kind, 0, total, identifier, sequence) + payload
