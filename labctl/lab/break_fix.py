"""Break a running lab on purpose, and fix exactly what was broken.

The kernel is read before and after a change, because one change can have others as a consequence: the routes of a
device that goes down are gone. The record has all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.core.diff import Change, diff
from labctl.core.names import summarize_names
from labctl.core.resources import TRANSIENT_NUD_STATES, Fdb, Neighbour, Plan, Process, Resource, Sysctl
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, UsageError
from labctl.faults.catalogue import find_fault, random_fault
from labctl.faults.fault import Fault
from labctl.faults.lab_objects import changed
from labctl.kernel.host import lab_owner, lab_state
from labctl.lab import exercise_record, fault_records
from labctl.lab.cni_attach import expected_plan, with_plugin_results
from labctl.lab.fault_records import FaultRecord
from labctl.lab.records import resolve_lab_name

if TYPE_CHECKING:
    from labctl.kernel.lab_kernel import KernelLab

MAX_SEED = 999_999  # seeds that labctl chooses itself, short enough to be typed
MAX_SEEDS = 20  # that labctl tries itself
MAX_FIX_ROUNDS = 3  # a repaired device can lose its routes: compare again, this many times


def break_lab(lab: Lab, fault: Fault, *, hidden: bool = False, force: bool = False) -> FaultRecord:
    """Give a running lab a fault; returns the record of what changed.

    A hidden fault becomes part of the lab's definition: `status` does not name it, and `up` does not repair it.

    Raises UsageError if the lab does not run, has this fault already, or another one that changed the same object;
    KernelError if the kernel refuses the change, after restoring the state before it. Also raises UsageError in an
    exercise that is not finished, and in the lab of another user, unless `force`.
    """
    if not force:
        lab_owner.require_change(lab.name, "--force breaks it all the same")
    exercise_record.refuse_open(lab.name, "break")
    with lab_state.lock(lab.name):
        resolve_lab_name(lab.name)  # `down` may have held the lock
        return break_locked(lab, fault, hidden=hidden)


def break_at_random(lab: Lab, seed: int | None, *, force: bool = False) -> tuple[int, Fault, FaultRecord]:
    """Apply the fault of this seed; without one, that of the first new seed that fits beside the lab's other faults.

    Raises UsageError if none fits, with a message that names no fault.
    """
    import secrets

    if not force:
        lab_owner.require_change(lab.name, "--force breaks it all the same")
    fault_records.load_all(lab.name)  # a record that cannot be read is another error
    for _ in range(1 if seed is not None else MAX_SEEDS):
        tried = secrets.randbelow(MAX_SEED) + 1 if seed is None else seed
        chosen = random_fault(lab, tried)
        try:
            return tried, chosen, break_lab(lab, chosen, hidden=True, force=force)
        except UsageError:
            continue
    which = "a random fault" if seed is None else f"the fault of --seed {seed}"
    message = f"{which} does not fit beside what is broken in lab {lab.name} already"
    raise UsageError(message, "labctl fix first" if seed is None else "use another --seed, or labctl fix first")


def break_locked(lab: Lab, fault: Fault, *, hidden: bool) -> FaultRecord:
    """As `break_lab`, for a caller that holds the lab's lock."""
    from labctl.kernel.lab_kernel import KernelLab

    with KernelLab(lab.name) as kernel:
        return _break(kernel, lab, fault, hidden)


def _break(kernel: KernelLab, lab: Lab, fault: Fault, hidden: bool) -> FaultRecord:
    """Apply a fault and record it. A record of the state before is written first, so that `fix` and `up` know what to
    do if this process is killed meanwhile."""
    records = fault_records.load_all(lab.name)
    _refuse_overlap(fault, records)
    needed = {change.subject.ns for change in fault.changes} | {flow.node for flow in fault.connections}
    _require_namespaces(kernel, needed)
    kept = tuple(record for record in records if (record.kind, record.on) != (fault.kind, fault.on))
    watched = _watched(lab, fault, records)
    found = _in_order(kernel.observe(watched), watched)
    changes = _changes(fault, found)
    if not changes and not fault.connections:
        raise UsageError(f"{fault.on} already is as {fault.kind} would make it", "labctl status shows all drift")
    begun = FaultRecord(
        fault.kind,
        fault.on,
        False,
        _wants(found),
        _wants(changed(found, changes)),
        connections=fault.connections,
        interrupted=True,
    )
    fault_records.save(lab.name, (*kept, begun))
    try:
        before, after = _apply(kernel, fault, watched, found) if changes else ((), ())
        kernel.create_connections(fault.connections)
    except BaseException:
        kernel.delete_connections(fault.connections)
        _restore(kernel, begun, watched)
        fault_records.save(lab.name, records)
        raise
    record = replace(begun, hidden=hidden, before=before, after=after, interrupted=False)
    fault_records.save(lab.name, (*kept, record))
    return record


