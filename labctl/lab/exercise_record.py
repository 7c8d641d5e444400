"""The record of the exercise that runs in a lab, in the lab's state directory: which one, and for which learner."""

from __future__ import annotations

import json
from dataclasses import dataclass

from labctl.errors import UsageError
from labctl.kernel.host import lab_state, paths, state_files

FILE = "exercise.json"
_SHAPE = {"exercise": str, "learner": str, "language": str, "finished": bool}


@dataclass(frozen=True, slots=True)
class RunningExercise:
    """An exercise in a running lab. `name` is its name in records, `language` that of its texts."""

    lab: str
    name: str
    learner: str
    language: str
    finished: bool = False


def load(lab: str) -> RunningExercise | None:
    """The exercise of a lab; None if it has none, or the record cannot be read."""
    try:
        found = state_files.read_json(lab, FILE, _SHAPE)
    except (FileNotFoundError, state_files.RecordError):
        return None
    return RunningExercise(lab, found["exercise"], found["learner"], found["language"], found["finished"])


def save(running: RunningExercise) -> None:
    """Record the exercise of a lab. Raises KernelError."""
    document = {
        "exercise": running.name,
        "learner": running.learner,
        "language": running.language,
        "finished": running.finished,
    }
    lab_state.save(running.lab, FILE, json.dumps(document, ensure_ascii=False))


def load_all() -> tuple[RunningExercise, ...]:
    """The exercises of all running labs."""
    return tuple(found for lab in paths.labs() if (found := load(lab)) is not None)


def refuse_open(lab: str, verb: str) -> None:
    """Refuse a verb that would say, or undo, what an exercise hides. Raises UsageError."""
    running = load(lab)
    if running is None or running.finished:
        return
    command = paths.command_prefix(lab)
    hint = f"`{command} exercise hint` helps, `{command} exercise solve` shows the solution"
    raise UsageError(f"lab {lab} is an exercise, and `{verb}` would give its answer away", hint)
