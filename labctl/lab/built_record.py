"""The record of what the learner of an exercise has built or repaired: once a task has passed, it belongs to the lab.

`status` then shows no drift, and `up` repairs what the learner made, as the learner made it. The file `built.json` in
the lab's state directory has how the kernel differed from the definition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from labctl.core.diff import Change
from labctl.core.resources import CREATION_ORDER, Plan
from labctl.kernel.host import lab_state, state_files
from labctl.render.plan_json import resource_from_json, resource_json

_FILE = "built.json"
_SHAPE = {"before": [dict], "after": [dict]}


def add(lab: str, changes: Iterable[Change]) -> None:
    """Record these differences between the lab and its wanted state as built, too. Raises KernelError."""
    before, after = ({item.key: item for item in items} for items in _load(lab))
    for change in changes:
        if change.want is not None and after.pop(change.want.key, None) is None:
            before[change.want.key] = change.want
        if change.have is not None:
            after[change.have.key] = change.have
    document = {
        "before": [resource_json(item) for item in before.values()],
        "after": [resource_json(item) for item in after.values()],
    }
    lab_state.save(lab, _FILE, json.dumps(document, ensure_ascii=False))


def expected(lab: str, plan: Plan) -> Plan:
    """The wanted state of a lab with what was built in it. A record that cannot be read is none."""
    before, after = _load(lab)
    if not before and not after:
        return plan
    wanted = {item.key: item for item in plan}
    for item in before:
        wanted.pop(item.key, None)
    wanted |= {item.key: item for item in after}
    return tuple(sorted(wanted.values(), key=lambda item: CREATION_ORDER[type(item)]))


def _load(lab: str) -> tuple[Plan, Plan]:
    try:
        document = state_files.read_json(lab, _FILE, _SHAPE)
        before, after = (tuple(map(resource_from_json, document[name])) for name in ("before", "after"))
    except (FileNotFoundError, ValueError):
        return (), ()
    return before, after
