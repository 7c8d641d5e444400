"""A rule of an nft table that a packet of the probe met: the kernel's report with the text of the rule. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labctl.core.iptables import TERMINATING_TARGETS
from labctl.core.nft_ruleset import policy_of
from labctl.core.observations import RuleRole
from labctl.core.resources import IP, NftObject
from labctl.packets.decode import ICMP, ICMPV6, TCP, UDP, Packet
from labctl.tracing import nft_rules
from labctl.tracing.evidence import RuleHit
from labctl.tracing.rule_context import RuleKind

if TYPE_CHECKING:
    from labctl.kernel.rule_trace.nflog import RuleReport

PROTOCOLS = {"tcp": TCP, "udp": UDP}
Objects = Mapping[tuple[str, str], NftObject]  # of one table, by kind and name


@dataclass(frozen=True, slots=True)
class Place:
    """A report of the kernel, taken apart: where the packet was, and what it met."""

    node: str
    role: RuleRole
    report: RuleReport
    table: str
    chain: str
    kind: RuleKind
    number: int
    iif: str
    oif: str
    neighbour: IP | None


def rule_hit(place: Place, packet: Packet, dport: int | None, objects: Objects) -> RuleHit:
    """The rule, policy or return. Its text is that of the rule with the reported number in the chain, "" if the chain
    is not known."""
    report = place.report
    assert report.nft is not None
    chain = objects.get(("chain", place.chain))
    rules = chain.entries if chain is not None else ()
    text = rules[place.number - 1] if place.kind == "rule" and 0 < place.number <= len(rules) else ""
    target, match = "", report.nft
    if place.kind == "policy":
        verdict = match.verdict or (policy_of(chain) if chain is not None else "")
        target = nft_rules.PLAIN_VERDICTS.get(verdict, "")
    elif place.kind == "rule":
        target = nft_rules.target_of(text, match.verdict)
        keys = _packet_keys(place, packet, dport)
        match = replace(match, element=nft_rules.deciding_element(text, match.verdict, objects, keys))
    ends = target in TERMINATING_TARGETS
    return RuleHit(
        place.node, place.role, report.family, report.hook, place.table, place.chain, place.kind, place.number,
        packet.src, packet.dst, place.iif, place.oif, report.fwmark, text, target, dport, place.neighbour,
        only_some_sources=ends and nft_rules.only_some_sources(rules, place.number),
        passing_states=nft_rules.passing_states(rules, place.number) if ends else (),
        nft=match,
    )  # fmt: skip


def _packet_keys(place: Place, packet: Packet, dport: int | None) -> nft_rules.PacketKeys:
    protocol = PROTOCOLS.get(packet.kind, ICMP if packet.src.version == 4 else ICMPV6)
    words = (place.report.nft.ct if place.report.nft is not None else "").split()
    ct = {words[at + 1]: words[at + 2] for at in range(0, len(words) - 2, 3)}
    return nft_rules.PacketKeys(
        packet.src, packet.dst, protocol, packet.sport if dport is not None else None, dport,
        place.iif, place.oif, place.report.fwmark, ct,
    )  # fmt: skip
