"""Internet checksums: compute one, and fill in those of TCP and UDP that a captured frame lacks.

The kernel leaves these checksums to the network card (checksum offload). Between namespaces there is no card, so
they are never computed, and Wireshark would report them as wrong. The kernel marks such frames
(`Frame.checksum_partial`). Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct

from labctl.packets.decode import IPV4, IPV6, QINQ, TCP, UDP, VLAN, is_vxlan

_CHECKSUM_OFFSET = {TCP: 16, UDP: 6}  # the offset of the checksum in the header
_IPV6_EXTENSION_HEADERS = (0, 43, 60)  # IPv6 extension headers: hop-by-hop, routing, destination options


def fill_checksums(data: bytes, ethernet: bool = True, protocol: int = 0) -> bytes:
    """The frame with the checksum of its TCP or UDP header filled in, also inside VXLAN.

    Without an Ethernet header, `protocol` is the ethertype. Truncated frames and fragments are returned unchanged.
    """
    out = bytearray(data)
    try:
        if ethernet:
            _ethernet(out, 0)
        else:
            _network(out, 0, protocol)
    except (struct.error, IndexError):
        return data
    return bytes(out)


def _ethernet(out: bytearray, start: int) -> None:
    kind, at = struct.unpack_from("!H", out, start + 12)[0], start + 14
    while kind in (VLAN, QINQ):
        kind, at = struct.unpack_from("!H", out, at + 2)[0], at + 4
    _network(out, at, kind)


def _network(out: bytearray, at: int, kind: int) -> None:
    if kind == IPV4:
        length, fragment = struct.unpack_from("!H2xH", out, at + 2)
        body, protocol = at + (out[at] & 15) * 4, out[at + 9]
        if not fragment & 0x3FFF:
            _transport(out, body, at + length, protocol, bytes(out[at + 12 : at + 20]))
    elif kind == IPV6:
        (length,) = struct.unpack_from("!H", out, at + 4)
        body, protocol = at + 40, out[at + 6]
        while protocol in _IPV6_EXTENSION_HEADERS:
            protocol, body = out[body], body + (out[body + 1] + 1) * 8
        _transport(out, body, at + 40 + length, protocol, bytes(out[at + 8 : at + 40]))


def _transport(out: bytearray, body: int, end: int, protocol: int, addresses: bytes) -> None:
    if protocol not in _CHECKSUM_OFFSET or end > len(out):
        return
    at = body + _CHECKSUM_OFFSET[protocol]
    if protocol == UDP and is_vxlan(struct.unpack_from("!H", out, body + 2)[0], bytes(out[body + 8 : body + 16])):
        _ethernet(out, body + 16)
        if out[at : at + 2] == b"\0\0":  # zero means none: the outer UDP checksum is optional, and the kernel sets none
            return
    out[at : at + 2] = b"\0\0"
    pseudo = addresses + struct.pack("!II", end - body, protocol)
    found = checksum(pseudo + bytes(out[body:end]))
    out[at : at + 2] = struct.pack("!H", found or 0xFFFF if protocol == UDP else found)


def checksum(data: bytes) -> int:
    """The internet checksum of bytes. An odd number of bytes is padded with a zero byte."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
