"""An answer about policies as text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from labctl.core.names import summarize_names
from labctl.core.text import count
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.policy_explanation import DirectionExplanation, Explanation
from labctl.kubernetes.policies.policy_question import PolicyAnswer
from labctl.kubernetes.policies.policy_words import endpoint_name, traffic_words

Paint: TypeAlias = Callable[[str, str], str]
MAX_WAYS = 3  # nodes that are named for a backend
MAX_MISSES = 5  # rules that nearly fit, of one direction, without -v


def lines(answer: PolicyAnswer, paint: Paint = lambda text, _: text, *, verbose: bool = False) -> Iterator[str]:
    """The answer: a line with the verdict, then each direction, with what decides and what nearly did."""
    flow = f"{answer.source} -> {answer.target}, {traffic_words(answer.protocol, answer.port)}"
    is_mixed = len({one.verdict.allowed for one in answer.explanations}) > 1
    yield f"{flow}: {paint('partly allowed', 'yellow') if is_mixed else _word(answer.allowed, paint)}"
    yield from (f"  {note}" for note in answer.notes)
    for one in answer.explanations:
        indent = "  "
        if answer.service:
            yield ""
            name = f"backend {endpoint_name(one.target)} at {one.protocol} {one.port}{_ways(one)}"
            yield f"  {name}: {_word(one.verdict.allowed, paint)}"
            indent = "    "
        yield from (indent + line for line in _explanation(one, paint, verbose=verbose))


def _ways(one: Explanation) -> str:
    """The ways to a backend, if the source that is judged is not the same on all."""
    if isinstance(one.source, Pod) and not any(way.seen_as for way in one.ways):
        return ""
    return f" by way of {summarize_names(one.ways, MAX_WAYS)}" if one.ways else ""


def _word(allowed: bool | None, paint: Paint) -> str:
    if allowed is None:
        return paint("no policy is asked", "yellow")
    return paint("allowed", "green") if allowed else paint("denied", "red")


def _explanation(one: Explanation, paint: Paint, *, verbose: bool) -> Iterator[str]:
    if one.verdict.exempt:
        yield f"{one.verdict.exempt}: no policy is asked"
    for direction in one.directions:
        yield from _direction(direction, paint, verbose=verbose)


def _direction(one: DirectionExplanation, paint: Paint, *, verbose: bool) -> Iterator[str]:
    yield f"{one.decision.direction.lower()} of {one.pod}: {_word(one.decision.allowed, paint)}"
    yield from (f"    {sentence}" for sentence in (one.reason, *one.details))
    shown = one.misses if verbose else one.misses[:MAX_MISSES]
    yield from (f"    {miss}" for miss in shown)
    if len(shown) < len(one.misses):
        yield f"    and {count(len(one.misses) - len(shown), 'rule')} more that does not fit; -v shows all"
    if one.remedy:
        yield f"    to allow it: {one.remedy}"
