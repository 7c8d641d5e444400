"""Two traces side by side: the first place where the second packet meets something else. Pure.

The ends of the two requests may differ: then their names, their addresses, the devices towards them and the machines
that they are connected to are counterparts, and a difference between counterparts does not count. Times and source
ports do not count either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal, TypeAlias

from labctl.core.sentence import Sentence, joined, sentence
from labctl.tracing.result import Step, TraceResult

DifferenceKind: TypeAlias = Literal[
    "machine", "device", "route", "rule", "nat", "tunnel", "address", "ttl", "end", "cause"
]
LegName: TypeAlias = Literal["request", "reply"]
# the labels of notes in the order in which a machine handles a packet, and the kind of a difference between them;
# a label of `OPTIONAL` counts only if both packets have such a note
NOTE_KINDS: Mapping[str, DifferenceKind] = {
    "DNAT": "nat", "un-NAT": "nat", "route": "route", "rule": "rule", "filter": "rule", "nat": "nat", "SNAT": "nat",
}  # fmt: skip
OPTIONAL = ("filter", "nat")
# the text if a packet has no such note
ABSENT_NOTES = {"route": sentence("not routed"), "rule": sentence("no rule acts")}
END_KINDS: Mapping[str, DifferenceKind] = {
    "rule": "rule", "no-route": "route", "reject-route": "route", "no-route-back": "route", "link-down": "device",
    "cable": "device", "stale-conntrack": "nat", "snat-port-exhaustion": "nat", "dead-backend": "nat",
}  # fmt: skip
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]*:[0-9a-f:]*:[0-9a-f.]*)")


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference: at the hop `hop` (from 1) of a leg, its kind, the machines there, and what each of the two
    packets met. `leg` is None, and `hop` 0, if only the verdicts or causes differ."""

    leg: LegName | None
    hop: int
    kind: DifferenceKind
    machines: tuple[str, str]
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class TraceComparison:
    """Two traces, and the first difference between them; None if there is none."""

    first: TraceResult
    second: TraceResult
    difference: Difference | None

    @property
    def answered(self) -> bool:
        """Whether both packets were delivered and answered."""
        return self.first.verdict == self.second.verdict == "answered"


def compare_traces(first: TraceResult, second: TraceResult) -> TraceComparison:
    """Compare two traces: their requests, then their replies, then how they ended."""
    return TraceComparison(first, second, next(_differences(first, second), None))


def leg_of(result: TraceResult, name: str) -> tuple[Step, ...]:
    """The hops of a leg; none if there is no such leg."""
    return next((leg.steps for leg in result.legs if leg.name == name), ())


@dataclass(slots=True)
class _Counterparts:
    """The words of the second trace that mean the same as a word of the first, and the source ports of both.

    `words` are names and addresses. A device's name belongs to its machine, so `devices` has those of each hop."""

    ports: frozenset[str]
    words: dict[str, str] = field(default_factory=dict)
    devices: dict[int, dict[str, str]] = field(default_factory=dict)

    def add(self, one: str, other: str) -> None:
        if one != other:
            self.words.setdefault(other, one)

    def add_devices(self, hop: int, one: str, other: str) -> None:
        """Add the devices of two machines at a hop."""
        self.devices.setdefault(hop, {})[other] = one

    def without_port(self, text: str) -> str:
        """A text without the source ports, which labctl or a translation chose."""
        return re.sub(r":(\d+)(?!\d)", lambda found: "" if found[1] in self.ports else found[0], text)

    def translate(self, text: str, hop: int) -> str:
        """A text of the second trace, at a hop, in the words of the first."""
        words = self.words | self.devices.get(hop, {})
        if not words:
            return text
        names = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
        return re.sub(rf"(?<![\w.-])(?:{names})(?![\w-]|\.\w)", lambda found: words[found[0]], text)


