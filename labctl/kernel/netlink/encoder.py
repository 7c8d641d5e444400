"""Encode rtnetlink messages: the headers and attributes that labctl sends, by their names in pyroute2.

pyroute2's message classes take 10 ms to import with what they need, and 20 to 150 microseconds for one message. A
thousand pods need eight thousand messages. A test compares the messages with those of pyroute2, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from labctl.kernel.netlink.encoding import Attrs
from labctl.kernel.netlink.link_options import INET6, OPTIONS

_header = struct.Struct("=IHHII")
_attribute = struct.Struct("=HH")
_u16 = struct.Struct("=H").pack
_u32 = struct.Struct("=I").pack
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by the length modulo 4

# the header of each message after the general one, and its fields; a field that is not given is 0
_HEADERS: dict[str, tuple[Callable[..., bytes], tuple[str, ...]]] = {
    "ifinfmsg": (struct.Struct("=BxHiII").pack, ("family", "ifi_type", "index", "flags", "change")),
    "ifaddrmsg": (struct.Struct("=BBBBI").pack, ("family", "prefixlen", "flags", "scope", "index")),
    "rtmsg": (
        struct.Struct("=8BI").pack,
        ("family", "dst_len", "src_len", "tos", "table", "proto", "scope", "type", "flags"),
    ),
    "ndmsg": (struct.Struct("=B3xiHBB").pack, ("family", "ifindex", "state", "flags", "ndm_type")),
    "fibmsg": (
        struct.Struct("=8BI").pack,
        ("family", "dst_len", "src_len", "tos", "table", "res1", "res2", "action", "flags"),
    ),
}


def encode(name: str, message_type: int, flags: int, fields: dict[str, Any], attrs: Attrs) -> bytearray:
    """One message, without a sequence number. Raises KeyError for an attribute that labctl does not send."""
    body = _fields(name, fields) + _attributes(attrs)
    return bytearray(_header.pack(16 + len(body), message_type, flags, 0, 0) + body)


def _fields(name: str, fields: dict[str, Any]) -> bytes:
    pack, names = _HEADERS[name]
    return pack(*[fields.get(field, 0) for field in names])


def _attributes(attrs: Attrs) -> bytes:
    parts: list[bytes] = []
    for name, value in attrs:
        number, encode_value = _ATTRIBUTES[name]
        payload = encode_value(value)
        length = 4 + len(payload)
        parts += (_attribute.pack(length, number), payload, _PADDING[length & 3])
    return b"".join(parts)


def _u8(value: int) -> bytes:
    return bytes((value,))


def _be16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _ip(value: Any) -> bytes:
    return value.packed  # type: ignore[no-any-return]


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _flag(value: bool) -> bytes:
    return b""


def _peer(value: dict[str, Any]) -> bytes:
    """The other end of a veth: a message about a link inside a message."""
    return _fields("ifinfmsg", value) + _attributes(value["attrs"])


def _via(value: dict[str, Any]) -> bytes:
    """A gateway of the other family: struct rtvia."""
    return _u16(value["family"]) + ip_address(value["addr"]).packed


_FORMS: dict[str, Callable[[Any], bytes]] = {
    "u8": _u8, "u16": _u16, "u32": _u32, "be16": _be16, "ip": _ip, "dev": _u32, "name": _u8, "flag": _flag,
}  # fmt: skip
_ATTRIBUTES: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "IFLA_ADDRESS": (1, _mac),
    "IFLA_IFNAME": (3, _text),
    "IFLA_MTU": (4, _u32),
    "IFLA_LINK": (5, _u32),
    "IFLA_MASTER": (10, _u32),
    "IFLA_TXQLEN": (13, _u32),
    "IFLA_LINKINFO": (18, _attributes),
    "IFLA_AF_SPEC": (26, _attributes),
    "IFLA_NET_NS_FD": (28, _u32),
    "IFLA_INFO_KIND": (1, _text),
    "IFLA_INFO_DATA": (2, _attributes),
    "IFLA_INFO_SLAVE_KIND": (4, _text),
    "IFLA_INFO_SLAVE_DATA": (5, _attributes),
    "VETH_INFO_PEER": (1, _peer),
    "IFLA_BRPORT_MODE": (4, _u8),
    "IFLA_BRPORT_ISOLATED": (33, _u8),
    "AF_INET6": (10, _attributes),
    "IFLA_INET6_ADDR_GEN_MODE": (8, _u8),
    "IFA_ADDRESS": (1, _ip),
    "IFA_LOCAL": (2, _ip),
    "IFA_BROADCAST": (4, _ip),
    "IFA_FLAGS": (8, _u32),
    "RTA_DST": (1, _ip),
    "RTA_OIF": (4, _u32),
    "RTA_GATEWAY": (5, _ip),
    "RTA_PRIORITY": (6, _u32),
    "RTA_PREFSRC": (7, _ip),
    "RTA_METRICS": (8, _attributes),
    "RTA_TABLE": (15, _u32),
    "RTA_VIA": (18, _via),
    "RTAX_MTU": (2, _u32),
    "NDA_DST": (1, _ip),
    "NDA_LLADDR": (2, _mac),
    "NDA_IFINDEX": (8, _u32),
    "FRA_DST": (1, _ip),
    "FRA_SRC": (2, _ip),
    "FRA_IIFNAME": (3, _text),
    "FRA_PRIORITY": (6, _u32),
    "FRA_FWMARK": (10, _u32),
    "FRA_TABLE": (15, _u32),
    "FRA_FWMASK": (16, _u32),
    "FRA_OIFNAME": (17, _text),
    **{one.name: (one.number, _FORMS[one.form]) for table in OPTIONS.values() for one in table.values() if one.name},
    **{name: (number, _ip) for name, number in INET6.items()},
}
