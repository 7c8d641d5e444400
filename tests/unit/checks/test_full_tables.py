"""Verdicts while the machine's neighbour table was full: a missing answer proves nothing about the lab."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from labctl.checks.evidence import CheckEvidence, Expectation
from labctl.checks.verdict import evaluate
from labctl.core.neighbour_tables import FullTable
from labctl.core.resources import Interface
from labctl.core.results import Sighting
from labctl.core.scenario_types import Check, See
from labctl.packets.trail import Trail

A, C = ip_address("10.244.0.2"), ip_address("10.244.1.2")
FULL = (FullTable(4),)
PING = Check("a reaches c", "ping", "a", "c")
TCP = Check("a reaches c", "tcp", "a", "c", 80)
LEFT = Sighting(Interface("a", "eth0"), 0, "out", A, C, 64, "icmp", False)
ARRIVED = replace(LEFT, at=Interface("c", "eth0"), direction="in")


def evidence(check: Check, answer: Any, *requests: Sighting, **more: Any) -> CheckEvidence:
    trail = more.pop("trail", Trail(requests=requests))
    return CheckEvidence(check, "a", "c", answer, more.pop("detail", "no answer"), trail, **more)


RESTS_ON_SILENCE = {
    "no reply": evidence(PING, "timeout", LEFT),
    "never seen": evidence(PING, "timeout"),
    "no neighbour": evidence(PING, "unreachable", LEFT),
    "no connection": evidence(TCP, "timeout", LEFT),
    "no refusal": evidence(replace(TCP, expect="refused"), "timeout", LEFT),
    "not sent": evidence(PING, "broken", detail="sendmsg: No buffer space available"),
    "not sent by IPv6": evidence(PING, "blocked", detail="ping: sendmsg: Invalid argument"),
    "silence": evidence(replace(PING, expect="fail"), "timeout", LEFT),
    "silence of TCP": evidence(replace(TCP, expect="timeout"), "timeout", LEFT),
    "silence of IPv6": evidence(replace(PING, expect="fail"), "blocked", detail="ping: sendmsg: Invalid argument"),
}


@pytest.mark.parametrize("found", RESTS_ON_SILENCE.values(), ids=RESTS_ON_SILENCE)
def test_a_missing_answer_proves_nothing_while_the_table_is_full(found: CheckEvidence) -> None:
    full, lines = evaluate(replace(found, full_tables=FULL))

    assert full == "inconclusive"
    assert str(FULL[0]) in lines
    assert evaluate(found)[0] != "inconclusive" or found.answer == "broken"


REPLIED = evidence(PING, "reply", trail=Trail((LEFT, ARRIVED), (replace(LEFT, direction="in", reply=True),)))
CERTAIN = {
    "a reply": REPLIED,
    "a reply that must not come": replace(REPLIED, check=replace(PING, expect="fail")),
    "a reply that looks wrong": replace(
        REPLIED, expectations=(Expectation(See(Interface("c", "eth0"), ttl=63)),), check=replace(PING, within=1)
    ),
    "a refusal": evidence(TCP, "refused", LEFT),
    "no route": evidence(PING, "blocked", detail="connect: Network is unreachable"),
    "a rule": evidence(replace(PING, expect="fail"), "timeout", LEFT, ARRIVED, silence_reasons=("rule 1 dropped it",)),
    "a device": evidence(PING, "timeout", LEFT, faults={"c": ("c/eth0 is down",)}),
}


@pytest.mark.parametrize("found", CERTAIN.values(), ids=CERTAIN)
def test_what_was_seen_or_has_another_reason_counts_although_the_table_was_full(found: CheckEvidence) -> None:
    assert evaluate(replace(found, full_tables=FULL)) == evaluate(found)
    assert evaluate(found)[0] in ("pass", "fail")
