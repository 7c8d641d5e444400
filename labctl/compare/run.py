"""A comparison from beginning to end: each lab is built under a new name, measured, and removed.

The labs are built one after the other: so the packets of one lab do not disturb the times of another, and the machine
needs room for one lab only. The removal is registered before a lab is built, so that nothing stays in any case.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from labctl.cni_runtime.observed_state import attached
from labctl.compare.extra_pod import EXTRA, grown
from labctl.compare.measure import ask
from labctl.compare.measurements import Column, Facts, More, Skipped
from labctl.compare.roles import cast
from labctl.compare.table import Table, table
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, LabError, MissingError
from labctl.kernel.host import lab_state, paths
from labctl.kernel.host.signals import undisturbed
from labctl.lab import lifecycle

Tell = Callable[[str], None]
NOBODY = "it has no pod or container with its own address"


@dataclass(frozen=True, slots=True)
class Entry:
    """One scenario to compare: the name that was given, and its definition."""

    title: str
    definition: lifecycle.Definition

    @property
    def askable(self) -> bool:
        """Whether the lab has a pod to measure. Pods that get their addresses from plugins count as well."""
        lab = lifecycle.compiled(self.definition)
        return cast(lab) is not None or bool(attached(lab.plan))


def compare(entries: Sequence[Entry], tell: Tell, *, approximate: bool = False) -> Table:
    """Build, measure and remove every lab. Labs that this kernel cannot hold are skipped, with the reason.

    `approximate` builds a model's substitutes where the kernel lacks a feature.
    """
    begun = time.monotonic()
    columns: list[Column] = []
    for number, entry in enumerate(entries, 1):

        def say(text: str, number: int = number, title: str = entry.title) -> None:
            tell(f"{number} of {len(entries)}, {title}: {text}")

        columns.append(_column(entry, say, approximate))
    return table(columns, time.monotonic() - begun)


def _column(entry: Entry, tell: Tell, approximate: bool) -> Column:
    planned = lifecycle.compiled(entry.definition)
    if not entry.askable:
        return Skipped(entry.title, planned.model, NOBODY, 2)
    begun = time.monotonic()
    try:
        with built(entry.definition, tell, approximate) as lab:
            who = cast(lab)
            if who is None:
                return Skipped(entry.title, lab.model, NOBODY, 2)
            facts = ask(entry.title, lab, who, tell)
        facts = replace(facts, more=_one_more(entry.definition, facts, tell))
        return replace(facts, seconds=time.monotonic() - begun)
    except (MissingError, KernelError) as error:
        return Skipped(entry.title, planned.model, _why(error), error.code)


def _why(error: LabError) -> str:
    """An error's sentence without the lab's generated name."""
    _, colon, rest = error.message.partition(" cannot be built: ")
    return rest if colon else error.message


@contextmanager
def built(definition: lifecycle.Definition, tell: Tell, approximate: bool = False) -> Iterator[Lab]:
    """Build the lab of a definition under an unused name; remove it at the end of the block."""
    name = own_name()
    try:
        yield lifecycle.up(_named(definition, name), approximate=approximate, progress=tell).lab
    finally:
        with undisturbed():
            lifecycle.down(name)


def own_name() -> str:
    """An unused name for a lab: `compare-` and eight random hexadecimal digits."""
    while True:
        name = f"compare-{secrets.token_hex(4)}"
        if name not in paths.labs() and name not in lab_state.records():
            return name


def _named(definition: lifecycle.Definition, name: str) -> lifecycle.Definition:
    lab = definition.lab
    return replace(definition, name=name, lab=None if lab is None else replace(lab, name=name))


def _one_more(definition: lifecycle.Definition, facts: Facts, tell: Tell) -> More | str:
    """The same lab with one more pod, on the measured node or, if that is full, on another."""
    reasons: dict[str, list[str]] = {}
    for node in filter(None, (facts.cast.node, facts.cast.other)):
        try:
            more = grown(definition, facts.lab, node)
            tell(f"building it with one more pod on {node}")
            with built(replace(definition, lab=more), tell) as lab:
                return More(EXTRA, node, lifecycle.observe(lab.name), lab.machines)
        except LabError as error:
            reasons.setdefault(error.message, []).append(node)
    return "; ".join(f"not on {' or '.join(nodes)}: {reason}" for reason, nodes in reasons.items())
