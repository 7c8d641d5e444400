"""The life cycle of labs: up, down, status. Sequences of compile, diff and apply; `labctl.kernel` does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from labctl.cni_runtime.observed_state import attached, whole, without
from labctl.core.diff import Change, diff
from labctl.core.resources import Attachment, Chain, Netns, Plan, Resource
from labctl.core.results import Result, Running
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, LabError, UsageError
from labctl.lab.fallback import Lacking, fit
from labctl.lab.records import choose, kept, recall, running
from labctl.lab.records import keep as record
from labctl.scenario.definition import Definition, approximated, compiled, define, written_with

Progress: TypeAlias = Callable[[str], None]  # called with a short text on the current step


ROUNDS = 3  # a repaired link can lose its routes: compare again, this many times, then report what is left


def up(
    definition: Definition,
    *,
    dry_run: bool = False,
    keep: bool = False,
    replace: bool = False,
    approximate: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Build a lab as its definition says; on a running lab, repair it. Rolls back after an error, unless `keep`.

    If the kernel lacks a feature, the model's substitute is built if `approximate` or the scenario wants it.
    Raises ScenarioError, UsageError (another definition runs under that name), KernelError, LockError, MissingError.
    """
    from labctl.kernel.host import lab_state, paths
    from labctl.lab.cni_attach import require, resolved

    begun = time.monotonic()
    tell = progress or (lambda _: None)
    definition, lab = fit(_written(definition, replace, tell), _lacking(tell), approximate=approximate)
    if dry_run:
        there = paths.labs().get(lab.name)
        if there is not None and not replace:
            _refuse_another(lab, there)
        changes = _differences(lab) if there is not None and not replace else diff(lab.plan, ())
        replaced = there is not None and replace
        return Result(lab, changes, there is None or replaced, True, time.monotonic() - begun, replaced)
    require(lab)
    with lab_state.lock(lab.name):
        there = paths.labs().get(lab.name)
        if there is not None and not replace:
            _refuse_another(lab, there)
        replaced = there is not None and replace
        if replaced:
            tell(f"removing the existing lab {lab.name}")
            _remove(lab.name, tell)
            there = None
        changes = _build(definition, lab, keep, tell) if there is None else _repair(definition, lab, tell)
    return Result(resolved(lab), changes, there is None, False, time.monotonic() - begun, replaced)


def down(name: str, *, warn: Progress | None = None) -> tuple[str, ...]:
    """Remove a lab; returns the namespaces that were removed, none if it did not exist. Needs no state file.

    `warn` is called with each error of the CNI plugins that attached its pods; the lab is removed anyway.
    """
    from labctl.kernel.host import lab_state

    with lab_state.lock(name):
        return _remove(name, warn)


def status(name: str, lab: Lab) -> tuple[Change, ...]:
    """The differences between the kernel's state now and the definition; empty if there are none."""
    return _differences(replace(lab, name=name))


def observe(name: str, node: str | None = None, asking: Plan = ()) -> Plan:
    """The kernel objects of a running lab, or of one node; only the sysctls in `asking` are read."""
    from labctl.kernel.lab_kernel import Linux

    with Linux(name) as kernel:
        found = kernel.observe(asking)
    return found if node is None else tuple(item for item in found if item.ns == node)


def _written(definition: Definition, replace: bool, tell: Progress) -> Definition:
    """The definition with the back end of its rules: the requested one, else that of the running lab, else the one from
    the environment, else the one that works."""
    from labctl.kernel.firewall import backend
    from labctl.kernel.host import paths

    if definition.name in paths.labs() and not replace:
        return written_with(definition, definition.firewall or backend.of(definition.name))
    return written_with(definition, backend.choose(backend.wish(definition.firewall), tell))


def _lacking(tell: Progress) -> Lacking:
    """The function that finds missing kernel features, after it loaded the modules that this kernel has."""

    def lacking(lab: Lab, wanted: Mapping[str, Resource]) -> Mapping[str, str]:
        from labctl.kernel.apply import features
        from labctl.kernel.host.modules import ensure

        ensure(lab.plan, tell, backend=lab.firewall)
        return features.lacking(wanted, lab.firewall)

    return lacking


def _refuse_another(lab: Lab, there: tuple[str, ...]) -> None:
    """Refuse to change a running lab of another definition. If the record of the running lab is lost, namespaces that
    this definition does not have show that it is another one."""
    hint = "remove it first (labctl down), use --replace, or use another --name"
    old = kept(lab.name)
    if old is None:
        foreign = sorted(set(there) - {item.name for item in lab.plan if isinstance(item, Netns)})
        if foreign:
            raise UsageError(f"a lab {lab.name} with {', '.join(foreign)} runs, and its definition is lost", hint)
        return
    try:
        same = compiled(old).plan == lab.plan and old.firewall == lab.firewall
    except LabError:
        same = False
    if not same:
        otherwise = f", with --approximate for {', '.join(old.approximate)}" if old.approximate else ""
        otherwise += f", with --firewall {old.firewall}" if old.firewall != lab.firewall else ""
        raise UsageError(f"a lab {lab.name} of another definition runs ({old.file}{otherwise})", hint)


