"""The records of the faults that a lab has: what each one changed, so that `fix` restores exactly that.

An ordinary fault is drift: `status` names it, and `up` repairs it. A hidden fault is part of the definition: `expected`
adds what it changed to the wanted state. The file `faults.json` in the lab's state directory has them, oldest first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from labctl.core.resources import CREATION_ORDER, Plan
from labctl.kernel.host import lab_state
from labctl.render.plan_json import resource_from_json, resource_json

_FILE = "faults.json"


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One fault of a running lab, as the kernel showed it.

    `before` and `after` are the objects that it changed: what is only in `before` was removed, what is only in `after`
    was added. `fixed` marks a fault of the scenario file that was fixed: `up` does not repeat it.
    """

    kind: str
    on: str
    hidden: bool
    before: Plan = ()
    after: Plan = ()
    fixed: bool = False

    @property
    def keys(self) -> frozenset[tuple[Any, ...]]:
        """The keys of all objects that it changed."""
        return frozenset(item.key for item in (*self.before, *self.after))


def load(lab: str) -> tuple[FaultRecord, ...]:
    """The recorded faults of a lab, also fixed ones; empty if there are none, or the record cannot be read."""
    try:
        document = json.loads((lab_state.directory(lab) / _FILE).read_text("utf-8", "surrogateescape"))
        return tuple(_record(item) for item in document["faults"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()


def active(lab: str) -> tuple[FaultRecord, ...]:
    """The faults that the lab has now, the oldest first."""
    return tuple(record for record in load(lab) if not record.fixed)


def save(lab: str, records: Iterable[FaultRecord]) -> None:
    """Write the records of a lab; none removes the file."""
    records = tuple(records)
    if not records:
        (lab_state.directory(lab) / _FILE).unlink(missing_ok=True)
        return
    lab_state.save(lab, _FILE, json.dumps({"faults": [_document(one) for one in records]}, ensure_ascii=False))


def repaired(lab: str) -> None:
    """Forget the ordinary faults: `up` repaired them with all other drift."""
    records = load(lab)
    if kept := tuple(record for record in records if record.hidden or record.fixed):
        save(lab, kept)
    elif records:
        save(lab, ())


def expected(plan: Plan, records: Iterable[FaultRecord]) -> Plan:
    """The wanted state of a lab with these faults: hidden faults are wanted. For an ordinary one, what it changed
    outside the plan is wanted as it was before, so that it is drift as well."""
    wanted = {item.key: item for item in plan}
    for record in records:
        if record.fixed:
            continue
        if record.hidden:
            for item in record.before:
                wanted.pop(item.key, None)
            wanted |= {item.key: item for item in record.after}
        else:
            wanted = {item.key: item for item in record.before if item.key[0] == "sysctl"} | wanted
    return tuple(sorted(wanted.values(), key=lambda item: CREATION_ORDER[type(item)]))


def marked_fixed(record: FaultRecord) -> FaultRecord:
    """The record of a fault that was fixed."""
    return replace(record, before=(), after=(), fixed=True)


def _document(record: FaultRecord) -> dict[str, Any]:
    return {
        "fault": record.kind,
        "object": record.on,
        "hidden": record.hidden,
        "before": [resource_json(item) for item in record.before],
        "after": [resource_json(item) for item in record.after],
        "fixed": record.fixed,
    }


def _record(document: dict[str, Any]) -> FaultRecord:
    before, after = (tuple(map(resource_from_json, document[name])) for name in ("before", "after"))
    return FaultRecord(
        document["fault"], document["object"], bool(document["hidden"]), before, after, bool(document["fixed"])
    )
