"""What one learner has reached in one exercise or lesson. All values are checked: they may come from other machines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["exercise", "lesson"]
KINDS: tuple[Kind, ...] = ("lesson", "exercise")  # in the order of the board
MAX_TEXT = 80  # characters of a name
MAX_LEARNER = 32
MAX_NUMBER = 100_000  # points, steps, attempts
TIME = "%Y-%m-%dT%H:%M:%SZ"


class EntryError(ValueError):
    """What is said of a learner cannot be true. The text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One exercise or lesson of one learner. Times are in UTC as in records; `finished` is "" for not yet, `active` the
    time of the last change that is known.

    `done` of `total` tasks or steps are done. Of an exercise: `points` of `possible`, the `wrong` attempts at the task
    that is open, its number, the hints that were given, and whether labctl solved a task. Of a lesson, the predictions
    that were `right`, of those that were `answered`.
    """

    learner: str
    kind: Kind
    name: str
    started: str
    finished: str
    active: str
    done: int
    total: int
    points: int = 0
    possible: int = 0
    wrong: int = 0
    task: int = 0
    hints: int = 0
    solved: bool = False
    right: int = 0
    answered: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.finished != ""

    def __post_init__(self) -> None:
        """Raises EntryError for values that no record of labctl's has."""
        texts = (("a learner", self.learner, MAX_LEARNER), ("a lesson or an exercise", self.name, MAX_TEXT))
        for what, text, limit in texts:
            if not text or len(text) > limit or not text.isprintable() or text != text.strip() or "/" in text:
                raise EntryError(f"{text[:limit]!r} is not the name of {what}")
        for what, text in (("started", self.started), ("finished", self.finished), ("active", self.active)):
            if text or what != "finished":
                _require_time(what, text)
        for what, number, most in (
            ("total", self.total, MAX_NUMBER),
            ("done", self.done, self.total),
            ("possible", self.possible, MAX_NUMBER),
            ("points", self.points, self.possible),
            ("wrong", self.wrong, MAX_NUMBER),
            ("task", self.task, self.total),
            ("hints", self.hints, MAX_NUMBER),
            ("answered", self.answered, self.total),
            ("right", self.right, self.answered),
        ):
            if not 0 <= number <= most:
                raise EntryError(f"{what}: {number} is not from 0 to {most}")


def parse_time(text: str) -> datetime:
    """The time in a record. Raises ValueError."""
    return datetime.strptime(text, TIME).replace(tzinfo=timezone.utc)


def _require_time(what: str, text: str) -> None:
    try:
        parse_time(text)
    except ValueError:
        raise EntryError(f"{what}: {text[:MAX_TEXT]!r} is not a time such as 2026-01-31T09:30:00Z") from None
