"""Judge a `predict` task: what the learner said, against what a trace of the packet has measured. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, get_args

from labctl.core.exercise_types import PredictGoal
from labctl.core.judgement import Judgement
from labctl.core.names import did_you_mean, summarize_names
from labctl.core.resources import IP
from labctl.core.sentence import Sentence, joined, one_of, sentence
from labctl.errors import UsageError
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hops import PacketObservation
from labctl.tracing.result import TraceResult, TraceVerdict

FindAddresses: TypeAlias = Callable[[str], tuple[IP, ...]]  # the addresses of a machine, a point or an address
VERDICTS: tuple[str, ...] = get_args(TraceVerdict)
NOTHING = ("nothing", "none", "never")  # for a packet that is not seen at the point


@dataclass(frozen=True, slots=True)
class AnswerWords:
    """What an answer may be made of: the machines of the lab, and the addresses of a name."""

    machines: tuple[str, ...]
    addresses: FindAddresses


def answer_form(goal: PredictGoal) -> str:
    """What an answer looks like."""
    if goal.ask == "verdict":
        return one_of(VERDICTS)
    if goal.ask == "ttl":
        return sentence("a number, or `nothing` if no packet comes there")
    if goal.ask == "path":
        return sentence("the machines in their order, such as `a node1 b`")
    if goal.ask == "last":
        return sentence("the name of a machine")
    return sentence("a machine, a point or an address, or `nothing` if no packet comes there")


def require_answer(goal: PredictGoal, answer: str, words: AnswerWords) -> None:
    """Refuse an answer that cannot be one, before it counts. Raises UsageError."""
    hint = f"an answer is {answer_form(goal)}"
    if goal.ask == "verdict" and answer not in VERDICTS:
        raise UsageError(f"{answer!r} is not a verdict of a trace", did_you_mean(answer, VERDICTS) or hint)
    if goal.ask in ("path", "last"):
        given = path_words(answer)
        if goal.ask == "last" and len(given) != 1:
            raise UsageError(f"{answer!r} is not one machine", hint)
        for word in given:
            if word not in words.machines:
                known = f"the machines are {summarize_names(words.machines, 30)}"
                raise UsageError(f"there is no machine {word!r}", did_you_mean(word, words.machines, 0.5) or known)
    if answer.lower() in NOTHING:
        return
    if goal.ask == "ttl" and not (answer.isascii() and answer.isdigit()):
        raise UsageError(f"{answer!r} is not a TTL", hint)
    if goal.ask in ("src", "dst") and not words.addresses(answer):
        raise UsageError(f"{answer!r} is not an address of this lab", did_you_mean(answer, words.machines, 0.7) or hint)


def path_words(answer: str) -> tuple[str, ...]:
    """The machines of an answer, however they are separated."""
    for separator in ("->", ">", ","):
        answer = answer.replace(separator, " ")
    return tuple(answer.split())


def judge_prediction(
    goal: PredictGoal, answer: str, evidence: TraceEvidence, result: TraceResult, words: AnswerWords
) -> Judgement:
    """The judgement on an answer. A wrong one is `missed`, since the measured answer is part of the judgement."""
    if evidence.answer == "broken":
        return Judgement("unclear", (sentence("the packet could not be sent: {detail}", detail=evidence.detail),))
    if goal.ask == "verdict":
        is_right, seen = answer == result.verdict, joined("; ", (f"{goal.probe}: {result.verdict}", result.sentence))
    elif goal.ask in ("path", "last"):
        path = _path(result) or (goal.probe.source,)
        measured = path if goal.ask == "path" else path[-1:]
        is_right = path_words(answer) == measured
        words_of = {"probe": goal.probe, "machines": " ".join(measured)}
        seen = sentence("{probe} came as far as {machines}", **words_of)
        if goal.ask == "path":
            seen = sentence("{probe} passed {machines}", **words_of)
        if not _path(result):
            seen = sentence("{probe} never left {source}", probe=goal.probe, source=goal.probe.source)
    else:
        is_right, seen = _at_point(goal, answer, evidence, words)
    return Judgement("passed" if is_right else "missed", (sentence("measured: {result}", result=seen),))


def _path(result: TraceResult) -> tuple[str, ...]:
    return tuple(step.node for leg in result.legs if leg.name == "request" for step in leg.steps)


def _at_point(goal: PredictGoal, answer: str, evidence: TraceEvidence, words: AnswerWords) -> tuple[bool, Sentence]:
    assert goal.at is not None
    found = next(_requests(goal, evidence), None)
    if found is None:
        return answer.lower() in NOTHING, sentence("{probe} is not seen at {point}", probe=goal.probe, point=goal.at)
    words_of = {"probe": goal.probe, "point": goal.at, "packet": f"{found.src} > {found.dst} ttl {found.ttl}"}
    seen = sentence("{probe} leaves {point} as {packet}", **words_of)
    if found.direction == "in":
        seen = sentence("{probe} enters {point} as {packet}", **words_of)
    if goal.ask == "ttl":
        return answer == str(found.ttl), seen
    return (found.src if goal.ask == "src" else found.dst) in words.addresses(answer), seen


def _requests(goal: PredictGoal, evidence: TraceEvidence) -> Iterator[PacketObservation]:
    for item in evidence.observations:
        if goal.at is not None and item.role == "request" and (item.node, item.dev) == (goal.at.ns, goal.at.dev):
            yield item
