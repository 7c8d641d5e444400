"""A connection in conntrack that is older than the present nat rules, and so hides them from the probe. Pure.

The kernel asks the nat table for the first packet of a connection only. All later packets, and all packets of another
program from the same port, are translated as conntrack remembers, also if the rules are others now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labctl.core.observations import Flow
from labctl.core.resources import IP
from labctl.tracing.evidence import NatTable, TraceEvidence
from labctl.tracing.hops import Hop, PacketObservation
from labctl.tracing.nat_choice import NatChoice, NatEnd, choices
from labctl.tracing.rule_matching import IPV4, IPV6, RulePacket

NAT_TARGETS = ("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP")
CLOSED_STATES = ("TIME_WAIT", "CLOSE")  # of TCP: a SYN begins a new connection then
PORT_PROTOCOLS = {"tcp": 6, "udp": 17}
Endpoint = tuple[IP, int]


@dataclass(frozen=True, slots=True)
class StaleConnection:
    """An entry that was there before the probe, and translates one end of the probe as no present rule does.

    `answers` means that the probe goes in the direction of the entry's answers. `before` and `after` are the end in the
    packet before and after this namespace, `choices` what the rules can choose now.
    """

    flow: Flow
    end: NatEnd
    answers: bool
    before: Endpoint
    after: Endpoint
    choices: tuple[NatChoice, ...]

    @property
    def node(self) -> str:
        """The namespace that has the entry."""
        return self.flow.node


def find_stale_connection(evidence: TraceEvidence) -> StaleConnection | None:
    """The first such entry on the probe's path; None if there is none, or if it is not certain."""
    tables = {table.node: table for table in evidence.nat_tables}
    for node, hop in _visits(evidence):
        table = tables.get(node)
        for flow in evidence.flows_before:
            if table is None or flow.node != node or not _was_used(evidence, flow):
                continue
            found = _stale(evidence, table, flow, hop)
            if found is not None:
                return found
    return None


def _visits(evidence: TraceEvidence) -> Iterator[tuple[str, Hop | None]]:
    """The namespaces that the request passed, each once, and the source also if the request never left it."""
    hops: dict[str, Hop | None] = {evidence.question.source: None}
    for hop in evidence.hops["request"]:
        hops[hop.node] = hops.get(hop.node) or hop
    yield from hops.items()


def _was_used(evidence: TraceEvidence, flow: Flow) -> bool:
    """Whether the probe can have used an entry that was there before: the same entry is there afterwards. The kernel
    removes the entry of a refused connection."""
    if flow.zone or flow.state in CLOSED_STATES:
        return False
    same = [one for one in evidence.flows if one.node == flow.node and _tuples(one) == _tuples(flow)]
    seen = any(item.node == flow.node for item in evidence.observations)  # else its entries were not read again
    return all(one.id == flow.id for one in same) and (bool(same) or evidence.answer == "refused" or not seen)


def _tuples(flow: Flow) -> tuple[object, ...]:
    there = (flow.protocol, flow.src, flow.dst, flow.sport, flow.dport)
    return (*there, flow.reply_src, flow.reply_dst, flow.reply_sport, flow.reply_dport)


def _stale(evidence: TraceEvidence, table: NatTable, flow: Flow, hop: Hop | None) -> StaleConnection | None:
    """Compare the entry with what the rules can choose, first for the destination, then for the source."""
    first = hop.outside_tunnel[0] if hop is not None else None
    came = first if first is not None and first.direction == "in" and first.encap == "none" else None
    if came is None and flow.node != evidence.question.source:
        return None
    original = ((flow.src, flow.sport), (flow.dst, flow.dport))
    reply = ((flow.reply_src, flow.reply_sport), (flow.reply_dst, flow.reply_dport))
    if came is None:
        if original[1] != (evidence.question.address, evidence.question.port):
            return None
        before = original
    else:
        before = ((came.src, came.sport or 0), (came.dst, came.dport or 0))
    if before not in (original, reply):
        return None
    answers = before != original
    source_after, target_after = (original[1], original[0]) if answers else (reply[1], reply[0])
    if not _is_translating(table, hop, source_after, target_after):
        return None
    packet = _packet(evidence, before, came, hop)
    here = flow.node, "request", "nat"
    asked = {hit.hook for hit in evidence.rule_hits if (hit.node, hit.role, hit.purpose) == here}
    local = packet.local_addresses
    chosen = choices(table.chains, "OUTPUT" if came is None else "PREROUTING", replace(packet, oifs=frozenset()))
    possible = any(one.can_give("destination", before[1], target_after, local) for one in chosen)
    if not asked & {0, 3} and not possible:
        return StaleConnection(flow, "destination", answers, before[1], target_after, chosen)
    packet = replace(packet, dsts=frozenset((target_after[0],)), dports=frozenset((target_after[1],)), iifs=frozenset())
    chosen = choices(table.chains, "POSTROUTING", packet)
    possible = any(one.can_give("source", before[0], source_after, local) for one in chosen)
    gone = hop is not None and bool(hop.outs)  # what stays in the namespace does not pass POSTROUTING
    if gone and not asked & {4} and not possible:
        return StaleConnection(flow, "source", answers, before[0], source_after, chosen)
    return None


def _is_translating(table: NatTable, hop: Hop | None, source: Endpoint, target: Endpoint) -> bool:
    """Whether the namespace handles packets as its conntrack entries say: as the packet was seen when it left, else by
    the rules. The kernel passes packets to conntrack only while a rule needs it."""
    last = hop.outside_tunnel[-1] if hop is not None else None
    if last is not None and last.direction == "out" and last.encap == "none":
        return (last.src, last.dst, last.dport) == (source[0], *target)
    return any(rule.target in NAT_TARGETS for chain in table.chains for rule in chain.rules)


def _packet(
    evidence: TraceEvidence, ends: tuple[Endpoint, Endpoint], came: PacketObservation | None, hop: Hop | None
) -> RulePacket:
    """The probe as the first packet of a connection, as the nat rules would see it."""
    (src, sport), (dst, dport) = ends
    node = came.node if came is not None else evidence.question.source
    outs = hop.outside_tunnel[-1:] if hop is not None and hop.outs else ()
    return RulePacket(
        IPV4 if src.version == 4 else IPV6, PORT_PROTOCOLS[evidence.question.protocol], frozenset((src,)),
        frozenset((dst,)), frozenset((sport,)), frozenset((dport,)),
        iifs=frozenset(("" if came is None else _as_routed(evidence, node, came.dev),)),  # none in OUTPUT
        oifs=frozenset(_as_routed(evidence, node, item.dev) for item in outs if item.direction == "out"),
        local_addresses=frozenset(one.addr.ip for one in evidence.namespace(node).addresses), ct_state="NEW",
    )  # fmt: skip


def _as_routed(evidence: TraceEvidence, node: str, dev: str) -> str:
    """A device as iptables sees it: for a port of a bridge, the bridge."""
    link = evidence.link(node, dev)
    return link.master if link is not None and link.master is not None else dev
