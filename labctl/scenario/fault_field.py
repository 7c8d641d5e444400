"""The section `break`: the faults that a scenario gives its lab. `read` checks the kinds, `resolve` the objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labctl.core.resources import Attachment
from labctl.core.scenario_types import Lab, ScenarioFault
from labctl.errors import UsageError
from labctl.scenario.document import Map, Reader, Text, TreeNode, quote_text
from labctl.scenario.field_types import Json, Located, suggest

if TYPE_CHECKING:
    from labctl.faults.fault import Fault


class FaultField:
    """One fault, read as a ScenarioFault: `forwarding-off`, or with its object: `forwarding-off: node1`."""

    what = "the name of a fault, or FAULT: OBJECT"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        name, on = node, None
        if isinstance(node, Map) and len(node.items) == 1:
            name, value = node.items[0]
            if not isinstance(value, Text) or value.is_null:
                reader.add_problem(value, f"{label}: the object of {quote_text(name.value)} is missing", OBJECT_HINT)
                return None
            on = value.value
        if not isinstance(name, Text) or name.is_null:
            reader.add_problem(node, f"{label}: expected {self.what}", OBJECT_HINT)
            return None
        from labctl.faults.catalogue import kinds

        if name.value not in kinds():
            hint = suggest(name.value, kinds()) or "labctl break --list shows the faults of a running lab"
            reader.add_problem(name, f"{label}: there is no fault {quote_text(name.value)}", hint)
            return None
        return ScenarioFault(name.value, on)

    def schema(self) -> Json:
        from labctl.faults.catalogue import kinds

        names = {"enum": list(kinds())}
        one = {"type": "object", "minProperties": 1, "maxProperties": 1, "propertyNames": names}
        return {"anyOf": [names, {**one, "additionalProperties": {"type": "string"}}]}


OBJECT_HINT = "such as forwarding-off, or forwarding-off: node1"


def resolve(lab: Lab, faults: Iterable[Located], reader: Reader) -> None:
    """Report every fault with an object that does not exist in the compiled lab, every fault that is written twice, and
    every fault that changes the same object as an earlier one.

    The objects that CNI plugins make are known only when the lab runs, so these are not verified here.
    """
    from labctl.faults.catalogue import find_fault

    if any(isinstance(item, Attachment) for item in lab.plan):
        return
    seen: list[Fault] = []
    for item in faults:
        try:
            fault = find_fault(lab, item.value.kind, item.value.on)
        except UsageError as error:
            reader.add_problem(item.at, f"break: {error.message}", error.hint)
            continue
        if any((fault.kind, fault.on) == (other.kind, other.on) for other in seen):
            reader.add_problem(item.at, f"break: the lab already has the fault {fault.kind} on {fault.on}")
        elif other := next((other for other in seen if fault.keys & other.keys), None):
            message = f"{fault.kind} on {fault.on} changes the same object as {other.kind} on {other.on}"
            reader.add_problem(item.at, f"break: {message}", "omit one of the two")
        seen.append(fault)
