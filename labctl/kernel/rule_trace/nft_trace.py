"""The kernel's report of every rule of nf_tables that a traced packet matched: of iptables-nft, and of any other table.

The reports have the same form as those of `nflog` for legacy tables: a table, a chain, the number of a rule; those of
tables that iptables did not write have an `NftMatch` as well. The kernel identifies rules by handles, and reports only
the headers of a packet. So the packets of the probe are recognised by the table that marks them (see `nft_mark`): it is
the first table, and the kernel reports its rules as well.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from labctl.core.iptables import BUILTIN
from labctl.core.netfilter_hooks import HookChain
from labctl.core.observations import NftMatch
from labctl.kernel.netlink import nft_chains, nft_rules
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.nft_tables import FAMILIES as NFT_FAMILIES
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes
from labctl.kernel.rule_trace.nflog import RCVBUF_BYTES, RuleReport

_NFNLGRP_NFTRACE = 9
_TRACE, _GETRULE = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (17, 7))
_TABLE, _CHAIN, _HANDLE, _KIND, _VERDICT, _ID, _NETWORK, _TRANSPORT, _IIF, _OIF = 1, 2, 3, 4, 5, 6, 8, 9, 10, 12
_MARK, _POLICY_VERDICT, _CT_ID, _CT_DIRECTION, _CT_STATUS, _CT_STATE = 14, 16, 18, 19, 20, 21
_POLICY = 1
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break", -3: "jump", -4: "goto",
             -5: "return"}  # fmt: skip
# the bits of `ct state` and of `ct status` in nft's words
_CT_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_CT_STATUS_WORDS = {1: "expected", 2: "seen-reply", 4: "assured", 8: "confirmed", 16: "snat", 32: "dnat", 512: "dying"}
_HOOKS = {"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
_NFT_HOOKS = {"ingress": 0, "prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4, "egress": 4}
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
    """The receiver of reports in the namespace of the thread that creates it. `marker` is the name of the tables that
    mark the probe. `iptables` are the tables (family, name) of iptables-nft, and `ignored` those of ebtables, of which
    no reports are returned.

    Raises OSError if that fails.
    """

    def __init__(
        self,
        marker: str,
        iptables: Collection[tuple[str, str]] = tuple(BUILTIN),
        ignored: Collection[tuple[str, str]] = (),
    ) -> None:
        self._mark_table, self._iptables, self._ignored = marker, iptables, ignored
        self._socket = NfnetlinkSocket(receive_buffer_bytes=RCVBUF_BYTES)
        try:
            self._socket.join(_NFNLGRP_NFTRACE)
            self._dump_socket = NfnetlinkSocket(timeout_s=1)
        except OSError:
            self._socket.close()
            raise

    def read(self) -> tuple[list[RuleReport], bool]:
        """The waiting reports, and whether any report was lost."""
        messages, lost = self._socket.waiting()
        bases = self._bases() if messages else {}
        reader = _Reader(self._mark_table, self._iptables, self._ignored, bases)
        found: list[_RuleEvent] = []
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
        for data, start, end in self._dump_socket.dump(_GETRULE, nfgenmsg(0)):
            found = attributes(data, start + 4, end)
            family = NFT_FAMILIES.get(data[start], "")
            chain_key = family, attribute_text(data, found[_TABLE]), attribute_text(data, found[_CHAIN])
            counts[chain_key] = counts.get(chain_key, 0) + 1
            numbers[chain_key, _long(data, found[_HANDLE])] = counts[chain_key]
        return numbers | {(chain_key, 0): count for chain_key, count in counts.items()}

    def _bases(self) -> dict[ChainKey, HookChain]:
        """The base chains of the namespace."""
        try:
            return {chain.key: chain for chain in nft_chains.base_chains(self._dump_socket)}
        except OSError:
            return {}


class _Reader:
    """Converts messages to events. Only a packet's first message in the chain of a hook has its headers, so these are
    kept, with the chain."""

    def __init__(
        self,
        marker: str,
        iptables: Collection[tuple[str, str]],
        ignored: Collection[tuple[str, str]],
        bases: Mapping[ChainKey, HookChain],
    ) -> None:
        self._mark_table, self._iptables, self._ignored, self._bases = marker, iptables, ignored, bases
        self._packets: dict[int, tuple[ChainKey, RuleReport]] = {}  # the last headers by trace id
        self._probe_packets: set[int] = set()
        self._echoes: set[bytes] = set()  # identifier and sequence number of the probe's echoes

    def event(self, data: bytes, start: int, end: int) -> Iterator[_RuleEvent]:
        """The event of a message; nothing for the tables that mark the probe, and for those of ebtables."""
        found = attributes(data, start + 4, end)
        if not {_TABLE, _CHAIN, _KIND, _ID} <= found.keys():
            return
        family = NFT_FAMILIES.get(data[start], "")
        table, chain = attribute_text(data, found[_TABLE]), attribute_text(data, found[_CHAIN])
        packet, key = _number(data, found[_ID]), (family, table, chain)
        icmp = _echo(data, found)
        if table == self._mark_table:
            if _HANDLE in found:
                self._probe_packets.add(packet)
                self._echoes |= {icmp} if icmp else set()
            return
        if (family, table) in self._ignored:
            return
        is_iptables = (family, table) in self._iptables
        base = self._bases.get(key)
        kind = _kind(data, found, chain in BUILTIN.get((family, table), ()) if is_iptables else base is not None)
        if _NETWORK in found:
            ours = packet in self._probe_packets or icmp in self._echoes
            hook = _HOOKS.get(chain, 0) if is_iptables else _NFT_HOOKS.get(base.hook if base is not None else "", 0)
            self._packets[packet] = key, _packet_report(data, found, family, hook, ours)
        if packet not in self._packets or not kind:
            return
        first, shown = self._packets[packet]
        mark = _number(data, found[_MARK]) if _MARK in found else 0
        handle = _long(data, found[_HANDLE]) if _HANDLE in found else 0
        nft = None if is_iptables else _nft_match(data, found, handle, first[2], self._bases.get(first))
        report = replace(shown, prefix=f"{table}:{chain}:{kind}:", fwmark=mark, nft=nft)
        yield _RuleEvent(key, kind, handle, report)


def _nft_match(
    data: bytes, found: dict[int, tuple[int, int]], handle: int, first: str, base: HookChain | None
) -> NftMatch:
    hook, priority, kind = (base.hook, base.priority, base.type) if base is not None else ("", 0, "filter")
    return NftMatch(handle, _verdict(data, found), first, hook, priority, kind, ct=_connection(data, found))


def _verdict(data: bytes, found: dict[int, tuple[int, int]]) -> str:
    """The verdict in nft's words, with the chain that it leads to."""
    if _POLICY_VERDICT in found:
        return _VERDICTS.get(_number(data, found[_POLICY_VERDICT]), "")
    if _VERDICT not in found:
        return ""
    inner = attributes(data, *found[_VERDICT])
    (code,) = struct.unpack_from("!i", data, inner[1][0]) if 1 in inner else (-1,)
    word = _VERDICTS.get(code if code < 0 else code & 0xFF, "")
    return f"{word} {attribute_text(data, inner[2])}" if 2 in inner else word


