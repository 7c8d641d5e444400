"""Faults as text and as JSON: the catalogue, what `break` changed, what `fix` restores."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.diff import Change, by_namespace, diff
from labctl.core.names import summarize_names
from labctl.core.sentence import Sentence, joined, sentence, sentence_n
from labctl.faults.catalogue import kinds, subjects
from labctl.report.text_layout import pad
from labctl.tracing.result import endpoint_text
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.faults.fault import Fault, FaultKind
    from labctl.faults.lab_objects import Traffic
    from labctl.lab.fault_records import FaultRecord
    from labctl.report.terminal import Terminal

Document: TypeAlias = dict[str, Any]
Found: TypeAlias = Sequence[tuple["FaultKind", tuple["Fault", ...]]]
Fixed: TypeAlias = Sequence[tuple["FaultRecord", tuple[Change, ...]]]
DEFAULT_PORT = 8080  # of a TCP or UDP probe that the catalogue gives none
IP_PROTOCOL_NAMES = {6: "tcp", 17: "udp"}
# the subjects of the catalogue, which are the titles of its modules
SUBJECTS = (
    sentence("Addresses"), sentence("Bridges"), sentence("Connection tracking"), sentence("Destination NAT"),
    sentence("Docker's own chains"), sentence("Firewalls on bridges"), sentence("Forwarding"), sentence("Interfaces"),
    sentence("MTU"), sentence("Neighbours"), sentence("Nft tables"), sentence("Packet filters"),
    sentence("Programs that listen"), sentence("Routing"), sentence("Source NAT"), sentence("The cloud's network"),
    sentence("VXLAN tunnels"),
)  # fmt: skip
MAX_OBJECTS = 3  # objects of a kind in the whole list


def catalogue_lines(lab: str, found: Found, terminal: Terminal, *, objects: bool) -> Iterator[str]:
    """The kinds that fit a lab by subject, with their sentences and the first objects; with `objects`, with all."""
    subject = ""
    if not objects:
        yield gettext(
            sentence_n(
                "{lab} can have {number} kind of faults:",
                "{lab} can have {number} kinds of faults:",
                len(found),
                lab=lab,
            )
        )
    for kind, faults in found:
        if not objects and subject != (subject := subjects()[kind.name]):
            yield from ("", terminal.paint(gettext(subject).upper(), "bold"))
        yield terminal.paint(kind.name, "bold")
        yield _about(kind)
        if kind.unnoticed:
            text = sentence("No check notices it. {reason}", reason=kind.unnoticed)
            yield f"    {gettext(text)}"
        names = [fault.on for fault in faults]
        if objects:
            yield from (f"    {name}" for name in names or [gettext(sentence("no object of this lab fits"))])
        else:
            yield f"    {gettext(sentence('on: {objects}', objects=summarize_names(names, MAX_OBJECTS)))}"
    if not objects:
        yield from ("", gettext(sentence("break FAULT --list shows all objects of one fault")))


def _about(kind: FaultKind) -> str:
    """What is wrong, and what follows."""
    return f"    {gettext(joined(' ', (kind.summary, kind.effect)))}"


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
        yield gettext(
            sentence("{lab} has a hidden fault now; --seed {seed} gives the same one again", lab=lab, seed=seed)
        )
        yield gettext(
            sentence("find it with check, trace, show and exec; fix --show is the solution, fix removes the fault")
        )
        return
    kind, fault_name = kinds()[record.kind], terminal.paint(record.kind, "bold")
    yield gettext(sentence("{lab} is broken: {fault} on {object}", lab=lab, fault=fault_name, object=record.on))
    yield _about(kind)
    yield from _change_lines(_changes(record), terminal)
    yield from _connection_lines(record, sentence("extra"))
    if fault.traffic:
        yield gettext(sentence("try: {command}", command=f"{labctl} trace {trace_words(fault.traffic[0])}"))
    yield gettext(sentence("fix: {command}", command=f"{labctl} fix {record.kind} {shlex.quote(record.on)}"))


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
        yield gettext(sentence("{lab} has no fault of labctl break", lab=lab))
    for record in records:
        kind = kinds().get(record.kind)
        text = sentence("{fault} on {object}", fault=terminal.paint(record.kind, "bold"), object=record.on)
        if record.hidden:
            text = sentence("{fault} (hidden)", fault=text)
        elif record.interrupted:
            text = sentence("{fault} (interrupted)", fault=text)
        yield gettext(text)
        if kind is not None:
            yield _about(kind)
        yield from _change_lines(_changes(record), terminal)
        yield from _connection_lines(record, sentence("extra"))


def solution_document(lab: str, records: Iterable[FaultRecord]) -> Document:
    """`fix --show --json`."""
    return {"lab": lab, "faults": [_fault_document(record, _changes(record)) for record in records]}


def fix_lines(lab: str, fixed: Fixed, terminal: Terminal) -> Iterator[str]:
    """What `fix` restored."""
    if not fixed:
        yield gettext(sentence("{lab} has no fault of labctl break: nothing to fix", lab=lab))
    for record, changes in fixed:
        name = terminal.paint(record.kind, "bold")
        yield gettext(sentence("{fault} on {object} is fixed", fault=name, object=record.on))
        if not changes and not record.connections:
            yield f"    {gettext(sentence('it was repaired already'))}"
        yield from _change_lines(changes, terminal, is_done=True)
        yield from _connection_lines(record, sentence("removed"))


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


def trace_words(traffic: Traffic) -> str:
    """The arguments of `labctl trace` for a probe of the catalogue."""
    words = [traffic.source, traffic.target]
    protocol = traffic.protocols[0]
    if protocol != "icmp":
        words += [f"--{protocol}", str(traffic.port or DEFAULT_PORT)]
        if traffic.server is not None:
            words += ["--listen", f"{traffic.server[0]}:{traffic.server[1]}"]
        elif traffic.listen:
            words.append("--listen")
    if traffic.sport is not None:
        words += ["--sport", str(traffic.sport)]
    if traffic.size is not None:
        words += ["--size", str(traffic.size)]
    if traffic.fragment:
        words.append("--fragment")
    return shlex.join(words)


def _connection_lines(record: FaultRecord, verb: Sentence) -> Iterator[str]:
    """The entries of conntrack that a fault created."""
    for flow in record.connections:
        there = f"{endpoint_text(flow.src, flow.sport)} > {endpoint_text(flow.dst, flow.dport)}"
        yield f"    {flow.node}"
        protocol = IP_PROTOCOL_NAMES.get(flow.protocol, flow.protocol)
        text = sentence("connection {protocol} {ends}", protocol=protocol, ends=there)
        yield f"      {pad(gettext(verb), 8)} {gettext(text)}"


def _change_lines(changes: tuple[Change, ...], terminal: Terminal, *, is_done: bool = False) -> Iterator[str]:
    """Changes that were made, or, without `is_done`, the fault that is still there."""
    from labctl.report.up_status import DONE_VERBS, grouped_changes

    verbs = DONE_VERBS if is_done else None
    yield from (f"    {line}" for line in grouped_changes(changes, terminal, verbs, present=verbs is None))


def _change_documents(changes: tuple[Change, ...]) -> list[Document]:
    from labctl.report.json_documents import change

    return [change(one) for group in by_namespace(changes).values() for one in group]
