"""A path as steps: one per hop, with the chosen route, the rules that acted, and what they rewrote. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from labctl.core.observations import PacketRole, RouteQuery
from labctl.core.sentence import all_of, sentence, sentence_n
from labctl.tracing.evidence import RuleHit, TraceEvidence
from labctl.tracing.hop_routing import (
    NAT_TARGETS,
    OUTPUT_HOOK,
    POSTROUTING_HOOK,
    PREROUTING_HOOK,
    devices,
    find_lookup,
    is_relayed,
    nat_endpoint,
    route_queries,
    source_keeping_rule,
    untranslated,
)
from labctl.tracing.hops import Hop, PacketObservation
from labctl.tracing.result import Leg, Note, Step, endpoint_text, lookup_text, rule_text

PASSIVE_TARGETS = {"RETURN", "LOG", "NFLOG", "TRACE", "CONTINUE", ""}
MARK_TARGETS = {"MARK", "CONNMARK"}
VERDICT_TARGETS = {"DROP", "REJECT", "ACCEPT", "QUEUE", "NFQUEUE"}
MIN_TURNS = 3  # a packet that comes in by one device that often goes in a circle


def legs(evidence: TraceEvidence) -> tuple[Leg, ...]:
    """The paths of the request, of its reply, and of an ICMP error."""
    found = []
    for role, hops in evidence.hops.items():
        if hops and not (role == "error" and all(item.dev == "lo" for hop in hops for item in hop.observations)):
            found.append(Leg(role, tuple(_steps(evidence, hops, role))))
    return tuple(found)


def _steps(evidence: TraceEvidence, hops: Sequence[Hop], role: PacketRole) -> Iterator[Step]:
    begun = hops[0].observations[0].when
    steps: list[Step] = []
    visits: dict[str, int] = {}
    for number, hop in enumerate(hops):
        visits[hop.node] = visits.get(hop.node, 0) + 1
        if visits[hop.node] > 3:
            remaining = hops[number:]
            routers = [one for one in remaining if one.outside_tunnel[0].ttl != one.outside_tunnel[-1].ttl] or remaining
            text = sentence(
                "{nodes} keep sending it to each other: {number} more hops, ttl {ttl} at the end",
                nodes=all_of(dict.fromkeys(one.node for one in routers)),
                number=len(remaining),
                ttl=remaining[-1].observations[-1].ttl,
            )
            steps[-1] = _with_note(steps[-1], Note("loop", text))
            break
        steps.append(_step(evidence, hop, role, begun, first=visits[hop.node] == 1))
    return iter(steps)


def _with_note(step: Step, note: Note) -> Step:
    return Step(
        step.node, step.devices, step.when, step.src, step.dst, step.ttl, step.tunnel, (*step.notes, note)
    )  # fmt: skip


def _step(evidence: TraceEvidence, hop: Hop, role: PacketRole, begun: int, *, first: bool) -> Step:
    observation = hop.outside_tunnel[-1]
    tunnel = ""
    end = hop.observations[-1]
    if end.encap != "none" and end.outer is not None:
        tunnel = f"{end.encap} {end.outer[0]} > {end.outer[1]}"
    return Step(
        hop.node,
        tuple(dict.fromkeys(devices(evidence, hop))) if _turns(hop) else devices(evidence, hop),
        hop.observations[0].when - begun,
        endpoint_text(observation.src, observation.sport),
        endpoint_text(observation.dst, observation.dport),
        end.ttl,
        tunnel,
        tuple(_notes(evidence, hop, role, first)),
    )


def _notes(evidence: TraceEvidence, hop: Hop, role: PacketRole, once: bool) -> Iterator[Note]:
    """What happened at a hop, in the order in which the kernel does it: the destination is translated before the packet
    is routed and filtered (a sent packet: before it is filtered), the source at the end."""
    first = hop.observations[0]
    if role == "error" and hop.ins == ():
        yield Note("icmp", first.text)
    if first.text == "reset" and not hop.ins:
        yield Note("tcp", sentence("a reset: the connection is refused"))
    asked = route_queries(evidence, hop, role)
    hits = [one for one in evidence.rule_hits if once and one.node == hop.node and one.role == role]
    to_destination, to_source = _translations(evidence, hop, role, hits)
    seen: set[str] = set()
    if not hop.ins:
        yield from _route_notes(evidence, hop, asked)
    yield from _rule_notes([one for one in hits if _is_before_routing(one)], seen)
    yield from to_destination
    if hop.ins:
        yield from _route_notes(evidence, hop, asked)
    yield from _rule_notes([one for one in hits if not _is_before_routing(one) and one.hook != POSTROUTING_HOOK], seen)
    yield from _filter_note(hits)
    yield from _rule_notes([one for one in hits if one.hook == POSTROUTING_HOOK], seen)
    yield from to_source
    if any(one.nft is not None for one in hits):
        from labctl.tracing.hook_order import visit_note

        yield from visit_note(hits)
    if role == "request" and any(turn.iif is not None for turn in asked):
        yield from _source_kept_note(hop, hits)
    if hop.flooded:
        text = sentence(
            "a bridge here did not know the MAC address: {number} more copies went to other ports", number=hop.flooded
        )
        yield Note("flood", text)


def _is_before_routing(hit: RuleHit) -> bool:
    """Whether a rule was met before the packet was routed (a sent packet: before it was filtered)."""
    return hit.hook == PREROUTING_HOOK or (hit.hook == OUTPUT_HOOK and hit.purpose != "filter")


def _route_notes(evidence: TraceEvidence, hop: Hop, asked: Sequence[RouteQuery]) -> Iterator[Note]:
    """The chosen routes; those of a packet that goes in a circle only once, with how often it came in."""
    turns = _turns(hop)
    found_routes: list[str] = []
    for query in asked:
        found = find_lookup(evidence, query)
        forged = (
            found is not None and found.error and query.iif is None
        )  # a reset with a forged source has no own route
        if found is not None and not forged:
            found_routes.append(lookup_text(found))
    for text in dict.fromkeys(found_routes) if turns else found_routes:
        yield Note("route", text)
    if turns:
        first_turn, last_turn = turns[0], turns[-1]
        loop = sentence(
            "the packet came in by {dev} {number} times: ttl {first} the first time, {last} the last time",
            dev=last_turn.dev,
            number=len(turns),
            first=first_turn.ttl,
            last=last_turn.ttl,
        )
        yield Note("loop", loop)


def _rule_notes(hits: Sequence[RuleHit], seen: set[str]) -> Iterator[Note]:
    """The rules that acted; in a loop, a packet matches them again and again. Of several rules in a row that set a
    mark, only the last is shown."""
    acting = [one for one in hits if acts(one)]
    marks = 0
    for number, hit in enumerate(acting):
        if hit.target in MARK_TARGETS and acting[number + 1 : number + 2] and acting[number + 1].target in MARK_TARGETS:
            marks += 1
            continue
        text = rule_text(hit)
        if marks:
            text = sentence_n(
                "{rule} (after {number} other that set a mark)",
                "{rule} (after {number} others that set a mark)",
                marks,
                rule=text,
            )
        marks = 0
        if text not in seen:
            seen.add(text)
            yield Note("rule", text)


def _turns(hop: Hop) -> tuple[PacketObservation, ...]:
    """Where a packet that goes in a circle inside a machine came in again, if it did so often."""
    turns = tuple(one for one in hop.ins if one.dev == hop.observations[-1].dev and one.encap == "none")
    return turns if len(turns) >= MIN_TURNS else ()


def _filter_note(hits: Sequence[RuleHit]) -> Iterator[Note]:
    """The note that no rule of the filter table acted."""
    filter_hits = [one for one in hits if one.table == "filter"]
    if not filter_hits or any(acts(one) for one in filter_hits):
        return
    last = filter_hits[-1]
    if last.kind == "policy":
        text = sentence("no rule of {chain} matched, policy {policy}", chain=last.chain, policy=last.target or "ACCEPT")
        yield Note("filter", text)


def acts(hit: RuleHit) -> bool:
    """Whether a matched rule did something: a verdict, a translation, a mark. Jumps and returns do not count."""
    if hit.kind == "policy":
        return hit.target == "DROP"
    if hit.kind != "rule" or hit.target in PASSIVE_TARGETS:
        return False
    return hit.target in VERDICT_TARGETS | NAT_TARGETS or (
        hit.target.isupper() and "-" not in hit.target and _is_extension_target(hit)
    )


def _is_extension_target(hit: RuleHit) -> bool:
    """Whether the target is a target extension that changes the packet, not a chain."""
    return hit.target in {"MARK", "CONNMARK", "TCPMSS", "TTL", "HL", "DSCP", "TOS", "CLASSIFY", "CT", "NOTRACK"}


def _translations(
    evidence: TraceEvidence, hop: Hop, role: PacketRole, hits: Sequence[RuleHit]
) -> tuple[list[Note], list[Note]]:
    """The notes about a translated destination, and those about a translated source or about a proxy."""
    bare = hop.outside_tunnel
    before, after = bare[0], bare[-1]
    fresh = any(one.target in NAT_TARGETS and one.kind == "rule" for one in hits) or (role == "request" and hop.ins)
    source, target = ("SNAT", "DNAT") if fresh else ("un-NAT", "un-NAT")
    relayed = next((pair for pair in pairwise(bare) if is_relayed(evidence, *pair)), None)
    if relayed is not None:
        came, left = relayed
        text = sentence(
            "a program in {node} received {came} and sent on {left}",
            node=hop.node,
            came=f"{_source_text(came)} > {_destination_text(came)}",
            left=f"{_source_text(left)} > {_destination_text(left)}",
        )
        return [], [Note("proxy", text)]
    if hop.observations[0].direction == "out":
        return _own_translations(evidence, hop.observations[0])
    to_destination, to_source = [], []
    if (before.dst, before.dport) != (after.dst, after.dport):
        to_destination.append(_destination_note(target, _destination_text(before), _destination_text(after)))
    elif not hop.outs and (new := nat_endpoint(evidence, before)) != (before.dst, before.dport):
        to_destination.append(_destination_note(target, _destination_text(before), endpoint_text(*new)))
    if (before.src, before.sport) != (after.src, after.sport):
        to_source.append(_source_note(source, _source_text(before), _source_text(after)))
    return to_destination, to_source


def _own_translations(evidence: TraceEvidence, item: PacketObservation) -> tuple[list[Note], list[Note]]:
    """The translations of a packet that the machine itself sent, which happen before any device."""
    found, question = untranslated(evidence, item), evidence.question
    if found is None and item.role == "request" and item.encap == "none":
        found = item.src, item.sport, question.address, question.port
    to_destination: list[Note] = []
    to_source: list[Note] = []
    if found is None or item.role == "error":
        return to_destination, to_source
    source, target = ("SNAT", "DNAT") if item.role == "request" else ("un-NAT", "un-NAT")
    if found[2:] != (item.dst, item.dport):
        to_destination.append(_destination_note(target, endpoint_text(*found[2:]), _destination_text(item)))
    if found[:2] != (item.src, item.sport):
        to_source.append(_source_note(source, endpoint_text(*found[:2]), _source_text(item)))
    return to_destination, to_source


def _source_kept_note(hop: Hop, hits: Sequence[RuleHit]) -> Iterator[Note]:
    """The note that NAT did not translate the source."""
    if (hop.outside_tunnel[0].src, hop.outside_tunnel[0].dst) != (
        hop.outside_tunnel[-1].src,
        hop.outside_tunnel[-1].dst,
    ):
        return
    nat_hits = [one for one in hits if one.purpose == "nat" and one.hook == POSTROUTING_HOOK]
    if nat_hits and not any(one.kind == "rule" and one.target in NAT_TARGETS for one in nat_hits):
        returned = source_keeping_rule(nat_hits)
        text = sentence("no POSTROUTING rule translates, source kept")
        if returned:
            text = sentence("source kept: {rule}", rule=rule_text(returned))
        yield Note("nat", text)


def _destination_note(label: str, before: str, after: str) -> Note:
    return Note(label, sentence("destination {before} becomes {after}", before=before, after=after))


def _source_note(label: str, before: str, after: str) -> Note:
    return Note(label, sentence("source {before} becomes {after}", before=before, after=after))


def _destination_text(item: PacketObservation) -> str:
    return endpoint_text(item.dst, item.dport)


def _source_text(item: PacketObservation) -> str:
    return endpoint_text(item.src, item.sport)
