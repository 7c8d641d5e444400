"""Which rules of a namespace's own nft tables drop or reject packets of one kind, while somebody watches.

Rules of nft count only if their author says so, and most programs do not. So the packets get the kernel's trace bit
(see `nft_mark`), and of its reports those are kept that end a packet: a rule with the verdict drop, which `reject` has
too, or the policy of a chain. An element of a map that drops is reported as the rule that looked it up.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from labctl.core.iptables import BUILTIN
from labctl.core.observations import ProbeMatch
from labctl.errors import KernelError, MissingError
from labctl.kernel.firewall import commands
from labctl.kernel.netlink import nft_tables
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes
from labctl.kernel.rule_trace.nft_mark import PREFIX, ProbeMarkTable

_NFNLGRP_NFTRACE = 9
_TRACE = NFNL_SUBSYS_NFTABLES << 8 | 17
_TABLE, _CHAIN, _HANDLE, _VERDICT, _POLICY_VERDICT = 1, 2, 3, 5, 16
_DROP = 0


@dataclass(frozen=True, slots=True)
class NftDrop:
    """What ended a packet: a rule by its text, or the policy of a chain (the text is empty then)."""

    family: str
    table: str
    chain: str
    rule: str

    @property
    def is_reject(self) -> bool:
        """Whether the sender gets an error message."""
        return bool(re.search(r"\breject\b", self.rule))


def has_native_tables() -> bool:
    """Whether the namespace of this thread has tables that iptables-nft did not write."""
    return any(table not in BUILTIN and not table[1].startswith(PREFIX) for table in nft_tables.tables())


class NftDrops:
    """The watch in the namespace of the thread that creates it. Raises OSError if nf_tables refuses it."""

    def __init__(self, matches: Iterable[ProbeMatch]) -> None:
        self._socket = NfnetlinkSocket()
        try:
            self._socket.join(_NFNLGRP_NFTRACE)
            self._table = ProbeMarkTable(matches, f"{PREFIX}-{os.getpid()}-drops")
        except OSError:
            self._socket.close()
            raise

    def read(self) -> tuple[NftDrop, ...]:
        """What has ended packets since the last call. Call it in the namespace: `nft` is asked for the rules."""
        messages, _ = self._socket.waiting()
        found = dict.fromkeys(
            end for kind, data, start, stop in messages if kind == _TRACE and (end := _end(data, start, stop))
        )
        return tuple(dict.fromkeys(_drop(*end) for end in found))

    def close(self) -> None:
        """End the watch."""
        self._table.close()
        self._socket.close()


def _end(data: bytes, start: int, stop: int) -> tuple[str, str, str, int] | None:
    """The chain of a report that a packet ended, and the handle of the rule (0: the policy); None for other reports."""
    found = attributes(data, start + 4, stop)
    if not {_TABLE, _CHAIN} <= found.keys():
        return None
    family = nft_tables.FAMILIES.get(data[start], "")
    table, chain = attribute_text(data, found[_TABLE]), attribute_text(data, found[_CHAIN])
    if (family, table) in BUILTIN or table.startswith(PREFIX):
        return None
    if _POLICY_VERDICT in found:
        (verdict,) = struct.unpack_from("!I", data, found[_POLICY_VERDICT][0])
        return (family, table, chain, 0) if verdict & 0xFF == _DROP else None
    if _VERDICT not in found or _HANDLE not in found:
        return None
    inner = attributes(data, *found[_VERDICT])
    (code,) = struct.unpack_from("!i", data, inner[1][0]) if 1 in inner else (-1,)
    (handle,) = struct.unpack_from("!Q", data, found[_HANDLE][0])
    return (family, table, chain, handle) if code >= 0 and code & 0xFF == _DROP else None


def _drop(family: str, table: str, chain: str, handle: int) -> NftDrop:
    return NftDrop(family, table, chain, _rule_text(family, table, chain, handle) if handle else "")


def _rule_text(family: str, table: str, chain: str, handle: int) -> str:
    """The text of a rule; `handle N` if nft does not list it any more."""
    try:
        listed = commands.run([commands.find("nft"), "-a", "-s", "list", "chain", family, table, chain]).stdout
    except (KernelError, MissingError):
        listed = ""
    for line in listed.splitlines():
        text, _, number = line.rpartition(" # handle ")
        if number == str(handle):
            return text.strip()
    return f"handle {handle}"