def _differences(first: TraceResult, second: TraceResult) -> Iterator[Difference]:
    counterparts = _Counterparts(frozenset((*_source_ports(first), *_source_ports(second))))
    legs: tuple[LegName, ...] = ("request", "reply")
    for name in legs:
        one, other = leg_of(first, name), leg_of(second, name)
        pairs = _counterpart_steps(first, second, name, one, other)
        _add_ends(counterparts, one, other)
        counterparts.devices.clear()
        _add_devices(counterparts, one, other, pairs)
        for number, (here, there) in enumerate(zip_longest(one, other), 1):
            if here is None or there is None:
                yield _end(first, second, name, number, one, other)
                return
            ended = (number == len(one) < len(other)) or (number == len(other) < len(one))
            if here.node != there.node and number not in pairs:
                yield Difference(name, number, "machine", (here.node, there.node), here.node, there.node)
                return
            for kind, values in _step_differences(counterparts, number, here, there, ended):
                yield Difference(name, number, kind, (here.node, there.node), *values)
    if first.verdict != second.verdict:
        yield Difference(None, 0, "end", _last_machines(first, second), first.sentence, second.sentence)
    elif (first.why and first.why.kind) != (second.why and second.why.kind):
        texts = (one.why.sentence if one.why is not None else one.sentence for one in (first, second))
        yield Difference(None, 0, "cause", _last_machines(first, second), *texts)


def _counterpart_steps(
    first: TraceResult, second: TraceResult, leg: LegName, one: Sequence[Step], other: Sequence[Step]
) -> frozenset[int]:
    """The hops (from 1) at which the two packets may be in different machines: at their ends, and beside these."""
    if not one or not other:
        return frozenset()
    found: set[int] = set()
    begins = (one[0].node, _address(one[0].src)) != (other[0].node, _address(other[0].src))
    ends = _address(one[0].dst) != _address(other[0].dst)
    # behind a router that translates, both replies have one destination until they are translated back
    ends = ends or (leg == "reply" and one[-1].node != other[-1].node)
    if begins:
        found |= {1, 2}
    if ends and len(one) == len(other) and "lost" not in (first.verdict, second.verdict):
        found |= {len(one) - 1, len(one)}
    nodes, others = {step.node for step in one}, {step.node for step in other}
    return frozenset(
        number
        for number, (here, there) in enumerate(zip(one, other, strict=False), 1)
        if number in found and (here.node == there.node or (here.node not in others and there.node not in nodes))
    )


def _add_ends(counterparts: _Counterparts, one: Sequence[Step], other: Sequence[Step]) -> None:
    """Add the names and addresses of the two ends."""
    if not one or not other:
        return
    counterparts.add(one[0].node, other[0].node)
    for here, there in ((one[0].src, other[0].src), (one[0].dst, other[0].dst)):
        counterparts.add(_address(here), _address(there))


def _add_devices(
    counterparts: _Counterparts, one: Sequence[Step], other: Sequence[Step], pairs: frozenset[int]
) -> None:
    """Add the machines at both ends and beside them, and the devices towards them."""
    steps = list(zip(one, other, strict=False))
    for number, (here, there) in enumerate(steps, 1):
        if number not in pairs or here.node == there.node:
            continue
        counterparts.add(here.node, there.node)
        counterparts.add(_address(here.src), _address(there.src))
        if len(here.devices) == len(there.devices) == 1:
            counterparts.add_devices(number, here.devices[0], there.devices[0])
        if number > 1:
            before = steps[number - 2]
            counterparts.add_devices(number - 1, before[0].devices[-1], before[1].devices[-1])
        if number < len(steps):
            after = steps[number]
            counterparts.add_devices(number + 1, after[0].devices[0], after[1].devices[0])


