"""Which firewall rule of the target counted a drop while the probe was under way. Pure.

A target that does not answer may drop the probe by a rule, or it may not process packets at all. Only the
firewall's counters show the difference. They are read before and after the probe: a rule that drops packets
is evidence if its counter increased in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.core.iptables import CHAIN_TOOLS, LEGACY_FAMILIES, TERMINATING_TARGETS, FirewallRule
from labctl.core.iptables_save import ChainCounters, counter_increases
from labctl.core.probe_kinds import probe_kind
from labctl.core.resources import Chain
from labctl.core.scenario_types import Check
from labctl.core.sentence import Sentence, sentence


def drops_since(
    before: Iterable[ChainCounters], after: Iterable[ChainCounters], check: Check, version: int
) -> tuple[str, ...]:
    """The rules and policies that dropped packets between two readings of one namespace's firewall, as
    sentences; empty if none did.

    These are not evidence: rules for the other IP version, rules for a protocol other than the check's, and
    chains that changed in between.
    """
    family = {4: "ip", 6: "ip6"}[version]
    families = ("bridge", family, LEGACY_FAMILIES[family])
    protocol = probe_kind(check).ip_protocol(version)
    texts = (
        _drop_text(chain, number, protocol)
        for chain, number, _ in counter_increases(before, after)
        if chain.family in families
    )
    return tuple(text for text in texts if text)


def rejects_since(
    before: Iterable[ChainCounters], after: Iterable[ChainCounters], check: Check, version: int
) -> tuple[str, ...]:
    """The rules that rejected packets between two readings, as sentences."""
    done = TERMINATING_TARGETS["REJECT"]
    return tuple(text for text in drops_since(before, after, check, version) if text.startswith(done))


def _drop_text(chain: Chain, number: int, protocol: str) -> str:
    """What a rule of the chain (0: its policy) did to the packets that it counted; empty if that is not evidence."""
    tool = f"{CHAIN_TOOLS[chain.family]} -t {chain.table}"
    if number == 0:
        if chain.policy != "DROP":
            return ""
        return _by_rule(TERMINATING_TARGETS["DROP"], chain.ns, f"{tool} -P {chain.name} DROP")
    rule = chain.rules[number - 1]
    done = TERMINATING_TARGETS.get(rule.target or "")
    if done is None or not (chain.family == "bridge" or _matches_protocol(rule, protocol)):
        return ""
    return _by_rule(done, chain.ns, f"{tool} -A {chain.name} {rule}")


def _by_rule(done: str, node: str, rule: str) -> Sentence:
    return sentence("{dropped} in {node} by {rule}", dropped=done, node=node, rule=rule)


def _matches_protocol(rule: FirewallRule, protocol: str) -> bool:
    """Whether a rule can match packets of this protocol."""
    option = rule.option("-p")
    return option is None or (option.values == (protocol,)) != option.negated
