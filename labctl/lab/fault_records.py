"""The records of the faults that a lab has: what each one changed, so that `fix` restores exactly that.

An ordinary fault is drift: `status` names it, and `up` repairs it. A hidden fault is part of the definition: `expected`
adds what it changed to the wanted state. The file `faults.json` in the lab's state directory has them, oldest first. If
one is hidden, the document is encoded, so that a learner does not read it by accident.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from labctl.core.hidden_text import decode, encode
from labctl.core.observations import Flow
from labctl.core.record_shape import a_word
from labctl.core.resources import CREATION_ORDER, Plan
from labctl.errors import UsageError
from labctl.kernel.host import lab_state, paths, state_files
from labctl.render.plan_json import resource_from_json, resource_json

_FILE = "faults.json"
_FLOW_ADDRESSES = ("src", "dst", "reply_src", "reply_dst")
_FLOW_NUMBERS = ("protocol", "sport", "dport", "reply_sport", "reply_dport", "zone")
_FLOW_SHAPE = {"node": a_word, **dict.fromkeys(_FLOW_ADDRESSES, str), **dict.fromkeys(_FLOW_NUMBERS, int)}
_FAULT_SHAPE = {
    "fault": str, "object": str, "hidden": bool, "before": [dict], "after": [dict], "fixed": bool,
    "connections?": [_FLOW_SHAPE], "interrupted?": bool,
}  # fmt: skip
_SHAPE = {"faults": [_FAULT_SHAPE]}
_ENCODED_SHAPE = {"encoded": str}


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One fault of a running lab, as the kernel showed it.

    `before` and `after` are the objects that it changed: what is only in `before` was removed, what is only in `after`
    was added. `fixed` marks a fault of the scenario file that was fixed: `up` does not repeat it. `connections` are the
    entries of conntrack that it created. `interrupted` marks a fault of a `break` that has not ended: `before` is then
    all that was found, because it is not known what else has changed.
    """

    kind: str
    on: str
    hidden: bool
    before: Plan = ()
    after: Plan = ()
    fixed: bool = False
    connections: tuple[Flow, ...] = ()
    interrupted: bool = False

    @property
    def keys(self) -> frozenset[tuple[Any, ...]]:
        """The keys of all objects that it changed."""
        return frozenset(item.key for item in (*self.before, *self.after))


def load(lab: str) -> tuple[FaultRecord, ...]:
    """The recorded faults of a lab, also fixed ones; empty if there are none, or the record cannot be read."""
    return _read(lab) or ()


def load_all(lab: str) -> tuple[FaultRecord, ...]:
    """As `load`. Raises UsageError if the record cannot be read: then it is not known which faults the lab has."""
    records = _read(lab)
    if records is None:
        message = f"the record of the faults of lab {lab} cannot be read: {lab_state.directory(lab) / _FILE}"
        raise UsageError(message, f"labctl up repairs all that differs; down {lab} and up make a new lab")
    return records


def active(lab: str) -> tuple[FaultRecord, ...]:
    """The faults that the lab has now, the oldest first. Raises UsageError if the record cannot be read."""
    return tuple(record for record in load_all(lab) if not record.fixed)


def refuse_hidden(lab: str, verb: str) -> None:
    """Refuse a verb that would show what a hidden fault has added or changed. Raises UsageError."""
    if any(record.hidden for record in active(lab)):
        from labctl.lab import exercise_record

        exercise_record.refuse_open(lab, verb)
        hint = f"`{paths.command_prefix(lab)} fix --show` shows it"
        raise UsageError(f"lab {lab} has a hidden fault, and `{verb}` would give it away", hint)


def _read(lab: str) -> tuple[FaultRecord, ...] | None:
    """The recorded faults; None if there is a file that cannot be read."""
    try:
        document = state_files.read_json(lab, _FILE, (_SHAPE, _ENCODED_SHAPE))
        if "encoded" in document:
            document = state_files.parse_json(decode(document["encoded"]), _SHAPE)
        return tuple(_record(item) for item in document["faults"])
    except FileNotFoundError:
        return ()
    except ValueError:  # of the document, or of an object in it
        return None


def save(lab: str, records: Iterable[FaultRecord]) -> None:
    """Write the records of a lab; none removes the file."""
    records = tuple(records)
    if not records:
        state_files.remove(lab, _FILE)
        return
    text = json.dumps({"faults": [_document(one) for one in records]}, ensure_ascii=False)
    if any(record.hidden for record in records):
        text = json.dumps({"encoded": encode(text)})
    lab_state.save(lab, _FILE, text)


def repaired(lab: str) -> None:
    """Forget the ordinary faults, and a record that cannot be read: `up` repaired them with all other drift."""
    records = _read(lab)
    kept = tuple(record for record in records or () if record.hidden or record.fixed)
    if records is None or kept != records:
        save(lab, kept)


def expected(plan: Plan, records: Iterable[FaultRecord]) -> Plan:
    """The wanted state of a lab with these faults: hidden faults are wanted. For an ordinary one, what it changed
    outside the plan is wanted as it was before, so that it is drift as well."""
    records = [record for record in records if not record.fixed]
    if not records:
        return plan
    wanted = {item.key: item for item in plan}
    for record in records:
        if record.hidden:
            for item in record.before:
                wanted.pop(item.key, None)
            wanted |= {item.key: item for item in record.after}
        else:
            wanted = {item.key: item for item in record.before if item.key[0] == "sysctl"} | wanted
    return tuple(sorted(wanted.values(), key=lambda item: CREATION_ORDER[type(item)]))


def repaired_state(plan: Plan, records: Iterable[FaultRecord]) -> Plan:
    """The wanted state of a lab in which somebody has repaired these faults, hidden or not: the plan, and the settings
    outside of it as they were before."""
    return expected(plan, (replace(record, hidden=False) for record in records))


def mark_all_fixed(lab: str) -> None:
    """Record that every fault of a lab was repaired by somebody: `status` and `up` then want the plan itself."""
    save(lab, tuple(marked_fixed(record) for record in load_all(lab)))


def marked_fixed(record: FaultRecord) -> FaultRecord:
    """The record of a fault that was fixed."""
    return replace(record, before=(), after=(), connections=(), interrupted=False, fixed=True)


def _document(record: FaultRecord) -> dict[str, Any]:
    return {
        "fault": record.kind,
        "object": record.on,
        "hidden": record.hidden,
        "before": [resource_json(item) for item in record.before],
        "after": [resource_json(item) for item in record.after],
        "fixed": record.fixed,
        "connections": [_flow_document(flow) for flow in record.connections],
        "interrupted": record.interrupted,
    }


def _record(document: dict[str, Any]) -> FaultRecord:
    before, after = (tuple(map(resource_from_json, document[name])) for name in ("before", "after"))
    return FaultRecord(
        document["fault"],
        document["object"],
        document["hidden"],
        before,
        after,
        document["fixed"],
        tuple(map(_flow, document.get("connections", ()))),
        document.get("interrupted", False),
    )


def _flow_document(flow: Flow) -> dict[str, Any]:
    addresses = {name: str(getattr(flow, name)) for name in _FLOW_ADDRESSES}
    return {"node": flow.node, **addresses, **{name: getattr(flow, name) for name in _FLOW_NUMBERS}}


def _flow(document: dict[str, Any]) -> Flow:
    addresses = {name: ip_address(document[name]) for name in _FLOW_ADDRESSES}
    values: dict[str, Any] = {**addresses, **{name: document[name] for name in _FLOW_NUMBERS}}
    return Flow(node=document["node"], **values)
