"""Why a reply goes to the source's own address: the router on the way that did not translate it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labctl.core.iptables import TERMINATING_TARGETS, FirewallRule
from labctl.core.observations import RouteQuery
from labctl.core.resources import IP
from labctl.core.sentence import Sentence, all_of, sentence
from labctl.tracing.counted_rules import dropping_rules
from labctl.tracing.evidence import RuleHit, TraceEvidence
from labctl.tracing.hop_routing import NAT_TARGETS, POSTROUTING_HOOK, PREROUTING_HOOK, find_lookup, source_keeping_rule
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.nft_rules import names_address
from labctl.tracing.result import TOOLS, Cause, Note, chain_command, exec_command, rule_place, rule_text
from labctl.tracing.stale_connection import find_stale_connection
from labctl.tracing.untracked import is_notrack

# the causes that can be the effect of a source which nothing translated
EFFECTS = (
    "no-route", "no-route-back", "reject-route", "reply-elsewhere", "neighbour", "loop", "ttl", "rp-filter", "rule"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeptSource:
    """A router that forwarded the request with the source that it had. `rule` is the RETURN or ACCEPT because of which
    no rule translated it, or the NOTRACK; None if none of the rules fits. `others` are further routers on the way that
    translate sources and did not translate this one: it is not known which of them should have."""

    node: str
    ip: IP
    rule: RuleHit | None
    others: tuple[str, ...] = ()
    nft: RuleHit | None = None  # the end of a nat chain of nft that the packet came to without a translation

    @property
    def short(self) -> Sentence:
        """The router and its rule in a few words."""
        if self.rule is None and self.nft is not None:
            chain = f"{self.nft.family} {self.nft.table}/{self.nft.chain}"
            return sentence(
                "{node} kept the source {ip}: no rule of {chain} translates it", node=self.node, ip=self.ip, chain=chain
            )
        if self.rule is None:
            nodes = all_of((self.node, *self.others))
            return sentence(
                "{nodes} kept the source {ip}: no rule of nat/POSTROUTING translates it", nodes=nodes, ip=self.ip
            )
        rule = rule_place(self.rule)
        if self.rule.purpose == "raw":
            return sentence("{node} kept the source {ip} ({rule}: not tracked)", node=self.node, ip=self.ip, rule=rule)
        return sentence("{node} kept the source {ip} ({rule})", node=self.node, ip=self.ip, rule=rule)

    @property
    def text(self) -> Sentence:
        """The router and its rule."""
        if self.rule is None and self.nft is not None:
            chain = f"{self.nft.family} {self.nft.table}/{self.nft.chain}"
            return sentence(
                "{node}: no rule of {chain} translates the source {ip}", node=self.node, chain=chain, ip=self.ip
            )
        if self.rule is None:
            return sentence("{node}: no rule of nat/POSTROUTING translates the source {ip}", node=self.node, ip=self.ip)
        text = sentence("{node}: source {ip} kept: {rule}", node=self.node, ip=self.ip, rule=rule_text(self.rule))
        if self.rule.purpose == "raw":
            return sentence(
                "{text}, so that conntrack does not track the packet and no rule of the table nat sees it", text=text
            )
        if self.rule.skipped:
            return sentence("{text}, so that the packet never comes to {rule}", text=text, rule=self.rule.skipped)
        return text


def find_kept_source(evidence: TraceEvidence, ip: IP) -> KeptSource | None:
    """The first router that forwarded the request with this source, although it has the table nat. One with a rule
    that kept the source counts first. The kernel asks no chain of nat if none of its rules translates anything: then
    conntrack is off, and there is no report. None if conntrack kept the source because of an earlier connection."""
    stale = find_stale_connection(evidence)
    if stale is not None and stale.end == "source":
        return None  # conntrack kept it: the rules were not asked
    table = "ip nat" if ip.version == 4 else "ip6 nat"
    candidates: list[KeptSource] = []
    for hop in evidence.hops["request"]:
        before, after = hop.outside_tunnel[0], hop.outside_tunnel[-1]
        if not (hop.ins and hop.outs) or (before.direction, after.direction) != ("in", "out"):
            continue
        if (before.src, after.src) != (ip, ip):
            continue
        hits = [
            one
            for one in evidence.rule_hits
            if (one.node, one.role, one.purpose, one.hook) == (hop.node, "request", "nat", POSTROUTING_HOOK)
        ]
        if any(one.kind == "rule" and one.target in NAT_TARGETS for one in hits):
            continue
        untracked = next((one for one in evidence.rule_hits if is_notrack(one, hop.node, "request")), None)
        if untracked is not None and not hits:
            candidates.append(KeptSource(hop.node, ip, untracked))
        elif hits or (evidence.rules_traced and table in evidence.namespace(hop.node).tables):
            end = next((one for one in reversed(hits) if one.nft is not None and one.kind == "policy"), None)
            candidates.append(KeptSource(hop.node, ip, source_keeping_rule(hits), nft=end))
    decided = next((one for one in candidates if one.rule is not None), None)
    if decided is not None or not candidates:
        return decided
    return replace(candidates[0], others=tuple(dict.fromkeys(one.node for one in candidates[1:])))


def with_kept_source(loss_point: LossPoint, cause: Cause) -> Cause:
    """The cause with the cause behind it, if the packet was lost because it had the source's own address: on the way
    back, or where it came from that address, beyond the router that did not translate it."""
    ip = _lost_because_of(loss_point, cause)
    kept = find_kept_source(loss_point.evidence, ip) if ip is not None else None
    if kept is None or not _is_beyond(loss_point, kept.node):
        return cause
    tool = TOOLS["ip" if kept.ip.version == 4 else "ip6"]
    words = f"{tool} -t nat -L POSTROUTING -n -v --line-numbers"
    rule = kept.rule or kept.nft
    command = exec_command(loss_point.evidence, kept.node, chain_command(rule) if rule else words)
    told = any(note.text.endswith(kept.text) for note in cause.facts)
    return replace(
        cause,
        sentence=sentence("{cause}, and {reason}", cause=cause.sentence, reason=kept.short),
        facts=cause.facts if told else (*cause.facts, Note("nat", kept.text)),
        tries=(*cause.tries, command),
    )


def _lost_because_of(loss_point: LossPoint, cause: Cause) -> IP | None:
    """The source's own address, if the packet was lost because it had that; None if not."""
    tip = loss_point.last_observation
    if tip is None or cause.kind not in EFFECTS:
        return None
    if loss_point.role != "request":
        return loss_point.dst if cause.kind != "rule" or _drops_that_destination(loss_point) else None
    is_effect = {
        "no-route-back": True,
        "neighbour": loss_point.delivered,
        "rp-filter": _has_no_way_back(loss_point, tip.src),
        "rule": _refuses_other_sources(loss_point),
    }
    return tip.src if is_effect.get(cause.kind, False) else None


