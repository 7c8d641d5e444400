"""Why the objects of a machine are there, for the page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.resources import Interface, Resource, Route
from labctl.errors import UsageError
from labctl.explanation.explanation import Explainer, Subject, subjects
from labctl.report.explanation import explanation_json

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab

Document: TypeAlias = dict[str, Any]


class LabReasons:
    """The reasons of one lab. What breaks without an object is computed when the first object is explained in full."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._explainer = Explainer(lab)
        self._by_machine: dict[str, list[Subject]] = {}
        for one in subjects(lab.plan):
            self._by_machine.setdefault(one.machine, []).append(one)

    def of_machine(self, machine: str) -> list[Document]:
        """Each object of a machine with its sentence, in the order of the plan. A machine without a namespace has
        none."""
        return [self._reason(one) for one in self._by_machine.get(machine, ())]

    def _reason(self, subject: Subject) -> Document:
        found = self._explainer.why(subject)
        return {
            "object": subject.text,
            "kind": subject.noun,
            "why": found.sentence,
            "component": found.component or None,
            "device": device_of(subject.item),
        }

    def explanation(self, machine: str, text: str) -> Document:
        """All that is known of the object with this text. Raises UsageError."""
        for one in self._by_machine.get(machine, ()):
            if one.text == text:
                return explanation_json([self._explainer.explain(one)])[0]
        raise UsageError(f"{machine} has no object {text!r}", f"labctl explain {machine} lists them")


def device_of(item: Resource) -> str | None:
    """The device that an object belongs to: `node1/eth0`; None if it belongs to the whole machine."""
    at = getattr(item, "at", None)
    if isinstance(at, Interface):
        return str(at)
    return f"{item.ns}/{item.dev}" if isinstance(item, Route) and item.dev is not None else None
