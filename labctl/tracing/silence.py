"""Whether a neighbour that has not answered will not answer any more, although the kernel still asks. Pure.

The kernel asks three times, a second apart, and gives up a second after the third question. A trace waits for the
second question, and then as long as an answer to it may take. One lost question, or a carrier that came late, is
not enough. Where an answer may come at any time, the trace waits until the kernel gives up.

Then labctl makes the kernel give up at once: the kernel's drop of the probe and its ICMP error belong to the evidence,
and later questions and errors would disturb the next trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.core.resources import Link
from labctl.core.sentence import sentence
from labctl.tracing.evidence import UnansweredNeighbour

QUESTIONS = 2  # questions without an answer that are enough
ANSWER_TIMEOUT_S = 0.2  # seconds for the answer of a kernel, which needs microseconds unless the machine is busy
OUTSIDE_KINDS = ("tun", "physical")  # devices that lead out of the lab's kernel, to a program or a cable


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """How late an answer may come because of proxies, and after how long the kernel asks again, both in seconds."""

    delay_s: float
    retry_s: float


def is_silent(question_times: Sequence[int], now_ns: int, times: AnswerTimes) -> bool:
    """Whether enough questions had no answer by `now_ns`, or the kernel does not ask any more: a question that began
    before the probe can be the last one. `question_times` are the times at which the questions left, in ns."""
    if not question_times:
        return False
    left_s = (now_ns - question_times[-1]) / 1e9 - ANSWER_TIMEOUT_S - times.delay_s
    return left_s > (0 if len(question_times) >= QUESTIONS else times.retry_s)


def leads_outside(devices: Iterable[tuple[str, str]], links: Iterable[Link]) -> bool:
    """Whether a question left by a device (namespace, name) that may lead out of the lab: it is not in the plan, or is
    of such a kind."""
    inside = {(link.at.ns, link.at.dev) for link in links if link.kind not in OUTSIDE_KINDS}
    return any(device not in inside for device in devices)


def late_answers(
    missing: Iterable[UnansweredNeighbour], still_missing: Iterable[UnansweredNeighbour]
) -> tuple[str, ...]:
    """A sentence for each neighbour that answered after the trace had called it silent."""
    answered = set(missing) - set(still_missing)
    return tuple(
        sorted(
            sentence(
                "{node}/{dev} got an answer for {ip} too late for the trace", node=one.node, dev=one.dev, ip=one.ip
            )
            for one in answered
        )
    )
