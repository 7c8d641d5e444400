"""How often a check that expects silence is tried: silence counts only if nothing else explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.checks import attempt as attempts
from labctl.checks.evidence import CheckEvidence
from labctl.core.neighbour_tables import FullTable
from labctl.core.resources import Interface
from labctl.core.results import Sighting
from labctl.core.scenario_types import Check
from labctl.packets.trail import Trail

A, GATEWAY = ip_address("10.244.0.2"), ip_address("10.244.0.1")
ETH0 = Interface("a", "eth0")
QUESTION = Sighting(ETH0, 0, "out", A, GATEWAY, 0, "arp", False)
CHECK = Check("a reaches c", "ping", "a", "c", expect="fail")


def evidence(answer: Any = "timeout", questions: int = 0, **more: Any) -> CheckEvidence:
    trail = Trail(neighbour_requests=(QUESTION,) * questions)
    missing = ((ETH0, GATEWAY),) if questions and not more.pop("late", False) else ()
    return CheckEvidence(more.pop("check", CHECK), "a", "c", answer, "", trail, unanswered_neighbours=missing, **more)


@dataclass
class Played:
    """The attempts of a test, in place of real ones: what each finds, and its verdict."""

    found: Sequence[tuple[CheckEvidence, str]]
    number: int = 0

    def __call__(self, *_: Any) -> Any:
        evidence, verdict = self.found[self.number]
        self.number += 1
        return SimpleNamespace(run=lambda: (evidence, (verdict, ())))


def attempted(check: Check) -> CheckEvidence:
    context: Any = SimpleNamespace(taps=SimpleNamespace(packets=list))
    return attempts.attempt(context, check, A)[0]


FULL = evidence(full_tables=(FullTable(4),))


@pytest.mark.parametrize(
    ("found", "answered", "number"),
    [
        ([(evidence(), "pass")], True, 1),
        ([(evidence(questions=2), "pass")], True, 1),  # asked again, and again without an answer
        ([(evidence(questions=1), "pass")], False, 1),
        ([(evidence(questions=1), "pass"), (evidence(), "fail")], True, 2),
        ([(evidence(questions=1), "fail"), (evidence(), "pass")], True, 2),
        ([(evidence(questions=2, late=True), "inconclusive"), (evidence(), "fail")], False, 2),
        ([(evidence(questions=1, late=True), "pass")], False, 1),
        ([(evidence(questions=1), "pass")] * 3, True, 3),
        ([(evidence("unreachable", questions=1), "pass")], True, 1),  # the kernel gave up: it asks no more
        ([(evidence("reply", questions=1), "fail")], True, 1),
        ([(FULL, "inconclusive"), (evidence(), "pass")], False, 2),
        ([(FULL, "inconclusive")] * 3, False, 3),
        ([(FULL, "pass")], False, 1),
    ],
)
def test_silence_is_tried_again_while_it_proves_nothing(
    found: Sequence[tuple[CheckEvidence, str]], answered: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`answered` is whether the neighbour answers after the attempt, `number` how many attempts there must be."""
    played = Played(found)
    monkeypatch.setattr(attempts, "CheckAttempt", played)
    monkeypatch.setattr(attempts, "NEIGHBOUR_RETRY_S", 0.0)
    monkeypatch.setattr(attempts, "NEIGHBOUR_ANSWER_S", 0.05)
    monkeypatch.setattr(attempts, "unanswered_neighbours", lambda _: () if answered else ((ETH0, GATEWAY),))

    assert attempted(CHECK) is found[number - 1][0]
    assert played.number == number


def test_a_question_that_others_repeat_is_one_question() -> None:
    repeated = [replace(QUESTION, time_ns=n, at=Interface("node1", "eth0")) for n in (1, 2)]
    found = replace(evidence(questions=1), trail=Trail(neighbour_requests=(QUESTION, *repeated)))
    assert (found.neighbours_asked_once, found.neighbours_answered_late) == (((ETH0, GATEWAY),), ())


def test_a_check_that_expects_an_answer_is_attempted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check = replace(CHECK, expect="reply")
    played = Played([(evidence(questions=1, check=check), "fail")])
    monkeypatch.setattr(attempts, "CheckAttempt", played)
    attempted(check)
    assert played.number == 1
