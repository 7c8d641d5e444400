"""Which firewall rule of the target counted a drop while the probe was under way. Pure.

A target that does not answer may drop the probe by a rule, or it may not process packets at all. Only the
firewall's counters show the difference. They are read before and after the probe: a rule that drops packets
and whose counter increased in between is evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.core.iptables import CHAIN_TOOLS, LEGACY_FAMILIES
from labctl.core.iptables_save import ChainCounters
from labctl.core.probe_kinds import probe_kind
from labctl.core.scenario_types import Check

TERMINATING_TARGETS = {"DROP": "dropped", "REJECT": "rejected", "TARPIT": "held"}  # targets that end the packet


def drops_since(
    before: Iterable[ChainCounters], after: Iterable[ChainCounters], check: Check, version: int
) -> tuple[str, ...]:
    """The rules and policies that dropped packets between two readings of one namespace's firewall, as
    sentences; empty if none did.

    These are not evidence: rules for the other IP version, rules for a protocol other than the check's, and
    chains that changed in between.
    """
    first = {one.chain.key: one for one in before}
    family = {4: "ip", 6: "ip6"}[version]
    families = ("bridge", family, LEGACY_FAMILIES[family])
    protocol = probe_kind(check).ip_protocol(version)
    return tuple(
        line
        for now in after
        if now.chain.family in families and (was := first.get(now.chain.key)) is not None and was.chain == now.chain
        for line in _counter_increases(was, now, protocol)
    )


def _counter_increases(was: ChainCounters, now: ChainCounters, protocol: str) -> Iterator[str]:
    chain = now.chain
    where = f"in {chain.ns} by {CHAIN_TOOLS[chain.family]} -t {chain.table}"
    for rule, (old, _), (new, _) in zip(chain.rules, was.rule_counters, now.rule_counters, strict=True):
        done = TERMINATING_TARGETS.get(rule.target or "")
        if done is not None and new > old and (chain.family == "bridge" or _matches_protocol(rule.args, protocol)):
            yield f"{done} {where} -A {chain.name} {rule}"
    if chain.policy == "DROP" and now.policy_counter[0] > was.policy_counter[0]:
        yield f"dropped {where} -P {chain.name} DROP"


def _matches_protocol(args: tuple[str, ...], protocol: str) -> bool:
    """Whether a rule can match packets of this protocol."""
    if "-p" not in args[:-1]:
        return True
    at = args.index("-p")
    return (args[at + 1] == protocol) != (args[at - 1 : at] == ("!",))
