"""When a neighbour that has not answered is called silent: never while an answer may still come."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.resources import Interface, Link
from labctl.tracing.evidence import UnansweredNeighbour
from labctl.tracing.silence import ANSWER_TIMEOUT_S, AnswerTimes, is_silent, late_answers, leads_outside

SECOND = 1_000_000_000
AT_ONCE = AnswerTimes(delay_s=0.0, retry_s=1.0)


@pytest.mark.parametrize(
    ("questions_s", "now_s", "times", "silent"),
    [
        ((), 9.0, AT_ONCE, False),
        ((0.0,), 0.9, AT_ONCE, False),
        ((0.0,), 1.1, AT_ONCE, False),  # the second question is late, as on a busy machine
        ((0.0,), 1.3, AT_ONCE, True),  # there is no second question: the kernel has given up
        ((0.0,), 1.3, AnswerTimes(0.0, 5.0), False),  # it asks again after five seconds
        ((0.0, 1.0), 1.1, AT_ONCE, False),
        ((0.0, 1.0), 1.3, AT_ONCE, True),
        ((0.0, 1.0, 2.0), 2.1, AT_ONCE, False),
        ((0.0, 1.0), 1.9, AnswerTimes(0.8, 1.0), False),  # a proxy may still answer
        ((0.0, 1.0), 2.1, AnswerTimes(0.8, 1.0), True),
        ((0.0,), 2.0, AnswerTimes(0.8, 1.0), False),
        ((0.0,), 2.1, AnswerTimes(0.8, 1.0), True),
    ],
)
def test_two_questions_without_an_answer_are_enough(
    questions_s: tuple[float, ...], now_s: float, times: AnswerTimes, silent: bool
) -> None:
    assert 0.1 < ANSWER_TIMEOUT_S < 0.3
    assert is_silent([int(one * SECOND) for one in questions_s], int(now_s * SECOND), times) is silent


def test_a_question_that_leaves_the_lab_may_have_a_late_answer() -> None:
    links = [
        Link(Interface("a", "eth0"), "veth", peer=Interface("b", "p0")),
        Link(Interface("b", "tap0"), "tun"),
    ]

    assert not leads_outside([("a", "eth0")], links)
    assert leads_outside([("a", "eth0"), ("b", "tap0")], links)
    assert leads_outside([("b", "made-by-hand")], links)


def test_an_answer_after_the_decision_is_reported() -> None:
    first, second = (UnansweredNeighbour("r2", "h2", ip_address(f"10.2.0.{number}")) for number in (7, 8))

    assert late_answers([first, second], [second, first]) == ()
    assert late_answers([first, second], [first]) == ("r2/h2 got an answer for 10.2.0.8 too late for the trace",)
