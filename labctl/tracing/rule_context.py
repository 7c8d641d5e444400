"""What the other rules of a chain say about a rule that a packet matched. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_parts import RuleOption
from labctl.core.iptables_save import ChainCounters
from labctl.core.resources import Chain
from labctl.core.sentence import sentence

RuleKind: TypeAlias = Literal["rule", "policy", "return"]
Chains: TypeAlias = Mapping[tuple[str, str, str], ChainCounters]  # by family, table and name
# targets of rules that the legacy tables report as a policy or a return
UNCONDITIONAL_VERDICTS = ("ACCEPT", "DROP", "QUEUE", "RETURN")
SOURCE_OPTIONS = ("-s", "--ip-src", "--ip-source", "--ip6-src", "--ip6-source")  # the last four: of ebtables
STATE_OPTIONS = ("--ctstate", "--state")
CONNECTION_STATES = ("ESTABLISHED", "NEW")  # of packets that conntrack tracks
PASSING_TARGETS = ("ACCEPT", "RETURN")


def matched_rule(kind: RuleKind, number: int, chain: Chain | None) -> tuple[RuleKind, str, str]:
    """What a report of the kernel is about: its kind, the text of the rule, and the target.

    The kernel's legacy tables name a rule that matches everything, as `-j DROP`, like the end of its chain: as a policy
    or a return. Only the number shows which it is: a policy comes after the last rule.
    """
    if chain is None:
        return kind, "", ""
    one = chain.rules[number - 1] if 0 < number <= len(chain.rules) else None
    if one is not None and (kind == "rule" or one.target in UNCONDITIONAL_VERDICTS):
        return "rule", str(one), one.target or ""
    return kind, "", (chain.policy or "") if kind == "policy" else ""


def only_some_sources(chain: Chain, number: int) -> bool:
    """Whether the chain lets packets with certain sources pass before this rule, or at it. The policy has the number
    after that of the last rule."""
    rules = [(rule, next((one for flag in SOURCE_OPTIONS if (one := rule.option(flag)) is not None), None))
             for rule in chain.rules[:number]]  # fmt: skip
    if len(rules) == number and (last := rules.pop()[1]) is not None and last.negated:
        return True
    return any(rule.target in PASSING_TARGETS and one is not None and not one.negated for rule, one in rules)


def passing_states(chains: Chains, chain: Chain, number: int) -> tuple[str, ...]:
    """The states of connections, NEW and ESTABLISHED, of which packets do not come to the end of their way at the rule
    or policy: it matches other states only, or rules before it, also in the chains that lead to it, accept them."""
    if 0 < number <= len(chain.rules) and (option := _states(chain.rules[number - 1])) is not None:
        named = option.values[0].split(",")
        return tuple(one for one in CONNECTION_STATES if (one in named) == option.negated)
    chains = {key: one for key, one in chains.items() if key[:2] == (chain.family, chain.table)}
    found: set[str] = set()
    for rule in _rules_before(chains, chain, number, frozenset()):
        for one in (rule, *_rules_of(chains, rule)):
            option = _states(one)
            if option is not None and not option.negated and (one.target == "ACCEPT" or _rules_of(chains, one)):
                found |= {*option.values[0].split(",")}
    return tuple(one for one in CONNECTION_STATES if one in found)


def _states(rule: FirewallRule) -> RuleOption | None:
    return next((one for flag in STATE_OPTIONS if (one := rule.option(flag)) is not None), None)


def _rules_of(chains: Chains, rule: FirewallRule) -> Iterable[FirewallRule]:
    """The rules of the chain that a rule leads to."""
    return next((one.chain.rules for one in chains.values() if one.chain.name == rule.target), ())


def _rules_before(chains: Chains, chain: Chain, number: int, seen: frozenset[str]) -> Iterator[FirewallRule]:
    """The rules that a packet passes before this one, in its chain and in the chains that lead to it."""
    yield from chain.rules[: number - 1]
    for one in chains.values():
        if one.chain.name in seen:
            continue
        for at, rule in enumerate(one.chain.rules, 1):
            if rule.target == chain.name:
                yield from _rules_before(chains, one.chain, at, seen | {chain.name})


def skipped_translation(chains: Chains, counted: ChainCounters | None, number: int) -> str:
    """The rule after a RETURN or ACCEPT that translates the source, or leads to a chain that does."""
    if counted is None or not 0 < number <= len(counted.chain.rules):
        return ""
    chain = counted.chain
    if chain.rules[number - 1].target not in ("RETURN", "ACCEPT"):
        return ""
    for later, rule in enumerate(chain.rules[number:], number + 1):
        if rule.target in ("MASQUERADE", "SNAT"):
            return sentence("{target} in rule {number}", target=rule.target, number=later)
        jump = chains.get((chain.family, chain.table, rule.target or ""))
        if jump is not None and any(one.target in ("MASQUERADE", "SNAT") for one in jump.chain.rules):
            return sentence("{target} in rule {number}", target=rule.target, number=later)
    return ""
