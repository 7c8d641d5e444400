"""The section `exercise`: what is read, and what `build` takes out of the lab. The mistakes are golden errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labctl.core.exercise_types import BuildGoal, CompareGoal, Exercise, FixGoal, LocateGoal, PredictGoal, SolveStep
from labctl.core.resources import Interface, Link
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.scenario import catalog, exercise_catalog
from labctl.scenario.catalog import exercise_files
from labctl.scenario.definition import define, parse_and_compile

HEAD = """
name: t
model: raw
namespaces: {host: {role: host}, c1: {role: container, on: host}}
links: [{veth: [host/veth1, c1/eth0]}]
addresses: {host/veth1: 10.0.0.1/24, c1/eth0: 10.0.0.2/24}
routes: {c1: default via 10.0.0.1}
checks: [{ping: c1 -> host}]
"""
FULL = (
    HEAD
    + """
exercise:
  title: A cable
  level: 2
  topic: veth
  text: |
    One paragraph
    in two lines.

      ip link
      ip addr

    - another
  tasks:
    - {say: make it, build: c1, points: 3, solve: [{host: ip link}, {c1: ip addr}]}
    - {say: which, predict: {tcp: "c1 -> host:80", listen: c1:8080, ask: src, at: host/veth1}, solve: c1}
    - {say: where, locate: {ping: c1 -> host, size: 1000}, solve: host/veth1}
    - {say: which of them, compare: {scenarios: [kubenet, calico], row: bridge, is: none}, solve: calico}
    - {say: repair it, fix: checks, solve: []}
  hints: [look, {say: look again, cost: 3}]
  explain: That is it.
  texts: {ja: {title: ケーブル, hints: [見る, もう一度], tasks: [一, 二, 三, 四, 五]}}
"""
)


def lab(text: str) -> Lab:
    return parse_and_compile(text, "t.yaml")[1]


@pytest.fixture(scope="module")
def exercise() -> Exercise:
    found = lab(FULL).exercise
    assert found is not None
    return found


def test_every_kind_of_task_is_read(exercise: Exercise) -> None:
    build, predict, locate, compare, fix = exercise.tasks

    assert [task.kind for task in exercise.tasks] == ["build", "predict", "locate", "compare", "fix"]
    assert build.goal == BuildGoal(("c1",))
    assert (build.points, build.steps) == (3, (SolveStep("host", "ip link"), SolveStep("c1", "ip addr")))
    assert isinstance(predict.goal, PredictGoal)
    assert (predict.goal.ask, predict.goal.at, predict.answer) == ("src", Interface("host", "veth1"), "c1")
    assert (predict.goal.probe.protocol, predict.goal.probe.port) == ("tcp", 80)
    assert predict.goal.probe.server == ("c1", 8080)
    assert isinstance(locate.goal, LocateGoal)
    assert (locate.goal.probe.size, locate.goal.probe.listen) == (1000, True)
    assert compare.goal == CompareGoal(("kubenet", "calico"), "bridge", "none")
    assert fix.goal == FixGoal("checks")
    assert exercise.points == 7


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A list:\n- one\n- two\nlines", "A list:\n- one\n- two lines"),
        ("名前空間を\n見る。\nThen go", "名前空間を見る。 Then go"),
    ],
)
def test_entries_of_a_list_stay_lines_and_japanese_lines_join_without_a_blank(text: str, read: str) -> None:
    tasks = "[{say: q, predict: {ping: c1 -> host, ask: path}, solve: c1}]"
    exercise = lab(f"{HEAD}exercise: {{title: q, text: {json.dumps(text)}, tasks: {tasks}}}").exercise
    assert exercise is not None
    assert exercise.text == read


def test_a_text_keeps_its_paragraphs_and_its_commands(exercise: Exercise) -> None:
    assert exercise.text == "One paragraph in two lines.\n\n  ip link\n  ip addr\n\n- another"


def test_a_translation_replaces_what_it_has(exercise: Exercise) -> None:
    japanese = exercise.in_language("ja")

    assert (japanese.title, japanese.text) == ("ケーブル", exercise.text)
    assert [hint.say for hint in japanese.hints] == ["見る", "もう一度"]
    assert [(task.say, task.goal) for task in japanese.tasks][1] == ("二", exercise.tasks[1].goal)
    assert [hint.cost for hint in japanese.hints] == [1, 3]
    assert exercise.in_language("fr") == exercise


def test_the_lab_starts_without_what_is_built() -> None:
    start, whole = lab(FULL), lab(HEAD)

    assert start.goal_plan == whole.plan
    assert not [item for item in start.plan if isinstance(item, Link) and item.kind == "veth"]
    assert whole.exercise is None
    assert whole.goal_plan == ()


def test_an_exercise_without_build_has_the_plan_of_its_scenario() -> None:
    only_question = (
        "exercise: {title: q, text: q, tasks: [{say: q, predict: {ping: c1 -> host, ask: path}, solve: c1}]}"
    )
    found = lab(HEAD + only_question)

    assert found.plan == lab(HEAD).plan
    assert found.goal_plan == ()
    assert found.exercise is not None


def test_every_built_in_exercise_is_valid_and_has_a_place_in_the_course() -> None:
    files = exercise_files()

    assert len(files) == len(list((catalog.folder() / "exercises").iterdir())) > 0
    for name, file in files.items():
        definition = define(file)
        assert definition.name == name, "the lab has the name of the exercise"
        assert definition.compiled.exercise is not None
        assert definition.compiled.checks, "a claim without a check"
        assert len(definition.compiled.exercise.hints) > 1
        assert definition.compiled.exercise.explain
    assert [entry.exercise for entry in exercise_catalog.entries()] == [
        define(f).compiled.exercise for f in files.values()
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("first-cabel", "did you mean first-cable?"),
        ("kubenet", "--random kubenet hides a fault in it"),
        ("nothing-like-it", "labctl exercise list shows the names"),
    ],
)
def test_an_unknown_name_has_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        exercise_catalog.find(name)
    assert hint in raised.value.hint


def test_up_of_an_exercise_says_how_to_start_it() -> None:
    with pytest.raises(UsageError, match="unknown scenario") as raised:
        catalog.find("first-cable")
    assert raised.value.hint == "first-cable is an exercise: labctl exercise start first-cable"


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    assert exercise_catalog.find(f"{tmp_path}/my-own.yaml") == f"{tmp_path}/my-own.yaml"
