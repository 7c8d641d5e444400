"""Create and delete entries of conntrack by netlink (ctnetlink), in the namespace of the calling thread."""

from __future__ import annotations

import errno
import os
import socket
import struct

from labctl.core.observations import Flow
from labctl.core.resources import IP
from labctl.errors import KernelError
from labctl.kernel.netlink.encoding import CREATE, EXCL
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK, NfnetlinkSocket, nfgenmsg

IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_DELETE = 0, 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_TIMEOUT = 1, 2, 3, 7
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
NLA_F_NESTED = 0x8000
IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED = 2, 4, 8
LIFETIME_S = 86_400  # of an entry until its first packet; then the kernel's own timeouts count


def create(flow: Flow) -> None:
    """Create the entry of a flow that was answered already. Without a translation in `flow` it has none, so no NAT
    rule is asked for its packets any more. Entries that have one of its two directions are replaced.

    Raises KernelError if the kernel refuses.
    """
    delete(flow)
    status = struct.pack("!I", IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED)
    there = _tuple(flow.protocol, flow.src, flow.dst, flow.sport, flow.dport)
    back = _tuple(flow.protocol, flow.reply_src, flow.reply_dst, flow.reply_sport, flow.reply_dport)
    body = (
        _nested(CTA_TUPLE_ORIG, there)
        + _nested(CTA_TUPLE_REPLY, back)
        + _attribute(CTA_STATUS, status)
        + _attribute(CTA_TIMEOUT, struct.pack("!I", LIFETIME_S))
    )
    error = _request(IPCTNL_MSG_CT_NEW, flow, body, CREATE | EXCL)
    if error == errno.EEXIST:  # another connection has the same answers: it uses the same port of a translation
        _request(IPCTNL_MSG_CT_DELETE, flow, _nested(CTA_TUPLE_REPLY, back), 0)
        error = _request(IPCTNL_MSG_CT_NEW, flow, body, CREATE | EXCL)
    if error:
        raise KernelError(f"the kernel refused a conntrack entry in {flow.node}: {os.strerror(error)}")


def delete(flow: Flow) -> bool:
    """Delete the entry of a flow; whether there was one."""
    there = _tuple(flow.protocol, flow.src, flow.dst, flow.sport, flow.dport)
    return _request(IPCTNL_MSG_CT_DELETE, flow, _nested(CTA_TUPLE_ORIG, there), 0) == 0


def _request(message: int, flow: Flow, body: bytes, flags: int) -> int:
    family = socket.AF_INET if flow.src.version == 4 else socket.AF_INET6
    try:
        with NfnetlinkSocket(timeout_s=1) as sock:
            return sock.request(NFNL_SUBSYS_CTNETLINK << 8 | message, nfgenmsg(family) + body, flags)
    except OSError as error:
        raise KernelError(f"conntrack of {flow.node} cannot be changed: {error.strerror}") from error


def _tuple(protocol: int, src: IP, dst: IP, sport: int, dport: int) -> bytes:
    first = 1 if src.version == 4 else 3
    addresses = _attribute(first, src.packed) + _attribute(first + 1, dst.packed)
    ports = (
        _attribute(CTA_PROTO_NUM, bytes((protocol,)))
        + _attribute(CTA_PROTO_SRC_PORT, struct.pack("!H", sport))
        + _attribute(CTA_PROTO_DST_PORT, struct.pack("!H", dport))
    )
    return _nested(CTA_TUPLE_IP, addresses) + _nested(CTA_TUPLE_PROTO, ports)


def _nested(kind: int, body: bytes) -> bytes:
    return _attribute(kind | NLA_F_NESTED, body)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding
