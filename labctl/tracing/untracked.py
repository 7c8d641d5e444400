"""A packet that a firewall dropped because conntrack did not know its connection: the NOTRACK rule behind it. Pure."""

from __future__ import annotations

from dataclasses import replace

from labctl.core.iptables import TERMINATING_TARGETS
from labctl.core.sentence import sentence
from labctl.tracing.evidence import RuleHit
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import ROLE_WORDS, Cause, Note, chain_command, exec_command, rule_place, rule_text


def is_notrack(hit: RuleHit, node: str, role: str) -> bool:
    """Whether a rule of the namespace excludes the packet from connection tracking."""
    if (hit.node, hit.role, hit.purpose, hit.kind) != (node, role, "raw", "rule"):
        return False
    return hit.target == "NOTRACK" or "--notrack" in hit.rule.split()


def with_notrack_rule(loss_point: LossPoint, cause: Cause) -> Cause:
    """The cause with the rule because of which conntrack did not know the connection of the packet, if a rule dropped
    it that lets known connections pass."""
    ended = [one for one in loss_point.rule_hits if one.target in TERMINATING_TARGETS and one.kind != "return"]
    if cause.kind != "rule" or not ended:
        return cause
    node, role = ended[-1].node, ended[-1].role
    if ("NEW" if role == "request" else "ESTABLISHED") not in ended[-1].passing_states:
        return cause  # the rule ends its way, tracked or not
    for untracked in dict.fromkeys((role, "request")):
        rule = next((one for one in loss_point.evidence.rule_hits if is_notrack(one, node, untracked)), None)
        if rule is not None:
            break
    else:
        return cause
    packet = ROLE_WORDS[untracked]
    text = sentence(
        "{cause}, because {node} does not track the {packet} ({rule}: notrack)",
        cause=cause.sentence,
        node=node,
        packet=packet,
        rule=rule_place(rule),
    )
    fact = sentence("{node}: the {packet} is not tracked: {rule}", node=node, packet=packet, rule=rule_text(rule))
    return replace(
        cause,
        sentence=text,
        facts=(*cause.facts, Note("nat", fact)),
        tries=(*cause.tries, exec_command(loss_point.evidence, node, chain_command(rule))),
    )
