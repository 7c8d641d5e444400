"""A class with three learners, for tests of its board."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from labctl.board.board import Board, make_board
from labctl.board.entry import TIME, Entry

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=timezone.utc)
COURSES = {"lesson": ("one-cable", "masquerade"), "exercise": ("first-cable", "shared-bridge", "night-shift")}
START = "2026-05-04T09:00:00Z"


def at(minute: int) -> str:
    """The time so many minutes after nine."""
    return NOW.replace(hour=9, minute=minute).strftime(TIME)


def exercise(learner: str, name: str, minute: int = 58, **more: Any) -> Entry:
    """An exercise with three tasks, of which one is done."""
    values = {"done": 1, "total": 3, "points": 2, "possible": 6, "task": 2, **more}
    return Entry(learner, "exercise", name, START, values.pop("finished", ""), at(minute), **values)


def lesson(learner: str, name: str, minute: int = 30, **more: Any) -> Entry:
    """A lesson with ten steps, of which four are done."""
    values = {"done": 4, "total": 10, "right": 1, "answered": 2, **more}
    return Entry(learner, "lesson", name, START, values.pop("finished", ""), at(minute), **values)


def entries() -> list[Entry]:
    """ana works, ben is stuck, cho has finished."""
    return [
        exercise("cho", "first-cable", finished=at(50), done=3, task=0, points=6),
        exercise("ben", "shared-bridge", wrong=4),
        exercise("ben", "first-cable", 20, finished=at(20), done=3, task=0, points=0, solved=True),
        lesson("ana", "masquerade", 59),
        exercise("ana", "random-kubenet-7", 30),
        lesson("ana", "one-cable", 10, finished=at(10), done=10),
    ]


def board(found: Sequence[Entry] | None = None, **options: Any) -> Board:
    """The board of these entries at ten o'clock."""
    return make_board(entries() if found is None else found, COURSES, NOW, **options)


def record(learner: str, name: str, **more: Any) -> dict[str, Any]:
    """The record of an exercise, as labctl writes it."""
    task = {"kind": "fix", "possible": 3, "state": "passed", "points": 3, "wrong": 0, "shown": False}
    tasks = [task, {**task, "state": "open", "points": 0, "wrong": 2}]
    return {
        "learner": learner, "exercise": name, "title": name, "level": 1, "topic": "", "lab": "lab", "started": START,
        "finished": "", "checks": 3, "hints": 1, "hint_cost": 1, "resets": 0, "tasks": tasks, **more,
    }  # fmt: skip


def lesson_record(learner: str, name: str, **more: Any) -> dict[str, Any]:
    """The record of a lesson, as labctl writes it."""
    steps = [{"done": True, "answer": "", "right": None}, {"done": True, "answer": "lost", "right": True},
             {"done": False, "answer": "", "right": None}]  # fmt: skip
    return {
        "learner": learner, "lesson": name, "title": name, "topic": "", "lab": "lab", "started": START,
        "outline": "x", "steps": steps, "at": 2, "finished": "", **more,
    }  # fmt: skip


def write(folder: Path, name: str, content: Any) -> Path:
    """A file below a folder: JSON, or a text as it is."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
