"""Ask a namespace's routing what it does with a packet: RTM_GETROUTE, with the real inputs of the packet.

With the packet's input device and source address, the kernel makes the same checks as for a real packet. So its error
explains a loss: ENETUNREACH (no route), EHOSTUNREACH (forwarding is off, or an unreachable route), EINVAL or EXDEV (the
reverse-path filter), EACCES (a prohibit route).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass, replace

from labctl.core.observations import RouteLookup, RouteQuery
from labctl.core.resources import IP, NextHop
from labctl.kernel.netlink.dump import RTA_DST, RTA_OIF, RTA_TABLE, next_hops
from labctl.kernel.netlink.encoding import REQUEST, RTM_GETROUTE, RTM_NEWROUTE
from labctl.kernel.netlink.messages import AF_INET, AF_INET6, ONLINK, ROUTE_KIND, RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA
from labctl.kernel.netlink.rtnetlink import NLMSG_ERROR, attributes, encode_attribute, iter_messages, receive

LOOKUP_TABLE, FIB_MATCH = 0x1000, 0x2000  # flags: report the table, and the route itself
TIMEOUT_S = 1  # seconds that the kernel may take to answer
RTA_SRC, RTA_IIF, RTA_MARK = 2, 3, 16
_KINDS = {number: name for name, number in ROUTE_KIND.items()}
_head = struct.Struct("=IHHII")
_rtmsg = struct.Struct("=BBBBBBBBI")


def look_up_route(query: RouteQuery, fwmark: int = 0) -> RouteLookup:
    """The answer of this thread's namespace. An error of the kernel is an answer, too (`RouteLookup.error`)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as sock:
        sock.settimeout(TIMEOUT_S)
        base = RouteLookup(query.node, query.dst, query.src, query.iif, fwmark)
        try:
            route = _ask(sock, _request(query, fwmark, FIB_MATCH))
            if RTA_MULTIPATH not in attributes(*route.attributes):
                return _answer(base, route)
            # which of its next hops a packet takes depends on its addresses: the kernel says that without FIB_MATCH
            return _answer(base, route, _ask(sock, _request(query, fwmark, 0)))
        except OSError as error:
            return _with_error(base, error.errno or 0)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A message RTM_NEWROUTE: where its struct rtmsg and its attributes are."""

    data: bytes
    start: int
    end: int

    @property
    def attributes(self) -> tuple[bytes, int, int]:
        return self.data, self.start + _rtmsg.size, self.end


def _ask(sock: socket.socket, request: bytes) -> _Reply:
    """The kernel's answer. Raises OSError if that is an error."""
    sock.send(request)
    data = receive(sock)
    for kind, _, _, start, end in iter_messages(data):
        if kind == NLMSG_ERROR:
            raise OSError(-struct.unpack_from("=i", data, start)[0], "the kernel has no route")
        if kind == RTM_NEWROUTE:
            return _Reply(data, start, end)
    raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))


def _request(query: RouteQuery, fwmark: int, flags: int) -> bytes:
    family = AF_INET if query.dst.version == 4 else AF_INET6
    length = query.dst.max_prefixlen
    body = _rtmsg.pack(family, length, length if query.src is not None else 0, 0, 0, 0, 0, 0, LOOKUP_TABLE | flags)
    body += encode_attribute(RTA_DST, query.dst.packed)
    if query.src is not None:
        body += encode_attribute(RTA_SRC, query.src.packed)
    if query.iif is not None:
        body += encode_attribute(RTA_IIF, struct.pack("=I", _index(query.iif)))
    if fwmark:
        body += encode_attribute(RTA_MARK, struct.pack("=I", fwmark))
    return _head.pack(16 + len(body), RTM_GETROUTE, REQUEST, 1, 0) + body


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def _with_error(base: RouteLookup, number: int) -> RouteLookup:
    return replace(base, error=errno.errorcode.get(number, str(number)))


def _answer(base: RouteLookup, route: _Reply, choice: _Reply | None = None) -> RouteLookup:
    """The route, and the gateway and device of the packet, which another answer says if there are several."""
    data = route.data
    _, length, _, _, table, _, _, kind, _ = _rtmsg.unpack_from(data, route.start)
    found = attributes(*route.attributes)

    def number(key: int) -> int | None:
        return int(struct.unpack_from("=I", data, found[key][0])[0]) if key in found else None

    def address(key: int, skip: int = 0) -> IP | None:
        from ipaddress import ip_address

        return ip_address(data[found[key][0] + skip : found[key][1]]) if key in found else None

    table = number(RTA_TABLE) or table
    dev = _name(number(RTA_OIF))
    via = address(RTA_GATEWAY) or address(RTA_VIA, 2)
    kind_name = _KINDS.get(kind, str(kind))
    suffix = "" if length == base.dst.max_prefixlen else f"/{length}"
    dst = f"{address(RTA_DST)}{suffix}" if length else "default"
    args = [*([] if kind_name == "unicast" else [kind_name]), dst, *(["via", str(via)] if via is not None else [])]
    args += ["dev", dev] if dev else []
    args += ["table", str(table)] if table not in (254, 255) else []
    if RTA_MULTIPATH in found:
        from labctl.render.resources import next_hop_text  # a trace of other routes needs no texts of resources

        for hop in next_hops(data, *found[RTA_MULTIPATH]):
            one = NextHop(hop.via, _name(hop.oif), hop.weight, bool(hop.flags & ONLINK))
            args.append(next_hop_text(one, base.dst.version))
    if choice is not None:
        chosen = _answer(base, choice)
        via, dev = chosen.via, chosen.dev
    return replace(base, route=" ".join(args), kind=kind_name, via=via, dev=dev, table=table)


def _name(index: int | None) -> str | None:
    if not index:
        return None
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"if{index}"
