"""Packets that conntrack translates as an earlier packet of their connection, unlike the present nat rules. Pure."""

from __future__ import annotations

from labctl.core.observations import Flow
from labctl.core.resources import IP
from labctl.core.sentence import Sentence, in_a_row, joined, one_of, sentence
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.nat_choice import NatChoice
from labctl.tracing.result import Cause, Note, endpoint_text, exec_command, flow_with_state
from labctl.tracing.stale_connection import StaleConnection, find_stale_connection

# causes in the same namespace that do not depend on the destination
BEFORE_ROUTING = ("forwarding-off", "rp-filter", "local-source", "link-down", "cable", "unsent")
# causes that can depend on the packet's source
BY_SOURCE = ("rule", "no-route", "no-route-back", "rp-filter", "martian", "local-source", "not-untranslated", "kernel")
MAX_CHOICES = 3  # rules that are listed
END_WORDS = {"source": sentence("source"), "destination": sentence("destination")}


def stale_nat(evidence: TraceEvidence) -> Cause | None:
    """The entry of conntrack that translates the probe as no present rule does."""
    found = find_stale_connection(evidence)
    if found is None:
        return None
    flow = found.flow
    about: list[Sentence] = [sentence("{flow}, there before the probe", flow=flow_with_state(flow))]
    if flow.age_s is not None:
        about.append(sentence("{seconds} s old", seconds=flow.age_s))
    if flow.expires_s is not None:
        about.append(sentence("expires in {seconds} s without packets", seconds=flow.expires_s))
    choices = [joined(": ", (found.node, _choice_text(one, found))) for one in found.choices[:MAX_CHOICES]]
    facts = [Note("conntrack", in_a_row(about)), *(Note("rule", text) for text in choices)]
    return Cause("stale-conntrack", _sentence(found), tuple(facts), (_delete_command(evidence, flow),))


def cause_behind(loss_point: LossPoint, cause: Cause | None) -> Cause | None:
    """The cause behind the cause of a loss: the stale entry, if the loss can follow from it; else the cause itself."""
    found = find_stale_connection(loss_point.evidence)
    if found is None or not _can_follow(found, loss_point, cause):
        return cause
    stale = stale_nat(loss_point.evidence)
    if stale is None or cause is None:
        return stale
    facts = (*stale.facts, Note("then", cause.sentence), *cause.facts)
    return Cause(stale.kind, stale.sentence, facts, stale.tries)


def _can_follow(found: StaleConnection, loss_point: LossPoint, cause: Cause | None) -> bool:
    """Whether the loss can follow from the translation."""
    if found.end == "destination":
        return cause is None or loss_point.node != found.node or cause.kind not in BEFORE_ROUTING
    return cause is None or cause.kind in BY_SOURCE or loss_point.role == "reply"


def _sentence(found: StaleConnection) -> Sentence:
    before, after = _text(found.before, found), _text(found.after, found)
    end = END_WORDS[found.end]
    what = sentence(
        "{node} rewrites the {end} {before} to {after}", node=found.node, end=end, before=before, after=after
    )
    if before == after:
        what = sentence("{node} keeps the {end} {before}", node=found.node, end=end, before=before)
    why = sentence("conntrack still has an earlier connection")
    if found.answers:
        why = sentence("conntrack takes it for an answer of an earlier connection")
    goals = list(dict.fromkeys(_goal(one, found) for one in found.choices))
    wanted = one_of([*goals[:MAX_CHOICES], *([sentence("another")] if len(goals) > MAX_CHOICES else [])])
    return sentence(
        "{text}, because {reason}; the NAT rules would now {wanted}, but they are only asked for the first packet of a"
        " connection",
        text=what,
        reason=why,
        wanted=wanted,
    )


def _goal(choice: NatChoice, found: StaleConnection) -> Sentence:
    if choice.target is None:
        return sentence("keep the {end}", end=END_WORDS[found.end])
    if choice.target in ("MASQUERADE", "REDIRECT"):
        return sentence("choose {choice}", choice=choice.target)
    return sentence("choose {choice}", choice=choice.destination or choice.target)


def _text(end: tuple[IP, int], found: StaleConnection) -> str:
    """The destination with its port, the source without: the rules rarely name it."""
    return endpoint_text(end[0], end[1] if found.end == "destination" else None)


def _choice_text(choice: NatChoice, found: StaleConnection) -> Sentence:
    if choice.rule is None:
        return sentence("no rule of the nat table translates the {end} now", end=END_WORDS[found.end])
    rule = sentence("{table}/{chain} rule {number}", table="nat", chain=choice.chain, number=choice.number)
    return joined(": ", (rule, choice.rule.without_match("comment")))


def _delete_command(evidence: TraceEvidence, flow: Flow) -> str:
    family = "-f ipv6 " if flow.src.version == 6 else ""
    ends = f"-s {flow.src} -d {flow.dst} --sport {flow.sport} --dport {flow.dport}"
    protocol = {6: "tcp", 17: "udp"}[flow.protocol]
    return exec_command(evidence, flow.node, f"conntrack -D {family}-p {protocol} {ends}")
