"""The kernel's report of every rule of iptables-nft that a traced packet matched, from the trace of nf_tables.

The reports have the same form as those of `nflog` for legacy tables: a table, a chain, the number of a rule. The kernel
identifies rules by handles, and reports only the headers of a packet. So the packets of the probe are recognised by the
table that marks them (see `nft_mark`): it is the first table, and the kernel reports its rules as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from labctl.core.iptables import BUILTIN
from labctl.kernel.netlink import nft_rules
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes
from labctl.kernel.rule_trace.nflog import FAMILIES, RCVBUF_BYTES, RuleReport

_NFNLGRP_NFTRACE = 9
_TRACE, _GETRULE = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (17, 7))
_TABLE, _CHAIN, _HANDLE, _KIND, _ID, _NETWORK, _TRANSPORT, _IIF, _OIF, _MARK = 1, 2, 3, 4, 6, 8, 9, 10, 12, 14
_POLICY = 1
_HOOKS = {"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
_NAMES = {number: name for name, number in FAMILIES.items()}
_ICMP = (1, 58)
ChainKey = tuple[str, str, str]  # family, table, chain


@dataclass(frozen=True, slots=True)
class _RuleEvent:
    """One message of the kernel. `report` lacks the number of the rule, which follows from `handle`."""

    chain_key: ChainKey
    kind: str
    handle: int
    report: RuleReport


class NftLog:
    """The receiver of reports in the namespace of the thread that creates it. `marker` is the name of the table that
    marks the probe.

    Raises OSError if that fails.
    """

    def __init__(self, marker: str) -> None:
        self._mark_table = marker
        self._socket = NfnetlinkSocket(receive_buffer_bytes=RCVBUF_BYTES)
        try:
            self._socket.join(_NFNLGRP_NFTRACE)
            self._dump_socket = NfnetlinkSocket(timeout_s=1)
        except OSError:
            self._socket.close()
            raise

    def read(self) -> tuple[list[RuleReport], bool]:
        """The waiting reports, and whether any report was lost."""
        reader = _Reader(self._mark_table)
        found: list[_RuleEvent] = []
        messages, lost = self._socket.waiting()
        for kind, data, start, end in messages:
            if kind == _TRACE:
                found += reader.event(data, start, end)
        numbers = self._numbers() if found else {}
        return list(_with_rule_numbers(found, numbers)), lost

    def close(self) -> None:
        """Stop receiving."""
        self._socket.close()
        self._dump_socket.close()

    def _numbers(self) -> dict[tuple[ChainKey, int], int]:
        """For every rule of the namespace its number in its chain, from 1, by handle; by handle 0 the chain's number of
        rules."""
        numbers: dict[tuple[ChainKey, int], int] = {}
        counts: dict[ChainKey, int] = {}
        nft_rules.allow_large_rules(self._dump_socket)
        for family, number in FAMILIES.items():
            for data, start, end in self._dump_socket.dump(_GETRULE, nfgenmsg(number)):
                found = attributes(data, start + 4, end)
                chain_key = family, attribute_text(data, found[_TABLE]), attribute_text(data, found[_CHAIN])
                counts[chain_key] = counts.get(chain_key, 0) + 1
                numbers[chain_key, _long(data, found[_HANDLE])] = counts[chain_key]
        return numbers | {(chain_key, 0): count for chain_key, count in counts.items()}


class _Reader:
    """Converts messages to events. Only a packet's first message in the chain of a hook has its headers, so these are
    kept."""

    def __init__(self, marker: str) -> None:
        self._mark_table = marker
        self._packets: dict[int, RuleReport] = {}  # the last headers by trace id
        self._probe_packets: set[int] = set()
        self._echoes: set[bytes] = set()  # identifier and sequence number of the probe's echoes

    def event(self, data: bytes, start: int, end: int) -> Iterator[_RuleEvent]:
        """The event of a message on a rule of iptables-nft; nothing for other tables, since labctl does not know their
        rules."""
        found = attributes(data, start + 4, end)
        if not {_TABLE, _CHAIN, _KIND, _ID} <= found.keys():
            return
        family, table, chain = (
            _NAMES.get(data[start], ""),
            attribute_text(data, found[_TABLE]),
            attribute_text(data, found[_CHAIN]),
        )
        packet, kind = _number(data, found[_ID]), _kind(data, found, family, table, chain)
        icmp = _echo(data, found)
        if table == self._mark_table:
            if kind == "rule":
                self._probe_packets.add(packet)
                self._echoes |= {icmp} if icmp else set()
            return
        if (family, table) not in BUILTIN:
            return
        if _NETWORK in found:
            ours = packet in self._probe_packets or icmp in self._echoes
            self._packets[packet] = _packet_report(data, found, family, _HOOKS.get(chain, 0), ours)
        if (shown := self._packets.get(packet)) is None or not kind:
            return
        mark = _number(data, found[_MARK]) if _MARK in found else 0
        handle = _long(data, found[_HANDLE]) if _HANDLE in found else 0
        report = replace(shown, prefix=f"{table}:{chain}:{kind}:", fwmark=mark)
        yield _RuleEvent((family, table, chain), kind, handle, report)


def _kind(data: bytes, found: dict[int, tuple[int, int]], family: str, table: str, chain: str) -> str:
    """What the message reports: a `rule`, the `policy` of a hook's chain, the `return` at the end of another chain.
    "" for the end of a hook's own chain, since its policy is reported separately."""
    if _HANDLE in found:
        return "rule"
    if _number(data, found[_KIND]) == _POLICY:
        return "policy"
    return "" if chain in BUILTIN.get((family, table), ()) else "return"


def _packet_report(data: bytes, found: dict[int, tuple[int, int]], family: str, hook: int, ours: bool) -> RuleReport:
    payload = b"".join(data[slice(*found[kind])] for kind in (_NETWORK, _TRANSPORT) if kind in found)
    iif, oif = (_number(data, found[kind]) if kind in found else 0 for kind in (_IIF, _OIF))
    return RuleReport(family, hook, "", iif, oif, 0, payload, ours)


def _echo(data: bytes, found: dict[int, tuple[int, int]]) -> bytes:
    """The identifier and sequence number of an echo; empty for other packets."""
    if _NETWORK not in found or _TRANSPORT not in found:
        return b""
    network, transport = data[slice(*found[_NETWORK])], data[slice(*found[_TRANSPORT])]
    protocol = network[9] if network[0] >> 4 == 4 else network[6]
    return transport[4:8] if protocol in _ICMP and transport[0] in (0, 8, 128, 129) else b""


def _with_rule_numbers(found: list[_RuleEvent], numbers: dict[tuple[ChainKey, int], int]) -> Iterator[RuleReport]:
    """The reports with the numbers of their rules; 0 for a rule that is gone. As in legacy tables, a policy or return
    has the number after that of the chain's last rule."""
    for event in found:
        rule = event.kind == "rule"
        number = numbers.get((event.chain_key, event.handle), 0) if rule else numbers.get((event.chain_key, 0), 0) + 1
        yield replace(event.report, prefix=f"{event.report.prefix}{number}")


def _number(data: bytes, span: tuple[int, int]) -> int:
    return int(struct.unpack_from("!I", data, span[0])[0])


def _long(data: bytes, span: tuple[int, int]) -> int:
    return int(struct.unpack_from("!Q", data, span[0])[0])
