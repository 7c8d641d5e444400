"""A comparison from beginning to end: each lab is built under a new name, measured, and removed.

The labs are built one after the other: so the packets of one lab do not disturb the times of another, and the machine
has to hold one lab only. The removal is registered before a lab is built, so that nothing stays in any case.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from labctl.compare.extra_pod import EXTRA_POD, with_extra_pod
from labctl.compare.measure import measure
from labctl.compare.measurements import NOT_ASKED, Column, ExtraPod, Measurements, ServiceProbe, Skipped
from labctl.compare.roles import find_roles
from labctl.compare.service_lab import with_services
from labctl.compare.services import service_probes
from labctl.compare.table import NEEDS, Need, Table, needs_of, table
from labctl.core.resources import attachments_of
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, LabError, MissingError
from labctl.kernel.host import lab_state, paths
from labctl.kernel.host.signals import ignore_signals
from labctl.lab import lifecycle
from labctl.lab.leftovers import record_temporary_lab

MessageCallback = Callable[[str], None]
NO_PODS_REASON = "it has no pod or container with its own address"


@dataclass(frozen=True, slots=True)
class ComparedScenario:
    """One scenario to compare: the name that was given, and its definition."""

    title: str
    definition: lifecycle.Definition

    @property
    def has_pods(self) -> bool:
        """Whether the lab has a pod to measure. Pods that get their addresses from plugins count as well."""
        lab = lifecycle.compile_definition(self.definition)
        return find_roles(lab) is not None or bool(attachments_of(lab.plan))


def compare(
    entries: Sequence[ComparedScenario],
    report_step: MessageCallback,
    *,
    approximate: bool = False,
    row: str | None = None,
) -> Table:
    """Build, measure and remove every lab. Labs that this kernel cannot hold are skipped, with the reason.

    `approximate` builds a model's substitutes where the kernel lacks a feature. With the key of a `row`, only that row
    counts: what only others need is not measured, and they say so.
    """
    needs = NEEDS if row is None else needs_of(row)
    started = time.monotonic()
    columns: list[Column] = []
    for number, entry in enumerate(entries, 1):

        def report_lab_step(text: str, number: int = number, title: str = entry.title) -> None:
            report_step(f"{number} of {len(entries)}, {title}: {text}")

        columns.append(_column(entry, report_lab_step, approximate, needs))
    return table(columns, time.monotonic() - started)


def _column(
    entry: ComparedScenario, report_step: MessageCallback, approximate: bool, needs: Collection[Need]
) -> Column:
    planned = lifecycle.compile_definition(entry.definition)
    if not entry.has_pods:
        return Skipped(entry.title, planned.model, NO_PODS_REASON, 2)
    started = time.monotonic()
    try:
        with temporary_lab(entry.definition, report_step, approximate) as lab:
            roles = find_roles(lab)
            if roles is None:
                return Skipped(entry.title, lab.model, NO_PODS_REASON, 2)
            measurements = measure(entry.title, lab, roles, report_step, with_times="times" in needs)
        extra_pod: ExtraPod | str = NOT_ASKED
        if "extra pod" in needs:
            extra_pod = _measure_extra_pod(entry.definition, measurements, report_step)
        services: Mapping[str, ServiceProbe | str] | str = NOT_ASKED
        if "services" in needs:
            services = _measure_services(entry.definition, measurements, report_step)
        measurements = replace(measurements, extra_pod=extra_pod, service_probes=services)
        return replace(measurements, seconds=time.monotonic() - started)
    except (MissingError, KernelError) as error:
        return Skipped(entry.title, planned.model, _skip_reason(error), error.code)


def _skip_reason(error: LabError) -> str:
    """An error's sentence without the lab's generated name."""
    _, colon, reason = error.message.partition(" cannot be built: ")
    return reason if colon else error.message


@contextmanager
def temporary_lab(
    definition: lifecycle.Definition, report_step: MessageCallback, approximate: bool = False
) -> Iterator[Lab]:
    """Build the lab of a definition under an unused name; remove it at the end of the block."""
    name = temporary_lab_name()
    record = record_temporary_lab("a comparison", name)
    try:
        yield lifecycle.up(_with_name(definition, name), approximate=approximate, progress=report_step).lab
    finally:
        with ignore_signals():
            record.finish(lambda: lifecycle.down(name))


def temporary_lab_name() -> str:
    """An unused name for a lab: `compare-` and eight random hexadecimal digits."""
    while True:
        name = f"compare-{secrets.token_hex(4)}"
        if name not in paths.labs() and name not in lab_state.labs_with_files():
            return name


def _with_name(definition: lifecycle.Definition, name: str) -> lifecycle.Definition:
    lab = definition.lab
    return replace(definition, name=name, lab=None if lab is None else replace(lab, name=name))


def _measure_services(
    definition: lifecycle.Definition, measurements: Measurements, report_step: MessageCallback
) -> Mapping[str, ServiceProbe | str] | str:
    """The same lab with Services and a policy on top; a text is the reason why there are none."""
    try:
        with_objects = with_services(definition, measurements.lab, measurements.roles)
        report_step("building it with Services")
        with temporary_lab(replace(definition, lab=with_objects), report_step) as lab:
            return service_probes(lab, measurements.roles)
    except LabError as error:
        return error.message
    except ValueError as error:
        return str(error)


def _measure_extra_pod(
    definition: lifecycle.Definition, measurements: Measurements, report_step: MessageCallback
) -> ExtraPod | str:
    """The same lab with one more pod, on the measured node or, if that is full, on another."""
    reasons: dict[str, list[str]] = {}
    for node in filter(None, (measurements.roles.node, measurements.roles.other_node)):
        try:
            lab_with_pod = with_extra_pod(definition, measurements.lab, node)
            report_step(f"building it with one more pod on {node}")
            with temporary_lab(replace(definition, lab=lab_with_pod), report_step) as lab:
                return ExtraPod(EXTRA_POD, node, lifecycle.observe(lab.name), lab.machines)
        except LabError as error:
            reasons.setdefault(error.message, []).append(node)
    return "; ".join(f"not on {' or '.join(nodes)}: {reason}" for reason, nodes in reasons.items())
