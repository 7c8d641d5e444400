"""Which packets the counters of rules say were dropped between two readings."""

from __future__ import annotations

import pytest

from labctl.checks.policy_pairs import BY_RULES, DroppedPackets, _dropped
from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters
from labctl.core.resources import Chain, Plan
from labctl.core.scenario_types import Lab
from labctl.kernel.namespaces.thread import NetnsThread

CHAIN = Chain("node1", "filter", "cali-tw-a", (rule("-j RETURN"), rule("-j DROP"), rule("-j REJECT")))
FORWARD = Chain("node1", "filter", "FORWARD", (rule("-j ACCEPT"),), "DROP")


def counters(chain: Chain, *packets: int, policy: int = 0) -> ChainCounters:
    return ChainCounters(chain, tuple((one, 60 * one) for one in packets), (policy, 60 * policy))


def test_only_rules_and_policies_that_drop_or_reject_count() -> None:
    before = counters(CHAIN, 1, 2, 3), counters(FORWARD, 4, policy=5)
    after = counters(CHAIN, 100, 5, 9), counters(FORWARD, 400, policy=9)

    assert _dropped(before, after, ("ip",)) == (5 - 2) + (9 - 3) + (9 - 5)
    assert _dropped(before, before, ("ip",)) == 0
    assert _dropped(before, after, ("ip6",)) == 0


def test_a_chain_that_changed_meanwhile_proves_nothing() -> None:
    other = Chain("node1", "filter", "cali-tw-a", (rule("-j DROP"),))

    assert _dropped((counters(other, 0),), (counters(CHAIN, 0, 7, 0),), ("ip",)) == 0


@pytest.mark.parametrize(("dropped", "is_explained"), [(1, False), (2, True), (3, False)])
def test_only_exactly_as_many_drops_explain_the_silence(
    monkeypatch: pytest.MonkeyPatch, dropped: int, is_explained: bool
) -> None:
    """More drops than pairs: something else was dropped too, which can hide a late packet."""
    readings = iter([{"node1": (counters(CHAIN, 0, 5, 5),)}, {"node1": (counters(CHAIN, 9, 5 + dropped, 5),)}])
    monkeypatch.setattr(DroppedPackets, "_read", lambda _: next(readings))
    packets = DroppedPackets(Lab("x", "raw", Plan((CHAIN,)), (), ()), NetnsThread(), {4})

    packets.begin()

    assert packets.explain(2) == (BY_RULES if is_explained else "")


def test_each_try_is_counted_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two silent pairs the rules drop one, in both tries: together that are two, and still one is not explained."""
    drops = [0]
    monkeypatch.setattr(DroppedPackets, "_read", lambda _: {"node1": (counters(CHAIN, 0, drops[0], 0),)})
    packets = DroppedPackets(Lab("x", "raw", Plan((CHAIN,)), (), ()), NetnsThread(), {4})

    for _ in range(2):
        packets.begin()
        drops[0] += 1
        assert packets.explain(2) == ""
