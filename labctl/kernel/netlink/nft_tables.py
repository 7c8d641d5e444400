"""The nf_tables tables of a namespace: list them, and delete one. Raw netlink; no program is started.

ebtables-nft keeps its rules in tables of the bridge family, iptables-nft in tables of the families ip and ip6. A table
that does not belong to the lab's firewall backend was created manually, by `nft` or iptables-nft.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from labctl.errors import KernelError
from labctl.kernel.netlink.rtnetlink import attributes, iter_messages

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_NETLINK_NETFILTER = 12
_NEWTABLE, _GETTABLE, _DELTABLE = (10 << 8 | number for number in (0, 1, 2))  # subsystem nf_tables
_COMPAT_GET = 11 << 8  # subsystem nft_compat
_BATCH_BEGIN, _BATCH_END = 16, 17
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_head = struct.Struct("=IHHII")


def tables() -> tuple[tuple[str, str], ...]:
    """(family, name) of every table in the namespace of this thread.

    If nf_tables is a module and not loaded, there are none; a request would load it.
    """
    if os.path.exists("/proc/modules") and not os.path.exists("/sys/module/nf_tables"):
        return ()
    found: list[tuple[str, str]] = []
    try:
        with _socket() as asking:
            asking.send(_message(_GETTABLE, _REQUEST | _DUMP, 1, struct.pack("=BBH", 0, 0, 0)))
            while True:
                data = asking.recv(1 << 16)
                for kind, _, _, start, end in iter_messages(data):
                    if kind in (_DONE, _ERROR):
                        return tuple(found)
                    if kind == _NEWTABLE and (place := attributes(data, start + 4, end).get(1)) is not None:
                        name = data[place[0] : place[1]].rstrip(b"\0").decode(errors="replace")
                        found.append((FAMILIES.get(data[start], str(data[start])), name))
    except OSError:
        return ()


def remove(ns: str, family: str, name: str) -> None:
    """Delete a table with all its contents from the namespace of this thread. Raises KernelError."""
    number = next(number for number, word in FAMILIES.items() if word == family)
    raw = name.encode() + b"\0"
    body = struct.pack("=BBH", number, 0, 0) + struct.pack("=HH", 4 + len(raw), 1) + raw + bytes(-len(raw) % 4)
    marks = struct.pack(">BBH", 0, 0, 10)
    with _socket() as asking:
        begin, end = (_message(kind, _REQUEST, 0, marks) for kind in (_BATCH_BEGIN, _BATCH_END))
        asking.send(begin + _message(_DELTABLE, _REQUEST | _ACK, 1, body) + end)
        data = asking.recv(1 << 16)
    for kind, _, sequence, start, _ in iter_messages(data):
        code = struct.unpack_from("=i", data, start)[0] if kind == _ERROR and sequence == 1 else 0
        if code:
            raise KernelError(f"cannot remove nft table {family} {name} in {ns}: {os.strerror(-code)}", errno=-code)


def extension_problem(feature: str) -> str:
    """Why iptables-nft has no such match or target (`-m set`, `-j NFLOG`), or "". The request goes to nft_compat, which
    knows the extensions of xtables. A kernel without nft_compat has no iptables-nft at all; this function does not
    report that."""
    name, target = feature[3:].encode() + b"\0", feature[1] == "j"
    body = struct.pack("=HH", 4 + len(name), 1) + name + bytes(-len(name) % 4)
    body += b"".join(struct.pack("=HH", 8, kind) + struct.pack(">I", number) for kind, number in ((2, 0), (3, target)))
    codes = set()
    with _socket() as asking:
        for family in (2, 10):
            asking.send(_message(_COMPAT_GET, _REQUEST | _ACK, 1, struct.pack("=BBH", family, 0, 0) + body))
            codes |= set(_codes(asking))
    return "the kernel's nft_compat does not know it" if codes == {errno.ENOENT} else ""


def _codes(sock: socket.socket) -> Iterator[int]:
    """The errno, or 0, at the end of a reply."""
    while True:
        data = sock.recv(1 << 16)
        for kind, _, _, start, _ in iter_messages(data):
            if kind == _ERROR:
                yield -struct.unpack_from("=i", data, start)[0]
                return


def _socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _head.pack(16 + len(body), kind, flags, sequence, 0) + body
