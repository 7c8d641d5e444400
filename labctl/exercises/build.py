"""Judge a `build` task: the diff between the whole plan and what the learner made. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from labctl.core.diff import Change
from labctl.core.exercise_types import BuildGoal, Exercise
from labctl.core.judgement import Judgement
from labctl.core.left_out import leave_out, named
from labctl.core.resources import Link, Plan
from labctl.exercises.observed_state import describe, without_free_fields

Keys = frozenset[tuple[Any, ...]]


def task_keys(exercise: Exercise, goal_plan: Plan) -> tuple[Keys, ...]:
    """The keys of the objects that each task is about; none for a task of another kind.

    An object belongs to the task that names it; what goes with another object, to the first task that leaves it out.
    """
    names = [task.goal.left_out if isinstance(task.goal, BuildGoal) else () for task in exercise.tasks]
    own = [named(goal_plan, one) for one in names]
    found: list[Keys] = []
    for number, one in enumerate(names):
        others = frozenset(key for keys in (*found, *own[:number], *own[number + 1 :]) for key in keys)
        found.append(own[number] | (leave_out(goal_plan, one).keys - others))
    return tuple(found)


def judge_build(changes: Iterable[Change], observed: Plan, later: Keys) -> Judgement:
    """The judgement on a task. `changes` are the differences between the whole plan and the kernel, `later` the objects
    of later tasks, which may still be missing. The MAC addresses of new devices are the kernel's choice."""
    bound = without_free_fields(map(_with_any_mac, changes))
    left = tuple(change for change in bound if change.subject.key not in later)
    return Judgement("failed", describe(left, observed)) if left else Judgement("passed")


def _with_any_mac(change: Change) -> Change:
    return Change(replace(change.want, mac=None), change.have) if isinstance(change.want, Link) else change
