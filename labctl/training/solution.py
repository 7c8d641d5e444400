"""Carry out the solution of a task in its lab."""

from __future__ import annotations

from collections.abc import Callable

from labctl.core.exercise_types import FixGoal, Task
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError
from labctl.running_lab import RunningLab


def carry_out(lab: Lab, task: Task, step: Callable[[str], None]) -> None:
    """Run the commands of a solution. A `fix` task without commands is solved as `labctl fix` does it. Raises
    KernelError if a command fails."""
    if isinstance(task.goal, FixGoal) and not task.steps:
        from labctl.lab import fault_records
        from labctl.lab.break_fix import fix

        step("undoing the faults")
        fix(lab, fault_records.active(lab.name), solves_exercise=True)
        return
    running = RunningLab(lab.name, definition=lab)
    for one in task.steps:
        command = one.for_lab(lab.name)
        step(f"{one.machine}: {command.splitlines()[0]}")
        done = running[one.machine].run(command)
        if not done.ok:
            raise KernelError(f"the solution fails in {one.machine}: {done}", "first labctl exercise reset")
