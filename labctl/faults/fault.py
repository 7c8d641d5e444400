"""The types of the catalogue: a kind of fault, one fault on one object, and the cause that a trace has to name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from labctl.core.diff import Change
from labctl.core.observations import Flow
from labctl.core.resources import Plan
from labctl.core.sentence import Sentence
from labctl.faults.lab_objects import LabObjects, Traffic, changed


@dataclass(frozen=True, slots=True)
class ExpectedCause:
    """A cause that a trace may name: its kind is one of `kinds`, and its sentence has every one of `names`.

    `kinds` are kinds of `labctl.tracing.result.Cause`; `names` are machines, devices, addresses or words of a rule.
    The kind `answered` stands for a packet that is answered in spite of the fault, so that there is no cause; `names`
    are then words of the result's own sentence.
    """

    kinds: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault on one object of a lab.

    `on` names the object: the machine, then what it is (`node1/eth0`, `node1/10.244.1.0/24`, `node1/nat/POSTROUTING`).
    `changes` is what happens to the plan: the broken object as `want`, the planned one as `have` (None: there is none).
    `causes` are what a perfect trace names, one of them; `symptoms` are true answers that stop before the cause.
    `traffic` are probes that it hits, the best first. `connections` are the entries of conntrack that it creates, which
    a plan does not have.
    """

    kind: str
    on: str
    changes: tuple[Change, ...]
    causes: tuple[ExpectedCause, ...]
    traffic: tuple[Traffic, ...]
    symptoms: tuple[ExpectedCause, ...] = ()
    connections: tuple[Flow, ...] = ()

    @property
    def machine(self) -> str:
        """The machine that the object belongs to."""
        return self.on.partition("/")[0]

    @property
    def keys(self) -> frozenset[tuple[object, ...]]:
        """The keys of the objects that it changes itself, without what follows from that."""
        return frozenset(item.key for change in self.changes for item in (change.want, change.have) if item is not None)

    def applied_to(self, plan: Plan) -> Plan:
        """The plan with this fault, in the order of creation. Only its own changes: what the kernel removes with them
        (the routes of a device that goes down) is still there."""
        return changed(plan, self.changes)


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault: what it is and does, in sentences, and where a lab can have it.

    `summary` says what is wrong, `effect` what follows for packets. `find` yields the faults of this kind that a
    lab can have, the most instructive first; it is pure. `unnoticed` says why no check fails, and is empty if
    one can.
    """

    name: str
    summary: Sentence
    effect: Sentence
    find: Callable[[LabObjects], Iterable[Fault]]
    unnoticed: str = ""
