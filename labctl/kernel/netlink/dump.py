"""Read a namespace's tables: small readers for the few rtnetlink messages that labctl models.

pyroute2 decodes every attribute of every message, which takes a millisecond for three links. These readers decode only
what the plan's types hold. A test reads the same namespaces through pyroute2 and compares.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from sys import intern

from labctl.core.resources import IP
from labctl.kernel.netlink import encoding
from labctl.kernel.netlink.messages import (
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    IFLA_AF_SPEC,
    IFLA_INET_CONF,
    LWTUNNEL_IP,
    LWTUNNEL_IP_DST,
    LWTUNNEL_IP_ID,
    NTF_PROXY,
    PROTO_KERNEL,
    RTA_ENCAP,
    RTA_ENCAP_TYPE,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_VIA,
)
from labctl.kernel.netlink.rtnetlink import Channel, attribute_text, attributes

_ifinfo = struct.Struct("=BxHiII")
_ifaddr = struct.Struct("=BBBBI")
_rtmsg = struct.Struct("=BBBBBBBBI")
_ndmsg = struct.Struct("=BxxxiHBB")
_rtnexthop = struct.Struct("=HBBi")
_u32 = struct.Struct("=I")
_i32 = struct.Struct("=i")

# numbers of attributes, as in linux/if_link.h, if_addr.h, rtnetlink.h, lwtunnel.h, neighbour.h and fib_rules.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN, IFLA_LINKINFO = 1, 3, 4, 5, 10, 13, 18
IFLA_EXT_MASK, IFLA_LINK_NETNSID = 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_STATE, IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 1, 4, 33  # the mode is hairpin
IFLA_INET6_ADDR_GEN_MODE = 8
IFA_ADDRESS, IFA_LOCAL, IFA_PROTO = 1, 2, 11
RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_TABLE = 1, 4, 6, 7, 8, 15
RTAX_MTU = 2
NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK, FRA_OIFNAME = 1, 2, 3, 6, 10, 15, 16, 17

SHARED = 4096  # addresses that are one object wherever they are found: most namespaces have the same few
RTEXT_FILTER_SKIP_STATS = 8
RTM_F_CLONED = 0x200
LOCAL_TABLE = 255
_LINKS = _ifinfo.pack(0, 0, 0, 0, 0) + struct.pack("=HHI", 8, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)


@dataclass(slots=True)
class RawLink:
    """One link as the kernel reports it; indexes and namespace ids are not yet turned into names."""

    index: int
    name: str
    flags: int
    mtu: int = 0
    mac: str = ""
    txqueuelen: int | None = None
    master: int = 0
    lower_index: int = 0
    lower_nsid: int | None = None
    kind: str = ""
    info_data: tuple[bytes, int, int] | None = None
    hairpin: bool = False
    isolated: bool = False
    port_state: int | None = None  # of a bridge port
    addr_gen_mode: int | None = None
    inet_conf: bytes = b""  # the sysctls below net.ipv4.conf.<dev>, in the order of netconf.IPV4_CONF

    def ipv4_setting(self, number: int) -> int | None:
        """The sysctl below net.ipv4.conf.<dev> with this number in netconf.IPV4_CONF; None if it is not said."""
        at = number * _i32.size
        return int(_i32.unpack_from(self.inet_conf, at)[0]) if at < len(self.inet_conf) else None


def links(channel: Channel) -> Iterator[RawLink]:
    """Every link of the namespace. Like all readers here, it raises OSError if the kernel refuses the dump."""
    for data, start, end in channel.dump(encoding.RTM_GETLINK, _LINKS):
        _, _, index, flags, _ = _ifinfo.unpack_from(data, start)
        found = attributes(data, start + 16, end)
        link = RawLink(index, intern(attribute_text(data, found[IFLA_IFNAME])), flags)
        if (span := found.get(IFLA_ADDRESS)) is not None:
            link.mac = data[span[0] : span[1]].hex(":")
        if (span := found.get(IFLA_MTU)) is not None:
            link.mtu = _u32.unpack_from(data, span[0])[0]
        if (span := found.get(IFLA_TXQLEN)) is not None:
            link.txqueuelen = _u32.unpack_from(data, span[0])[0]
        if (span := found.get(IFLA_MASTER)) is not None:
            link.master = _u32.unpack_from(data, span[0])[0]
        if (span := found.get(IFLA_LINK)) is not None:
            link.lower_index = _u32.unpack_from(data, span[0])[0]
        if (span := found.get(IFLA_LINK_NETNSID)) is not None:
            link.lower_nsid = _i32.unpack_from(data, span[0])[0]
        if (span := found.get(IFLA_LINKINFO)) is not None:
            _linkinfo(link, data, *span)
        if (span := found.get(IFLA_AF_SPEC)) is not None:
            _af_spec(link, data, *span)
        yield link


def _linkinfo(link: RawLink, data: bytes, start: int, end: int) -> None:
    found = attributes(data, start, end)
    if IFLA_INFO_KIND in found:
        link.kind = attribute_text(data, found[IFLA_INFO_KIND])
    if IFLA_INFO_DATA in found:
        link.info_data = (data, *found[IFLA_INFO_DATA])
    is_bridge_port = attribute_text(data, found.get(IFLA_INFO_SLAVE_KIND, (0, 0))) == "bridge"
    if is_bridge_port and IFLA_INFO_SLAVE_DATA in found:
        port = attributes(data, *found[IFLA_INFO_SLAVE_DATA])
        link.hairpin = IFLA_BRPORT_MODE in port and data[port[IFLA_BRPORT_MODE][0]] != 0
        link.port_state = data[port[IFLA_BRPORT_STATE][0]] if IFLA_BRPORT_STATE in port else None
        link.isolated = IFLA_BRPORT_ISOLATED in port and data[port[IFLA_BRPORT_ISOLATED][0]] != 0


def _af_spec(link: RawLink, data: bytes, start: int, end: int) -> None:
    families = attributes(data, start, end)
    ipv4, ipv6 = families.get(AF_INET), families.get(AF_INET6)
    if ipv4 is not None and (sysctls := attributes(data, *ipv4).get(IFLA_INET_CONF)) is not None:
        link.inet_conf = data[slice(*sysctls)]
    if ipv6 is not None and (mode := attributes(data, *ipv6).get(IFLA_INET6_ADDR_GEN_MODE)) is not None:
        link.addr_gen_mode = data[mode[0]]


@dataclass(slots=True)
class RawAddress:
    """One address as the kernel reports it. `proto` is who created it (IFAPROT_*); None if that is not said: by a
    program, or by any kernel before Linux 5.18."""

    index: int
    ip: IP
    prefix_len: int
    proto: int | None = None


def addresses(channel: Channel) -> Iterator[RawAddress]:
    """Every address of the namespace."""
    for data, start, end in channel.dump(encoding.RTM_GETADDR, _ifaddr.pack(0, 0, 0, 0, 0)):
        family, length, _, _, index = _ifaddr.unpack_from(data, start)
        found = attributes(data, start + 8, end)
        span = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
        if span is not None and family in (AF_INET, AF_INET6):
            proto = data[found[IFA_PROTO][0]] if IFA_PROTO in found else None
            yield RawAddress(index, _ip(data, span), length, proto)


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
    nexthops: tuple[RawNextHop, ...] = ()
    nhid: int | None = None


@dataclass(slots=True)
class RawNextHop:
    """One of the next hops of a multipath route, with the index of its device."""

    via: IP | None
    oif: int
    weight: int
    flags: int


def routes(channel: Channel) -> Iterator[RawRoute]:
    """Every route except the kernel's own in the local table."""
    for data, start, end in channel.dump(encoding.RTM_GETROUTE, _rtmsg.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, length, _, tos, table, proto, scope, kind, flags = _rtmsg.unpack_from(data, start)
        is_local_route = table == LOCAL_TABLE and proto == PROTO_KERNEL
        if is_local_route or family not in (AF_INET, AF_INET6) or flags & RTM_F_CLONED:
            continue
        found = attributes(data, start + 12, end)
        if RTA_TABLE in found:
            table = _u32.unpack_from(data, found[RTA_TABLE][0])[0]
        yield RawRoute(
            family, length, table, proto, scope, kind, flags,
            _ip(data, found[RTA_DST]) if RTA_DST in found else None,
            _gateway(data, found),
            _u32.unpack_from(data, found[RTA_OIF][0])[0] if RTA_OIF in found else 0,
            _u32.unpack_from(data, found[RTA_PRIORITY][0])[0] if RTA_PRIORITY in found else 0,
            _ip(data, found[RTA_PREFSRC]) if RTA_PREFSRC in found else None,
            _metric_mtu(data, found[RTA_METRICS]) if RTA_METRICS in found else None,
            tos,
            _encap(data, found),
            tuple(next_hops(data, *found[RTA_MULTIPATH])) if RTA_MULTIPATH in found else (),
            _u32.unpack_from(data, found[RTA_NH_ID][0])[0] if RTA_NH_ID in found else None,
        )  # fmt: skip


def _gateway(data: bytes, found: dict[int, tuple[int, int]]) -> IP | None:
    if RTA_GATEWAY in found:
        return _ip(data, found[RTA_GATEWAY])
    if RTA_VIA in found:  # a gateway of the other family: struct rtvia, with the family before the address
        return _ip(data, (found[RTA_VIA][0] + 2, found[RTA_VIA][1]))
    return None


def next_hops(data: bytes, start: int, end: int) -> Iterator[RawNextHop]:
    """The next hops in an attribute RTA_MULTIPATH: a struct rtnexthop with attributes for each."""
    while start + _rtnexthop.size <= end:
        length, flags, hops, index = _rtnexthop.unpack_from(data, start)
        if length < _rtnexthop.size:
            return
        found = attributes(data, start + _rtnexthop.size, start + length)
        yield RawNextHop(_gateway(data, found), index, hops + 1, flags)
        start += (length + 3) & ~3


def _encap(data: bytes, found: dict[int, tuple[int, int]]) -> tuple[int, IP] | None:
    """The encapsulation of a route (LWTUNNEL_ENCAP_IP): the tunnel's identifier and remote address; else None."""
    if RTA_ENCAP not in found or RTA_ENCAP_TYPE not in found or data[found[RTA_ENCAP_TYPE][0]] != LWTUNNEL_IP:
        return None
    inner = attributes(data, *found[RTA_ENCAP])
    tunnel_id = int.from_bytes(data[slice(*inner[LWTUNNEL_IP_ID])], "big") if LWTUNNEL_IP_ID in inner else 0
    return (tunnel_id, _ip(data, inner[LWTUNNEL_IP_DST])) if LWTUNNEL_IP_DST in inner else None


def _metric_mtu(data: bytes, span: tuple[int, int]) -> int | None:
    mtu = attributes(data, *span).get(RTAX_MTU)
    return _u32.unpack_from(data, mtu[0])[0] if mtu is not None else None


@dataclass(slots=True)
class RawNeighbour:
    """One neighbour or forwarding entry as the kernel reports it. `via` is the index of a vxlan's lower device."""

    index: int
    state: int
    flags: int
    ip: IP | None
    mac: str | None
    via: int = 0


def neighbours(channel: Channel, *, family: int = 0, proxy: bool = False) -> Iterator[RawNeighbour]:
    """Every neighbour entry; with `proxy` the proxy entries; with family AF_BRIDGE the forwarding entries."""
    wanted = _ndmsg.pack(family, 0, 0, NTF_PROXY if proxy else 0, 0)
    for data, start, end in channel.dump(encoding.RTM_GETNEIGH, wanted):
        kind, index, state, flags, _ = _ndmsg.unpack_from(data, start)
        if (kind == AF_BRIDGE) != (family == AF_BRIDGE):
            continue
        found = attributes(data, start + 12, end)
        ip = _ip(data, found[NDA_DST]) if NDA_DST in found else None
        mac = data[slice(*found[NDA_LLADDR])].hex(":") if NDA_LLADDR in found else None
        via = _u32.unpack_from(data, found[NDA_IFINDEX][0])[0] if NDA_IFINDEX in found else 0
        yield RawNeighbour(index, state, flags, ip, mac, via)


@dataclass(slots=True, eq=False)
class RawRule:
    """One policy-routing rule as the kernel reports it. Equal ones of several namespaces are one object."""

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
        if data[start] in (AF_INET, AF_INET6):
            yield _rule(data[start:end])


@lru_cache(maxsize=SHARED)  # every namespace has the same five
def _rule(data: bytes) -> RawRule:
    family, dst_len, src_len, _, table, _, _, action, flags = _rtmsg.unpack_from(data, 0)
    found = attributes(data, 12, len(data))
    numeric = (FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK)
    numbers = {key: _u32.unpack_from(data, found[key][0])[0] for key in numeric if key in found}
    return RawRule(
        family, action, numbers.get(FRA_PRIORITY, 0), numbers.get(FRA_TABLE, table),
        (_ip(data, found[FRA_SRC]), src_len) if FRA_SRC in found else None,
        (_ip(data, found[FRA_DST]), dst_len) if FRA_DST in found else None,
        attribute_text(data, found[FRA_IIFNAME]) if FRA_IIFNAME in found else None,
        attribute_text(data, found[FRA_OIFNAME]) if FRA_OIFNAME in found else None,
        numbers.get(FRA_FWMARK), numbers.get(FRA_FWMASK), flags,
    )  # fmt: skip


def _ip(data: bytes, span: tuple[int, int]) -> IP:
    return _address(data[span[0] : span[1]])


@lru_cache(maxsize=SHARED)
def _address(payload: bytes) -> IP:
    return IPv4Address(payload) if len(payload) == 4 else IPv6Address(payload[:16])
