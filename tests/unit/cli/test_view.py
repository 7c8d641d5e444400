"""`labctl view` where it cannot work: one line that says what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import labctl.view
from tests.support.command_line import Run, error, in_process, pretend_empty_machine


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which a lab `k` seems to run."""
    folder = pretend_empty_machine(monkeypatch, tmp_path)
    (folder / "netns" / "labctl.k.a").touch()
    return folder


@pytest.mark.parametrize("name", ["starlette", "uvicorn", "sse_starlette"])
def test_without_its_libraries_it_says_how_to_get_them(
    run: Run, lab: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *rest: None if one == name else find(one, *rest))
    code, out, err = run("view")

    assert (code, out) == (4, "")
    assert err == f"labctl: labctl view needs {name.replace('_', '-')}\n    hint: pip install 'labctl[view]'\n"


@pytest.mark.parametrize("words", [(), ("--export", "x.html")])
def test_without_the_built_page_it_says_how_to_build_it(
    run: Run, lab: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(labctl.view, "__file__", str(lab / "__init__.py"))
    monkeypatch.chdir(lab)
    code, out, _ = run("view", *words, "--json")

    assert code == 4
    assert error(out)["message"] == "the page of labctl view is not built"
    assert "scripts/build-view" in error(out)["errors"][0]["hint"]
    assert not (lab / "x.html").exists()


def test_usage(run: Run, lab: Path) -> None:
    def problem(*words: str) -> Any:
        code, out, _ = run("view", "--json", *words)
        assert code == 2
        return error(out)["message"]

    assert problem("other") == "no lab 'other' runs"
    assert problem("k", "-l", "other") == "view: 'k' and -l other are two labs"
    assert problem("--record") == "--record is for --export FILE.html"
    assert problem("--port", "70000").startswith("view: ")
    assert problem("--export", "/no/such/folder/x.html").startswith("cannot write /no/such/folder/x.html")


def test_a_lab_of_which_the_record_is_lost_cannot_be_shown(
    run: Run, lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from labctl.cli.verbs import view

    monkeypatch.setattr(view, "_built_page", lambda: tmp_path)
    code, out, err = run("view", "--json")

    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["message"].startswith("the definition of lab k ")
