"""Points and progress: what an attempt, a hint, a prediction and a solution are worth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from labctl.core.judgement import Judgement, JudgementState
from labctl.core.record_shape import shape_problem
from labctl.exercises import progress
from labctl.exercises.points import task_points, total_points
from labctl.exercises.progress import SHAPE, Progress, from_json, judged, shown, to_json
from tests.support import samples

NOW, LATER = "2026-11-30T12:00:00Z", "2026-11-30T12:10:00Z"
BEGUN = samples.PROGRESS  # predict (2 points), fix (3), locate (4)


def after(states: list[tuple[int, JudgementState]], start: Progress = BEGUN) -> Progress:
    for number, state in states:
        start = judged(start, number, Judgement(state), LATER)
    return start


@pytest.mark.parametrize(
    ("kind", "wrong", "points"), [("locate", 0, 8), ("locate", 1, 4), ("compare", 3, 1), ("compare", 9, 0),
                                  ("build", 9, 8), ("fix", 9, 8)],
)  # fmt: skip
def test_a_wrong_answer_takes_half_and_work_may_be_tried_again(kind: str, wrong: int, points: int) -> None:
    assert task_points(kind, 8, wrong) == points  # type: ignore[arg-type]


def test_hints_take_points_but_never_more_than_there_are() -> None:
    assert (total_points([2, 3], 1), total_points([2], 5), total_points([], 0)) == (4, 0, 0)


def test_a_prediction_has_one_attempt() -> None:
    missed = after([(0, "missed"), (0, "passed")])

    assert (missed.tasks[0].state, missed.tasks[0].points, missed.tasks[0].wrong) == ("missed", 0, 1)


def test_a_task_that_is_done_stays_done() -> None:
    found = after([(1, "failed"), (1, "passed"), (1, "failed")])

    assert (found.tasks[1].state, found.tasks[1].points, found.tasks[1].wrong) == ("passed", 3, 1)


def test_what_could_not_be_judged_is_no_attempt() -> None:
    assert after([(2, "unclear"), (2, "passed")]).points == 4
    assert after([(2, "failed"), (2, "passed")]).points == 2


def test_an_exercise_ends_with_its_last_task() -> None:
    nearly = after([(0, "missed"), (1, "passed")])
    done = after([(2, "passed")], nearly)

    assert (nearly.is_finished, nearly.finished, nearly.first_open) == (False, "", 2)
    assert (done.is_finished, done.finished, done.first_open) == (True, LATER, None)
    assert (done.points, done.possible) == (7, 9)


def test_what_was_shown_is_worth_nothing() -> None:
    looked = shown(BEGUN, 1, NOW, closes=False)
    repaired = after([(1, "passed")], looked)

    assert (looked.tasks[1].state, repaired.tasks[1].state, repaired.points) == ("open", "passed", 0)
    assert shown(BEGUN, 0, NOW, closes=True).tasks[0].state == "solved"
    assert shown(after([(1, "passed")]), 1, NOW, closes=True).points == 3, "it was done before"


def test_a_restarted_exercise_keeps_what_was_reached_unless_it_has_other_tasks() -> None:
    reached = after([(1, "passed")])
    again = progress.begun(samples.EXERCISE, "a-way-out", "ana", "another-lab", LATER)
    other = replace(again, tasks=again.tasks[:1])

    assert progress.continued(reached, again) == replace(reached, lab="another-lab")
    assert progress.continued(reached, other) == other
    assert progress.continued(None, again) == again


def test_a_record_comes_back_and_has_the_shape() -> None:
    found = after([(0, "passed"), (2, "failed")])
    document = json.loads(json.dumps(to_json(found)))

    assert shape_problem(document, SHAPE) == ""
    assert from_json(document) == found
    document["tasks"][0]["state"] = "won"
    assert "tasks[0].state" in shape_problem(document, SHAPE)
