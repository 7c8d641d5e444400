"""What a task is worth after some attempts, and what an exercise is worth after some hints. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.core.exercise_types import TaskKind


def task_points(kind: TaskKind, points: int, wrong_attempts: int) -> int:
    """The points of a task that is passed after this number of wrong attempts. A wrong answer to `locate` or `compare`
    takes half of what is left; the work of `build` and `fix` may be tried as often as needed."""
    return points >> wrong_attempts if kind in ("locate", "compare") else points


def total_points(earned: Iterable[int], hint_cost: int) -> int:
    """The points of an exercise: those of its tasks, less what the hints cost."""
    return max(0, sum(earned) - hint_cost)
