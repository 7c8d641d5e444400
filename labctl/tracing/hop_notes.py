"""A path as steps: one per hop, with the chosen route, the rules that acted, and what they rewrote. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labctl.core.observations import Role
from labctl.tracing.evidence import Crossing, Evidence, Met
from labctl.tracing.hops import Hop, answered, devices, road, translated, turns
from labctl.tracing.result import Leg, Note, Step, answer_text, end_text, rule_text

ROLES: tuple[Role, ...] = ("request", "reply", "error")
PASSIVE = {"RETURN", "LOG", "NFLOG", "TRACE", "CONTINUE", ""}
VERDICTS = {"DROP", "REJECT", "ACCEPT", "QUEUE", "NFQUEUE"}
NAT = {"SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP"}


def legs(evidence: Evidence) -> tuple[Leg, ...]:
    """The paths of the request, of its reply, and of an ICMP error."""
    found = []
    for role in ROLES:
        hops = road(evidence, role)
        if hops and not (role == "error" and all(item.dev == "lo" for hop in hops for item in hop.crossings)):
            found.append(Leg(role, tuple(_steps(evidence, hops, role))))
    return tuple(found)


def _steps(evidence: Evidence, hops: Sequence[Hop], role: Role) -> Iterator[Step]:
    begun = hops[0].crossings[0].when
    told: list[Step] = []
    visits: dict[str, int] = {}
    for number, hop in enumerate(hops):
        visits[hop.node] = visits.get(hop.node, 0) + 1
        if visits[hop.node] > 3:
            left = hops[number:]
            names = " and ".join(dict.fromkeys(one.node for one in left))
            ttl = left[-1].crossings[-1].ttl
            text = f"{names} keep sending it to each other: {len(left)} more hops, ttl {ttl} at the end"
            told[-1] = _with(told[-1], Note("loop", text))
            break
        told.append(_step(evidence, hop, role, begun, first=visits[hop.node] == 1))
    return iter(told)


def _with(step: Step, note: Note) -> Step:
    return Step(
        step.node, step.devices, step.when, step.src, step.dst, step.ttl, step.tunnel, (*step.notes, note)
    )  # fmt: skip


def _step(evidence: Evidence, hop: Hop, role: Role, begun: int, *, first: bool) -> Step:
    shown = hop.bare[-1]
    tunnel = ""
    end = hop.crossings[-1]
    if end.encap != "none" and end.outer is not None:
        tunnel = f"{end.encap} {end.outer[0]} > {end.outer[1]}"
    return Step(
        hop.node,
        devices(evidence, hop),
        hop.crossings[0].when - begun,
        end_text(shown.src, shown.sport),
        end_text(shown.dst, shown.dport),
        end.ttl,
        tunnel,
        tuple(_notes(evidence, hop, role, first)),
    )


def _notes(evidence: Evidence, hop: Hop, role: Role, once: bool) -> Iterator[Note]:
    first = hop.crossings[0]
    if role == "error" and hop.ins == ():
        yield Note("icmp", first.text)
    if first.text == "reset" and not hop.ins:
        yield Note("tcp", "a reset: the connection is refused")
    asked = turns(evidence, hop, role)
    for turn in asked:
        found = answered(evidence, turn)
        forged = found is not None and found.error and turn.iif is None  # a reset with a forged source has no own route
        if found is not None and not forged:
            yield Note("route", answer_text(found))
    met = [one for one in evidence.met if once and one.node == hop.node and one.role == role]
    for text in dict.fromkeys(rule_text(one) for one in met if acts(one)):  # in a loop it matches them again and again
        yield Note("rule", text)
    yield from _passed(met)
    yield from _rewritten(evidence, hop, role, met)
    if role == "request" and any(turn.iif is not None for turn in asked):
        yield from _kept(hop, met)
    if hop.flooded:
        yield Note(
            "flood", f"a bridge here did not know the MAC address: {hop.flooded} more copies went to other ports"
        )


def _passed(met: Sequence[Met]) -> Iterator[Note]:
    """The note that no rule of the filter table acted."""
    asked = [one for one in met if one.table == "filter"]
    if not asked or any(acts(one) for one in asked):
        return
    last = asked[-1]
    if last.kind == "policy":
        yield Note("filter", f"no rule of {last.chain} matched, policy {last.target or 'ACCEPT'}")


def acts(met: Met) -> bool:
    """Whether a matched rule did something: a verdict, a translation, a mark. Jumps and returns do not count."""
    if met.kind == "policy":
        return met.target == "DROP"
    if met.kind != "rule" or met.target in PASSIVE:
        return False
    return met.target in VERDICTS | NAT or (met.target.isupper() and "-" not in met.target and _extension(met))


def _extension(met: Met) -> bool:
    """Whether the target is a target extension that changes the packet, not a chain."""
    return met.target in {"MARK", "CONNMARK", "TCPMSS", "TTL", "HL", "DSCP", "TOS", "CLASSIFY", "CT", "NOTRACK"}


def _rewritten(evidence: Evidence, hop: Hop, role: Role, met: Sequence[Met]) -> Iterator[Note]:
    bare = hop.bare
    before, after = bare[0], bare[-1]
    fresh = any(one.target in NAT and one.kind == "rule" for one in met) or (role == "request" and hop.ins)
    source, target = ("SNAT", "DNAT") if fresh else ("un-NAT", "un-NAT")
    asked = evidence.question
    if not hop.ins and role == "request":
        if after.dst != asked.address or (asked.port is not None and after.dport != asked.port):
            was = end_text(asked.address, asked.port)
            yield Note("DNAT", f"destination {was} becomes {end_text(after.dst, after.dport)}")
        return
    if (before.dst, before.dport) != (after.dst, after.dport):
        yield Note(target, f"destination {_to(before)} becomes {_to(after)}")
    elif not hop.outs and (new := translated(evidence, before)) != before.dst:
        yield Note(target, f"destination {before.dst} becomes {new}")
    if (before.src, before.sport) != (after.src, after.sport):
        yield Note(source, f"source {_from(before)} becomes {_from(after)}")


def _kept(hop: Hop, met: Sequence[Met]) -> Iterator[Note]:
    """The note that NAT did not translate the source."""
    if (hop.bare[0].src, hop.bare[0].dst) != (hop.bare[-1].src, hop.bare[-1].dst):
        return
    asked = [one for one in met if one.table == "nat" and one.hook == 4]
    if asked and not any(one.kind == "rule" and one.target in NAT for one in asked):
        returned = next((one for one in asked if one.target == "RETURN" and one.kind == "rule"), None)
        yield Note(
            "nat", f"source kept: {rule_text(returned)}" if returned else "no POSTROUTING rule translates, source kept"
        )


def _to(item: Crossing) -> str:
    return end_text(item.dst, item.dport)


def _from(item: Crossing) -> str:
    return end_text(item.src, item.sport)
