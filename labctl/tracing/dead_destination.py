"""A request that was lost because a rule rewrote its destination to an address that no machine has. Pure."""

from __future__ import annotations

from dataclasses import replace

from labctl.tracing.address_owners import owners
from labctl.tracing.evidence import RuleHit, TraceEvidence
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import TOOLS, Cause, Note, exec_command, rule_text

# the causes that can be the effect of an address which no machine has; `dead-backend` names the translation itself
EFFECTS = ("no-route", "reject-route", "neighbour", "loop", "ttl", "rule", "forwarding-off", "rp-filter")


def with_dead_destination(loss_point: LossPoint, cause: Cause) -> Cause:
    """The cause with the rule behind it that rewrote the destination, if the new address is that of no machine."""
    evidence, on = loss_point.evidence, loss_point.translation
    if cause.kind not in EFFECTS or loss_point.role != "request" or on is None or on.new_dst != loss_point.dst:
        return cause
    if on.new_dst == on.dst or on.new_dst.is_loopback or on.new_dst.is_multicast or owners(evidence, on.new_dst):
        return cause
    rule = _translating_rule(evidence, on.node)
    place = f" ({rule.table}/{rule.chain} rule {rule.number})" if rule is not None else ""
    text = f"{on.node} rewrote the destination {on.dst} to {on.new_dst}, which no machine of the lab has"
    facts, tries = cause.facts, cause.tries
    if rule is not None:
        tool = TOOLS["ip" if on.new_dst.version == 4 else "ip6"]
        words = f"{tool} -t nat -L {rule.chain} -n -v --line-numbers"
        facts = (*facts, Note("nat", f"{on.node}: {rule_text(rule)}"))
        tries = (*tries, exec_command(evidence, on.node, words))
    return replace(cause, sentence=f"{cause.sentence}, and {text}{place}", facts=facts, tries=tries)


def _translating_rule(evidence: TraceEvidence, node: str) -> RuleHit | None:
    """The rule that translated the request's destination there."""
    for hit in evidence.rule_hits:
        here = (hit.node, hit.role, hit.table, hit.kind)
        if here == (node, "request", "nat", "rule") and hit.target in ("DNAT", "REDIRECT", "NETMAP"):
            return hit
    return None
