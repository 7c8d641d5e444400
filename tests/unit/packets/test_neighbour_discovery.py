"""Neighbour solicitations and advertisements, whole and as the kernel shortens them."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from labctl.packets.neighbour_discovery import find_neighbour

X1, X2, X3 = (IPv6Address(f"2001:db8::{number}") for number in (1, 2, 3))


def message(kind: int, src: IPv6Address, dst: str, target: IPv6Address, protocol: int = 58) -> bytes:
    head = bytes([0x60, 0, 0, 0, 0, 32, protocol, 255]) + src.packed + IPv6Address(dst).packed
    return head + bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + target.packed + bytes(8)


@pytest.mark.parametrize("length", [60, 72])  # as nft reports it, and whole
def test_a_message_is_about_one_address(length: int) -> None:
    solicitation = message(135, X1, "ff02::1:ff00:2", X2)[:length]
    advertisement = message(136, X2, "2001:db8::1", X2)[:length]

    assert find_neighbour(solicitation, (X3, X2)) == ("solicitation", X2)
    assert find_neighbour(advertisement, (X3, X2)) == ("advertisement", X2)


def test_other_packets_are_not_neighbour_discovery() -> None:
    assert find_neighbour(message(135, X1, "ff02::1:ff00:2", X2), (X3,)) == (None, None)
    assert find_neighbour(message(128, X1, "2001:db8::2", X2), (X2,)) == (None, None)
    assert find_neighbour(message(135, X1, "ff02::1:ff00:2", X2, protocol=6), (X2,)) == (None, None)
    assert find_neighbour(message(135, X1, "ff02::1:ff00:2", X2)[:40], (X2,)) == (None, None)
    assert find_neighbour(b"", (X2,)) == (None, None)
