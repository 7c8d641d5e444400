"""The documents that the page gets, as far as no other verb has them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.probe_kinds import probe_text
from labctl.core.resources import Interface, Link, Route
from labctl.drawing.from_lab import draw
from labctl.drawing.svg import svg_lines
from labctl.faults.catalogue import applicable, kinds
from labctl.render.resources import change_lines
from labctl.report.json_documents import machine
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.results import Outcome
    from labctl.core.scenario_types import Check, Lab
    from labctl.lab.fault_records import FaultRecord
    from labctl.report.table_section import TableSection

Document: TypeAlias = dict[str, Any]


def lab_document(lab: Lab) -> Document:
    """What does not change while a lab runs: its drawing, machines and checks."""
    from labctl import __version__

    machines = [machine(one) for one in lab.machines]
    return {
        "lab": lab.name,
        "model": lab.model,
        "lesson": lab.lesson is not None,
        "summary": gettext(lab.say),
        "version": __version__,
        "svg": "\n".join(svg_lines(draw(lab))),
        "machines": [{"node": one.pop("on"), **one} for one in machines],
        "targets": target_documents(lab),
        "points": [str(item.at) for item in lab.plan if isinstance(item, Link) and item.at.dev != "lo"],
        "checks": [check_document(number, check) for number, check in enumerate(lab.checks)],
    }


def target_documents(lab: Lab) -> list[Document]:
    """What a trace can go to: machines, and the addresses of Services."""
    targets = [(one.name, one.addresses) for one in lab.machines]
    targets += [(one.names[0], one.ips) for one in lab.virtual_addresses]
    return [
        {"name": name, "text": f"{name} ({addresses[0]})" if addresses else name}
        for name, addresses in targets
        if addresses
    ]


def check_document(number: int, check: Check) -> Document:
    """A check that has not run."""
    return {
        "id": str(number),
        "text": gettext(check.say),
        "probe": probe_text(check),
        "from": check.source or None,
        "to": check.target or None,
        "state": "unknown",
        "why": "",
        "evidence": [],
    }


def outcome_document(number: int, outcome: Outcome) -> Document:
    """A check that has run."""
    texts = [gettext(text) for text in outcome.evidence]
    why = "" if outcome.verdict == "pass" else " ".join(" ".join(texts).split())
    evidence = [line for text in texts for line in text.splitlines()]
    return {
        **check_document(number, outcome.check),
        "state": outcome.verdict,
        "why": why,
        "evidence": evidence,
        "command": outcome.command,
    }


def drift_documents(changes: Iterable[Change]) -> list[Document]:
    """The differences from the definition, each with its machine, and its device if it has one."""
    return [
        {"machine": one.subject.ns, "device": _device(one.subject), "kind": one.kind, "text": text}
        for one in changes
        for text in change_lines(one, "is")
    ]


def _device(subject: object) -> str | None:
    """The device that an object is about: `node1/eth0`; None if it is about the whole machine, as a route is."""
    if isinstance(subject, Route):
        return None
    at = getattr(subject, "at", None)
    if isinstance(at, Interface):
        return str(at)
    dev, netns = getattr(subject, "dev", None), getattr(subject, "ns", None)
    return f"{netns}/{dev}" if isinstance(dev, str) and dev and netns else None


def fault_documents(lab: Lab) -> list[Document]:
    """The kinds of faults that the lab can have, with their objects."""
    return [
        {
            "id": kind.name,
            "sentence": kind.summary,
            "effect": kind.effect,
            "objects": [fault.on for fault in faults],
        }
        for kind, faults in applicable(lab)
    ]


def broken_documents(records: Iterable[FaultRecord]) -> list[Document]:
    """The faults that the lab has now. A hidden one is not named."""
    return [
        {"hidden": True} if one.hidden else {"id": one.kind, "object": one.on, "hidden": False, "text": _sentence(one)}
        for one in records
        if not one.fixed
    ]


def _sentence(record: FaultRecord) -> str:
    kind = kinds().get(record.kind)
    return record.kind if kind is None else kind.summary


def break_sentence(record: FaultRecord) -> str:
    """What `break` did."""
    if record.hidden:
        return "the lab has a hidden fault now: find it with checks, traces and tables"
    return f"{record.kind} on {record.on}: {_sentence(record)}"


def fix_sentence(records: Sequence[FaultRecord]) -> str:
    """What `fix` did. The faults are named, also those that were hidden."""
    if not records:
        return "the lab has no fault of labctl break: nothing to fix"
    return "; ".join(f"{one.kind} on {one.on} is fixed" for one in records)


def table_documents(sections: Iterable[TableSection]) -> list[Document]:
    """The tables of `labctl show NODE`."""
    return [{"title": one.title, "columns": [*one.columns], "rows": [[*row] for row in one.rows]} for one in sections]
