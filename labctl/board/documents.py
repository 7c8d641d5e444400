"""Entries from JSON documents that labctl has printed on other machines, and entries as such a document.

A document is of `labctl class board --json`, `labctl exercise list --json` or `labctl learn --json`. It may have been
changed on its way, or be something else: every value is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from labctl.board.entry import KINDS, Entry, EntryError
from labctl.core.record_shape import shape_problem

Document = dict[str, Any]
ENTRY_SHAPE = {
    one.name: KINDS.__contains__ if one.name == "kind" else {"int": int, "bool": bool}.get(str(one.type), str)
    for one in fields(Entry)
}
_LISTED_EXERCISE = {
    "learner": str, "exercise": str, "started": str, "finished": (str, None), "points": int, "possible": int,
    "hints": int, "tasks": [{"state": str, "wrong": int}],
}  # fmt: skip
_LISTED_LESSON = {
    "learner": str, "lesson": str, "started": str, "finished": (str, None), "step": (int, None), "steps": int,
    "predictions": {"right": int, "answered": int},
}  # fmt: skip


def entries(document: Any) -> Iterator[Entry | EntryError]:
    """What a document says, one by one; for what cannot be used, the error. Raises EntryError if the whole document
    is of another kind."""
    if not isinstance(document, dict):
        raise EntryError("it is not a JSON object")
    if isinstance(document.get("entries"), list):
        for at, one in enumerate(document["entries"]):
            yield _try(f"entries[{at}]", one, ENTRY_SHAPE)
    elif isinstance(document.get("progress"), list):
        for at, one in enumerate(document["progress"]):
            is_lesson = isinstance(one, dict) and "lesson" in one
            yield _try(f"progress[{at}]", one, _LISTED_LESSON if is_lesson else _LISTED_EXERCISE)
    else:
        raise EntryError("it is not what labctl class board, exercise list or learn print with --json, and no record")


def _try(place: str, one: Any, shape: Any) -> Entry | EntryError:
    if problem := shape_problem(one, shape, place):
        return EntryError(problem)
    try:
        if shape is ENTRY_SHAPE:
            return Entry(**{name: one[name] for name in ENTRY_SHAPE})
        return _listed_lesson(one) if shape is _LISTED_LESSON else _listed_exercise(one)
    except EntryError as error:
        return EntryError(f"{place}: {error}")


def _listed_exercise(one: Document) -> Entry:
    states = [task["state"] for task in one["tasks"]]
    first = next((at for at, state in enumerate(states) if state == "open"), None)
    return Entry(
        one["learner"], "exercise", one["exercise"], one["started"], one["finished"] or "",
        one["finished"] or one["started"], sum(state != "open" for state in states), len(states), one["points"],
        one["possible"], 0 if first is None else one["tasks"][first]["wrong"], 0 if first is None else first + 1,
        one["hints"], "solved" in states,
    )  # fmt: skip


def _listed_lesson(one: Document) -> Entry:
    done = one["steps"] if one["step"] is None else one["step"] - 1
    predictions = one["predictions"]
    return Entry(
        one["learner"], "lesson", one["lesson"], one["started"], one["finished"] or "",
        one["finished"] or one["started"], done, one["steps"],
        right=predictions["right"], answered=predictions["answered"],
    )  # fmt: skip


def entry_document(entry: Entry) -> Document:
    """An entry as `entries` reads it."""
    return {name: getattr(entry, name) for name in ENTRY_SHAPE}
