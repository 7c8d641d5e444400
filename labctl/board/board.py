"""The board: one line for each learner, one column for each lesson and exercise that a learner has begun."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from labctl.board.entry import KINDS, Entry, Kind, parse_time
from labctl.core.sentence import Sentence, sentence, sentence_n

State: TypeAlias = Literal["stuck", "idle", "working", "done"]
STATES: tuple[State, ...] = ("stuck", "idle", "working", "done")
MANY_WRONG = 3  # wrong attempts at one task after which a learner is stuck
MANY_HINTS = 2  # hints in an exercise that is not finished
IDLE_MINUTES = 15  # without a change
SORTS = ("name", "points", "state")


@dataclass(frozen=True, slots=True)
class Column:
    """A lesson or an exercise."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Line:
    """One learner. `last` is what changed last, `minutes` ago; `reason` says why they are stuck or idle, "" if not."""

    learner: str
    entries: Mapping[Column, Entry]
    last: Entry
    state: State
    reason: Sentence | str
    minutes: int

    @property
    def points(self) -> int:
        """The points of all exercises."""
        return sum(one.points for one in self.entries.values())

    @property
    def possible(self) -> int:
        """The points of all tasks of the exercises that the learner has begun."""
        return sum(one.possible for one in self.entries.values())

    def finished(self, kind: Kind) -> int:
        """How many lessons or exercises are finished."""
        return sum(one.is_finished for column, one in self.entries.items() if column.kind == kind)


@dataclass(frozen=True, slots=True)
class Board:
    """The board of a class at a time."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    time: datetime

    def of_kind(self, kind: Kind) -> tuple[Column, ...]:
        """The lessons, or the exercises."""
        return tuple(one for one in self.columns if one.kind == kind)

    def in_state(self, state: State) -> tuple[Line, ...]:
        """The learners in a state."""
        return tuple(line for line in self.lines if line.state == state)


def make_board(
    entries: Iterable[Entry], courses: Mapping[Kind, Sequence[str]], time: datetime, sort: str = "name"
) -> Board:
    """The board of these entries; of two for the same learner and exercise, the one that changed last.

    `courses` are the names of all lessons and exercises, in the order of the columns; others come behind them. The
    lines are sorted by `sort`, one of SORTS: the names of learners, most points first, or who needs help first.
    """
    latest: dict[str, dict[Column, Entry]] = {}
    for one in entries:
        own, column = latest.setdefault(one.learner, {}), Column(one.kind, one.name)
        if column not in own or _newer(one, own[column]):
            own[column] = one
    begun = {column for own in latest.values() for column in own}
    lines = [_line(learner, own, time) for learner, own in latest.items()]
    lines.sort(key=lambda line: _natural(line.learner))
    if sort == "points":
        lines.sort(key=lambda line: -line.points)
    elif sort == "state":
        lines.sort(key=lambda line: STATES.index(line.state))
    return Board(tuple(_in_order(begun, courses)), tuple(lines), time)


def _newer(one: Entry, other: Entry) -> bool:
    return (one.active, one.done) > (other.active, other.done)


def _in_order(begun: Iterable[Column], courses: Mapping[Kind, Sequence[str]]) -> list[Column]:
    places = {kind: {name: at for at, name in enumerate(courses.get(kind, ()))} for kind in ("lesson", "exercise")}

    def key(column: Column) -> tuple[int, int, object]:
        known = places[column.kind]
        return KINDS.index(column.kind), known.get(column.name, len(known)), _natural(column.name)

    return sorted(begun, key=key)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key to sort names as people do: learner2 before learner10."""
    parts = re.findall(r"[0-9]{1,12}|[^0-9]+|[0-9]+", name.casefold())
    return tuple((0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)


def _line(learner: str, own: Mapping[Column, Entry], time: datetime) -> Line:
    """The line of a learner. Who needs help is decided by the exercise or lesson that changed last."""
    last = max(own.values(), key=lambda one: (one.active, not one.is_finished, one.name))
    minutes = max(0, int((time - parse_time(last.active)).total_seconds() // 60))
    state, reason = _state(last, minutes)
    return Line(learner, own, last, state, reason, minutes)


def _state(last: Entry, minutes: int) -> tuple[State, Sentence | str]:
    if last.is_finished:
        return "done", ""
    if last.wrong >= MANY_WRONG:
        attempts = sentence_n("{number} wrong attempt", "{number} wrong attempts", last.wrong)
        place = {"task": last.task, "name": last.name}
        return "stuck", sentence("{attempts} at task {task} of {name}", attempts=attempts, **place)
    if last.hints >= MANY_HINTS:
        hints = sentence_n("{number} hint", "{number} hints", last.hints)
        return "stuck", sentence("{hints} in {name}", hints=hints, name=last.name)
    if minutes >= IDLE_MINUTES:
        return "idle", sentence_n("{number} minute without a change", "{number} minutes without a change", minutes)
    return "working", ""