def _connection(data: bytes, found: dict[int, tuple[int, int]]) -> str:
    """What the kernel says of the packet's connection in conntrack, in nft's words; "" if it says nothing."""
    if _CT_STATE not in found:
        return ""
    state = _number(data, found[_CT_STATE])
    words = ["ct state " + ",".join(name for bit, name in _CT_STATES.items() if state & bit)]
    if _CT_DIRECTION in found:
        words.append("ct direction " + ("reply" if data[found[_CT_DIRECTION][0]] else "original"))
    if _CT_STATUS in found:
        status = _number(data, found[_CT_STATUS])
        names = [name for bit, name in _CT_STATUS_WORDS.items() if status & bit]
        words += ["ct status " + ",".join(names)] if names else []
    if _CT_ID in found:
        words.append(f"ct id {_number(data, found[_CT_ID]):#x}")
    return " ".join(words)


def _kind(data: bytes, found: dict[int, tuple[int, int]], is_base: bool) -> str:
    """What the message reports: a `rule`, the `policy` of a hook's chain, the `return` at the end of another chain.
    "" for the end of a hook's own chain (`is_base`), since its policy is reported separately."""
    if _HANDLE in found:
        return "rule"
    if _number(data, found[_KIND]) == _POLICY:
        return "policy"
    return "" if is_base else "return"


def _packet_report(data: bytes, found: dict[int, tuple[int, int]], family: str, hook: int, ours: bool) -> RuleReport:
    payload = b"".join(data[slice(*found[kind])] for kind in (_NETWORK, _TRANSPORT) if kind in found)
    iif, oif = (_number(data, found[kind]) if kind in found else 0 for kind in (_IIF, _OIF))
    return RuleReport(family, hook, "", iif, oif, 0, payload, ours, legacy=False)


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