def _step_differences(
    counterparts: _Counterparts, number: int, here: Step, there: Step, ended: bool
) -> Iterator[tuple[DifferenceKind, tuple[str, str]]]:
    """The differences between two hops, in the order in which a machine handles a packet. `ended` is whether one of the
    packets went no further."""
    same_machine = here.node == there.node

    def same(one: list[str], other: list[str]) -> bool:
        return _same(counterparts, number, one, other, same_machine)

    if not same([here.devices[0]], [there.devices[0]]):
        yield "device", (_came_in(here), _came_in(there))
    if ended:
        return  # what the other packet met after this point is no difference of the machine
    for label, kind in NOTE_KINDS.items():
        first, second = (_notes(step, label) for step in (here, there))
        if label in OPTIONAL and not (first and second):
            continue
        if not same(first, second):
            yield kind, (_notes_text(here, label), _notes_text(there, label))
    if not same([*here.devices], [*there.devices]):
        yield "device", (" > ".join(here.devices), " > ".join(there.devices))
    if bool(here.tunnel) != bool(there.tunnel):
        none = sentence("no tunnel")
        yield "tunnel", (here.tunnel or none, there.tunnel or none)
    ends = tuple(f"{step.src} > {step.dst}" for step in (here, there))
    if not same([ends[0]], [ends[1]]):
        yield "address", (ends[0], ends[1])
    if here.ttl != there.ttl:
        yield "ttl", (f"ttl {here.ttl}", f"ttl {there.ttl}")


def _notes(step: Step, *labels: str) -> list[str]:
    return [note.text for note in step.notes if note.label in labels]


def _notes_text(step: Step, label: str) -> str:
    """The notes with this label; without any, what the packet met instead."""
    instead = [] if label == "route" else _notes(step, *OPTIONAL)
    found = _notes(step, label) or instead
    return joined("; ", found) if found else ABSENT_NOTES.get(label, sentence("no address is rewritten"))


def _came_in(step: Step) -> Sentence:
    return sentence("in by {dev}", dev=step.devices[0])


def _same(counterparts: _Counterparts, number: int, one: list[str], other: list[str], same_machine: bool) -> bool:
    """Whether texts of two hops mean the same. In two machines that are counterparts, each address of one may stand for
    one of the other."""
    plain = [counterparts.without_port(text) for text in one]
    translated = [counterparts.translate(counterparts.without_port(text), number) for text in other]
    if plain == translated:
        return True
    return not same_machine and [_IP.sub("*", text) for text in plain] == [_IP.sub("*", text) for text in translated]


def _end(
    first: TraceResult, second: TraceResult, leg: LegName, number: int, one: Sequence[Step], other: Sequence[Step]
) -> Difference:
    """The difference that one packet goes on where the other one ends."""
    shorter = first if len(one) < len(other) else second
    at = max(number - 1, 1)
    kind = END_KINDS.get(shorter.why.kind, "end") if shorter.why is not None else "end"
    machines, texts = [], []
    for result, steps in ((first, one), (second, other)):
        before = steps[:at] or leg_of(result, "request")
        machines.append(before[-1].node if before else "")
        if len(steps) < number:
            why = result.why.sentence if result.why is not None else result.sentence
            texts.append(sentence("ends here: {reason}", reason=why))
        elif number > 1:
            texts.append(sentence("goes on to {node}", node=steps[number - 1].node))
        else:
            texts.append(sentence("leaves {node}", node=steps[0].node))
    return Difference(leg, at, kind, (machines[0], machines[1]), texts[0], texts[1])


def _last_machines(first: TraceResult, second: TraceResult) -> tuple[str, str]:
    one, other = (leg_of(result, "request") for result in (first, second))
    return one[-1].node if one else "", other[-1].node if other else ""


def _address(end: str) -> str:
    """The address of an end of a packet, without its port."""
    if end.startswith("["):
        return end[1:].partition("]")[0]
    return end.partition(":")[0] if end.count(":") == 1 else end


def _source_ports(result: TraceResult) -> Iterator[str]:
    """The ports of the source on the path, also after a translation."""
    ends = [step.src for step in leg_of(result, "request")] + [step.dst for step in leg_of(result, "reply")]
    yield from (end.rpartition(":")[2] for end in ends if _address(end) != end)
