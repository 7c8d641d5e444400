"""The life cycle of labs: up, down, status. Sequences of compile, diff and apply; `labctl.kernel` does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from labctl.core.diff import Change, diff, same
from labctl.core.lab_results import RunningSummary, UpResult
from labctl.core.resources import (
    Address,
    Attachment,
    Chain,
    Neighbour,
    Netns,
    NftObject,
    Plan,
    Resource,
    attachments_of,
)
from labctl.core.scenario_types import Lab
from labctl.core.sentence import sentence
from labctl.errors import KernelError, LabError, LimitError, UsageError
from labctl.kernel.host.user import user_name
from labctl.lab.fallback import FindMissing, use_available_features
from labctl.lab.nft_acceptance import require_accepted
from labctl.lab.records import (
    load_compiled_lab,
    load_definition,
    resolve_lab_name,
    resolve_own_lab_name,
    running_labs,
    save_definition,
)
from labctl.scenario.definition import Definition, compile_definition, define, with_firewall, with_substitutes

if TYPE_CHECKING:
    from labctl.kernel.lab_kernel import KernelLab

Progress: TypeAlias = Callable[[str], None]  # called with a short text on the current step

_OWNER_HINT = "use another --name, or --force to change it all the same"
MAX_REPAIR_ROUNDS = 3  # a repaired link can lose its routes: compare again, this many times, then report what is left


def up(
    definition: Definition,
    *,
    dry_run: bool = False,
    keep: bool = False,
    replace: bool = False,
    approximate: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> UpResult:
    """Build a lab as its definition says; on a running lab, repair it. Rolls back after an error, unless `keep`.

    If the kernel lacks a feature, the model's substitute is built if `approximate` or the scenario wants it. The lab of
    another user is changed only with `force`.
    Raises ScenarioError, UsageError (another definition runs under that name, or it is another user's), KernelError,
    LockError, MissingError.
    """
    from labctl.kernel.host import lab_owner, lab_state, paths

    started = time.monotonic()
    notify = progress or (lambda _: None)
    definition, lab = use_available_features(
        _with_backend(definition, replace, notify), _missing_feature_finder(notify), approximate=approximate
    )
    require_accepted(definition, lab)
    updated = False
    if dry_run:
        running_nodes = paths.labs().get(lab.name)
        if running_nodes is not None and not force:
            lab_owner.require_change(lab.name, _OWNER_HINT)
        if running_nodes is not None and not replace:
            updated = _is_update(lab, running_nodes)
        changes = _differences(lab) if running_nodes is not None and not replace else diff(lab.plan, ())
        replaced = running_nodes is not None and replace
        created, seconds = running_nodes is None or replaced, time.monotonic() - started
        return UpResult(lab, changes, created, True, seconds, replaced, updated)
    if has_attachments := bool(attachments_of(lab.plan)):  # only then what CNI needs is imported
        from labctl.lab.cni_attach import require_plugins, with_pod_addresses

        require_plugins(lab)
    with lab_state.lock(lab.name):
        running_nodes, owner = paths.labs().get(lab.name), user_name()
        if running_nodes is not None and not force:
            lab_owner.require_change(lab.name, _OWNER_HINT)
            owner = paths.owner_of(lab.name) or owner  # root replaces a lab for its owner
        if running_nodes is not None and not replace:
            updated = _is_update(lab, running_nodes)
        replaced = running_nodes is not None and replace
        if replaced:
            notify(f"removing the existing lab {lab.name}")
            _remove(lab.name, notify)
            running_nodes = None
        if running_nodes is None:
            changes = _build(definition, lab, owner, keep, notify)
        else:
            changes = _repair(definition, lab, notify)
    created, seconds = running_nodes is None, time.monotonic() - started
    built = with_pod_addresses(lab) if has_attachments else lab
    return UpResult(built, changes, created, False, seconds, replaced, updated)


def down(name: str, *, force: bool = False, warn: Progress | None = None) -> tuple[str, ...]:
    """Remove a lab; returns the namespaces that were removed, none if it did not exist. Needs no state file.

    `warn` is called with each error of the CNI plugins that attached its pods; the lab is removed anyway.
    Raises UsageError for the lab of another user, unless `force`.
    """
    from labctl.kernel.host import lab_owner, lab_state

    with lab_state.lock(name, needs_file=False):
        if not force:
            hint = f"labctl list shows all owners; labctl down --force {name} removes it all the same"
            lab_owner.require_change(name, hint)
        return _remove(name, warn)


def status(name: str, lab: Lab) -> tuple[Change, ...]:
    """The differences between the kernel's state now and the definition; empty if there are none."""
    return _differences(replace(lab, name=name))


def differences_from_plan(lab: Lab, plan: Plan) -> tuple[tuple[Change, ...], Plan]:
    """The differences of a running lab from this plan without the lab's faults, hidden or not; and what was observed.
    Objects of CNI plugins are wanted, too."""
    from labctl.kernel.lab_kernel import KernelLab
    from labctl.lab import fault_records
    from labctl.lab.cni_attach import expected_plan

    wanted = fault_records.repaired_state(expected_plan(replace(lab, plan=plan)), fault_records.load(lab.name))
    with KernelLab(lab.name) as kernel:
        return _diff_plan(wanted, kernel), kernel.observe(wanted)


def observe(name: str, node: str | None = None, plan: Plan = ()) -> Plan:
    """The kernel objects of a running lab, or of one node; only the sysctls in `plan` are read."""
    from labctl.kernel.lab_kernel import KernelLab

    with KernelLab(name) as kernel:
        found = kernel.observe(plan)
    return found if node is None else tuple(item for item in found if item.ns == node)


def _with_backend(definition: Definition, replace: bool, notify: Progress) -> Definition:
    """The definition with the back end of its rules: the requested one, else that of the running lab, else the one from
    the environment, else the one that works."""
    from labctl.kernel.firewall import backend
    from labctl.kernel.host import paths

    if definition.name in paths.labs() and not replace:
        return with_firewall(definition, definition.firewall or backend.backend_of(definition.name))
    return with_firewall(definition, backend.choose(backend.requested_backend(definition.firewall), notify))


def _missing_feature_finder(notify: Progress) -> FindMissing:
    """The function that finds missing kernel features, after it loaded the modules that this kernel has."""

    def lacking(lab: Lab, wanted: Mapping[str, Resource]) -> Mapping[str, str]:
        from labctl.kernel.apply import features
        from labctl.kernel.host.modules import ensure

        ensure(lab.plan, notify, backend=lab.firewall)
        return features.missing_features(wanted, lab.firewall)

    return lacking


def _is_update(lab: Lab, running_nodes: tuple[str, ...]) -> bool:
    """Whether the running lab is the same cluster with other API objects. Raises UsageError if it is another lab.

    If the record of the running lab is lost, namespaces that this definition does not have show that it is another one.
    """
    from labctl.kernel.host import paths

    hint = f"remove it first ({paths.command_prefix()} down {lab.name}), use --replace, or use another --name"
    old = load_definition(lab.name)
    if old is None:
        foreign = sorted(set(running_nodes) - {item.name for item in lab.plan if isinstance(item, Netns)})
        if foreign:
            raise UsageError(f"a lab {lab.name} with {', '.join(foreign)} runs, and its definition is lost", hint)
        return False
    has_same_plan = False
    try:
        compiled = compile_definition(old)
        has_same_plan = compiled.plan == lab.plan
        same = (compiled.faults, old.firewall) == (lab.faults, lab.firewall) and (
            has_same_plan or _is_same_cluster(compiled, lab)
        )
    except LabError:
        same = False
    if not same:
        otherwise = f", with --approximate for {', '.join(old.substitute_features)}" if old.substitute_features else ""
        otherwise += f", with --firewall {old.firewall}" if old.firewall != lab.firewall else ""
        raise UsageError(f"a lab {lab.name} of another definition runs ({old.file}{otherwise})", hint)
    return not has_same_plan


def _is_same_cluster(old: Lab, new: Lab) -> bool:
    """Whether two labs are one cluster with other API objects: the model and the nodes are the same, and at least one
    has Services, policies or the like. Then the running lab is changed, as a cluster is, and not built again."""
    nodes = [[one for one in lab.machines if one.role == "node"] for lab in (old, new)]
    has_objects = old.kubernetes is not None or new.kubernetes is not None
    return has_objects and old.model == new.model and nodes[0] == nodes[1]


def _build(definition: Definition, lab: Lab, owner: str, keep: bool, notify: Progress) -> tuple[Change, ...]:
    """Build a new lab. The kernel acknowledges every message, so nothing is read back."""
    from labctl.kernel.host import lab_owner, phases
    from labctl.kernel.host.modules import ensure
    from labctl.kernel.host.signals import ignore_signals
    from labctl.kernel.lab_kernel import KernelLab

    changes = diff(lab.plan, ())
    notify(f"building {sum(isinstance(item, Netns) for item in lab.plan)} namespaces, {len(lab.plan)} objects")
    try:
        phases.begin(sentence("files and kernel modules"))
        lab_owner.record(lab.name, owner)
        save_definition(definition, lab)
        ensure(lab.plan, notify, backend=lab.firewall)
        with KernelLab(lab.name) as kernel:
            kernel.apply(changes)
            phases.begin(sentence("the end of the work"))
            _attach(definition, lab, attachments_of(lab.plan), kernel, notify)
        _break_as_defined(lab, notify)
    except BaseException as error:
        if not keep:
            with ignore_signals():
                notify("rolling back")
                _roll_back(lab.name, notify, error)
        raise
    return changes


def _attach(
    definition: Definition, lab: Lab, missing: tuple[Attachment, ...], kernel: KernelLab, notify: Progress
) -> None:
    """Let the plugins create these attachments, and record the addresses of the pods."""
    if missing:
        from labctl.lab.cni_attach import attach, with_pod_addresses

        attach(lab, missing, kernel, notify)
        save_definition(definition, with_pod_addresses(lab))


def _repair(definition: Definition, lab: Lab, notify: Progress) -> tuple[Change, ...]:
    """Bring an existing lab to its plan: compare, change what differs, and compare again."""
    from labctl.kernel.host import phases
    from labctl.kernel.host.modules import ensure
    from labctl.kernel.lab_kernel import KernelLab
    from labctl.lab.break_fix import forget_repaired

    done: dict[object, Change] = {}
    save_definition(definition, lab)
    ensure(lab.plan, notify, backend=lab.firewall)
    with KernelLab(lab.name) as kernel:
        for _ in range(MAX_REPAIR_ROUNDS):
            phases.begin(sentence("comparing with the kernel"))
            changes = _compare(lab, kernel)
            if not changes:
                break
            for change in changes:
                done.setdefault(change.subject.key, change)
            notify(f"repairing {len(changes)} object{'s' if len(changes) != 1 else ''}")
            missing = attachments_of(change.want for change in changes if change.want is not None)
            if missing:
                _repair_other_objects(lab, missing, kernel)
                _attach(definition, lab, missing, kernel, notify)
            else:
                kernel.apply(changes)
        else:
            if left := _compare(lab, kernel):
                raise _unrepaired_error(lab.name, left)
        _forget_neighbours(tuple(done.values()), kernel)
        forget_repaired(lab, kernel)
    _break_as_defined(lab, notify)
    return tuple(done.values())


def _forget_neighbours(done: tuple[Change, ...], kernel: KernelLab) -> None:
    """Remove what machines learned by ARP and NDP about addresses that were added: another machine may have had such an
    address before, and packets would go to that one for some seconds more."""
    from labctl.lab.break_fix import is_learned

    added = {one.want.addr.ip for one in done if isinstance(one.want, Address)}
    if added:
        observed = kernel.observe(chains=False)  # a cluster has ten thousands of rules
        found = (one for one in observed if isinstance(one, Neighbour) and one.ip in added)
        kernel.apply(tuple(Change(None, one) for one in found if is_learned(one)))


def _break_as_defined(lab: Lab, notify: Progress) -> None:
    """Give the lab the faults of its scenario file."""
    if lab.faults:
        from labctl.lab.break_fix import break_as_defined

        notify("breaking what the scenario breaks")
        break_as_defined(lab)


def _repair_other_objects(lab: Lab, missing: tuple[Attachment, ...], kernel: KernelLab) -> None:
    """Bring everything except these attachments to its wanted state: later differences then come from the plugins."""
    from labctl.cni_runtime.observed_state import merge, without_attachments
    from labctl.kernel.cni.attachment_records import load_plugin_objects, lost_nodes
    from labctl.lab import fault_records

    planned = tuple(item for item in lab.plan if not isinstance(item, Attachment))
    rest = merge(planned, without_attachments(load_plugin_objects(lab.name).plan, missing, lost_nodes(lab.name)))
    rest = fault_records.expected(rest, fault_records.load(lab.name))
    for _ in range(MAX_REPAIR_ROUNDS):
        changes = _diff_plan(rest, kernel)
        if not changes:
            return
        kernel.apply(changes)
    if left := _diff_plan(rest, kernel):
        raise _unrepaired_error(lab.name, left)


def _unrepaired_error(name: str, left: tuple[Change, ...]) -> KernelError:
    """The error for differences that no round fixes."""
    from labctl.kernel.host import paths
    from labctl.render.resources import change_lines

    lines = "; ".join(line for change in left[:5] for line in change_lines(change))
    hint = f"{paths.command_prefix(name)} status shows all"
    return KernelError(f"lab {name} still differs after {MAX_REPAIR_ROUNDS} rounds: {lines}", hint)


def _differences(lab: Lab) -> tuple[Change, ...]:
    from labctl.kernel.lab_kernel import KernelLab

    with KernelLab(lab.name) as kernel:
        return _compare(lab, kernel)


def _compare(lab: Lab, kernel: KernelLab) -> tuple[Change, ...]:
    """The differences now from the plan, from the recorded objects of plugins, and from what a learner has built."""
    from labctl.lab import fault_records
    from labctl.lab.cni_attach import expected_plan

    plan = expected_plan(lab)
    if lab.exercise is not None:
        from labctl.lab import built_record

        plan = built_record.expected(lab.name, plan)
    return _diff_plan(fault_records.expected(plan, fault_records.load(lab.name)), kernel)


def _diff_plan(plan: Plan, kernel: KernelLab) -> tuple[Change, ...]:
    """The differences from a plan. Rules in a plan may be spelled differently from the kernel's output: if chains
    differ, they are compared again in the kernel's spelling."""
    changes = kernel.differences(plan)
    differing = {
        change.want.key for change in changes if isinstance(change.want, (Chain, NftObject)) and change.have is not None
    }
    if not differing:
        return changes
    spelled = kernel.kernel_spelling(plan, differing)
    respelled = (
        change
        if change.want is None or change.have is None
        else Change(spelled.get(change.want.key, change.want), change.have)
        for change in changes
    )
    return tuple(
        change
        for change in respelled
        if change.want is None
        or change.have is None
        or change.want.key not in spelled
        or not same(change.want, change.have)
    )


def _remove(name: str, warn: Progress | None = None) -> tuple[str, ...]:
    """Remove a lab. Only its CNI plugins need a process or a thread; the lab is removed without them, too."""
    from labctl.kernel.host import lab_state
    from labctl.kernel.lab_kernel import KernelLab
    from labctl.lab.cni_attach import detach

    try:
        errors = detach(name)
    except LimitError as error:
        errors = (error.message,)
    for text in errors:
        if warn is not None:
            warn(text)
    with KernelLab(name) as kernel:
        removed = kernel.destroy()
    try:
        lab_state.remove_files(name)
    except KernelError as error:  # the lab is gone; what is left of its record harms no other
        if warn is not None:
            warn(str(error))
    return tuple(removed)


def _roll_back(name: str, notify: Progress, cause: BaseException) -> None:
    """Remove what an unfinished build has made. If that fails, `cause`, why the build has ended, is still the error to
    report; its hint then says what is left."""
    from labctl.kernel.host import paths

    try:
        _remove(name, notify)
    except Exception as error:
        left = f"the rollback failed ({error}); remove what is left: {paths.command_prefix()} down {name}"
        notify(left)
        if isinstance(cause, LabError):
            cause.hint = f"{cause.hint}; {left}" if cause.hint else left


__all__ = [
    "Definition",
    "Progress",
    "RunningSummary",
    "UpResult",
    "compile_definition",
    "define",
    "down",
    "load_compiled_lab",
    "observe",
    "resolve_lab_name",
    "resolve_own_lab_name",
    "running_labs",
    "status",
    "up",
    "with_substitutes",
]
