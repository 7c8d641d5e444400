"""What a namespace itself says of a packet that it let in and never answered: which rule dropped it. Pure.

A target that does not answer may be deaf. Only a firewall's counter tells the one from the other: of two
readings, one before the probe and one after it, a rule that drops and that counted in between is evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.core.iptables import CHAIN_TOOLS, STRAY
from labctl.core.iptables_save import Counted
from labctl.core.scenario_types import Check

FELLERS = {"DROP": "dropped", "REJECT": "rejected", "TARPIT": "held"}  # targets that end a packet here
PROTOCOLS = {4: {"ping": "icmp"}, 6: {"ping": "ipv6-icmp"}}


def felled(before: Iterable[Counted], after: Iterable[Counted], check: Check, version: int) -> tuple[str, ...]:
    """The rules and policies that dropped something between two readings of one namespace's firewall, as
    sentences; empty if none did.

    Rules for the other IP version or for another protocol than the check's are no evidence, nor is a chain
    that changed in between.
    """
    first = {one.chain.key: one for one in before}
    family = {4: "ip", 6: "ip6"}[version]
    families = ("bridge", family, STRAY[family])
    protocol = PROTOCOLS[version].get(check.probe, check.probe)
    return tuple(
        line
        for now in after
        if now.chain.family in families and (was := first.get(now.chain.key)) is not None and was.chain == now.chain
        for line in _moved(was, now, protocol)
    )


def _moved(was: Counted, now: Counted, protocol: str) -> Iterator[str]:
    chain = now.chain
    where = f"in {chain.ns} by {CHAIN_TOOLS[chain.family]} -t {chain.table}"
    for rule, (old, _), (new, _) in zip(chain.rules, was.counters, now.counters, strict=True):
        done = FELLERS.get(rule.target or "")
        if done is not None and new > old and (chain.family == "bridge" or _about(rule.args, protocol)):
            yield f"{done} {where} -A {chain.name} {rule}"
    if chain.policy == "DROP" and now.policy[0] > was.policy[0]:
        yield f"dropped {where} -P {chain.name} DROP"


def _about(args: tuple[str, ...], protocol: str) -> bool:
    """Whether a rule can meet packets of this protocol."""
    if "-p" not in args[:-1]:
        return True
    at = args.index("-p")
    return (args[at + 1] == protocol) != (args[at - 1 : at] == ("!",))
