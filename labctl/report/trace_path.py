"""A trace as the path of a packet in the drawing of its lab. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from labctl.core.resources import Interface
from labctl.core.sentence import joined, sentence
from labctl.drawing.from_lab import draw
from labctl.drawing.model import Drawing, Event, Line, Visit
from labctl.drawing.packet_path import with_path
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.scenario_types import Lab
    from labctl.tracing.evidence import TraceEvidence
    from labctl.tracing.result import Step, TraceResult

NAT_LABELS = ("SNAT", "DNAT", "un-NAT")
TUNNEL_KINDS = ("vxlan", "geneve", "ipip", "gre", "sit", "ip6tnl")
VERDICT_WORDS = {
    "refused": sentence("refused"), "unanswered": sentence("unanswered"), "lost": sentence("lost"),
}  # fmt: skip
OTHER_LABELS = ("proxy", "icmp", "tcp", "loop")  # notes that are drawn as they are


def traced_drawing(
    lab: Lab, evidence: TraceEvidence, result: TraceResult, changes: Iterable[Change] | None = None
) -> Drawing:
    """The drawing of a lab with the path of a packet: its steps, where addresses were translated, where it was put into
    a tunnel, and where it was lost. `changes` is that of `draw`."""
    visits = tuple(path_visits(evidence, result))
    names = {one.machine for one in visits} | {evidence.question.source, evidence.question.target_ns or ""}
    return with_path(draw(lab, changes=changes, focus=names), visits, tuple(verdict_lines(result)))


def verdict_lines(result: TraceResult) -> Iterator[Line]:
    """The probe, what came of it, and the cause of a loss."""
    is_lost = result.verdict != "answered"
    yield Line(gettext(result.probe))
    text = joined(": ", (VERDICT_WORDS[result.verdict], result.sentence)) if is_lost else result.sentence
    yield Line(gettext(text), is_lost=is_lost)
    if result.why is not None:
        yield Line(gettext(sentence("why: {cause}", cause=result.why.sentence)), is_lost=True)


def path_visits(evidence: TraceEvidence, result: TraceResult) -> Iterator[Visit]:
    """The steps of all legs, numbered from 1. A packet that never left its source has one step there."""
    from labctl.tracing.loss_point import find_loss_point

    point = find_loss_point(evidence) if result.verdict != "answered" else None
    reason = first_sentence(gettext(result.why.sentence if result.why is not None else result.sentence))
    number = 0
    for leg in result.legs:
        tunnel = ""
        for at, step in enumerate(leg.steps, 1):
            number += 1
            is_end = point is not None and point.role == leg.name and at == len(leg.steps)
            last = point.last_observation if point is not None and is_end else None
            devices = tuple(Interface(step.node, name.strip("()")) for name in step.devices)
            yield Visit(
                number, leg.name, step.node, devices, tuple(_events(evidence, step, devices, tunnel)),
                is_end, last is not None and last.direction == "out", reason if is_end else "",
            )  # fmt: skip
            tunnel = step.tunnel
    if point is not None and not any(leg.name == point.role for leg in result.legs):
        yield Visit(number + 1, point.role, point.node, (), is_end=True, lost=reason)


def first_sentence(text: str) -> str:
    """The text up to its first semicolon, or the full stop of Japanese: what comes after that is the reason behind."""
    return text.partition("; ")[0].partition("。")[0]


def _events(evidence: TraceEvidence, step: Step, devices: tuple[Interface, ...], tunnel: str) -> Iterator[Event]:
    """What happened to the packet at a step: a destination is translated as it comes in, a source as it leaves.
    `tunnel` is the one in which it came."""
    links = [evidence.link(at.ns, at.dev) for at in devices]
    tunnel_device = next((link.at for link in links if link is not None and link.kind in TUNNEL_KINDS), None)
    if tunnel and not step.tunnel:
        yield Event(
            tunnel_device or devices[0], gettext(sentence("out of {tunnel}", tunnel=" ".join(tunnel.split()[:-3])))
        )
    for note in step.notes:
        if note.label in NAT_LABELS:
            what, _, ends = note.text.partition(" ")
            before, _, after = ends.partition(" becomes ")
            yield Event(devices[0 if what == "destination" else -1], f"{note.label} {before} → {after}")
        elif note.label in OTHER_LABELS:
            text = note.text if note.label == "proxy" else joined(": ", (note.label, note.text))
            yield Event(devices[0], gettext(text))
    if step.tunnel and step.tunnel != tunnel:
        *kind, one, _, other = step.tunnel.split()
        yield Event(
            tunnel_device or devices[-1], gettext(sentence("into {tunnel}", tunnel=f"{' '.join(kind)} {one} → {other}"))
        )
