"""A packet that was lost because of its source address after a translation: the rule that rewrote it. Pure.

A source check drops it, nothing has a route back to that address, no machine has it, or another one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labctl.core.iptables import TERMINATING_TARGETS, FirewallRule
from labctl.core.resources import IP
from labctl.core.sentence import Sentence, joined, sentence
from labctl.tracing.counted_rules import dropping_rules
from labctl.tracing.evidence import CounterIncrease, RuleHit, TraceEvidence
from labctl.tracing.hop_routing import INPUT_HOOK, NAT_TARGETS, POSTROUTING_HOOK, untranslated
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.nft_rules import names_address
from labctl.tracing.result import Cause, Note, chain_command, exec_command, rule_place, rule_text

# the causes that can be the effect of an address that a packet has
EFFECTS = (
    "no-route", "no-route-back", "reject-route", "reply-elsewhere", "neighbour", "loop", "ttl", "rp-filter",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TranslatedSource:
    """A namespace that rewrote the source `old` of the request to `new`. `rule` is None if no rule was reported: then
    an entry of conntrack decided."""

    node: str
    old: IP
    new: IP
    rule: RuleHit | None

    @property
    def short(self) -> Sentence:
        """The namespace, the addresses and the rule in a few words."""
        text = sentence("{node} rewrote the source {old} to {new}", node=self.node, old=self.old, new=self.new)
        return text if self.rule is None else sentence("{text} ({rule})", text=text, rule=rule_place(self.rule))

    @property
    def text(self) -> Sentence:
        """The same with the text of the rule."""
        text = sentence("{node}: source {old} rewritten to {new}", node=self.node, old=self.old, new=self.new)
        return text if self.rule is None else joined(": ", (text, rule_text(self.rule)))


def find_translated_source(evidence: TraceEvidence, ip: IP) -> TranslatedSource | None:
    """The namespace that gave the request this source; None if the request had it from the beginning."""
    return next((one for one in _translations(evidence) if one.new == ip), None)


def _translations(evidence: TraceEvidence) -> Iterator[TranslatedSource]:
    """The translations of the request's source on its path, in order."""
    for hop in evidence.hops["request"]:
        before, after = hop.outside_tunnel[0], hop.outside_tunnel[-1]
        old = before.src
        if before.direction == "out" and before.encap == "none":  # the namespace itself sends it
            own = untranslated(evidence, before)
            old = own[0] if own is not None else old
        if old != after.src:
            yield TranslatedSource(hop.node, old, after.src, _translating_rule(evidence, hop.node))


def _translating_rule(evidence: TraceEvidence, node: str) -> RuleHit | None:
    """The rule that translated the request's source."""
    return next(
        (
            one
            for one in evidence.rule_hits
            if (one.node, one.role, one.purpose, one.kind) == (node, "request", "nat", "rule")
            and one.hook in (POSTROUTING_HOOK, INPUT_HOOK)
            and one.target in NAT_TARGETS
        ),
        None,
    )


def behind(loss_point: LossPoint, cause: Cause) -> TranslatedSource | None:
    """The translation because of which the packet was lost; None if its source is not the reason, or is its own."""
    ip = _lost_because_of(loss_point, cause)
    found = find_translated_source(loss_point.evidence, ip) if ip is not None else None
    return found if found is not None and _is_beyond(loss_point, found.node) else None


def with_translated_source(loss_point: LossPoint, cause: Cause, found: TranslatedSource) -> Cause:
    """The cause with the translation behind it."""
    tries = cause.tries
    if found.rule is not None:
        tries += (exec_command(loss_point.evidence, found.node, chain_command(found.rule)),)
    facts = (*cause.facts, Note("nat", found.text))
    text = sentence("{cause}, and {reason}", cause=cause.sentence, reason=found.short)
    return replace(cause, sentence=text, facts=facts, tries=tries)


def _lost_because_of(loss_point: LossPoint, cause: Cause) -> IP | None:
    """The address because of which the packet was lost: the source of a request, the destination of a reply."""
    tip = loss_point.last_observation
    if tip is None or tip.outer is not None:
        return None
    if cause.kind == "rule":
        return _address_of_rule(loss_point)
    if cause.kind not in EFFECTS:
        return None
    if loss_point.role != "request":
        return loss_point.dst
    asked = loss_point.unanswered_neighbour
    is_effect = {
        "no-route-back": True,
        "neighbour": loss_point.delivered and asked is not None and asked.ip == tip.src,
        "rp-filter": loss_point.entering,
    }
    return tip.src if is_effect.get(cause.kind, False) else None


def _address_of_rule(loss_point: LossPoint) -> IP | None:
    """The packet's own end, if the rule that ended its way looks at that address, or lets only certain ones pass."""
    tip = loss_point.last_observation
    ended = [one for one in loss_point.rule_hits if one.target in TERMINATING_TARGETS and one.kind != "return"]
    one: RuleHit | CounterIncrease | None = ended[-1] if ended else next(iter(dropping_rules(loss_point)), None)
    if one is None or tip is None:
        return None
    role = one.role if isinstance(one, RuleHit) else loss_point.role
    if role == "request":
        return tip.src if one.only_some_sources or _names(one, "-s", "--src-range") else None
    return loss_point.dst if role == loss_point.role and _names(one, "-d", "--dst-range") else None


def _names(one: RuleHit | CounterIncrease, *options: str) -> bool:
    """Whether a rule names an address with one of these options."""
    if isinstance(one, RuleHit) and one.nft is not None:
        return names_address(one.rule, "saddr" if "-s" in options else "daddr")
    rule = FirewallRule.from_text(one.rule) if one.rule and not one.rule.startswith("policy ") else None
    return rule is not None and any(rule.option(name) is not None for name in options)


def _is_beyond(loss_point: LossPoint, node: str) -> bool:
    """Whether the packet was lost after the namespace had rewritten its source, and before that could be undone."""
    hops = loss_point.evidence.hops["request"]
    place = [hop.node for hop in hops].index(node)
    if loss_point.role == "request":
        return len(hops) > place + 1 and loss_point.node != node
    return loss_point.node not in {hop.node for hop in hops[: place + 1]}
