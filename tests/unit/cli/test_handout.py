"""The verb `handout`: what a name means, where the page goes, in which language, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from labctl.cli.verbs.handout import HandoutParam, handout
from labctl.scenario.catalog import lesson_files, names
from labctl.translation import language
from tests.support.command_line import Run, error, in_process, pretend_empty_machine


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(language, "_code", language.ORIGINAL)
    monkeypatch.setattr(language, "_catalog", None)
    return pretend_empty_machine(monkeypatch, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


def test_a_scenario_goes_to_the_standard_output(run: Run) -> None:
    code, out, err = run("handout", "calico")

    assert (code, err) == (0, "")
    assert out.startswith('<!doctype html>\n<html lang="en">')
    assert "<h1>calico</h1>" in out
    assert "sudo labctl up calico --check" in out


def test_an_exercise_goes_to_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.html"
    assert run("handout", "route-table", "-o", str(file)) == (0, "", "")
    page = file.read_text()

    assert "<h1>The new node</h1>" in page
    assert "sudo labctl exercise start route-table" in page
    assert "10.244.1.0/24 via" not in page
    run("handout", "route-table", "--answers", "-o", str(file))
    assert "10.244.1.0/24 via" in file.read_text()


def test_names_of_products_files_and_values(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("model: kubenet\nnodes: {node1: {pods: [a]}}\n")

    assert "model azure-cni-overlay" in run("handout", "aks")[1]
    assert "10.99.0.2/24" in run("handout", str(file), "--set", "pod_cidr=10.99.0.0/16")[1]


def test_a_lesson_comes_before_a_scenario_of_its_name(run: Run) -> None:
    name = next(name for name in lesson_files() if name in names())

    assert f"sudo labctl learn {name}" in run("handout", name)[1]
    assert f"sudo labctl up {name} --check" in run("handout", name, "--kind", "scenario")[1]


def test_the_language_is_that_of_the_texts(run: Run) -> None:
    assert '<html lang="ja">' in run("handout", "one-cable", "--lang", "ja")[1]
    assert '<html lang="en">' in run("handout", "one-cable")[1]


def test_the_document(run: Run, tmp_path: Path) -> None:
    file = str(tmp_path / "x.html")
    document = json.loads(run("handout", "first-cable", "-o", file, "--json")[1])

    assert {key: document[key] for key in ("lab", "model", "kind", "file")} == {
        "lab": "first-cable", "model": "raw", "kind": "exercise", "file": file,
    }  # fmt: skip
    assert document["page"] == Path(file).read_text()


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["kubnet"], "there is no lesson, exercise or scenario 'kubnet'", "did you mean kubenet?"),
        (["route-tabel"], "there is no lesson, exercise or scenario 'route-tabel'", "did you mean route-table?"),
        (["zzz"], "there is no lesson, exercise or scenario 'zzz'", "`labctl learn`, `labctl exercise list` and"),
        (["calico", "--kind", "lesson"], "there is no lesson 'calico'", "calico is a scenario"),
        (["./scenarios/calico.yaml", "--kind", "exercise"], "is a scenario, not an exercise", ""),
        (["kubenet", "-o", "/nowhere/x.html"], "cannot write /nowhere/x.html: there is no directory /nowhere", ""),
        (["./no.yaml"], "cannot read './no.yaml'", ""),
    ],
)
def test_a_mistake(run: Run, words: list[str], message: str, hint: str) -> None:
    code, out, _ = run("handout", *words, "--json")

    assert code == 2
    assert message in error(out)["message"]
    assert hint in (error(out)["errors"][0]["hint"] or "")


def test_completion_has_exercises_and_scenarios() -> None:
    found = [item.value for item in HandoutParam().shell_complete(click.Context(handout), handout.params[0], "r")]

    assert {"route-table", "raw-dual-stack"} <= set(found)
