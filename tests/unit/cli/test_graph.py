"""The verb `graph`: what it draws, in which format, where to, and its mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import labctl
from labctl.cli.session import Session
from labctl.cli.verbs.graph import DrawnParam, graph
from labctl.core.diff import Change
from labctl.core.resources import Route
from labctl.lab import lifecycle, records
from labctl.report.terminal import Terminal
from tests.support.command_line import Run, error, in_process, pretend_empty_machine


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return pretend_empty_machine(monkeypatch, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend that a lab of another model runs under the name kubenet."""
    (tmp_path / "netns" / "labctl.kubenet.h1").touch()
    known = labctl.load("docker-bridge", name="kubenet").compiled
    answer: Callable[..., Any] = lambda *_: known  # noqa: E731
    monkeypatch.setattr(records, "load_compiled_lab", answer)


def test_a_scenario_is_drawn_as_text(run: Run) -> None:
    code, out, err = run("graph", "kubenet")

    assert (code, err) == (0, "")
    assert out.startswith("lab kubenet, model kubenet\n")
    assert "│ eth0 10.224.0.4/16  ── fabric/node1" in out
    assert 70 < max(map(len, out.splitlines())) <= 80


def test_a_drawing_in_ascii(run: Run) -> None:
    code, out, _ = run("graph", "kubenet", "--ascii")

    assert code == 0
    assert out.isascii()
    assert "| eth0 10.224.0.4/16  -- fabric/node1" in out


@pytest.mark.parametrize(
    ("form", "start"),
    [("svg", "<svg "), ("html", "<!doctype html>"), ("mermaid", "---\ntitle:"), ("dot", 'graph "kubenet" {')],
)
def test_each_format(run: Run, form: str, start: str) -> None:
    assert run("graph", "kubenet", "--as", form)[1].startswith(start)


@pytest.mark.parametrize(
    ("name", "start"),
    [("x.svg", "<svg "), ("x.html", "<!doctype"), ("x.mmd", "---"), ("x.gv", "graph "), ("x", "lab ")],
)
def test_the_ending_of_the_file_selects_the_format(run: Run, tmp_path: Path, name: str, start: str) -> None:
    code, out, err = run("graph", "kubenet", "-o", str(tmp_path / name))

    assert (code, out, err) == (0, "", "")
    assert (tmp_path / name).read_text().startswith(start)


def test_values_and_manifests_are_those_of_the_drawing(run: Run, tmp_path: Path) -> None:
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "added"}, "spec": {"ports": [{"port": 81}]},
    }  # fmt: skip
    (tmp_path / "service.json").write_text(json.dumps(service))
    code, out, _ = run(
        "graph", "kubenet", "--set", "pod_cidr=10.99.0.0/16", "--manifest", str(tmp_path / "service.json")
    )

    assert code == 0
    assert "10.99.0.1/24" in out
    assert "added (ClusterIP)" in out


@pytest.mark.usefixtures("running")
def test_a_running_lab_comes_before_a_scenario_of_its_name(run: Run) -> None:
    for words in (["graph"], ["graph", "kubenet"], ["graph", "-l", "kubenet"]):
        assert run(*words, "--plan")[1].startswith("lab kubenet, model docker-bridge\n")
    assert run("graph", "kubenet", "--set", "pod_cidr=10.99.0.0/16")[1].startswith("lab kubenet, model kubenet\n")


@pytest.mark.usefixtures("running")
def test_a_running_lab_is_drawn_as_planned_without_root_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    _, out, _ = run("graph", "--json")

    assert "as planned; not compared with the kernel, which needs root" in json.loads(out)["drawing"]
    assert (json.loads(out)["running"], json.loads(out)["changes"]) == (True, None)
    assert "as planned; not compared with the kernel (--plan)" in run("graph", "--plan")[1]
    assert "as planned" not in run("graph", "docker-bridge")[1]


@pytest.mark.usefixtures("running")
def test_what_differs_is_red_in_a_terminal_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    known = labctl.load("docker-bridge").compiled
    lost = next(one for one in known.plan if isinstance(one, Route))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(Session, "require_root", lambda _: None)
    monkeypatch.setattr(lifecycle, "status", lambda *_: (Change(lost, None),))

    _, out, _ = run("graph", "--plan")
    assert "(missing)" not in out
    _, out, _ = run("graph")
    assert "(missing)" in out
    assert "\033" not in out
    monkeypatch.setattr(Terminal, "paint", lambda _, text, colour: f"<{colour}>{text}</>")
    _, out, _ = run("graph")
    assert re.search(r"│ <red>  [^<]*[(]missing[)]</> +│", out)


@pytest.mark.usefixtures("running")
def test_completion_has_running_labs_and_scenarios() -> None:
    found = [item.value for item in DrawnParam().shell_complete(click.Context(graph), graph.params[0], "kube")]

    assert found[0] == "kubenet"
    assert found.count("kubenet") == 1
    assert "kube-router" in found


def test_the_document(run: Run) -> None:
    document = json.loads(run("graph", "kubenet", "--as", "svg", "--json")[1])

    assert (document["lab"], document["model"], document["as"]) == ("kubenet", "kubenet", "svg")
    assert document["drawing"].startswith("<svg ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["graph"], "no lab runs"),
        (["graph", "--set", "a=b"], "--set needs a scenario"),
        (["graph", "-l", "b"], "no lab 'b' runs"),
        (["graph", "a", "-l", "b"], "graph: 'a' and -l b are two labs"),
        (["graph", "kubenet", "-o", "no/such/folder/x.svg"], "cannot write no/such/folder/x.svg"),
    ],
)
def test_mistakes(run: Run, words: list[str], message: str) -> None:
    code, out, _ = run(*words, "--json")

    assert code == 2
    assert error(out)["message"].startswith(message)


def test_a_name_that_is_nothing_has_a_suggestion(run: Run) -> None:
    code, _, err = run("graph", "kubenett")

    assert code == 2
    assert "kubenet" in err