def _apply(kernel: KernelLab, fault: Fault, watched: Plan, found: Plan) -> tuple[Plan, Plan]:
    """Change what the fault changes; returns the objects that differ then, as they were before and as they are."""
    kernel.apply(_changes(fault, found))
    now = kernel.observe(watched)
    if lost := _changes(fault, now):  # what a device had that was created again
        kernel.apply(lost)
        now = kernel.observe(watched)
    differences = _observed_differences(fault, found, now)
    kernel.apply(_learned_neighbours(now))
    return differences


def break_as_defined(lab: Lab) -> tuple[FaultRecord, ...]:
    """Give a lab the faults of its scenario file that it does not have yet. The caller holds the lock.

    Raises UsageError if a fault does not fit the lab that was built.
    """
    if not lab.faults:
        return ()
    known = {(record.kind, record.on) for record in fault_records.load(lab.name)}
    complete = with_plugin_results(lab)
    faults = [find_fault(complete, one.kind, one.on) for one in lab.faults]
    records = []
    for fault in faults:
        if (fault.kind, fault.on) not in known:
            try:
                records.append(break_locked(complete, fault, hidden=True))
            except UsageError as error:
                message = (
                    f"the scenario's fault {fault.kind} on {fault.on} does not fit its other faults: {error.message}"
                )
                raise UsageError(message, "omit one of them in the section `break`") from None
    return tuple(records)


def fix(
    lab: Lab, records: Iterable[FaultRecord], *, solves_exercise: bool = False, force: bool = False
) -> tuple[tuple[FaultRecord, tuple[Change, ...]], ...]:
    """Undo these faults, the latest first, and nothing else. Returns each with what was changed in the kernel: nothing,
    if somebody has repaired it already.

    A later fault can have changed what an earlier one changed, too. A later fault that stays is therefore undone as
    well, and applied again at the end.

    Raises KernelError if the kernel refuses; UsageError if the lab does not run, if a namespace of these faults is
    gone, or if a later fault that stays is not in the catalogue. Also raises UsageError in an exercise that is not
    finished, unless `solves_exercise`, and in the lab of another user, unless `force`.
    """
    from labctl.kernel.lab_kernel import KernelLab

    if not force:
        lab_owner.require_change(lab.name, "--force fixes it all the same")
    if not solves_exercise:
        exercise_record.refuse_open(lab.name, "fix")
    wanted = {(record.kind, record.on) for record in records}
    fixed: list[tuple[FaultRecord, tuple[Change, ...]]] = []
    again: list[tuple[Fault, bool]] = []
    defined = {(fault.kind, fault.on) for fault in _defined_faults(lab)}
    complete = with_plugin_results(lab)
    with lab_state.lock(lab.name), KernelLab(lab.name) as kernel:
        resolve_lab_name(lab.name)  # `down` may have held the lock
        kept = list(fault_records.load_all(lab.name))
        present = [record for record in kept if not record.fixed]
        while present and (present[0].kind, present[0].on) not in wanted:
            del present[0]  # an earlier fault stays as it is
        later = [record for record in present if (record.kind, record.on) not in wanted]
        again = [(_found_again(complete, record), record.hidden) for record in later]
        _require_namespaces(kernel, {item.ns for record in present for item in (*record.before, *record.after)})
        for record in reversed(present):
            watched = (*fault_records.expected(expected_plan(lab), kept), *record.before)
            kernel.delete_connections(record.connections)
            changes = _restore(kernel, record, watched)
            position = kept.index(record)
            stays = record in later
            if not stays:
                fixed.append((record, changes))
            kept[position : position + 1] = (
                [fault_records.marked_fixed(record)] if not stays and (record.kind, record.on) in defined else []
            )
            fault_records.save(lab.name, kept)
        for fault, hidden in again:
            _break(kernel, complete, fault, hidden)
    return tuple(fixed)


