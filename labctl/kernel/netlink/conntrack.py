"""The connections that a namespace tracks (conntrack), read by netlink, with their address translations.

A dump walks the hash table of the whole machine, whichever namespace asks: 10 ms with 262144 buckets. So a connection
is looked up by its addresses and ports, and the table is dumped only if that cannot find everything.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from labctl.core.observations import Flow
from labctl.core.resources import IP
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import attributes, encode_attribute
from labctl.packets.decode import TCP, UDP

COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_GET = NFNL_SUBSYS_CTNETLINK << 8 | 1
_STATES = {1: "SYN_SENT", 2: "SYN_RECV", 3: "ESTABLISHED", 7: "TIME_WAIT", 8: "CLOSE"}
IPS_SEEN_REPLY = 2  # IPS_SEEN_REPLY
CTA_TIMEOUT, CTA_ID, CTA_ZONE, CTA_TIMESTAMP, CTA_TIMESTAMP_START = 7, 12, 18, 20, 1
_NESTED = 0x8000  # NLA_F_NESTED


def count() -> int:
    """How many connections this thread's namespace tracks: a small file, while a dump searches those of the whole
    machine."""
    try:
        with open(COUNT) as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def flows(node: str, version: int | None = None) -> tuple[Flow, ...]:
    """All connections of this thread's namespace, with `version` those of IPv4 or IPv6; none if the kernel has no
    conntrack or has not loaded it (a request would load it)."""
    if os.path.exists("/proc/modules") and not os.path.exists("/sys/module/nf_conntrack"):
        return ()
    family = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[version]
    found: list[Flow] = []
    try:
        with NfnetlinkSocket(timeout_s=1) as sock:
            for data, start, end in sock.dump(_GET, nfgenmsg(family)):
                found += _flow(node, data, start + 4, end)
    except OSError:
        pass  # what was read until then
    return tuple(found)


@dataclass(frozen=True, slots=True)
class FlowTuple:
    """One direction of a connection, as a packet of it shows: the addresses, and the ports. For ICMP, `sport` is the
    identifier, and `dport` the type of the message."""

    protocol: int
    src: IP
    dst: IP
    sport: int
    dport: int


def find_flows(node: str, tuples: Iterable[FlowTuple], has_zones: bool) -> tuple[Flow, ...]:
    """The connections of this thread's namespace that have one of these tuples in either direction.

    `has_zones`: the namespace's rules use conntrack zones. Without zones, a tuple identifies a connection. If none is
    found although the namespace tracks connections, the whole table is searched.
    """
    wanted = tuple(dict.fromkeys(tuples))
    if not wanted or count() == 0:
        return ()
    found: dict[Flow, None] = {}
    if not has_zones:
        with suppress(OSError), NfnetlinkSocket(timeout_s=1) as sock:
            for one in wanted:
                answer = sock.get(_GET, _request(one))
                if answer is not None:
                    found |= dict.fromkeys(_flow(node, answer[0], answer[1] + 4, answer[2]))
    if found:
        return tuple(found)
    every = flows(node, wanted[0].src.version)
    return tuple(flow for flow in every if any(has_tuple(flow, one) for one in wanted))


def _family(address: IP) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _request(one: FlowTuple) -> bytes:
    """The body of the request for the connection with a tuple in either direction (CTA_TUPLE_ORIG; of zone 0)."""
    first = 1 if one.src.version == 4 else 3
    addresses = encode_attribute(first, one.src.packed) + encode_attribute(first + 1, one.dst.packed)
    ports = encode_attribute(1, bytes([one.protocol]))
    if one.protocol in (TCP, UDP):
        ports += encode_attribute(2, struct.pack("!H", one.sport)) + encode_attribute(3, struct.pack("!H", one.dport))
    else:
        ident, kind = (4, 5) if one.src.version == 4 else (7, 8)
        ports += encode_attribute(ident, struct.pack("!H", one.sport)) + encode_attribute(kind, bytes([one.dport]))
        ports += encode_attribute(kind + 1, b"\0")
    body = encode_attribute(1 | _NESTED, addresses) + encode_attribute(2 | _NESTED, ports)
    return nfgenmsg(_family(one.src)) + encode_attribute(1 | _NESTED, body)


def has_tuple(flow: Flow, one: FlowTuple) -> bool:
    """Whether a connection has a tuple in one of its directions. The type of an ICMP message follows from the rest."""
    sides = (
        (flow.src, flow.dst, flow.sport, flow.dport),
        (flow.reply_src, flow.reply_dst, flow.reply_sport, flow.reply_dport),
    )
    if flow.protocol != one.protocol:
        return False
    if one.protocol in (TCP, UDP):
        return (one.src, one.dst, one.sport, one.dport) in sides
    return any((one.src, one.dst, one.sport) == side[:3] for side in sides)


def _flow(node: str, data: bytes, start: int, end: int) -> Iterator[Flow]:
    top = attributes(data, start, end)
    if 1 not in top or 2 not in top:
        return
    there, back = _tuple(data, *top[1]), _tuple(data, *top[2])
    if there is None or back is None:
        return
    status = int(struct.unpack_from("!I", data, top[3][0])[0]) if 3 in top else 0
    state = "replied" if status & IPS_SEEN_REPLY else "unreplied"
    if 4 in top and 1 in (tcp := attributes(data, *top[4])):
        inner = attributes(data, *tcp[1])
        state = _STATES.get(data[inner[1][0]], state) if 1 in inner else state
    expires = _number(data, top, CTA_TIMEOUT, "!I")
    begun = None
    if CTA_TIMESTAMP in top:
        begun = _number(data, attributes(data, *top[CTA_TIMESTAMP]), CTA_TIMESTAMP_START, "!Q")
    age = None if begun is None else max(0, (time.time_ns() - begun) // 10**9)
    yield Flow(
        node, there[0], there[1], there[2], there[3], there[4], back[1], back[2], back[3], back[4], state,
        _number(data, top, CTA_ID, "!I") or 0, _number(data, top, CTA_ZONE, "!H") or 0, expires, age,
    )  # fmt: skip


def _number(data: bytes, attributes: dict[int, tuple[int, int]], kind: int, form: str) -> int | None:
    return int(struct.unpack_from(form, data, attributes[kind][0])[0]) if kind in attributes else None


def _tuple(data: bytes, start: int, end: int) -> tuple[int, IP, IP, int, int] | None:
    from ipaddress import ip_address

    parts = attributes(data, start, end)
    if 1 not in parts or 2 not in parts:
        return None
    addresses, protocol = attributes(data, *parts[1]), attributes(data, *parts[2])
    four = 1 in addresses
    src, dst = (ip_address(data[slice(*addresses[key])]) for key in ((1, 2) if four else (3, 4)))

    def port(*keys: int) -> int:
        span = next((protocol[key] for key in keys if key in protocol), None)
        return int(struct.unpack_from("!H", data, span[0])[0]) if span else 0

    number = data[protocol[1][0]]
    return number, src, dst, port(2, 4, 7), port(3, 4, 7)
