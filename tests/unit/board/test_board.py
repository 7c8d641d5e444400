"""The board: its columns and lines, and who needs help."""

from __future__ import annotations

import pytest

from labctl.board.board import Column, make_board
from tests.support import classes
from tests.support.classes import at, board, exercise, lesson


def test_columns_are_in_the_order_of_the_course_and_only_what_was_begun() -> None:
    assert board().columns == (
        Column("lesson", "one-cable"),
        Column("lesson", "masquerade"),
        Column("exercise", "first-cable"),
        Column("exercise", "shared-bridge"),
        Column("exercise", "random-kubenet-7"),
    )


@pytest.mark.parametrize(
    ("sort", "learners"),
    [("name", ["ana", "ben", "cho"]), ("points", ["cho", "ana", "ben"]), ("state", ["ben", "ana", "cho"])],
)
def test_lines_are_sorted(sort: str, learners: list[str]) -> None:
    assert [line.learner for line in board(sort=sort).lines] == learners


def test_learners_with_numbers_are_sorted_by_their_numbers() -> None:
    names = ["learner10", "learner2", "Learner1", "9", "a", "learner" + "9" * 20]
    found = board([exercise(name, "x") for name in names]).lines
    assert [line.learner for line in found] == ["9", "a", "Learner1", "learner2", "learner10", "learner" + "9" * 20]


@pytest.mark.parametrize(
    ("entry", "state", "reason"),
    [
        (exercise("ana", "x", wrong=2), "working", ""),
        (exercise("ana", "x", wrong=3), "stuck", "3 wrong attempts at task 2 of x"),
        (exercise("ana", "x", hints=1), "working", ""),
        (exercise("ana", "x", hints=2), "stuck", "2 hints in x"),
        (exercise("ana", "x", 46), "working", ""),
        (exercise("ana", "x", 45), "idle", "15 minutes without a change"),
        (exercise("ana", "x", 10, wrong=3), "stuck", "3 wrong attempts at task 2 of x"),
        (exercise("ana", "x", 10, wrong=3, hints=9, finished=at(10)), "done", ""),
        (lesson("ana", "x", 59), "working", ""),
        (lesson("ana", "x", 5), "idle", "55 minutes without a change"),
    ],
)
def test_who_needs_help(entry: classes.Entry, state: str, reason: str) -> None:
    line = board([entry]).lines[0]
    assert (line.state, str(line.reason)) == (state, reason)


def test_what_changed_last_decides() -> None:
    stuck, goes_on = exercise("ana", "hard", 50, wrong=9), exercise("ana", "easy", 55)
    assert board([stuck, goes_on]).lines[0].state == "working"
    assert board([goes_on, stuck]).lines[0].last == goes_on


def test_of_two_records_of_one_exercise_the_later_counts() -> None:
    early, late = exercise("ana", "x", 10), exercise("ana", "x", 20, done=2, points=4)
    for found in ([early, late], [late, early]):
        assert board(found).lines[0].points == 4
    same_time = exercise("ana", "x", 20, done=1, points=1)
    assert board([late, same_time]).lines[0].points == board([same_time, late]).lines[0].points == 4


def test_a_clock_that_is_ahead_is_no_negative_time() -> None:
    assert make_board([exercise("ana", "x", 59)], {}, classes.NOW.replace(hour=8)).lines[0].minutes == 0


def test_a_class_without_learners_is_empty() -> None:
    assert (board([]).columns, board([]).lines) == ((), ())


def test_a_line_counts() -> None:
    line = board().lines[0]
    assert (line.points, line.possible, line.finished("lesson"), line.finished("exercise")) == (2, 6, 1, 0)
