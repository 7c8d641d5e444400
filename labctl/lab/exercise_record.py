"""The record of the exercise that runs in a lab, in the lab's state directory: which one, and for which learner."""

from __future__ import annotations

from labctl.errors import UsageError
from labctl.kernel.host import paths
from labctl.lab.learner_lab import LearnerLab, LearnerLabRecord

RunningExercise = LearnerLab
RECORD = LearnerLabRecord("exercise.json", "exercise")
load, save, load_all = RECORD.load, RECORD.save, RECORD.load_all


def refuse_open(lab: str, verb: str) -> None:
    """Refuse a verb that would say, or undo, what an exercise hides. Raises UsageError."""
    running = load(lab)
    if running is None or running.finished:
        return
    command = paths.command_prefix(lab)
    hint = f"`{command} exercise hint` helps, `{command} exercise solve` shows the solution"
    raise UsageError(f"lab {lab} is an exercise, and `{verb}` would give its answer away", hint)
