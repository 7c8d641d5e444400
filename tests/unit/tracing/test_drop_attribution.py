"""Which of the kernel's drops is that of the probe, and which are not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from labctl.core.observations import KernelEvent
from labctl.tracing import drop_attribution
from labctl.tracing.evidence import NeighbourObservation, UnansweredNeighbour
from tests.support.observations import SECOND, crossing, lab

# ---- blame -----------------------------------------------------------------------------------------------

DROP = KernelEvent("drop", 25_000, 1, "x", protocol=0x0800, reason="NETFILTER_DROP", location="nf_hook_slow")
LAST = (
    KernelEvent("queue", 1_000, 1, "x", "eth0", 103),
    KernelEvent("receive", 11_000, 1, "x", "pa", 89),
)
LOST = replace(lab(crossing("a", "eth0", "out", 1_500), crossing("sw", "pa", "in", 11_400)), events=(*LAST, DROP))


def blamed(*events: KernelEvent) -> KernelEvent | None:
    evidence = replace(LOST, events=events)
    return drop_attribution.find_drop_event(evidence, evidence.hops["request"])


def test_the_drop_that_follows_the_last_passage_is_ours() -> None:
    assert blamed(*LAST, DROP) == DROP


@pytest.mark.parametrize(
    "events",
    [
        (*LAST, replace(DROP, skb="y")),
        (*LAST, replace(DROP, when=10_000)),
        (*LAST, replace(DROP, when=25_000_000)),
        (*LAST, replace(DROP, pid=2)),
        (*LAST, replace(DROP, reason="OTHERHOST")),
        (*LAST, KernelEvent("receive", 20_000, 1, "x", "pb", 89), DROP),
        (*LAST, KernelEvent("queue", 20_000, 2, "x", "eth0", 103), replace(DROP, pid=2)),
        (replace(LAST[1], length=1500), DROP),
        (replace(LAST[1], dev="pb"), DROP),
        (DROP,),
    ],
    ids=["another", "before", "late", "thread", "harmless", "reused", "reused-by-other", "length", "device", "unseen"],
)
def test_no_other_drop_is(events: tuple[KernelEvent, ...]) -> None:
    assert blamed(*events) is None


def test_a_packet_that_waits_for_a_neighbour_is_dropped_late_and_by_a_timer() -> None:
    late = replace(DROP, when=3 * SECOND, pid=0, reason="NEIGH_FAILED")
    assert blamed(*LAST, late) == late


def test_of_two_packets_that_fit_alike_neither_is_blamed() -> None:
    twin = tuple(replace(event, skb="y", when=event.when + 500) for event in (*LAST, DROP))
    assert blamed(*LAST, DROP, *twin) is None


def test_a_packet_that_was_seen_before_is_preferred_to_one_that_only_is_near() -> None:
    near = replace(LAST[1], skb="y", when=11_401)
    assert blamed(*LAST, near, DROP, replace(DROP, skb="y", reason="QDISC_DROP")) == DROP


def test_a_drop_after_the_question_for_the_next_hop_is_that_of_the_question() -> None:
    next_hop = ip_address("10.0.0.2")
    question = NeighbourObservation("a", "eth0", "out", 10_000, next_hop, True, ip_address("10.0.0.1"))
    waiting = replace(
        lab(),
        pid=1,
        unanswered_neighbours=(UnansweredNeighbour("a", "eth0", next_hop),),
        neighbour_observations=(question,),
    )

    def before_device(event: KernelEvent) -> KernelEvent | None:
        return drop_attribution.find_drop_event(replace(waiting, events=(event,)), ())

    assert before_device(DROP) is None
    assert before_device(replace(DROP, when=5_000)) is not None
    assert before_device(replace(DROP, reason="NEIGH_QUEUEFULL")) is not None
