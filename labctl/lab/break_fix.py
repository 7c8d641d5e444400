"""Break a running lab on purpose, and fix exactly what was broken.

The kernel is read before and after a change, because one change can have others as a consequence: the routes of a
device that goes down are gone. The record has all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.core.diff import Change, diff
from labctl.core.names import summarize_names
from labctl.core.observations import Flow
from labctl.core.resources import TRANSIENT_NUD_STATES, Neighbour, Plan, Process, Resource, Sysctl
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, UsageError
from labctl.faults.catalogue import find_fault
from labctl.faults.fault import Fault
from labctl.kernel.host import lab_state
from labctl.lab import fault_records
from labctl.lab.cni_attach import expected_plan, with_plugin_results
from labctl.lab.fault_records import FaultRecord

if TYPE_CHECKING:
    from labctl.kernel.lab_kernel import KernelLab

MAX_FIX_ROUNDS = 3  # a repaired device can lose its routes: compare again, this many times


def break_lab(lab: Lab, fault: Fault, *, hidden: bool = False) -> FaultRecord:
    """Give a running lab a fault; returns the record of what changed.

    A hidden fault becomes part of the lab's definition: `status` does not name it, and `up` does not repair it.

    Raises UsageError if the lab has this fault already, or another one that changed the same object; KernelError if the
    kernel refuses the change, after restoring the state before it.
    """
    with lab_state.lock(lab.name):
        return break_locked(lab, fault, hidden=hidden)


def break_locked(lab: Lab, fault: Fault, *, hidden: bool) -> FaultRecord:
    """As `break_lab`, for a caller that holds the lab's lock."""
    from labctl.kernel.lab_kernel import KernelLab

    records = fault_records.load(lab.name)
    _refuse_overlap(fault, records)
    kept = tuple(record for record in records if (record.kind, record.on) != (fault.kind, fault.on))
    with KernelLab(lab.name) as kernel:
        watched = _watched(lab, fault, records)
        found = kernel.observe(watched)
        changes = _changes(fault, found)
        if not changes and not fault.connections:
            raise UsageError(f"{fault.on} already is as {fault.kind} would make it", "labctl status shows all drift")
        first = FaultRecord(fault.kind, fault.on, hidden, _wants(change.have for change in changes), ())
        fault_records.save(lab.name, (*kept, replace(first, after=_wants(change.want for change in changes))))
        try:
            if changes:
                kernel.apply(changes)
                now = kernel.observe(watched)
                if lost := _changes(fault, now):  # what a device had that was created again
                    kernel.apply(lost)
                    now = kernel.observe(watched)
                record = _observed_record(first, fault, _in_order(found, watched), now)
                kernel.apply(_learned_neighbours(now))
            else:
                record = first
            kernel.create_connections(fault.connections)
        except BaseException:
            kernel.delete_connections(fault.connections)
            _restore(kernel, first, watched)
            fault_records.save(lab.name, records)
            raise
    fault_records.save(lab.name, (*kept, record))
    return record


def break_as_defined(lab: Lab) -> tuple[FaultRecord, ...]:
    """Give a lab the faults of its scenario file that it does not have yet. The caller holds the lock.

    Raises UsageError if a fault does not fit the lab that was built.
    """
    if not lab.faults:
        return ()
    known = {(record.kind, record.on) for record in fault_records.load(lab.name)}
    complete = with_plugin_results(lab)
    faults = [find_fault(complete, one.kind, one.on) for one in lab.faults]
    return tuple(break_locked(complete, fault, hidden=True) for fault in faults if (fault.kind, fault.on) not in known)


def fix(lab: Lab, records: Iterable[FaultRecord]) -> tuple[tuple[FaultRecord, tuple[Change, ...]], ...]:
    """Undo these faults, the latest first, and nothing else. Returns each with what was changed in the kernel: nothing,
    if somebody has repaired it already.

    Raises KernelError if the kernel refuses.
    """
    from labctl.kernel.lab_kernel import KernelLab

    wanted = {(record.kind, record.on) for record in records}
    fixed = []
    defined = {(fault.kind, fault.on) for fault in _defined_faults(lab)}
    with lab_state.lock(lab.name), KernelLab(lab.name) as kernel:
        kept = list(fault_records.load(lab.name))
        for record in reversed(kept.copy()):
            if (record.kind, record.on) not in wanted or record.fixed:
                continue
            watched = (*fault_records.expected(expected_plan(lab), kept), *record.before)
            kernel.delete_connections(_connections(lab, record))
            fixed.append((record, _restore(kernel, record, watched)))
            position = kept.index(record)
            kept[position : position + 1] = (
                [fault_records.marked_fixed(record)] if (record.kind, record.on) in defined else []
            )
            fault_records.save(lab.name, kept)
    return tuple(fixed)


