"""A rule of a policy engine that dropped the probe, and the policy that it enforces. Pure.

A denial is named only for a rule that dropped the packet in the very form that the policies deny, in a chain in which a
policy engine enforces this denial, on the pod's own node.
"""

from __future__ import annotations

from labctl.core.resources import IP
from labctl.tracing.evidence import CounterIncrease, PolicyDenial, RuleHit, TraceEvidence
from labctl.tracing.hop_routing import nat_endpoint
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import PROGRAM


def find_denial(loss_point: LossPoint, one: RuleHit | CounterIncrease) -> PolicyDenial | None:
    """The denial that a rule enforces, if it dropped the packet in a chain of a policy engine."""
    form = (one.src, one.dst, one.dport) if isinstance(one, RuleHit) else _form_at_loss(loss_point)
    for denial in loss_point.evidence.policy_denials:
        if (denial.src, denial.dst, denial.dport) == form and denial.node == one.node and one.chain in denial.chains:
            return denial
    return None


def why_command(evidence: TraceEvidence, denial: PolicyDenial) -> str:
    """The command that explains the denial."""
    names = {ip: name for name, ips in evidence.machines.items() for ip in ips}
    source, target = (names.get(ip, str(ip)) for ip in (denial.src, denial.dst))
    number, protocol = denial.dport, evidence.question.protocol
    if denial.src == denial.dst:  # by way of a Service that chose the pod itself
        target, number = str(evidence.question.address), evidence.question.port
    port = "--icmp" if number is None else f"--{protocol} {number}"
    return f"{PROGRAM} policy why {source} {target} {port}"


def _form_at_loss(loss_point: LossPoint) -> tuple[IP, IP, int | None] | None:
    """The form of the packet where it was seen last, after the translation there."""
    last = loss_point.last_observation
    if last is None or loss_point.role != "request" or last.encap != "none":
        return None
    return (last.src, *nat_endpoint(loss_point.evidence, last))
