"""A request that was lost because a rule rewrote its destination to an address that no machine has. Pure."""

from __future__ import annotations

from dataclasses import replace

from labctl.core.sentence import joined, sentence
from labctl.tracing.address_owners import owners
from labctl.tracing.evidence import RuleHit, TraceEvidence
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, chain_command, exec_command, rule_place, rule_text

# the causes that can be the effect of an address which no machine has; `dead-backend` names the translation itself
EFFECTS = ("no-route", "reject-route", "neighbour", "loop", "ttl", "rule", "forwarding-off", "rp-filter")


def with_dead_destination(loss_point: LossPoint, cause: Cause) -> Cause:
    """The cause with the rule behind it that rewrote the destination, if the new address is that of no machine."""
    evidence, on = loss_point.evidence, loss_point.translation
    if cause.kind == "dead-backend" and on is not None and on.node:
        return _with_nft_rule(loss_point, cause, on.node)
    if cause.kind not in EFFECTS or loss_point.role != "request" or on is None or on.new_dst != loss_point.dst:
        return cause
    if on.new_dst == on.dst or on.new_dst.is_loopback or on.new_dst.is_multicast or owners(evidence, on.new_dst):
        return cause
    rule = _translating_rule(evidence, on.node)
    reason = sentence(
        "{node} rewrote the destination {dst} to {new}, which no machine of the lab has",
        node=on.node,
        dst=on.dst,
        new=on.new_dst,
    )
    facts, tries = cause.facts, cause.tries
    if rule is not None:
        reason = sentence("{text} ({rule})", text=reason, rule=rule_place(rule))
        facts = (*facts, Note("nat", joined(": ", (on.node, rule_text(rule)))))
        tries = (*tries, exec_command(evidence, on.node, chain_command(rule)))
    text = sentence("{cause}, and {reason}", cause=cause.sentence, reason=reason)
    return replace(cause, sentence=text, facts=facts, tries=tries)


def _with_nft_rule(loss_point: LossPoint, cause: Cause, node: str) -> Cause:
    """The cause with the rule of an nft table that chose the destination: with a map, the element is the reason."""
    rule = _translating_rule(loss_point.evidence, node)
    if rule is None or rule.nft is None:
        return cause
    facts = (*cause.facts, Note("nat", joined(": ", (node, rule_text(rule)))))
    command = exec_command(loss_point.evidence, node, chain_command(rule))
    return replace(cause, facts=facts, tries=(*cause.tries, command))


def _translating_rule(evidence: TraceEvidence, node: str) -> RuleHit | None:
    """The rule that translated the request's destination there."""
    for hit in evidence.rule_hits:
        here = (hit.node, hit.role, hit.purpose, hit.kind)
        if here == (node, "request", "nat", "rule") and hit.target in ("DNAT", "REDIRECT", "NETMAP"):
            return hit
    return None
