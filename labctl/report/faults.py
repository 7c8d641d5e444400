"""Faults as text and as JSON: the catalogue, what `break` changed, what `fix` restores."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.diff import Change, by_namespace, diff
from labctl.core.names import summarize_names
from labctl.core.text import count
from labctl.faults.catalogue import kinds, subjects
from labctl.tracing.result import flow_text

if TYPE_CHECKING:
    from labctl.faults.fault import Fault, FaultKind
    from labctl.faults.lab_objects import Traffic
    from labctl.lab.fault_records import FaultRecord
    from labctl.report.terminal import Terminal

Document: TypeAlias = dict[str, Any]
Found: TypeAlias = Sequence[tuple["FaultKind", tuple["Fault", ...]]]
Fixed: TypeAlias = Sequence[tuple["FaultRecord", tuple[Change, ...]]]
DONE_VERBS = {"missing": "added", "extra": "removed", "changed": "changed"}
DEFAULT_PORT = 80  # of a probe with TCP or UDP, if the fault is on every port
MAX_OBJECTS = 3  # objects of a kind in the whole list


def catalogue_lines(lab: str, found: Found, terminal: Terminal, *, objects: bool) -> Iterator[str]:
    """The kinds that fit a lab by subject, with their sentences and the first objects; with `objects`, with all."""
    subject = ""
    if not objects:
        yield f"{lab} can have {count(len(found), 'kind')} of faults:"
    for kind, faults in found:
        if not objects and subject != (subject := subjects()[kind.name]):
            yield from ("", terminal.paint(subject.upper(), "bold"))
        yield terminal.paint(kind.name, "bold")
        yield f"    {kind.summary} {kind.effect}"
        if kind.unnoticed:
            yield f"    No check notices it. {kind.unnoticed}"
        names = [fault.on for fault in faults]
        if objects:
            yield from (f"    {name}" for name in names or ["no object of this lab fits"])
        else:
            yield f"    on: {summarize_names(names, MAX_OBJECTS)}"
    if not objects:
        yield from ("", "break FAULT --list shows all objects of one fault")


def catalogue_document(lab: str, found: Found) -> Document:
    """`break --list --json`."""
    return {
        "lab": lab,
        "faults": [
            {
                "fault": kind.name,
                "summary": kind.summary,
                "effect": kind.effect,
                "unnoticed": kind.unnoticed or None,
                "objects": [fault.on for fault in faults],
            }
            for kind, faults in found
        ],
    }


def break_lines(
    lab: str, record: FaultRecord, fault: Fault, seed: int | None, labctl: str, terminal: Terminal
) -> Iterator[str]:
    """What `break` did. A fault that was chosen at random is not named. `labctl` is what a user types before a verb."""
    if seed is not None:
        yield f"{lab} has a hidden fault now; --seed {seed} gives the same one again"
        yield "find it with check, trace, show and exec; fix --show is the solution, fix removes the fault"
        return
    kind = kinds()[record.kind]
    yield f"{lab} is broken: {terminal.paint(record.kind, 'bold')} on {record.on}"
    yield f"    {kind.summary} {kind.effect}"
    yield from _change_lines(_changes(record), terminal)
    yield from (f"    conntrack {flow_text(flow)}" for flow in fault.connections)
    if fault.traffic:
        yield f"try: {labctl} {trace_words(fault.traffic[0])}"
    yield f"fix: {labctl} fix {record.kind} {shlex.quote(record.on)}"


def trace_words(traffic: Traffic) -> str:
    """The trace that meets a fault, as its verb, names and options."""
    protocol = traffic.protocols[0]
    words = ["trace", traffic.source, traffic.target]
    if protocol != "icmp":
        words += [f"--{protocol}", str(traffic.port if traffic.port is not None else DEFAULT_PORT)]
        words += [] if traffic.sport is None else ["--sport", str(traffic.sport)]
        words += [] if traffic.server is None else ["--listen", f"{traffic.server[0]}:{traffic.server[1]}"]
        words += ["--listen"] if traffic.server is None and traffic.listen else []
    if protocol != "tcp":
        words += [] if traffic.size is None else ["--size", str(traffic.size)]
        words += ["--fragment"] if traffic.fragment else []
    return shlex.join(words)


def break_document(lab: str, record: FaultRecord, seed: int | None) -> Document:
    """`break --json`; fault, object and changes are null if the fault was chosen at random."""
    secret = seed is not None
    return {
        "lab": lab,
        "fault": None if secret else record.kind,
        "on": None if secret else record.on,
        "hidden": record.hidden,
        "seed": seed,
        "changes": None if secret else _change_documents(_changes(record)),
    }


def solution_lines(lab: str, records: Sequence[FaultRecord], terminal: Terminal) -> Iterator[str]:
    """`fix --show`: each fault, and what restores the lab."""
    if not records:
        yield f"{lab} has no fault of labctl break"
    for record in records:
        kind = kinds().get(record.kind)
        hidden = " (hidden)" if record.hidden else ""
        yield f"{terminal.paint(record.kind, 'bold')} on {record.on}{hidden}"
        if kind is not None:
            yield f"    {kind.summary} {kind.effect}"
        yield from _change_lines(_changes(record), terminal)
        if not record.keys:
            machine = record.on.partition("/")[0]
            yield f"    it is an entry of conntrack in {machine}, which labctl show {machine} lists"


def solution_document(lab: str, records: Iterable[FaultRecord]) -> Document:
    """`fix --show --json`."""
    return {"lab": lab, "faults": [_fault_document(record, _changes(record)) for record in records]}


def fix_lines(lab: str, fixed: Fixed, terminal: Terminal) -> Iterator[str]:
    """What `fix` restored."""
    if not fixed:
        yield f"{lab} has no fault of labctl break: nothing to fix"
    for record, changes in fixed:
        yield f"{terminal.paint(record.kind, 'bold')} on {record.on} is fixed"
        if not record.keys:
            yield "    its entry in conntrack is removed"
        elif not changes:
            yield "    it was repaired already"
        yield from _change_lines(changes, terminal, DONE_VERBS)


def fix_document(lab: str, fixed: Fixed) -> Document:
    """`fix --json`; `changes` is empty for a fault that was repaired before."""
    return {"lab": lab, "fixed": [_fault_document(record, changes) for record, changes in fixed]}


def _fault_document(record: FaultRecord, changes: tuple[Change, ...]) -> Document:
    return {
        "fault": record.kind,
        "on": record.on,
        "hidden": record.hidden,
        "changes": _change_documents(changes),
    }


def _changes(record: FaultRecord) -> tuple[Change, ...]:
    """What a fault changed, as the drift that it is: wanted is the state before."""
    return diff(record.before, record.after)


def _change_lines(
    changes: tuple[Change, ...], terminal: Terminal, verbs: dict[str, str] | None = None
) -> Iterator[str]:
    """Changes with `verbs` for what was done; without them, as the fault that is still there."""
    from labctl.report.up_status import grouped_changes

    yield from (f"    {line}" for line in grouped_changes(changes, terminal, verbs, present=verbs is None))


def _change_documents(changes: tuple[Change, ...]) -> list[Document]:
    from labctl.report.json_documents import change

    return [change(one) for group in by_namespace(changes).values() for one in group]
