"""The built-in exercises and lessons are whole in Japanese: each text is there, with the same commands."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from labctl.core.exercise_types import Exercise
from labctl.core.lesson_types import Claim, Lesson
from labctl.scenario import exercise_catalog, lesson_catalog

JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龥]")
COMMAND = re.compile(r"^  .+$", re.MULTILINE)
FACT = re.compile(r"`([^`]+)`|(\d+(?:\.\d+){3}(?:/\d+)?)")
EXERCISES, LESSONS = exercise_catalog.entries(), lesson_catalog.entries()
Pair = tuple[str, str]  # a text, and its translation


def facts(text: str) -> set[str]:
    """What is the same in all languages: command lines, code and addresses."""
    return {line.strip() for line in COMMAND.findall(text)} | {one or two for one, two in FACT.findall(text)}


def exercise_texts(one: Exercise, other: Exercise) -> Iterator[Pair]:
    yield from ((one.title, other.title), (one.text, other.text), (one.explain, other.explain))
    for mine, its in zip((*one.tasks, *one.hints), (*other.tasks, *other.hints), strict=True):
        yield mine.say, its.say


def lesson_texts(one: Lesson, other: Lesson) -> Iterator[Pair]:
    yield from ((one.title, other.title), (one.text, other.text), (one.topic, other.topic))
    for mine, its in zip(one.steps, other.steps, strict=True):
        yield from ((mine.say, its.say), (mine.then, its.then))
        if isinstance(mine.action, Claim) and isinstance(its.action, Claim):
            yield mine.action.text, its.action.text


def problems(pairs: Iterator[Pair]) -> list[str]:
    """What is missing: a text that is still English, or one with other commands or addresses."""
    found = []
    for text, translation in pairs:
        if not text:
            continue
        differ = facts(text) ^ facts(translation)
        if differ or (" " in text and not JAPANESE.search(COMMAND.sub("", translation))):
            found.append(f"{translation!r} for {text!r}: {', '.join(sorted(differ)) or 'it is not Japanese'}")
    return found


@pytest.mark.parametrize("one", EXERCISES, ids=lambda one: one.name)
def test_an_exercise_is_whole_in_japanese(one: exercise_catalog.ExerciseEntry) -> None:
    assert problems(exercise_texts(one.exercise, one.exercise.in_language("ja"))) == []


@pytest.mark.parametrize("one", LESSONS, ids=lambda one: one.name)
def test_a_lesson_is_whole_in_japanese(one: lesson_catalog.LessonEntry) -> None:
    assert problems(lesson_texts(one.lesson, one.lesson.in_language("ja"))) == []


def test_there_are_thirteen_lessons_and_each_ends_with_an_exercise() -> None:
    assert len(LESSONS) == 13
    assert {one.lesson.exercise for one in LESSONS} <= {one.name for one in EXERCISES}


@pytest.mark.parametrize(
    ("text", "translation", "is_found"),
    [
        ("Ask 10.0.0.1.", "10.0.0.1 に聞いてください。", False),
        ("Ask 10.0.0.1.", "10.0.0.2 に聞いてください。", True),
        ("Ask 10.0.0.1.", "Ask 10.0.0.1.", True),
        ("Type `ip rule`.", "`ip route` と入力します。", True),
        ("Type:\n\n  ip rule", "入力します。", True),
        ("", "", False),
    ],
)
def test_a_lack_is_found(text: str, translation: str, is_found: bool) -> None:
    assert bool(problems(iter([(text, translation)]))) is is_found
