"""The connections that a namespace tracks (conntrack), read by netlink, with their address translations."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

from labctl.core.observations import Flow
from labctl.core.resources import IP
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import attributes

_GET = NFNL_SUBSYS_CTNETLINK << 8 | 1
_STATES = {1: "SYN_SENT", 2: "SYN_RECV", 3: "ESTABLISHED", 7: "TIME_WAIT", 8: "CLOSE"}
IPS_SEEN_REPLY = 2  # IPS_SEEN_REPLY
CTA_TIMEOUT, CTA_ID, CTA_ZONE, CTA_TIMESTAMP, CTA_TIMESTAMP_START = 7, 12, 18, 20, 1


def count() -> int:
    """How many connections this thread's namespace tracks: a small file, while a dump searches those of the whole
    machine."""
    try:
        with open("/proc/sys/net/netfilter/nf_conntrack_count") as file:
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
