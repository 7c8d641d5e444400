"""What the rules around a rule say about it."""

from __future__ import annotations

import pytest

from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters
from labctl.core.resources import Chain
from labctl.tracing.rule_context import passing_states

KNOWN = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


def _chain(name: str, *rules: str) -> Chain:
    return Chain("node", "filter", name, tuple(rule(one) for one in rules))


@pytest.mark.parametrize(
    ("rules", "number", "states"),
    [
        (("-j DROP",), 1, ()),
        ((KNOWN, "-j DROP"), 2, ("ESTABLISHED",)),
        ((KNOWN, "-j DROP"), 3, ("ESTABLISHED",)),  # the policy
        (("-j DROP", KNOWN), 1, ()),
        (("-m conntrack --ctstate INVALID -j DROP",), 1, ("ESTABLISHED", "NEW")),
        (("-m state --state NEW -j DROP",), 1, ("ESTABLISHED",)),
        (("-m conntrack ! --ctstate ESTABLISHED -j DROP",), 1, ("ESTABLISHED",)),
        (("-m conntrack --ctstate ESTABLISHED -j DROP",), 1, ("NEW",)),
        (("-m conntrack --ctstate ESTABLISHED -j LOG", "-j DROP"), 2, ()),
        (("-m conntrack ! --ctstate ESTABLISHED -j ACCEPT", "-j DROP"), 2, ()),
        (("-m state --state NEW -j OWN", "-j DROP"), 2, ("ESTABLISHED", "NEW")),
        (("-j OWN", "-j DROP"), 2, ("ESTABLISHED",)),
    ],
)
def test_states_that_pass(rules: tuple[str, ...], number: int, states: tuple[str, ...]) -> None:
    chains = [_chain("FORWARD", *rules), _chain("OWN", KNOWN)]
    found = {(one.family, one.table, one.name): ChainCounters(one, ()) for one in chains}

    assert passing_states(found, chains[0], number) == states


def test_rules_in_the_chains_before_count() -> None:
    chains = [_chain("FORWARD", KNOWN, "-j OWN"), _chain("OWN", "-j DEEP"), _chain("DEEP", "-j DROP", "-j FORWARD")]
    found = {(one.family, one.table, one.name): ChainCounters(one, ()) for one in chains}

    assert passing_states(found, chains[2], 1) == ("ESTABLISHED",)
