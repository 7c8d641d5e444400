"""`trace --why`: the reason of each route and rule that a packet met, behind the note about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain, NftObject
from labctl.core.scenario_types import Lab
from labctl.explanation.planned_reasons import PlannedReasons
from labctl.tracing.evidence import RuleHit, TraceEvidence
from labctl.tracing.result import Note, Step, TraceResult, lookup_text, rule_text

LABEL = "why"
WITH_RULES = ("rule", "nat")


def with_reasons(result: TraceResult, evidence: TraceEvidence, lab: Lab) -> TraceResult:
    """The result with a note `why` behind each note about a route or a rule. A reason that was given before in the same
    step is not repeated."""
    reasons = PlannedReasons(lab)
    legs = tuple(
        replace(leg, steps=tuple(_with_notes(step, evidence, reasons) for step in leg.steps)) for leg in result.legs
    )
    return replace(result, legs=legs)


def _with_notes(step: Step, evidence: TraceEvidence, reasons: PlannedReasons) -> Step:
    notes: list[Note] = []
    for note in step.notes:
        notes.append(note)
        for text in _reasons(step.node, note, evidence, reasons):
            if text and Note(LABEL, text) not in notes:
                notes.append(Note(LABEL, text))
    return replace(step, notes=tuple(notes))


def _reasons(node: str, note: Note, evidence: TraceEvidence, reasons: PlannedReasons) -> Iterator[str]:
    if note.label == "route":
        found = next((one for one in evidence.lookups if one.node == node and lookup_text(one) == note.text), None)
        if found is not None:
            yield reasons.of_lookup(found)
    elif note.label in WITH_RULES:
        hits = [one for one in evidence.rule_hits if one.node == node and one.rule and rule_text(one) in note.text]
        if hits:
            yield _of_hit(max(hits, key=lambda one: len(rule_text(one))), reasons)


def _of_hit(hit: RuleHit, reasons: PlannedReasons) -> str:
    if hit.nft is not None:
        return reasons.of_rule(NftObject(hit.node, f"{hit.family} {hit.table}", "chain", hit.chain), hit.rule)
    chain = Chain(hit.node, hit.table, hit.chain, family=hit.family)
    return reasons.of_rule(chain, FirewallRule.from_text(hit.rule))
