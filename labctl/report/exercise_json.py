"""The JSON documents of `labctl exercise`. No document has an answer or a solution that was not asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from labctl.report.exercise_text import form

if TYPE_CHECKING:
    from labctl.core.exercise_types import Exercise, Task
    from labctl.core.judgement import Judgement
    from labctl.exercises.progress import Progress
    from labctl.scenario.exercise_catalog import ExerciseEntry

Document = dict[str, Any]


def progress_document(progress: Progress) -> Document:
    """How far a learner is. `points` of the exercise are less what the hints cost."""
    return {
        "learner": progress.learner,
        "exercise": progress.exercise,
        "title": progress.title,
        "level": progress.level,
        "topic": progress.topic,
        "lab": progress.lab,
        "started": progress.started,
        "finished": progress.finished or None,
        "points": progress.points,
        "possible": progress.possible,
        "checks": progress.checks,
        "hints": progress.hints,
        "hint_cost": progress.hint_cost,
        "resets": progress.resets,
        "tasks": [
            {"kind": one.kind, "state": one.state, "points": one.points, "possible": one.possible, "wrong": one.wrong}
            for one in progress.tasks
        ],
    }


def sheet_document(exercise: Exercise, progress: Progress) -> Document:
    """`exercise --json`, `exercise start --json`, `reset --json` and `next --json`."""
    return {
        "title": exercise.title,
        "text": exercise.text,
        "tasks": [_task(task) for task in exercise.tasks],
        "hints": len(exercise.hints),
        "progress": progress_document(progress),
    }


def _task(task: Task) -> Document:
    answer = form(task) if task.takes_answer else None
    return {"kind": task.kind, "say": task.say, "points": task.points, "answer": answer}


def check_document(exercise: Exercise, progress: Progress, outcomes: Sequence[tuple[int, Judgement]]) -> Document:
    """`exercise check --json` and `solve --json`; `explain` is null until all tasks are done."""
    return {
        "tasks": [
            {"task": number + 1, "state": judgement.state, "seen": list(judgement.seen)}
            for number, judgement in outcomes
        ],
        "finished": progress.is_finished,
        "explain": exercise.explain if progress.is_finished else None,
        "progress": progress_document(progress),
    }


def hint_document(exercise: Exercise, progress: Progress, number: int | None) -> Document:
    """`exercise hint --json`; `hint` is null if all hints were given."""
    return {
        "hint": None if number is None else exercise.hints[number].say,
        "number": None if number is None else number + 1,
        "hints": len(exercise.hints),
        "progress": progress_document(progress),
    }


def solution_document(exercise: Exercise, progress: Progress, numbers: Sequence[int]) -> Document:
    """`exercise solve --show --json`."""
    return {
        "solutions": [
            {
                "task": number + 1,
                "answer": exercise.tasks[number].answer or None,
                "commands": [
                    {"machine": step.machine, "command": step.for_lab(progress.lab)}
                    for step in exercise.tasks[number].steps
                ],
            }
            for number in numbers
        ],
        "progress": progress_document(progress),
    }


def list_document(entries: Iterable[ExerciseEntry], reached: Iterable[Progress], learner: str) -> Document:
    """`exercise list --json`."""
    return {
        "learner": learner,
        "exercises": [
            {
                "name": entry.name,
                "title": entry.exercise.title,
                "level": entry.exercise.level,
                "topic": entry.exercise.topic,
                "points": entry.exercise.points,
                "tasks": [task.kind for task in entry.exercise.tasks],
                "languages": ["en", *(language for language, _ in entry.exercise.texts)],
            }
            for entry in entries
        ],
        "progress": [progress_document(one) for one in reached],
    }
