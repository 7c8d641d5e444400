"""For tests of labs and models: assert the three laws on a scenario, and make unique names of labs."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.api import Overrides, ScenarioSource
    from labctl.core.diff import Change
    from labctl.core.iptables import Backend

_NUMBERS = itertools.count(1)  # for the names of this process's labs, so that each is unique


def assert_laws(
    scenario: ScenarioSource,
    *,
    name: str | None = None,
    set: Overrides | None = None,
    approximate: bool = False,
    firewall: Backend | None = None,
) -> None:
    """Assert the three laws of every lab for a scenario, and so for its model. Needs root.

    After `up`, nothing differs from the plan. A second `up` changes nothing. After `down`, nothing is left, and this
    namespace has the same devices as before. Raises AssertionError that names the difference. The lab is removed in
    any case. Also raises what `labctl.up` raises: MissingError if the kernel lacks a feature that the scenario needs;
    and UsageError if a lab of this name runs already.
    """
    import labctl
    from labctl.core.resources import Netns
    from labctl.kernel.host import lab_state, paths
    from labctl.lab.leftovers import record_temporary_lab

    first = labctl.load(scenario, set=set, approximate=approximate, firewall=firewall)
    definition = labctl.load(first, name=name or unused_lab_name(first.name))
    require_unused_name(definition.name)
    before = _devices()
    record = record_temporary_lab("a test", definition.name)
    removed: tuple[str, ...] = ()

    def remove() -> None:
        nonlocal removed
        removed = labctl.down(definition.name)

    try:
        lab = labctl.up(definition, approximate=approximate)
        assert lab.result is not None
        planned = {item.name for item in lab.result.lab.plan if isinstance(item, Netns)}
        _assert_no_changes("after up, the lab differs from its plan", lab.status())
        again = labctl.up(definition, approximate=approximate)
        assert again.result is not None
        _assert_no_changes("a second up still changed the lab", again.result.changes)
    finally:
        record.finish(remove)
    left = sorted(
        {*paths.labs().get(lab.name, ()), *({"its record"} & {*_record_left(lab_state.labs_with_files(), lab.name)})}
    )
    if left or {*removed} != planned:
        raise AssertionError(f"after down, {', '.join(left) or 'nothing'} is left; removed: {', '.join(removed)}")
    if (after := _devices()) != before:
        raise AssertionError(f"after down, the machine's devices are {after}, but before they were {before}")


def require_unused_name(name: str) -> None:
    """Raises UsageError if a lab of this name runs: it belongs to another user, or a killed run left it."""
    from labctl.errors import UsageError
    from labctl.kernel.host import paths
    from labctl.running_lab import require_root

    require_root("up")  # without root, raise that error first
    if name in paths.labs():
        hint = f"use another name, or none; labctl.RunningLab({name!r}) uses that lab; labctl down {name} removes it"
        raise UsageError(f"a lab {name} runs already, and does not belong to this test", hint)


def unused_lab_name(stem: str) -> str:
    """A lab's name that is not in use here and that no other process will use: it contains this process's id, and under
    pytest-xdist the name of the worker."""
    from labctl.kernel.host import paths

    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    parts = (stem[:24].strip("-"), *([worker] if worker.isalnum() else []), str(os.getpid()))
    running = paths.labs()
    names = (f"{'-'.join(parts)}-{number}" for number in _NUMBERS)
    return next(name for name in names if name not in running)


def _assert_no_changes(what: str, changes: tuple[Change, ...]) -> None:
    from labctl.render.resources import change_lines

    if changes:
        raise AssertionError("\n    ".join([f"{what}:", *(line for one in changes for line in change_lines(one))]))


def _record_left(records: tuple[str, ...], name: str) -> tuple[str, ...]:
    return ("its record",) if name in records else ()


def _devices() -> list[str]:
    """The network devices in the namespace of this process."""
    with open("/proc/self/net/dev", encoding="ascii") as file:
        return sorted(line.partition(":")[0].strip() for line in file.readlines()[2:])
