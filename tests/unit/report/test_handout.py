"""Handouts as text: what is on them, and what must not be there. How many sheets they are: test_handout_on_paper."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import labctl
from labctl.core.exercise_types import Exercise
from labctl.core.lesson_types import Claim, RunCommand
from labctl.report import handout_layout as paper
from labctl.report.handout import Subject, page_lines
from labctl.scenario.catalog import exercise_files, lesson_files
from tests.support import handouts
from tests.support.golden import Golden

DRAWING = re.compile(r"<svg .*?</svg>", re.DOTALL)


def page(subject: Subject) -> str:
    return "\n".join(page_lines(subject)) + "\n"


def text(subject: Subject) -> str:
    """What a reader sees, without the drawing."""
    found = DRAWING.sub("", page(subject)).partition("</style>")[2]
    return unescape(re.sub(r"<[^>]*>", " ", found))


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("docker-bridge", Subject("docker-bridge", labctl.load("docker-bridge").compiled)),
        ("first-cable", Subject("first-cable", handouts.exercise("first-cable"))),
        ("route-table-answers", Subject("route-table", handouts.exercise("route-table"), answers=True)),
    ],
)
def test_the_page_is_the_golden_one(golden: Golden, name: str, subject: Subject) -> None:
    golden(f"handouts/{name}.html").check(DRAWING.sub("<svg/>", page(subject)))


@pytest.mark.parametrize("code", ["en", "ja"])
@pytest.mark.parametrize("name", lesson_files())
def test_the_page_of_a_lesson_asks_and_does_not_tell(name: str, code: str) -> None:
    lab = handouts.lesson(name)
    assert lab.lesson is not None
    lesson = lab.lesson.in_language(code)
    shown, told = (flat(text(Subject(name, lab, answers, code))) for answers in (False, True))
    asked = [step for step in lesson.steps if step.kind in ("predict", "claim")]

    assert asked
    for step in asked:
        question = step.action.text if isinstance(step.action, Claim) else step.say
        assert flat(question) in shown
        for line in filter(None, step.then.split("\n")):
            assert flat(line) not in shown
            assert flat(line.removeprefix("- ")) in told
    for check in lab.checks:
        assert flat(check.say) not in shown
    commands = [step.action.command for step in lesson.steps if isinstance(step.action, RunCommand)]
    assert flat(commands[0]) in shown
    assert f'<html lang="{code}">' in page(Subject(name, lab, language=code))


@pytest.mark.parametrize("name", exercise_files())
def test_nothing_gives_an_exercise_away(name: str) -> None:
    lab = handouts.exercise(name)
    shown = flat(text(Subject(name, lab)))
    exercise = lab.exercise
    assert exercise is not None

    for one in secrets(exercise, [f"{fault.kind} {fault.on}" for fault in lab.faults]):
        assert flat(one) not in shown
    for check in lab.checks:
        assert flat(check.say) not in shown or check.say in exercise.text
    if lab.faults:
        assert "Routes" not in shown
    for task in exercise.tasks:
        assert flat(task.say) in shown


@pytest.mark.parametrize("name", exercise_files())
def test_the_page_of_a_teacher_has_all_of_it(name: str) -> None:
    lab = handouts.exercise(name)
    exercise = lab.exercise
    assert exercise is not None
    shown = flat(text(Subject(name, lab, answers=True)))

    for one in secrets(exercise, [f"{fault.kind} {fault.on}" for fault in lab.faults]):
        assert flat(one) in shown
    assert 'class="write"' not in page(Subject(name, lab, answers=True))


def secrets(exercise: Exercise, faults: list[str]) -> list[str]:
    """Texts that only a teacher may read: solutions of more than one word, hints, the explanation, hidden faults."""
    steps = [line for task in exercise.tasks for step in task.steps for line in step.command.split("\n")]
    answers = [task.answer for task in exercise.tasks if "/" in task.answer]
    told = " ".join((exercise.text, *(task.say for task in exercise.tasks)))
    commands = [line for line in (*steps, *answers) if line not in told and "$LAB" not in line]
    explained = [line for line in exercise.explain.split("\n") if line]
    return [*commands, *faults, *(hint.say for hint in exercise.hints), *explained]


def flat(shown: str) -> str:
    return re.sub(r"\s+", "", shown.replace("`", ""))


def test_a_scenario_has_its_checks_routes_and_services() -> None:
    lab = labctl.load("services").compiled
    shown = text(Subject("services", lab))

    for check in lab.checks:
        assert check.say in shown
    assert "10.244.1.0/24 via 10.224.0.5 dev node2 table 100" in shown
    assert re.search(r"web-local\s+NodePort\s+10\.0\.101\.126\s+80:30081/TCP\s+a, b", shown)
    assert re.search(r"\bc\s+pod on node3\s+eth0 10\.244\.2\.2/24", shown)


def test_long_lists_are_shortened_and_say_so(tmp_path: Path) -> None:
    subject = handouts.large(tmp_path)
    shown = text(subject)

    machines = len(subject.lab.machines)
    rows = shown.count(" on node")
    found = re.search(r"and (\d+) more: +labctl plan large.yaml", shown)
    assert found is not None
    assert 0 < rows + int(found[1]) <= machines == 423
    assert "and 12 more" in shown, "the devices of a node"
    assert re.search(r"The drawing is shortened; +labctl graph large.yaml --all", shown)
    assert "shortened" not in text(Subject("kubenet", labctl.load("kubenet").compiled))


def test_a_table_has_heads_for_screen_readers() -> None:
    shown = page(Subject("kubenet", labctl.load("kubenet").compiled))

    assert '<html lang="en">' in shown
    assert shown.count("<table><caption>") == shown.count("<table>") == 2
    assert shown.count('<th scope="row">') == shown.count("<tr>") - 2
    assert shown.count('<th scope="col"') == 5


def test_the_page_loads_nothing() -> None:
    for subject in (
        Subject("kubenet", labctl.load("kubenet").compiled),
        Subject("first-cable", handouts.exercise("first-cable")),
    ):
        shown = page(subject)
        assert not re.search(r"\b(src|href)=|url\(|@import", shown)
        assert {*re.findall(r"https?://[^\"' ]+", shown)} == {"http://www.w3.org/2000/svg"}


def test_what_a_file_says_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text('model: raw\nsay: "<b>`a<b`"\nnamespaces: {a: {}}\n')
    shown = page(Subject("./t <x>.yaml", labctl.load(str(file)).compiled))

    assert "<p>&lt;b&gt;<code>a&lt;b</code></p>" in shown
    assert "sudo labctl up &#x27;./t &lt;x&gt;.yaml&#x27; --check" in shown


def test_paragraphs_lists_and_commands() -> None:
    block = paper.paragraphs("One `x`.\n\n  ip a\n  ip b\n\n- first\n- second\n\nEnd")

    assert block.lines == (
        "<p>One <code>x</code>.</p>", "<pre>", "ip a", "ip b", "</pre>", "<ul>", "<li>first</li>", "<li>second</li>",
        "</ul>", "<p>End</p>",
    )  # fmt: skip
    assert paper.inline("a ` b") == "a ` b"
