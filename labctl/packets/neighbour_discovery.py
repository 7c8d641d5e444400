"""Neighbour solicitations and advertisements of IPv6, also where only the beginning of the packet is known. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from labctl.core.resources import IP
from labctl.packets.decode import ICMPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION

HEADER_BYTES = 40  # of IPv6
TARGET_OFFSET = 8  # of the target address in the ICMPv6 message
ADDRESS_BYTES = 16
SOLICITED_NODE_PREFIX = bytes.fromhex("ff0200000000000000000001ff")  # and then the last 3 bytes of the address


def find_neighbour(
    packet: bytes, addresses: Iterable[IP]
) -> tuple[Literal["solicitation", "advertisement"], IP] | tuple[None, None]:
    """What an IPv6 packet is, and which of these addresses it is about. None if it is neither a neighbour solicitation
    nor an advertisement, or about no single one of them.

    The kernel reports only 20 bytes of the message for rules of nft. The 12 bytes of the target address in them are
    compared, and for a solicitation also the multicast address that it is sent to.
    """
    if len(packet) <= HEADER_BYTES + TARGET_OFFSET or packet[0] >> 4 != 6 or packet[6] != ICMPV6:
        return None, None
    kind, receiver = packet[HEADER_BYTES], packet[24:HEADER_BYTES]
    if kind not in (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT):
        return None, None
    target = packet[HEADER_BYTES + TARGET_OFFSET :][:ADDRESS_BYTES]
    found = [ip for ip in addresses if ip.version == 6 and ip.packed.startswith(target)]
    if kind == NEIGHBOUR_SOLICITATION and receiver.startswith(SOLICITED_NODE_PREFIX):
        found = [ip for ip in found if ip.packed.endswith(receiver[len(SOLICITED_NODE_PREFIX) :])]
    if len(found) > 1:  # the sender of an advertisement is usually the neighbour itself
        found = [ip for ip in found if ip.packed == packet[8:24]]
    if len(found) != 1:
        return None, None
    return ("solicitation" if kind == NEIGHBOUR_SOLICITATION else "advertisement"), found[0]