def _build(definition: Definition, lab: Lab, keep: bool, tell: Progress) -> tuple[Change, ...]:
    """Build a new lab. The kernel acknowledges every message, so nothing is read back."""
    from labctl.kernel.host.modules import ensure
    from labctl.kernel.host.signals import undisturbed
    from labctl.kernel.lab_kernel import Linux

    changes = diff(lab.plan, ())
    tell(f"building {sum(isinstance(item, Netns) for item in lab.plan)} namespaces, {len(lab.plan)} objects")
    try:
        record(definition, lab)
        ensure(lab.plan, tell, backend=lab.firewall)
        with Linux(lab.name) as kernel:
            kernel.apply(changes)
            _attach(definition, lab, attached(lab.plan), kernel, tell)
    except BaseException:
        if not keep:
            with undisturbed():
                tell("rolling back")
                _remove(lab.name, tell)
        raise
    return changes


def _attach(definition: Definition, lab: Lab, dead: tuple[Attachment, ...], kernel: Any, tell: Progress) -> None:
    """Let the plugins create these attachments, and record the addresses of the pods."""
    from labctl.lab.cni_attach import attach, resolved

    if dead:
        attach(lab, dead, kernel, tell)
        record(definition, resolved(lab))


def _repair(definition: Definition, lab: Lab, tell: Progress) -> tuple[Change, ...]:
    """Bring an existing lab to its plan: compare, change what differs, and compare again."""
    from labctl.kernel.host.modules import ensure
    from labctl.kernel.lab_kernel import Linux

    done: dict[object, Change] = {}
    record(definition, lab)
    ensure(lab.plan, tell, backend=lab.firewall)
    with Linux(lab.name) as kernel:
        for _ in range(ROUNDS):
            changes = _compare(lab, kernel)
            if not changes:
                return tuple(done.values())
            for change in changes:
                done.setdefault(change.subject.key, change)
            tell(f"repairing {len(changes)} object{'s' if len(changes) != 1 else ''}")
            dead = attached(change.want for change in changes if change.want is not None)
            if dead:
                _mend_around(lab, dead, kernel)
                _attach(definition, lab, dead, kernel, tell)
            else:
                kernel.apply(changes)
        left = _compare(lab, kernel)
    if left:
        raise _stubborn(lab.name, left)
    return tuple(done.values())


def _mend_around(lab: Lab, dead: tuple[Attachment, ...], kernel: Any) -> None:
    """Bring everything except these attachments to its wanted state: later differences then come from the plugins."""
    from labctl.kernel.cni.attachment_records import lost_nodes, made

    planned = tuple(item for item in lab.plan if not isinstance(item, Attachment))
    rest = whole(planned, without(made(lab.name).plan, dead, lost_nodes(lab.name)))
    for _ in range(ROUNDS):
        changes = _held_against(rest, kernel)
        if not changes:
            return
        kernel.apply(changes)
    if left := _held_against(rest, kernel):
        raise _stubborn(lab.name, left)


def _stubborn(name: str, left: tuple[Change, ...]) -> KernelError:
    """The error for differences that no round fixes."""
    from labctl.render.resources import change_lines

    lines = "; ".join(line for change in left[:5] for line in change_lines(change))
    return KernelError(f"lab {name} still differs after {ROUNDS} rounds: {lines}", "labctl status shows all")


def _differences(lab: Lab) -> tuple[Change, ...]:
    from labctl.kernel.lab_kernel import Linux

    with Linux(lab.name) as kernel:
        return _compare(lab, kernel)


def _compare(lab: Lab, kernel: Any) -> tuple[Change, ...]:
    """The differences now from the plan and from the recorded objects of plugins."""
    from labctl.lab.cni_attach import wanted

    return _held_against(wanted(lab), kernel)


def _held_against(plan: Plan, kernel: Any) -> tuple[Change, ...]:
    """The differences from a plan. Rules in a plan may be spelled differently from the kernel's output: if chains
    differ, they are compared again in the kernel's spelling."""
    found = kernel.observe(plan)
    changes = diff(plan, found)
    if not any(isinstance(change.want, Chain) and isinstance(change.have, Chain) for change in changes):
        return changes
    return diff(kernel.canonical(plan), found)


def _remove(name: str, warn: Progress | None = None) -> tuple[str, ...]:
    from labctl.kernel.host import lab_state
    from labctl.kernel.lab_kernel import Linux
    from labctl.lab.cni_attach import detach

    for trouble in detach(name):
        if warn is not None:
            warn(trouble)
    with Linux(name) as kernel:
        gone = kernel.destroy()
    lab_state.forget(name)
    return tuple(gone)


__all__ = [
    "Definition",
    "Progress",
    "Result",
    "Running",
    "approximated",
    "choose",
    "compiled",
    "define",
    "down",
    "observe",
    "recall",
    "running",
    "status",
    "up",
]
