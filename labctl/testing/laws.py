"""For people who test labs and models: the three laws on a scenario, and names that no other run has."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.api import Sets, Source
    from labctl.core.diff import Change
    from labctl.core.iptables import Backend

_NUMBERS = itertools.count(1)  # of the labs that this process named: none is named twice


def assert_laws(
    scenario: Source,
    *,
    name: str | None = None,
    set: Sets | None = None,
    approximate: bool = False,
    firewall: Backend | None = None,
) -> None:
    """Hold a scenario, and so its model, against the three laws of every lab. Needs root.

    After `up` nothing differs from the plan; a second `up` changes nothing; after `down` nothing is left, and this
    namespace has the devices it had. Raises AssertionError that names what is otherwise; what was built goes in any
    case. Raises as `labctl.up` does: MissingError where the kernel lacks what the scenario needs; and UsageError for
    the name of a lab that runs already.
    """
    import labctl
    from labctl.core.resources import Netns
    from labctl.kernel.host import lab_state, paths

    first = labctl.load(scenario, set=set, approximate=approximate, firewall=firewall)
    definition = labctl.load(first, name=name or fresh_name(first.name))
    must_be_new(definition.name)
    before = _devices()
    lab = labctl.up(definition, approximate=approximate)
    try:
        assert lab.result is not None
        planned = {item.name for item in lab.result.lab.plan if isinstance(item, Netns)}
        _none("after up, the lab differs from its plan", lab.status())
        again = labctl.up(definition, approximate=approximate)
        assert again.result is not None
        _none("a second up still changed the lab", again.result.changes)
    finally:
        gone = lab.down()
    left = sorted({*paths.labs().get(lab.name, ()), *({"its record"} & {*_recorded(lab_state.records(), lab.name)})})
    if left or {*gone} != planned:
        raise AssertionError(f"after down, {', '.join(left) or 'nothing'} is left; removed: {', '.join(gone)}")
    if (after := _devices()) != before:
        raise AssertionError(f"after down, the machine's own devices are {after}, and were {before}")


def must_be_new(name: str) -> None:
    """Raises UsageError if a lab of this name runs: it is somebody's, or was left by a run that was killed."""
    from labctl.errors import UsageError
    from labctl.kernel.host import paths
    from labctl.running_lab import ready

    ready("up")  # without root what runs does not matter
    if name in paths.labs():
        hint = (
            f"take another name, or none; labctl.RunningLab({name!r}) takes one that runs; labctl down {name} ends it"
        )
        raise UsageError(f"a lab {name} runs already, and is not this test's", hint)


def fresh_name(stem: str) -> str:
    """A lab's name that no lab here has, and no other process takes: with this process's number, and under
    pytest-xdist its worker's name."""
    from labctl.kernel.host import paths

    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    parts = (stem[:24].strip("-"), *([worker] if worker.isalnum() else []), str(os.getpid()))
    there = paths.labs()
    names = (f"{'-'.join(parts)}-{number}" for number in _NUMBERS)
    return next(name for name in names if name not in there)


def _none(what: str, changes: tuple[Change, ...]) -> None:
    from labctl.render.resources import change_lines

    if changes:
        raise AssertionError("\n    ".join([f"{what}:", *(line for one in changes for line in change_lines(one))]))


def _recorded(records: tuple[str, ...], name: str) -> tuple[str, ...]:
    return ("its record",) if name in records else ()


def _devices() -> list[str]:
    """The network devices of the namespace that this process is in."""
    with open("/proc/self/net/dev", encoding="ascii") as file:
        return sorted(line.partition(":")[0].strip() for line in file.readlines()[2:])
