"""Losses because source NAT has no port left for a new connection. Pure."""

from __future__ import annotations

from labctl.core.iptables import TERMINATING_TARGETS
from labctl.core.sentence import joined, sentence
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command


def exhausted(loss_point: LossPoint) -> Cause | None:
    """All ports that a rule may give are in use towards the destination, so the kernel drops a new connection.

    The count of connections is the proof: no rule drops the packet, and the kernel names none.
    """
    if loss_point.role != "request" or not loss_point.reason_allows("NETFILTER_DROP"):
        return None
    if any(one.kind != "return" and one.target in TERMINATING_TARGETS for one in loss_point.rule_hits):
        return None
    evidence = loss_point.evidence
    use = next((one for one in evidence.port_uses if one.node == loss_point.node and one.exhausted), None)
    if use is None or not loss_point.entering:
        return None
    text = sentence(
        "{node} has no source port left for it: all {size} ports of {ports} are in use by {protocol} connections to"
        " {end}",
        node=use.node,
        size=use.size,
        ports=use.ports,
        protocol=use.protocol,
        end=use.end,
    )
    rule = sentence("{table}/{chain} rule {number}", table="nat", chain=use.chain, number=use.number)
    facts = (
        Note("rule", joined(": ", (use.node, rule, use.rule))),
        Note("conntrack", joined(": ", (use.node, use.sentence))),
    )
    family = "-f ipv6 " if use.dst.version == 6 else ""
    listing = f"conntrack -L {family}-p {use.protocol} -d {use.dst} --dport {use.dport}"
    return Cause("snat-port-exhaustion", text, facts, (exec_command(evidence, use.node, listing),))
