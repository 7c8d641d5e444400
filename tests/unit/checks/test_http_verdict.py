"""When the answer to an HTTP request supports a check, contradicts it, or proves nothing."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from labctl.checks.evidence import CheckEvidence, HttpAnswer
from labctl.checks.http_verdict import judge_answer
from labctl.checks.verdict import cannot_change, evaluate
from labctl.core.resources import Interface
from labctl.core.results import BackendAnswer, Sighting, Verdict
from labctl.core.scenario_types import Check
from labctl.packets.trail import Trail

CLIENT, PROXY, POD = map(ip_address, ("203.0.113.1", "172.31.0.4", "10.244.0.2"))
CHECK = Check("", "http", "internet", "shop.example", 80, path="/")
CLAIMS = replace(CHECK, answered_by=(("a", 1), ("b", 1)), saw=("lb",), forwarded_for="internet")
ANSWER = HttpAnswer(
    200,
    BackendAnswer("a", PROXY, 40000, "web", forwarded_for=str(CLIENT)),
    frozenset({PROXY}),
    frozenset({CLIENT}),
)


def judged(check: Check, answer: HttpAnswer) -> tuple[Verdict, ...]:
    return tuple(verdict for verdict, _ in judge_answer(check, answer))


def test_an_answer_as_claimed_passes_and_says_what_it_was() -> None:
    assert list(judge_answer(CLAIMS, ANSWER)) == [
        ("pass", "status 200 from a, which saw 172.31.0.4 as the client"),
        ("pass", "X-Forwarded-For was 203.0.113.1"),
    ]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (replace(ANSWER, status=503), "expected status 200"),
        (replace(ANSWER, backend=replace(ANSWER.backend, machine="c")), "c answered, not a or b"),
        (replace(ANSWER, backend=replace(ANSWER.backend, client=POD)), "a saw 10.244.0.2 as the client, not lb"),
        (
            replace(ANSWER, backend=replace(ANSWER.backend, forwarded_for="")),
            "X-Forwarded-For was missing, not internet",
        ),
        (
            replace(ANSWER, backend=replace(ANSWER.backend, forwarded_for=f"unknown, {CLIENT}")),
            "X-Forwarded-For was unknown, 203.0.113.1, not internet",
        ),
    ],
)
def test_each_claim_can_fail(answer: HttpAnswer, line: str) -> None:
    assert ("fail", line) in list(judge_answer(CLAIMS, answer))


def test_the_answer_of_another_server_proves_nothing_about_a_machine() -> None:
    stranger = replace(ANSWER, backend=BackendAnswer())

    assert judged(CLAIMS, stranger) == ("pass", "inconclusive")
    assert judged(CHECK, stranger) == ("pass",)
    assert judged(replace(CLAIMS, status=404), stranger) == ("pass", "fail", "inconclusive")


def evidence(answer: HttpAnswer, check: Check = CLAIMS) -> CheckEvidence:
    def seen(at: Interface, direction: str, *, reply: bool) -> Sighting:
        return Sighting(at, 1, direction, CLIENT, PROXY, 64, "tcp", reply)  # type: ignore[arg-type]

    way = (seen(Interface("internet", "eth0"), "out", reply=False), seen(Interface("lb", "eth0"), "in", reply=False))
    back = (seen(Interface("internet", "eth0"), "in", reply=True),)
    return CheckEvidence(check, "internet", "lb", "reply", "status 200", Trail(way, back), http=answer)


def test_the_verdict_of_the_check_is_that_of_its_answer_and_its_packets() -> None:
    good, wrong = evidence(ANSWER), evidence(replace(ANSWER, status=502))

    assert evaluate(good)[0] == "pass"
    assert evaluate(wrong) == ("fail", ("status 502 from a, which saw 172.31.0.4 as the client", "expected status 200",
                                        "X-Forwarded-For was 203.0.113.1"))  # fmt: skip
    assert evaluate(replace(good, trail=Trail(good.trail.requests)))[0] == "inconclusive"
    assert evaluate(replace(good, trail=Trail(good.trail.requests[:1], good.trail.replies)))[0] == "fail"


def test_an_answer_that_contradicts_the_check_is_final() -> None:
    assert cannot_change(evidence(replace(ANSWER, status=502)))
    assert not cannot_change(evidence(ANSWER))
    assert not cannot_change(evidence(replace(ANSWER, status=None)))
