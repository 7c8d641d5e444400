"""A trace as the steps of a packet through the drawing: one for each visit of a machine. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.resources import Interface, Link
from labctl.core.sentence import Sentence
from labctl.render.dataclass_json import to_json
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab
    from labctl.tracing.result import Leg, Note, Step, TraceResult

Document: TypeAlias = dict[str, Any]
Peers: TypeAlias = Mapping[Interface, Interface]
TRANSLATIONS = ("SNAT", "DNAT", "un-NAT")  # labels of the notes about an address that changed
NS_PER_US = 1000


def trace_document(lab: Lab, source: str, result: TraceResult) -> Document:
    """A trace for the page: that of `labctl trace --json` without the evidence, and its steps."""
    return {
        "lab": lab.name,
        "verdict": result.verdict,
        "story": _said(to_json(result)),
        "steps": list(_steps(peers(lab), source, result)),
    }


def _said(value: Any) -> Any:
    """A document with its sentences in the language in use."""
    if isinstance(value, dict):
        return {key: _said(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_said(one) for one in value]
    return gettext(value) if isinstance(value, Sentence) else value


def peers(lab: Lab) -> Peers:
    """The other end of each veth device that the plan has."""
    return {item.at: item.peer for item in lab.plan if isinstance(item, Link) and item.peer is not None}


def cable_name(one: Interface, other: Interface) -> str:
    """A cable as the drawing names it: both ends, sorted."""
    return " ".join(sorted((str(one), str(other))))


def _steps(peers: Peers, source: str, result: TraceResult) -> Iterator[Document]:
    lost = _loss(result)
    if not result.legs and lost is not None:
        yield {**_empty_step(source), "lost": True, "cause": lost}
    ways = [leg for leg in result.legs if leg.name != "error"] or result.legs  # an ICMP error is about the packet
    end = ways[-1].steps[-1] if lost is not None and ways else None
    for leg in result.legs:
        before = None
        for number, step in enumerate(leg.steps):
            yield _step(peers, leg, number, before, step) | {
                "lost": step is end,
                "cause": lost if step is end else None,
            }
            before = step


def _loss(result: TraceResult) -> str | None:
    """Where and why the packet was lost, in one sentence; None if it was not."""
    if result.verdict != "lost":
        return None
    sentence = gettext(result.sentence)
    return sentence if result.why is None else f"{sentence}: {gettext(result.why.sentence)}"


def _step(peers: Peers, leg: Leg, number: int, before: Step | None, step: Step) -> Document:
    last = number == len(leg.steps) - 1
    ends = f"{step.src} > {step.dst}"
    return {
        "leg": leg.name,
        "machine": step.node,
        "devices": list(step.devices),
        "device": step.devices[0] if step.devices else None,
        "cable": _cable(peers, before, step),
        "direction": "out" if before is None else "in" if last else "through",
        "src": step.src,
        "dst": step.dst,
        "ttl": step.ttl,
        "tunnel": step.tunnel,
        "when_us": round(step.when / NS_PER_US, 1),
        "text": f"{ends}  ttl {step.ttl}" + (f"  in {step.tunnel}" if step.tunnel else ""),
        "rules": [{"label": note.label, "text": gettext(note.text)} for note in step.notes],
        "nat": _translation(step.notes, None if before is None else f"{before.src} > {before.dst}", ends),
    }


def _empty_step(machine: str) -> Document:
    """The step of a packet that no device has seen: its machine did not send it."""
    texts = {"src": "", "dst": "", "ttl": None, "tunnel": "", "text": "no device has seen the packet"}
    places: Document = {
        "leg": "request",
        "machine": machine,
        "devices": [],
        "device": None,
        "cable": None,
        "direction": "out",
    }
    return {**places, **texts, "when_us": 0.0, "rules": [], "nat": None}


def _cable(peers: Peers, before: Step | None, step: Step) -> str | None:
    """The cable by which the packet came: between a device of the machine before and one of this machine."""
    if before is None:
        return None
    for dev in step.devices:
        at = Interface(step.node, dev)
        peer = peers.get(at)
        if peer is not None and peer.ns == before.node and peer.dev in before.devices:
            return cable_name(at, peer)
    return None


def _translation(notes: tuple[Note, ...], before: str | None, after: str) -> Document | None:
    texts = [gettext(note.text) for note in notes if note.label in TRANSLATIONS]
    return {"text": "; ".join(texts), "before": before, "after": after} if texts else None
