"""Documents from other machines: what they say is read, and what cannot be true is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from labctl.board.documents import entries, entry_document
from labctl.board.entry import Entry, EntryError
from labctl.exercises.progress import Progress, TaskProgress
from labctl.report.exercise_json import list_document
from tests.support import classes


def read(document: Any) -> list[Entry | EntryError]:
    return list(entries(json.loads(json.dumps(document))))


def test_the_document_of_a_board_is_read_as_it_was_written() -> None:
    found = classes.entries()
    assert read({"entries": [entry_document(one) for one in found]}) == found


def test_the_list_of_exercises_is_read() -> None:
    tasks = (TaskProgress("fix", 3, "solved"), TaskProgress("fix", 3, wrong=4), TaskProgress("build", 3))
    one = Progress("ana", "x", "X", 1, "", "lab", classes.START, tasks, hints=1)
    done = replace(one, exercise="y", finished=classes.at(5), tasks=(TaskProgress("fix", 3, "passed", 3),))
    assert read(list_document((), [one, done], "root")) == [
        Entry("ana", "exercise", "x", classes.START, "", classes.START, 1, 3, 0, 9, 4, 2, 1, True),
        Entry("ana", "exercise", "y", classes.START, classes.at(5), classes.at(5), 1, 1, 3, 3, hints=1),
    ]


def test_the_list_of_lessons_is_read() -> None:
    one = {
        "learner": "ana", "lesson": "masquerade", "started": classes.START, "finished": None, "step": 4, "steps": 9,
        "predictions": {"right": 1, "answered": 2},
    }  # fmt: skip
    done = {**one, "finished": classes.at(5), "step": None}
    assert read({"progress": [one, done]}) == [
        Entry("ana", "lesson", "masquerade", classes.START, "", classes.START, 3, 9, right=1, answered=2),
        Entry("ana", "lesson", "masquerade", classes.START, classes.at(5), classes.at(5), 9, 9, right=1, answered=2),
    ]


@pytest.mark.parametrize("document", [{}, [], "x", None, {"labs": []}, {"entries": {}}, {"progress": 3}])
def test_another_document_is_refused(document: Any) -> None:
    with pytest.raises(EntryError):
        read(document)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"learner": ""}, "'' is not the name of a learner"),
        ({"learner": "a\x1b[2J"}, r"'a\x1b[2J' is not the name of a learner"),
        ({"learner": "x" * 33}, f"{'x' * 32!r} is not the name of a learner"),
        ({"learner": "../root"}, "'../root' is not the name of a learner"),
        ({"learner": "a\u202eb"}, r"'a\u202eb' is not the name of a learner"),
        ({"learner": 7}, "learner is not str"),
        ({"name": "x" * 81}, f"{'x' * 80!r} is not the name of a lesson or an exercise"),
        ({"kind": "exam"}, "kind is not contains"),
        ({"started": "yesterday"}, "started: 'yesterday' is not a time such as 2026-01-31T09:30:00Z"),
        ({"active": ""}, "active: '' is not a time such as 2026-01-31T09:30:00Z"),
        ({"finished": "2026-13-01T00:00:00Z"}, "finished: '2026-13-01T00:00:00Z' is not a time"),
        ({"points": 7}, "points: 7 is not from 0 to 6"),
        ({"points": -1}, "points: -1 is not from 0 to 6"),
        ({"points": True}, "points is not int"),
        ({"points": 1.5}, "points is not int"),
        ({"possible": 10**30}, f"possible: {10**30} is not from 0 to 100000"),
        ({"done": 4}, "done: 4 is not from 0 to 3"),
        ({"right": 1}, "right: 1 is not from 0 to 0"),
        ({"solved": 0}, "solved is not bool"),
    ],
)
def test_what_cannot_be_true_is_an_error_and_the_rest_is_read(change: dict[str, Any], problem: str) -> None:
    good = entry_document(classes.exercise("ana", "x"))
    first, second = read({"entries": [{**good, **change}, good]})
    assert isinstance(first, EntryError)
    assert problem in str(first)
    assert second == classes.exercise("ana", "x")
