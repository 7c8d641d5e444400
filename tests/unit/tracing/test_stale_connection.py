"""A connection in conntrack that is older than the nat rules: it is named only if it is certain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from labctl.core.iptables import rule
from labctl.core.resources import Chain
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import NatTable, RuleHit, TraceEvidence
from labctl.tracing.stale_connection import find_stale_connection
from tests.support.traces import recording

LOST = "old-backend-dead"  # its rule is the second one of PREROUTING
TO_77 = "-j DNAT --to-destination 10.2.1.77"
Change = Callable[[TraceEvidence], TraceEvidence]


def with_rules(*rules: str) -> Change:
    """The same trace with these rules in PREROUTING."""
    table = NatTable("r", (Chain("r", "nat", "PREROUTING", tuple(rule(text) for text in rules), "ACCEPT"),))
    return lambda found: replace(found, nat_tables=(table,))


def with_flow(**fields: object) -> Change:
    """The same trace with other values of the entry that was there before."""
    return lambda found: replace(found, flows_before=(replace(found.flows_before[0], **fields),))  # type: ignore[arg-type]


def asked_nat(found: TraceEvidence) -> TraceEvidence:
    """The same trace with a report that the packet passed the nat table."""
    question = found.question
    hit = RuleHit(
        "r", "request", "ip", 0, "nat", "PREROUTING", "policy", 2, found.observations[0].src, question.address
    )  # fmt: skip
    return replace(found, rule_hits=(hit,))


def test_the_recording_has_a_stale_connection() -> None:
    found = find_stale_connection(recording(LOST))

    assert found is not None
    assert (found.node, found.end, str(found.after[0])) == ("r", "destination", "10.2.1.77")


@pytest.mark.parametrize(
    "change",
    [
        with_rules(f"-d 10.96.0.77/32 {TO_77}"),
        with_rules(f"-d 10.96.0.77/32 -m mark --mark 1 {TO_77}"),
        with_rules(f"-m statistic --mode random --probability 0.5 {TO_77}", "-j DNAT --to-destination 10.2.1.2"),
        with_rules(),  # no rule needs conntrack, so the kernel does not use it
        lambda found: replace(found, nat_tables=()),  # the rules are not known
        lambda found: replace(found, flows_before=()),
        with_flow(id=1),  # another entry is there afterwards
        with_flow(zone=7),
        with_flow(state="TIME_WAIT"),
        with_flow(sport=4999),
        asked_nat,
    ],
)  # fmt: skip
def test_what_is_not_certain_is_not_named(change: Change) -> None:
    assert find_stale_connection(change(recording(LOST))) is None


def test_a_packet_that_left_otherwise_is_not_blamed_on_the_entry() -> None:
    found = recording("old-backend")
    moved = tuple(
        replace(item, dport=99) if (item.node, item.direction) == ("r", "out") else item for item in found.observations
    )

    assert find_stale_connection(found) is not None
    assert find_stale_connection(replace(found, observations=moved)) is None


def test_an_entry_that_the_rules_would_make_again_is_not_told() -> None:
    story = diagnose(recording("same-backend"))

    assert recording("same-backend").flows_before
    assert {note.label for note in story.facts} == {"conntrack"}
    assert story.tries == ()


def test_the_entry_is_told_once() -> None:
    texts = [note.text for note in diagnose(recording("old-backend-answers")).facts if note.label == "conntrack"]

    assert len(texts) == 1
    assert "there before the probe" in texts[0]


def test_the_advice_deletes_the_entry_in_its_own_direction() -> None:
    (advice,) = diagnose(recording("answer-of-another")).tries

    assert advice == "labctl exec r -- conntrack -D -p udp -s 10.2.2.2 -d 10.1.0.2 --sport 7000 --dport 4010"


def test_the_age_is_told_if_the_kernel_keeps_it() -> None:
    found = with_flow(age_s=42)(recording(LOST))
    texts = [note.text for note in diagnose(found).facts]

    assert any("there before the probe, 42 s old, expires in" in text for text in texts)


def test_a_source_that_conntrack_kept_is_not_blamed_on_the_rules() -> None:
    found = recording("before-the-masquerade")
    with_nat = tuple(replace(one, tables=("ip nat",)) if one.node == "r" else one for one in found.namespaces)
    result = diagnose(replace(found, namespaces=with_nat))
    fresh = diagnose(replace(found, namespaces=with_nat, flows_before=()))

    assert result.why is not None
    assert result.why.kind == "stale-conntrack"
    assert not any("no rule of nat/POSTROUTING" in note.text for note in result.facts)
    assert any("no rule of nat/POSTROUTING" in note.text for note in fresh.facts)
