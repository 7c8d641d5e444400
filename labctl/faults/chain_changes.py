"""Changes of a firewall chain: a rule more, a rule less, another policy. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.iptables import FirewallRule, rule
from labctl.core.resources import Chain
from labctl.faults.lab_objects import LabObjects


def insert_rule(
    objects: LabObjects, ns: str, table: str, chain: str, text: str, *, family: str = "ip", before: int = 0
) -> Change:
    """A rule in front of the others of a chain, or before its rule number `before` (from 0). The chain may not be in
    the plan yet."""
    planned = objects.chain(ns, table, chain, family)
    base = planned if planned is not None else Chain(ns, table, chain, family=family)
    rules = (*base.rules[:before], rule(text, family), *base.rules[before:])
    return Change(replace(base, rules=rules), planned)


def without_rule(chain: Chain, number: int) -> Change:
    """The chain without its rule number `number` (from 0)."""
    return Change(replace(chain, rules=chain.rules[:number] + chain.rules[number + 1 :]), chain)


def with_rule(chain: Chain, number: int, text: str) -> Change:
    """The chain with another rule in the place `number` (from 0)."""
    rules = (*chain.rules[:number], rule(text, chain.family), *chain.rules[number + 1 :])
    return Change(replace(chain, rules=rules), chain)


def with_policy(objects: LabObjects, ns: str, chain: str, policy: str, family: str = "ip") -> Change:
    """A chain of the table filter with another policy."""
    planned = objects.chain(ns, "filter", chain, family)
    base = planned if planned is not None else Chain(ns, "filter", chain, family=family)
    return Change(replace(base, policy=policy), planned)


def reachable_chains(objects: LabObjects, ns: str, table: str, first: str, family: str = "ip") -> tuple[Chain, ...]:
    """A built-in chain of the plan, and every chain that its rules may jump to, directly or not."""
    found: dict[str, Chain] = {}
    names = [first]
    while names:
        chain = objects.chain(ns, table, names.pop(0), family)
        if chain is not None and chain.name not in found:
            found[chain.name] = chain
            names += [one.target for one in chain.rules if one.target is not None]
    return tuple(found.values())


def reaches_policy(objects: LabObjects, ns: str, chain: str, family: str = "ip") -> bool:
    """Whether every packet comes to the policy of a chain of the table filter: no rule ends its way before."""
    ends = ("ACCEPT", "DROP", "REJECT")
    chains = reachable_chains(objects, ns, "filter", chain, family)
    return not any(one.target in ends for found in chains for one in found.rules)


def rules_with_target(
    objects: LabObjects, ns: str, table: str, first: str, wanted: Callable[[FirewallRule], bool]
) -> Iterator[tuple[Chain, int]]:
    """The rules that packets may reach from a built-in chain and that `wanted` accepts: their chain and number."""
    for chain in reachable_chains(objects, ns, table, first):
        for number, one in enumerate(chain.rules):
            if wanted(one):
                yield chain, number
