"""Checksums that the kernel left to a device are filled in before a packet is written to a file."""

from __future__ import annotations

import struct

import pytest

from labctl.packets.checksum import fill_checksums
from tests.support.frames import arp, ethernet, ipv4, ipv6, tcp, udp, vxlan

SYN = 2


def checked(segment: bytes, ends: bytes, protocol: int) -> int:
    """What the receiver of a segment computes: 0xffff if it is whole."""
    data = ends + struct.pack("!II", len(segment), protocol) + segment
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
@pytest.mark.parametrize("kind", ["tcp4", "udp4", "tcp6", "vlan"])
def test_checksums_that_nobody_computed_are_filled_in(kind: str, payload: bytes) -> None:
    segment = udp(payload) if kind == "udp4" else tcp(SYN, 7) + payload
    protocol = 17 if kind == "udp4" else 6
    if kind == "tcp6":
        whole, head, ends = ethernet(0x86DD, ipv6(6, segment)), 54, slice(22, 54)
    else:
        whole, head, ends = ethernet(0x0800, ipv4(protocol, segment)), 34, slice(26, 34)
    if kind == "vlan":
        whole = whole[:12] + struct.pack("!HH", 0x8100, 7) + whole[12:]
        head, ends = head + 4, slice(30, 38)
    done = fill_checksums(whole)

    assert checked(done[head:], done[ends], protocol) == 0xFFFF
    assert done[: head + 6] == whole[: head + 6]
    assert len(done) == len(whole)


def test_the_checksum_inside_a_tunnel_is_filled_in_and_the_outer_left_out() -> None:
    inner = ethernet(0x0800, ipv4(6, tcp(SYN, 7)))
    whole = ethernet(0x0800, ipv4(17, vxlan(inner)))
    done = fill_checksums(whole)
    start = len(whole) - len(inner)

    assert done[:start] == whole[:start]
    assert checked(done[start + 34 :], done[start + 26 : start + 34], 6) == 0xFFFF


@pytest.mark.parametrize(
    "data", [b"", bytes(14), ethernet(0x0800, ipv4(6, tcp(SYN, 1)))[:40], arp(1, "10.0.0.1", "10.0.0.2")]
)
def test_what_is_cut_short_or_has_none_stays_as_it_is(data: bytes) -> None:
    assert fill_checksums(data) == data


def test_a_fragment_keeps_its_bytes() -> None:
    whole = bytearray(ethernet(0x0800, ipv4(17, udp(b"part"))))
    whole[20:22] = struct.pack("!H", 0x2000)
    assert fill_checksums(bytes(whole)) == bytes(whole)