def _refuses_other_sources(loss_point: LossPoint) -> bool:
    """Whether the rule that ended the way of the packet lets only certain source addresses pass."""
    ended = [one for one in loss_point.rule_hits if one.target in TERMINATING_TARGETS and one.kind != "return"]
    if ended:
        return ended[-1].role == "request" and ended[-1].only_some_sources
    return any(one.only_some_sources for one in dropping_rules(loss_point)[:1])


def _has_no_way_back(loss_point: LossPoint, ip: IP) -> bool:
    """Whether the namespace has no route at all to the source, so that a reverse-path filter refuses it."""
    back = find_lookup(loss_point.evidence, RouteQuery(loss_point.node, ip))
    return back is not None and back.error == "ENETUNREACH"


def _drops_that_destination(loss_point: LossPoint) -> bool:
    """Whether the rule that ended the way of a reply names its destination, the source's own address."""
    ended = [one for one in loss_point.rule_hits if one.target in TERMINATING_TARGETS and one.role == loss_point.role]
    if ended and ended[-1].nft is not None:
        return names_address(ended[-1].rule, "daddr")
    option = FirewallRule.from_text(ended[-1].rule).option("-d") if ended else None
    return option is not None and not option.negated


def _is_beyond(loss_point: LossPoint, router: str) -> bool:
    """Whether the packet was lost beyond the router, or in it before it would have translated a reply back."""
    nodes = [hop.node for hop in loss_point.evidence.hops["request"]]
    if loss_point.node not in nodes[: nodes.index(router) + 1]:
        return True
    ended = [one for one in loss_point.rule_hits if one.target in TERMINATING_TARGETS]
    before = bool(ended) and ended[-1].hook == PREROUTING_HOOK and ended[-1].role == "reply"
    return before and loss_point.node == router
