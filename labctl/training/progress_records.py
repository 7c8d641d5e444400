"""The progress of learners in exercises: one file for each learner and exercise, which `down` and a reboot keep."""

from __future__ import annotations

from collections.abc import Callable

from labctl.exercises.progress import SHAPE, Progress, from_json, to_json
from labctl.training.progress_files import ProgressFiles

FILES: ProgressFiles[Progress] = ProgressFiles(".exercises", SHAPE, from_json, to_json)


def load(learner: str, exercise: str) -> Progress | None:
    """The progress of a learner in an exercise; None if there is none, or the record cannot be read."""
    return FILES.load(learner, exercise)


def update(progress: Progress, change: Callable[[Progress], Progress]) -> Progress:
    """Change the recorded progress; `progress`, if nothing fitting is recorded. Raises KernelError."""
    return FILES.update(progress.learner, progress.exercise, lambda old: change(_latest(old, progress)))


def _latest(old: Progress | None, known: Progress) -> Progress:
    """The recorded progress, if it is of the same tasks: another command may have changed it."""
    same = old is not None and [one.kind for one in old.tasks] == [one.kind for one in known.tasks]
    return old if old is not None and same else known


def save(progress: Progress) -> None:
    """Write the progress, whatever is recorded. Raises KernelError."""
    FILES.update(progress.learner, progress.exercise, lambda _: progress)


def remove(learner: str, exercise: str) -> None:
    """Remove the progress of a learner in an exercise. Raises KernelError."""
    FILES.remove(learner, exercise)


def learners() -> tuple[str, ...]:
    """Everybody who has begun an exercise, sorted."""
    return FILES.learners()


def load_all(learner: str) -> tuple[Progress, ...]:
    """All that a learner has begun, in the order in which it was begun."""
    return FILES.load_all(learner, lambda one: one.started)
