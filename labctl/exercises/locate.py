"""Judge a `locate` task: the place that the learner names, against the one that a trace has found. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labctl.core.judgement import Judgement
from labctl.core.left_out import object_names
from labctl.core.names import did_you_mean, summarize_names
from labctl.core.sentence import sentence
from labctl.errors import UsageError
from labctl.faults.fault import Fault
from labctl.tracing.evidence import NamespaceState, TraceEvidence
from labctl.tracing.loss_point import find_loss_point
from labctl.tracing.result import TraceResult

ANSWER_FORM = sentence("MACHINE/OBJECT: node1/eth0, node1/10.0.0.0/24, node1/filter/INPUT, or a sysctl")
ENDS = ("DROP", "REJECT")
SILENT_ROUTES = ("blackhole", "unreachable", "prohibit")  # the kinds of routes that end a packet


@dataclass(frozen=True, slots=True)
class Place:
    """An object of a machine, as a learner names it. `obj` has one slash for each run of blanks and slashes."""

    machine: str
    obj: str


def place_of(answer: str) -> Place:
    """The place that an answer names: `node1/filter/FORWARD`, `node1 filter FORWARD`. A route may be named with or
    without its table (`@100`)."""
    machine, _, rest = _joined(re.sub(r"@\d+$", "", answer)).partition("/")
    return Place(machine, rest)


def _joined(text: str) -> str:
    return re.sub(r"[\s/]+", "/", text.strip()).strip("/")


def require_place(answer: str, machines: tuple[str, ...]) -> Place:
    """The place of an answer that can be one; before it counts. Raises UsageError."""
    place = place_of(answer)
    if place.machine not in machines:
        known = f"the machines are {summarize_names(machines, 30)}"
        raise UsageError(f"there is no machine {place.machine!r}", did_you_mean(place.machine, machines, 0.5) or known)
    if not place.obj:
        raise UsageError(f"{answer!r} names no object of {place.machine}", f"an answer is {ANSWER_FORM}")
    return place


def judge_location(place: Place, evidence: TraceEvidence, result: TraceResult, faults: Iterable[Fault]) -> Judgement:
    """The judgement on a place. It is right if the trace names it, or if a fault of the lab is there."""
    right = {*traced_places(evidence, result), *fault_places(faults)}
    if place in right:
        return Judgement("passed", (sentence("measured: {result}", result=result.sentence),))
    if result.verdict == "answered" and not right:
        return Judgement("unclear", (sentence("the packet is answered now, so that nothing is to locate"),))
    path = [step for leg in result.legs for step in leg.steps if step.node == place.machine]
    if place.machine in {one.machine for one in right}:
        return Judgement(
            "failed",
            (
                sentence(
                    "{machine} is the right machine, but {object} is not the reason",
                    machine=place.machine,
                    object=place.obj,
                ),
            ),
        )
    if not path:
        return Judgement("failed", (sentence("no packet of the probe came to {machine}", machine=place.machine),))
    via = ", ".join(dict.fromkeys(f"{place.machine}/{dev}" for step in path for dev in step.devices))
    return Judgement(
        "failed",
        (
            sentence(
                "{machine} is not the reason: packets of the probe passed {devices}", machine=place.machine, devices=via
            ),
        ),
    )


def fault_places(faults: Iterable[Fault]) -> Iterator[Place]:
    """The places of faults: their objects, as the catalogue names them, and every object that they change."""
    for fault in faults:
        yield place_of(fault.on)
        for change in fault.changes:
            yield from (place_of(name) for name in object_names(change.subject))


def traced_places(evidence: TraceEvidence, result: TraceResult) -> Iterator[Place]:
    """The places that the trace's cause names: the rule that ended the packet, and the objects of its sentence."""
    if result.verdict == "answered" or result.why is None:
        return
    point = find_loss_point(evidence)
    words = _words(result.why.sentence)
    for state in evidence.namespaces:
        is_end = state.node in (point.node, point.sending_namespace)
        yield from (place_of(f"{state.node}/{name}") for name in _named(state, words, is_end=is_end))
    for route in point.namespace.routes:
        if route.kind in SILENT_ROUTES and route.dst.version == point.dst.version and point.dst in route.dst:
            yield from (place_of(name) for name in object_names(route))
    for hit in point.rule_hits:
        if hit.target in ENDS:
            tool = {"ip": "", "ip6": "ip6tables/"}.get(hit.family, f"{hit.family}/")
            tool = tool if hit.nft is None else f"{hit.family} "
            yield Place(hit.node, f"{tool}{hit.table}/{hit.chain}")
            yield Place(hit.node, f"{tool}{hit.table}/{hit.chain}/{hit.number}")


def _words(sentence: str) -> frozenset[str]:
    words = {word.rstrip(".:") for word in re.split(r"[\s,;()]+", sentence)}
    return frozenset(words - {""})


def _named(state: NamespaceState, words: frozenset[str], *, is_end: bool) -> Iterator[str]:
    """The objects of a namespace that a sentence names: with the machine before it (`node1/eth0`) or, where the packet
    ended, without it."""

    def is_named(name: str) -> bool:
        return f"{state.node}/{name}" in words or (is_end and name in words)

    devices = {link.at.dev for link in state.links if is_named(link.at.dev)}
    yield from sorted(devices)
    for route in state.routes:
        if is_named(str(route.dst)):
            yield str(route.dst)
    yield from (name for name in state.sysctls if is_named(name))
    for one in state.neighbours:
        if one.at.dev in devices and str(one.ip) in words:
            yield f"{one.at.dev}/{one.ip}"
