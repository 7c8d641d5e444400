"""The progress of learners in the state directory: one file for each learner and exercise, which `down` keeps."""

from __future__ import annotations

import json

from labctl.exercises.progress import SHAPE, Progress, from_json, to_json
from labctl.kernel.host import state_files

FOLDER = ".exercises"


def load(learner: str, exercise: str) -> Progress | None:
    """The progress of a learner in an exercise; None if there is none, or the record cannot be read."""
    try:
        return from_json(state_files.read_json(FOLDER, f"{learner}/{exercise}.json", SHAPE))
    except (FileNotFoundError, state_files.RecordError):
        return None


def save(progress: Progress) -> None:
    """Write the progress. Raises KernelError."""
    text = json.dumps(to_json(progress), ensure_ascii=False, indent=1)
    state_files.write_text(FOLDER, f"{progress.learner}/{progress.exercise}.json", text + "\n")


def remove(learner: str, exercise: str) -> None:
    """Remove the progress of a learner in an exercise. Raises KernelError."""
    state_files.remove(FOLDER, f"{learner}/{exercise}.json")


def learners() -> tuple[str, ...]:
    """Everybody who has begun an exercise, sorted."""
    return tuple(sorted(name for name in state_files.names(FOLDER) if not name.startswith(".")))


def load_all(learner: str) -> tuple[Progress, ...]:
    """All that a learner has begun, in the order in which it was begun."""
    names = [name.removesuffix(".json") for name in state_files.names(FOLDER, learner) if name.endswith(".json")]
    found = [one for name in names if not name.startswith(".") and (one := load(learner, name)) is not None]
    return tuple(sorted(found, key=lambda one: one.started))
