"""The section `lesson`: what is read, and its translations. The mistakes are golden errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.core.exercise_types import PredictGoal
from labctl.core.lesson_types import Claim, Lesson, LessonStep, Prediction, ReadText, RunCommand, RunVerb
from labctl.errors import UsageError
from labctl.scenario import catalog, lesson_catalog
from labctl.scenario.catalog import exercise_files, lesson_files
from labctl.scenario.definition import define
from tests.support.paths import ROOT

FILE = ROOT / "tests/data/lessons/two-ends.yaml"


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    found = define(str(FILE)).compiled.lesson
    assert found is not None
    return found


def test_every_kind_of_step_is_read(lesson: Lesson) -> None:
    kinds = "text run labctl predict labctl predict run labctl claim"
    ask = PredictGoal

    assert [step.kind for step in lesson.steps] == kinds.split()
    assert lesson.steps[0] == LessonStep(ReadText(), "A lab with two machines is ready.")
    run = RunCommand("c1", "ip -br addr", 0, ("eth0", "10.0.0.2/24"))
    assert lesson.steps[1] == LessonStep(run, "This is the end in the container.", "It has an address.")
    assert lesson.steps[2].action == RunVerb(("trace", "c1", "host"), 0, ("veth1",))
    prediction = lesson.steps[3].action
    assert isinstance(prediction, Prediction)
    assert isinstance(prediction.goal, ask)
    assert (prediction.goal.ask, prediction.answer) == ("verdict", "answered")
    assert lesson.steps[6].action == RunCommand("c1", "ping -c 1 -W 1 10.0.0.1", 2, ("Network is unreachable",))
    claim = Claim("A veth pair needs a bridge.", False, "the container reaches its host through the cable")
    assert lesson.steps[8].action == claim
    assert (lesson.topic, lesson.exercise) == ("veth", "first-cable")


def test_a_translation_has_the_texts_of_each_step_and_the_same_commands(lesson: Lesson) -> None:
    japanese = lesson.in_language("ja")

    assert japanese.title == "二つの端"
    assert japanese.steps[1].then == "アドレスがあります。"
    assert japanese.steps[1].action == lesson.steps[1].action
    claim = japanese.steps[8].action
    assert isinstance(claim, Claim)
    assert (claim.text, claim.holds) == ("veth ペアにはブリッジが必要です。", False)
    assert lesson.in_language("fr") == lesson


def test_lines_of_japanese_are_joined_without_a_blank(lesson: Lesson) -> None:
    assert "パケットは、もう片方から" in lesson.in_language("ja").text
    assert "at one end comes out" in lesson.text


def test_the_lab_has_a_name_in_commands() -> None:
    assert RunCommand("c1", "ip netns exec labctl.$LAB.c1 ip a").for_lab("x") == "ip netns exec labctl.x.c1 ip a"
    assert RunVerb(("exec", "c1", "--", "echo", "$LAB")).for_lab("x") == ("exec", "c1", "--", "echo", "x")


def test_every_built_in_lesson_is_valid_and_is_the_same_in_japanese() -> None:
    files = lesson_files()

    assert [entry.name for entry in lesson_catalog.entries()] == list(files)
    for name, file in files.items():
        definition = define(file)
        found = definition.compiled.lesson
        assert found is not None, file
        assert definition.name == name, "the lab has the name of the lesson"
        assert found.exercise in exercise_files(), "a lesson ends with an exercise"
        assert {step.kind for step in found.steps} >= {"labctl", "predict"}
        assert "ja" in dict(found.texts), f"{name} has no Japanese"  # the parser holds that no text of it is missing


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("first-cable", "first-cable is an exercise: labctl exercise start first-cable"),
        ("nothing-like-it", "`labctl learn` shows the names"),
    ],
)
def test_an_unknown_name_has_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        lesson_catalog.find(name)
    assert hint in raised.value.hint


def test_lessons_are_sorted_by_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lessons").mkdir()
    for name in ("100-late", "20-early", "9-first", "notes"):
        (tmp_path / "lessons" / f"{name}.yaml").touch()
    monkeypatch.setattr(catalog, "folder", lambda: tmp_path)

    assert list(lesson_files()) == ["first", "early", "late"]
