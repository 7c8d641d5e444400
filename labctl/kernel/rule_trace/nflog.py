"""The kernel's report of every legacy firewall rule that a traced packet matched, read through nfnetlink_log.

The sysctls that select the receiver of such reports in a namespace (net.netfilter.nf_log.2 and .10) are changed during
the trace and restored after it. Each report contains the packet, so that only those of the probe are kept.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from labctl.core.observations import NftMatch
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_ULOG, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import attributes, encode_attribute

FAMILIES = {"ip": 2, "ip6": 10}
RCVBUF_BYTES = 4 << 20  # bytes of reports that may wait
_PACKET, _CONFIG = NFNL_SUBSYS_ULOG << 8, NFNL_SUBSYS_ULOG << 8 | 1
_BIND, _PF_BIND, _PF_UNBIND = 1, 3, 4
_SETTING = "/proc/sys/net/netfilter/nf_log"


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One rule, policy or return that a traced packet matched: the kernel's text, the devices by index, the fwmark, and
    the packet from its network header on. `nft` is what is known of a rule that iptables did not write."""

    family: str
    hook: int
    prefix: str
    iif: int
    oif: int
    fwmark: int
    payload: bytes
    ours: bool = False  # it is certainly of the probe, although the payload is cut off
    nft: NftMatch | None = None
    legacy: bool = True  # it is from ip_tables; False: from nf_tables


class NfLog:
    """The receiver of reports in the namespace of the thread that creates it. Raises OSError if that fails."""

    def __init__(self) -> None:
        self.original_loggers = read_loggers()
        self._socket = NfnetlinkSocket(timeout_s=1, receive_buffer_bytes=RCVBUF_BYTES)
        try:
            for number in FAMILIES.values():
                self._configure(number, _command(_PF_BIND))
            self._configure(0, _command(_BIND))
            self._configure(0, encode_attribute(2, struct.pack("!IBx", 256, 2)))  # copy 256 bytes
        except OSError:
            self._socket.close()
            raise

    def read(self) -> tuple[list[RuleReport], bool]:
        """The waiting reports, and whether any report was lost."""
        messages, lost = self._socket.waiting()
        found: list[RuleReport] = []
        for kind, data, start, end in messages:
            if kind == _PACKET:
                found += _report(data, start, end)
        return found, lost

    def close(self) -> None:
        """Stop receiving. Call `restore_loggers` separately, in a thread that is inside the namespace."""
        self._socket.close()

    def _configure(self, family: int, body: bytes) -> None:
        if code := self._socket.request(_CONFIG, nfgenmsg(family) + body):
            raise OSError(code, os.strerror(code))


def read_loggers() -> dict[str, str]:
    """The receiver of reports in this thread's namespace, by family: `NONE`, `nf_log_ipv4`, ..."""
    found = {}
    for family, number in FAMILIES.items():
        try:
            with open(f"{_SETTING}/{number}") as file:
                found[family] = file.read().strip()
        except OSError:
            continue
    return found


def restore_loggers(before: dict[str, str]) -> None:
    """Restore the receivers of this thread's namespace. Raises OSError."""
    for family, name in before.items():
        with open(f"{_SETTING}/{FAMILIES[family]}", "w") as file:
            file.write(name)


def device_names(indexes: Iterable[int]) -> dict[int, str]:
    """The names of devices of this thread's namespace, by index; those that are gone are left out."""
    found = {}
    for index in indexes:
        with suppress(OSError):
            found[index] = socket.if_indextoname(index)
    return found


def _command(number: int) -> bytes:
    return encode_attribute(1, bytes([number]))


def _report(data: bytes, start: int, end: int) -> Iterator[RuleReport]:
    found = attributes(data, start + 4, end)

    def number(kind: int) -> int:
        span = found.get(kind)
        return int(struct.unpack_from("!I", data, span[0])[0]) if span else 0

    if 10 not in found or 9 not in found:
        return
    prefix = data[found[10][0] : found[10][1]].rstrip(b"\0").decode(errors="replace").strip()
    if not prefix.startswith("TRACE: "):
        return
    family = {number: name for name, number in FAMILIES.items()}.get(data[start], "")
    hook = data[found[1][0] + 2] if 1 in found else 0
    payload = data[found[9][0] : found[9][1]]
    yield RuleReport(family, hook, prefix.removeprefix("TRACE: "), number(4), number(5), number(2), payload)
