"""Read a namespace's tables: small readers for the few rtnetlink messages that labctl models.

pyroute2 decodes every attribute of every message, which takes a millisecond for three links. These readers decode only
what the plan's types hold. A test reads the same namespaces through pyroute2 and compares.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from labctl.core.resources import IP
from labctl.kernel.netlink import encoding
from labctl.kernel.netlink.messages import AF_BRIDGE, AF_INET, AF_INET6, NTF_PROXY, PROTO_KERNEL
from labctl.kernel.netlink.rtnetlink import Channel, attribute_text, attributes

_ifinfo = struct.Struct("=BxHiII")
_ifaddr = struct.Struct("=BBBBI")
_rtmsg = struct.Struct("=BBBBBBBBI")
_ndmsg = struct.Struct("=BxxxiHBB")
_u32 = struct.Struct("=I")
_i32 = struct.Struct("=i")
SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS
_LINKS = _ifinfo.pack(0, 0, 0, 0, 0) + struct.pack("=HHI", 8, 29, SKIP_STATISTICS)
LOCAL_TABLE = 255


@dataclass(slots=True)
class RawLink:
    """One link as the kernel reports it; indexes and namespace ids are not yet turned into names."""

    index: int
    name: str
    flags: int
    mtu: int = 0
    mac: str = ""
    master: int = 0
    lower_index: int = 0
    lower_nsid: int | None = None
    kind: str = ""
    info_data: tuple[bytes, int, int] | None = None
    hairpin: bool = False
    isolated: bool = False
    addr_gen_mode: int | None = None
    forwarding: int | None = None  # net.ipv4.conf.<dev>.forwarding, which is part of the kernel's message


def links(channel: Channel) -> Iterator[RawLink]:
    """Every link of the namespace. Like all readers here, it raises OSError if the kernel refuses the dump."""
    for data, start, end in channel.dump(encoding.RTM_GETLINK, _LINKS):
        _, _, index, flags, _ = _ifinfo.unpack_from(data, start)
        found = attributes(data, start + 16, end)
        link = RawLink(index, attribute_text(data, found[3]), flags)
        if (place := found.get(1)) is not None:
            link.mac = data[place[0] : place[1]].hex(":")
        if (place := found.get(4)) is not None:
            link.mtu = _u32.unpack_from(data, place[0])[0]
        if (place := found.get(10)) is not None:
            link.master = _u32.unpack_from(data, place[0])[0]
        if (place := found.get(5)) is not None:
            link.lower_index = _u32.unpack_from(data, place[0])[0]
        if (place := found.get(37)) is not None:
            link.lower_nsid = _i32.unpack_from(data, place[0])[0]
        if (place := found.get(18)) is not None:
            _linkinfo(link, data, *place)
        if (place := found.get(26)) is not None:
            _af_spec(link, data, *place)
        yield link


def _linkinfo(link: RawLink, data: bytes, start: int, end: int) -> None:
    found = attributes(data, start, end)
    if 1 in found:
        link.kind = attribute_text(data, found[1])
    if 2 in found:
        link.info_data = (data, *found[2])
    if 5 in found and attribute_text(data, found.get(4, (0, 0))) == "bridge":
        port = attributes(data, *found[5])
        link.hairpin = 4 in port and data[port[4][0]] != 0
        link.isolated = 33 in port and data[port[33][0]] != 0


def _af_spec(link: RawLink, data: bytes, start: int, end: int) -> None:
    families = attributes(data, start, end)
    if (four := families.get(AF_INET)) is not None and (settings := attributes(data, *four).get(1)) is not None:
        link.forwarding = _u32.unpack_from(data, settings[0])[0]  # forwarding is the first of the settings
    six = families.get(AF_INET6)
    if six is not None and (mode := attributes(data, *six).get(8)) is not None:
        link.addr_gen_mode = data[mode[0]]


def addresses(channel: Channel) -> Iterator[tuple[int, IP, int]]:
    """Every address: (index of its device, address, prefix length)."""
    for data, start, end in channel.dump(encoding.RTM_GETADDR, _ifaddr.pack(0, 0, 0, 0, 0)):
        family, length, _, _, index = _ifaddr.unpack_from(data, start)
        found = attributes(data, start + 8, end)
        place = found.get(2) or found.get(1)
        if place is not None and family in (AF_INET, AF_INET6):
            yield index, _ip(data, place), length


@dataclass(slots=True)
class RawRoute:
    """One route as the kernel reports it."""

    family: int
    prefix_len: int
    table: int
    proto: int
    scope: int
    kind: int
    flags: int
    dst: IP | None
    via: IP | None
    oif: int
    metric: int
    src: IP | None
    mtu: int | None
    tos: int = 0
    encap: tuple[int, IP] | None = None


def routes(channel: Channel) -> Iterator[RawRoute]:
    """Every route except the kernel's own in the local table."""
    for data, start, end in channel.dump(encoding.RTM_GETROUTE, _rtmsg.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, length, _, tos, table, proto, scope, kind, flags = _rtmsg.unpack_from(data, start)
        own = table == LOCAL_TABLE and proto == PROTO_KERNEL
        if own or family not in (AF_INET, AF_INET6) or flags & 0x200:  # cloned
            continue
        found = attributes(data, start + 12, end)
        if 15 in found:
            table = _u32.unpack_from(data, found[15][0])[0]
        via = found.get(18)
        yield RawRoute(
            family, length, table, proto, scope, kind, flags,
            _ip(data, found[1]) if 1 in found else None,
            _ip(data, found[5]) if 5 in found else _ip(data, (via[0] + 2, via[1])) if via else None,
            _u32.unpack_from(data, found[4][0])[0] if 4 in found else 0,
            _u32.unpack_from(data, found[6][0])[0] if 6 in found else 0,
            _ip(data, found[7]) if 7 in found else None,
            _metric_mtu(data, found[8]) if 8 in found else None,
            tos,
            _encap(data, found),
        )  # fmt: skip


def _encap(data: bytes, found: dict[int, tuple[int, int]]) -> tuple[int, IP] | None:
    """The encapsulation of a route (LWTUNNEL_ENCAP_IP): the tunnel's identifier and remote address; else None."""
    if 21 not in found or 22 not in found or data[found[21][0]] != 2:
        return None
    inner = attributes(data, *found[22])
    number = int.from_bytes(data[slice(*inner[1])], "big") if 1 in inner else 0
    return (number, _ip(data, inner[2])) if 2 in inner else None


def _metric_mtu(data: bytes, place: tuple[int, int]) -> int | None:
    mtu = attributes(data, *place).get(2)
    return _u32.unpack_from(data, mtu[0])[0] if mtu is not None else None


@dataclass(slots=True)
class RawNeighbour:
    """One neighbour or forwarding entry as the kernel reports it."""

    index: int
    state: int
    flags: int
    ip: IP | None
    mac: str | None


def neighbours(channel: Channel, *, family: int = 0, proxy: bool = False) -> Iterator[RawNeighbour]:
    """Every neighbour entry; with `proxy` the proxy entries; with family AF_BRIDGE the forwarding entries."""
    wanted = _ndmsg.pack(family, 0, 0, NTF_PROXY if proxy else 0, 0)
    for data, start, end in channel.dump(encoding.RTM_GETNEIGH, wanted):
        kind, index, state, flags, _ = _ndmsg.unpack_from(data, start)
        if (kind == AF_BRIDGE) != (family == AF_BRIDGE):
            continue
        found = attributes(data, start + 12, end)
        ip = _ip(data, found[1]) if 1 in found else None
        mac = data[found[2][0] : found[2][1]].hex(":") if 2 in found else None
        yield RawNeighbour(index, state, flags, ip, mac)


@dataclass(slots=True)
class RawRule:
    """One policy-routing rule as the kernel reports it."""

    family: int
    action: int
    pref: int
    table: int
    src: tuple[IP, int] | None
    dst: tuple[IP, int] | None
    iif: str | None
    oif: str | None
    fwmark: int | None
    fwmask: int | None
    flags: int


def rules(channel: Channel) -> Iterator[RawRule]:
    """Every policy-routing rule of both families, the kernel's own included."""
    for data, start, end in channel.dump(encoding.RTM_GETRULE, _rtmsg.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, dst_len, src_len, _, table, _, _, action, flags = _rtmsg.unpack_from(data, start)
        if family not in (AF_INET, AF_INET6):
            continue
        found = attributes(data, start + 12, end)
        number = {key: _u32.unpack_from(data, found[key][0])[0] for key in (6, 10, 15, 16) if key in found}
        yield RawRule(
            family, action, number.get(6, 0), number.get(15, table),
            (_ip(data, found[2]), src_len) if 2 in found else None,
            (_ip(data, found[1]), dst_len) if 1 in found else None,
            attribute_text(data, found[3]) if 3 in found else None,
            attribute_text(data, found[17]) if 17 in found else None,
            number.get(10), number.get(16), flags,
        )  # fmt: skip


def _ip(data: bytes, span: tuple[int, int]) -> IP:
    payload = data[span[0] : span[1]]
    return IPv4Address(payload) if len(payload) == 4 else IPv6Address(payload[:16])