def _found_again(lab: Lab, record: FaultRecord) -> Fault:
    """The fault of a record, to apply it again. Raises UsageError if the catalogue does not have it any more."""
    try:
        return find_fault(lab, record.kind, record.on)
    except UsageError as error:
        what = "a later hidden fault" if record.hidden else f"the later fault {record.kind} on {record.on}"
        message = f"{what} cannot stay, because it cannot be applied again: {error.message}"
        raise UsageError(message, "labctl fix without a name fixes all") from None


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


def forget_repaired(lab: Lab, kernel: KernelLab) -> None:
    """Forget the ordinary faults after a repair. A plan has no connections, so these are deleted here."""
    for record in fault_records.load(lab.name):
        if not record.hidden:
            kernel.delete_connections(record.connections)
    fault_records.repaired(lab.name)


def _defined_faults(lab: Lab) -> Iterator[Fault]:
    """The faults of the scenario file, without those that do not fit the lab that was built."""
    complete = with_plugin_results(lab) if lab.faults else lab
    for one in lab.faults:
        with suppress(UsageError):
            yield find_fault(complete, one.kind, one.on)


def _require_namespaces(kernel: KernelLab, needed: set[str]) -> None:
    """Raises UsageError if a namespace is gone: only `up` can make it again, with all that it had."""
    if missing := needed - set(kernel.nodes()):
        raise UsageError(f"there is no namespace of {summarize_names(sorted(missing))} any more", "first labctl up")


def _refuse_overlap(fault: Fault, records: Iterable[FaultRecord]) -> None:
    for record in records:
        if record.fixed:
            continue
        same = (record.kind, record.on) == (fault.kind, fault.on)
        if same and not record.hidden:
            raise UsageError(f"the lab already has the fault {fault.kind} on {fault.on}", "labctl fix removes it")
        if record.interrupted:
            message = f"labctl break {record.kind} {record.on} was interrupted"
            raise UsageError(message, "labctl fix undoes what it has done")
        if same or fault.keys & record.keys:
            what = "a hidden fault" if record.hidden else f"the fault {record.kind} on {record.on}"
            message = f"{what} has changed the same object as {fault.kind} on {fault.on} would"
            hint = "labctl fix" if record.hidden else f"labctl fix {record.kind} {record.on}"
            raise UsageError(message, f"first {hint}")


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
    return tuple(Change(None, item) for item in found if is_learned(item))


def _wants(items: Iterable[Resource | None]) -> Plan:
    """Objects as a plan wants them: a process has no process id, and learned neighbours are left out."""
    present = (item for item in items if item is not None and not is_learned(item))
    return tuple(replace(item, pid=None) if isinstance(item, Process) else item for item in present)


def is_learned(item: Resource) -> bool:
    """Whether a machine learned it by ARP or NDP."""
    return isinstance(item, Neighbour) and not item.proxy and item.state in TRANSIENT_NUD_STATES


def _observed_differences(fault: Fault, found: Plan, now: Plan) -> tuple[Plan, Plan]:
    """Every difference between two observations, before and after, and what the fault created again: the fix loses
    that once more.

    Raises KernelError if there is no difference: the kernel accepted the change but shows nothing of it.
    """
    changes = diff(found, now)
    if not changes:
        raise KernelError(f"the kernel shows no difference after {fault.kind} on {fault.on}")
    differing = {change.subject.key for change in changes}
    again = {change.subject.key for change in fault.changes} - differing
    before = [change.want for change in changes] + [item for item in found if item.key in again]
    after = [change.have for change in changes] + [item for item in now if item.key in again]
    return _wants(before), _wants(after)


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
    """What differs from the state before the fault, among the objects that it changed.

    The kernel moves a static forwarding entry to another port when its machine sends by that port: the entry of a fault
    is then found there.
    """
    planned = {item.key for item in watched}
    added = {(item.ns, item.mac) for item in record.after if isinstance(item, Fdb) and item.dst is None}

    def is_of_fault(item: Resource) -> bool:
        moved = isinstance(item, Fdb) and (item.ns, item.mac) in added and item.key not in planned
        return item.key in record.keys or moved

    return diff(record.before, tuple(item for item in kernel.observe(watched) if is_of_fault(item)))
