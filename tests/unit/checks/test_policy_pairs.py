"""Which packets the counters of rules say were dropped between two readings."""

from __future__ import annotations

from labctl.checks.policy_pairs import _dropped
from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters
from labctl.core.resources import Chain

CHAIN = Chain("node1", "filter", "cali-tw-a", (rule("-j RETURN"), rule("-j DROP"), rule("-j REJECT")))
FORWARD = Chain("node1", "filter", "FORWARD", (rule("-j ACCEPT"),), "DROP")


def counters(chain: Chain, *packets: int, policy: int = 0) -> ChainCounters:
    return ChainCounters(chain, tuple((one, 60 * one) for one in packets), (policy, 60 * policy))


def test_only_rules_and_policies_that_drop_or_reject_count() -> None:
    before = counters(CHAIN, 1, 2, 3), counters(FORWARD, 4, policy=5)
    after = counters(CHAIN, 100, 5, 9), counters(FORWARD, 400, policy=9)

    assert _dropped(before, after) == (5 - 2) + (9 - 3) + (9 - 5)
    assert _dropped(before, before) == 0


def test_a_chain_that_changed_meanwhile_proves_nothing() -> None:
    other = Chain("node1", "filter", "cali-tw-a", (rule("-j DROP"),))

    assert _dropped((counters(other, 0),), (counters(CHAIN, 0, 7, 0),)) == 0