def selected(records: Iterable[FaultRecord], kind: str | None, on: str | None) -> tuple[FaultRecord, ...]:
    """The records of the named fault; all without a name. Raises UsageError if the lab does not have it."""
    records = tuple(records)
    if kind is None:
        return records
    found = tuple(one for one in records if one.kind == kind and on in (None, one.on))
    if not found:
        shown = [f"{one.kind} {one.on}" for one in records if not one.hidden]
        hint = f"it has {summarize_names(shown)}" if shown else "labctl fix --show shows its faults"
        raise UsageError(f"the lab does not have the fault {kind}{'' if on is None else f' on {on}'}", hint)
    return found


def _defined_faults(lab: Lab) -> tuple[Fault, ...]:
    complete = with_plugin_results(lab) if lab.faults else lab
    return tuple(find_fault(complete, one.kind, one.on) for one in lab.faults)


def _connections(lab: Lab, record: FaultRecord) -> tuple[Flow, ...]:
    """The entries of conntrack that a fault has created. The catalogue knows them, so the record has only its name."""
    return find_fault(with_plugin_results(lab), record.kind, record.on).connections


def _refuse_overlap(fault: Fault, records: Iterable[FaultRecord]) -> None:
    keys = {item.key for change in fault.changes for item in (change.want, change.have) if item is not None}
    for record in records:
        if record.fixed:
            continue
        if (record.kind, record.on) == (fault.kind, fault.on):
            raise UsageError(f"the lab already has the fault {fault.kind} on {fault.on}", "labctl fix removes it")
        if keys & record.keys:
            what = "a hidden fault" if record.hidden else f"the fault {record.kind} on {record.on}"
            raise UsageError(f"{what} has changed the same object as {fault.kind} on {fault.on}", "labctl fix first")


def _watched(lab: Lab, fault: Fault, records: Iterable[FaultRecord]) -> Plan:
    """What is read from the kernel: the wanted state, and the settings that only the fault changes."""
    plan = fault_records.expected(expected_plan(lab), records)
    known = {item.key for item in plan}
    settings = (change.want for change in fault.changes if isinstance(change.want, Sysctl))
    return (*plan, *(item for item in settings if item.key not in known))


def _changes(fault: Fault, found: Plan) -> tuple[Change, ...]:
    """The fault's changes against the kernel's state, without those that are there already."""
    present = {item.key: item for item in found}
    changes = []
    for change in fault.changes:
        have = present.get(change.subject.key)
        if change.want is not None and change.have is not None and change.want.key != change.have.key:
            changes.append(Change(None, present.get(change.have.key)))
        if change.want != have:
            changes.append(Change(change.want, have))
    return tuple(change for change in changes if change.want is not None or change.have is not None)


def _in_order(found: Plan, watched: Plan) -> Plan:
    """What was found, in the order of the plan: a route comes after the one that leads to its gateway."""
    position = {item.key: number for number, item in enumerate(watched)}
    return tuple(sorted(found, key=lambda item: position.get(item.key, len(position))))


def _learned_neighbours(found: Plan) -> tuple[Change, ...]:
    """The removal of what machines learned by ARP and NDP before the fault: it would hide the fault for a minute."""
    return tuple(Change(None, item) for item in found if _is_learned(item))


def _wants(items: Iterable[Resource | None]) -> Plan:
    """Objects as a plan wants them: a process has no process id, and learned neighbours are left out."""
    present = (item for item in items if item is not None and not _is_learned(item))
    return tuple(replace(item, pid=None) if isinstance(item, Process) else item for item in present)


def _is_learned(item: Resource) -> bool:
    return isinstance(item, Neighbour) and not item.proxy and item.state in TRANSIENT_NUD_STATES


def _observed_record(first: FaultRecord, fault: Fault, found: Plan, now: Plan) -> FaultRecord:
    """The record with every difference between two observations, and what the fault created again: the fix loses that
    once more.

    Raises KernelError if there is no difference: the kernel accepted the change but shows nothing of it.
    """
    changes = diff(found, now)
    if not changes:
        raise KernelError(f"the kernel shows no difference after {first.kind} on {first.on}")
    differing = {change.subject.key for change in changes}
    again = {change.subject.key for change in fault.changes} - differing
    before = [change.want for change in changes] + [item for item in found if item.key in again]
    after = [change.have for change in changes] + [item for item in now if item.key in again]
    return replace(first, before=_wants(before), after=_wants(after))


def _restore(kernel: KernelLab, record: FaultRecord, watched: Plan) -> tuple[Change, ...]:
    """Restore the objects of a record; returns what was changed."""
    done: dict[object, Change] = {}
    for _ in range(MAX_FIX_ROUNDS):
        changes = _differences(kernel, record, watched)
        if not changes:
            return tuple(done.values())
        for change in changes:
            done.setdefault(change.subject.key, change)
        kernel.apply(changes)
    if _differences(kernel, record, watched):
        raise KernelError(f"{record.kind} on {record.on} cannot be undone", "labctl up repairs the whole lab")
    return tuple(done.values())


def _differences(kernel: KernelLab, record: FaultRecord, watched: Plan) -> tuple[Change, ...]:
    """What differs from the state before the fault, among the objects that it changed."""
    return diff(record.before, tuple(item for item in kernel.observe(watched) if item.key in record.keys))
