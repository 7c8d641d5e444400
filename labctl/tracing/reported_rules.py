"""The rules that the packets of a probe met in each namespace, from the kernel's reports, with their texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from labctl.core.iptables import LEGACY_FAMILIES, TERMINATING_TARGETS
from labctl.core.iptables_save import ChainCounters
from labctl.core.observations import PacketRole, RuleRole
from labctl.core.resources import IP, Interface, NftObject
from labctl.errors import KernelError, MissingError
from labctl.kernel.rule_trace import nflog
from labctl.packets.decode import Frame, Packet, decode
from labctl.packets.probe_id import ProbeId, role_of
from labctl.tracing.datagram_roles import roles_of_trace
from labctl.tracing.evidence import RuleHit, TraceEvidence
from labctl.tracing.rule_context import RuleKind, matched_rule, only_some_sources, passing_states, skipped_translation

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.kernel.rule_trace.nflog import RuleReport
    from labctl.tracing.instruments import Instruments

KINDS: dict[str, RuleKind] = {"rule": "rule", "policy": "policy", "return": "return"}
# the role of the probe's packets if the report does not contain the marker
TRUNCATED_ROLES: dict[str, PacketRole] = {"echo": "request", "echo-reply": "reply", "error": "error", "udp": "request"}
NftObjects = Mapping[str, Mapping[tuple[str, str], NftObject]]  # by table, then by kind and name


class _Reports:
    """The reports of one trace as rules: what is needed to read each of them."""

    def __init__(self, probe_id: ProbeId, evidence: TraceEvidence) -> None:
        question = evidence.question
        self.probe_id = probe_id
        self.neighbours = _neighbours_asked_for(evidence)
        self.roles = roles_of_trace((question.address, question.port), evidence.observations, evidence.flows)

    def role(self, report: RuleReport, packet: Packet | None) -> tuple[RuleRole | None, IP | None]:
        """The role of the packet, and the neighbour that it is about."""
        role: RuleRole | None = role_of(self.probe_id, packet) if packet is not None else None
        neighbour = None
        if role is None and report.payload[:1] and report.payload[0] >> 4 == 6:
            from labctl.packets.neighbour_discovery import find_neighbour

            role, neighbour = find_neighbour(report.payload, self.neighbours)
        if role is None and report.ours and packet is not None:
            role = TRUNCATED_ROLES.get(packet.kind)
        if packet is not None and packet.kind == "udp" and role == "request":
            role = self.roles.role((packet.src, packet.sport), (packet.dst, packet.dport), role)
        return role, neighbour


def rule_hits(
    instruments: Instruments,
    probe_id: ProbeId,
    evidence: TraceEvidence,
    reported: Mapping[str, Sequence[Sequence[RuleReport]]],
    after: Mapping[str, tuple[ChainCounters, ...]],
) -> Iterator[RuleHit]:
    """The rules that the probe met, from the kernel's reports, with their texts from the chains. A namespace can have
    two streams of reports: of legacy tables, and of nf_tables."""
    found: list[RuleHit] = []
    reports = _Reports(probe_id, evidence)
    native = _read_tables(instruments, reported)
    for node, streams in reported.items():
        if not any(streams):
            continue
        chains = {(one.chain.family, one.chain.table, one.chain.name): one for one in after.get(node, ())}
        indexes = {index for stream in streams for one in stream for index in (one.iif, one.oif) if index}
        names = instruments.run(node, nflog.device_names, indexes)
        strangers = instruments.backend == "nft"  # then legacy tables are a stranger's
        objects = native.get(node, {})
        met = [
            [hit for one in stream for hit in _rule_hit(node, one, reports, chains, names, objects, strangers)]
            for stream in streams
        ]
        if sum(1 for one in met if one) > 1:
            from labctl.tracing.hook_order import merged

            found += merged(*met)
        else:
            found += [hit for one in met for hit, _ in one]
    yield from (one for one in found if one.neighbour is None)
    yield from dict.fromkeys(one for one in found if one.neighbour is not None)  # each is sent three times


def _read_tables(
    instruments: Instruments, reported: Mapping[str, Sequence[Sequence[RuleReport]]]
) -> dict[str, dict[str, dict[tuple[str, str], NftObject]]]:
    """What is in the nft tables that reports name, by namespace. Only the verdicts are known of those that cannot be
    read."""
    wanted: dict[str, dict[tuple[str, str], None]] = {}
    for node, streams in reported.items():
        for one in (one for stream in streams for one in stream if one.nft is not None):
            wanted.setdefault(node, {})[one.family, one.prefix.partition(":")[0]] = None
    found: dict[str, dict[str, dict[tuple[str, str], NftObject]]] = {}
    if not wanted:
        return found
    from labctl.kernel.firewall.nft_program import NftRead

    with ExitStack() as held:
        reading: dict[str, Callable[[], tuple[NftObject, ...]]] = {}
        for node, tables in wanted.items():
            with suppress(OSError, KernelError, MissingError):
                reading[node] = held.enter_context(instruments.run(node, NftRead, node, tuple(tables))).objects
        for node, read in reading.items():
            with suppress(KernelError):
                for item in read():
                    found.setdefault(node, {}).setdefault(item.table, {})[item.kind, item.name] = item
    return found


def _neighbours_asked_for(evidence: TraceEvidence) -> frozenset[IP]:
    """The IPv6 addresses about which neighbour solicitations or advertisements were seen."""
    asked = {one.ip for one in evidence.neighbour_observations} | {one.ip for one in evidence.unanswered_neighbours}
    return frozenset(ip for ip in asked if ip.version == 6)


def _rule_hit(
    node: str,
    report: RuleReport,
    reports: _Reports,
    chains: Mapping[tuple[str, str, str], ChainCounters],
    names: Mapping[int, str],
    objects: Mapping[str, Mapping[tuple[str, str], NftObject]],
    strangers: bool,
) -> Iterator[tuple[RuleHit, int]]:
    """The rule of a report, and the packet's TTL there; nothing if the packet is not the probe's."""
    is_ip6 = bool(report.payload) and report.payload[0] >> 4 == 6
    protocol = 0x86DD if is_ip6 else 0x0800
    packet = decode(Frame(Interface(node, ""), 0, "in", report.payload, protocol, 65534))
    role, neighbour = reports.role(report, packet)
    parts = report.prefix.rsplit(":", 2)
    if packet is None or role is None or len(parts) != 3 or parts[1] not in KINDS or not parts[2].isdigit():
        return
    table, _, chain = parts[0].partition(":")
    kind, number = KINDS[parts[1]], int(parts[2])
    dport = packet.dport if packet.kind in ("tcp", "udp") else None
    iif, oif = names.get(report.iif, ""), names.get(report.oif, "")
    if report.nft is not None:
        from labctl.tracing import nft_hits

        place = nft_hits.Place(node, role, report, table, chain, kind, number, iif, oif, neighbour)
        yield nft_hits.rule_hit(place, packet, dport, objects.get(f"{report.family} {table}", {})), packet.ttl
        return
    family = LEGACY_FAMILIES[report.family] if strangers and report.legacy else report.family
    counted = chains.get((family, table, chain))
    kind, rule, target = matched_rule(kind, number, counted.chain if counted is not None else None)
    yield RuleHit(
        node, role, family, report.hook, table, chain, kind, number, packet.src, packet.dst,
        iif, oif, report.fwmark, rule, target, dport, neighbour,
        skipped_translation(chains, counted, number) if (kind, table, report.hook) == ("rule", "nat", 4) else "",
        target in TERMINATING_TARGETS and counted is not None and only_some_sources(counted.chain, number),
        passing_states(chains, counted.chain, number) if target in TERMINATING_TARGETS and counted is not None else (),
    ), packet.ttl  # fmt: skip
