"""Rules as the program `nft` writes them into a table of iptables-nft, without that program."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import encode_attribute as attribute

_IP, _CREATE, _APPEND = 2, 0x400, 0x800
_NEWRULE, _NEWSET, _NEWSETELEM = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (6, 9, 12))
_NETWORK_HEADER, _TRANSPORT_HEADER, _DESTINATION, _SOURCE = 1, 2, 16, 12
_L4PROTO = 16  # NFT_META_L4PROTO
LESS_EQUAL, GREATER_EQUAL, EQUAL = 3, 5, 0


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def expression(name: str, data: bytes) -> bytes:
    return attribute(1, text(1, name) + attribute(2, data))


def load(header: int, offset: int, size: int) -> bytes:
    return expression("payload", number(1, 1) + number(2, header) + number(3, offset) + number(4, size))


def compare(operation: int, value: bytes) -> bytes:
    return expression("cmp", number(1, 1) + number(2, operation) + attribute(3, attribute(1, value)))


DROP = expression("immediate", number(1, 0) + attribute(2, attribute(2, number(1, 0))))


def drop_rule(table: str, chain: str, *conditions: bytes) -> tuple[int, int, bytes]:
    """The request for a rule that drops what all conditions are true for."""
    body = text(1, table) + text(2, chain) + attribute(4, b"".join((*conditions, DROP)))
    return _NEWRULE, _CREATE | _APPEND, nfgenmsg(_IP) + body


def add_set_rule(table: str, chain: str, *addresses: str) -> None:
    """`ip daddr { ADDRESSES } drop` in the namespace of this thread, with a set that has a name."""
    members = (attribute(1, attribute(1, attribute(1, IPv4Address(one).packed))) for one in addresses)
    made = text(1, table) + text(2, "some") + number(3, 0) + number(4, 7) + number(5, 4) + number(10, 1)
    elements = text(1, table) + text(2, "some") + attribute(3, b"".join(members))
    lookup = expression("lookup", text(1, "some") + number(2, 1))
    with NfnetlinkSocket() as sock:
        sock.nft_transaction(
            (
                (_NEWSET, _CREATE, nfgenmsg(_IP) + made),
                (_NEWSETELEM, _CREATE, nfgenmsg(_IP) + elements),
                drop_rule(table, chain, load(_NETWORK_HEADER, _DESTINATION, 4), lookup),
            )
        )


def add_range_rule(table: str, chain: str, first: str, last: str) -> None:
    """`ip saddr FIRST-LAST drop`."""
    conditions = (
        load(_NETWORK_HEADER, _SOURCE, 4),
        compare(GREATER_EQUAL, IPv4Address(first).packed),
        compare(LESS_EQUAL, IPv4Address(last).packed),
    )
    with NfnetlinkSocket() as sock:
        sock.nft_transaction((drop_rule(table, chain, *conditions),))


def add_length_rule(table: str, chain: str, size: int) -> None:
    """`udp length SIZE drop`."""
    protocol = expression("meta", number(1, 1) + number(2, _L4PROTO))
    with NfnetlinkSocket() as sock:
        conditions = (
            protocol,
            compare(EQUAL, b"\x11"),
            load(_TRANSPORT_HEADER, 4, 2),
            compare(EQUAL, struct.pack("!H", size)),
        )
        sock.nft_transaction((drop_rule(table, chain, *conditions),))


def add_twice_rule(table: str, chain: str, first: str, second: str) -> None:
    """`ip saddr FIRST ip saddr SECOND drop`, which matches nothing."""
    conditions = []
    for one in (first, second):
        conditions += [load(_NETWORK_HEADER, _SOURCE, 4), compare(EQUAL, IPv4Address(one).packed)]
    with NfnetlinkSocket() as sock:
        sock.nft_transaction((drop_rule(table, chain, *conditions),))
