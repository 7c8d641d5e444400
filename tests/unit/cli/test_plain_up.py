"""A plain `up` is read without click, and does what click would have called."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.cli import _plain_up, app, plain_up
from labctl.errors import UsageError


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("kubenet", ("kubenet", None)),
        ("./my.yaml", ("./my.yaml", None)),
        ("kubenet --name bench", ("kubenet", "bench")),
        ("--name bench kubenet", ("kubenet", "bench")),
    ],
)
def test_a_plain_up_calls_what_click_calls(
    words: str, given: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def up_lab(session: Any, scenario: str, **options: Any) -> int:
        known = {"name": None, "check": False, "dry_run": False, "keep": False, "profile": False, "replace": False}
        known |= {"force": False, "approximate": False, "firewall": None, "sets": (), "manifests": ()}
        calls.append(((scenario, session.verb, session.json, session.verbose, session.lab), known | options))
        return 0

    monkeypatch.setattr("labctl.cli.up_lab.up_lab", up_lab)
    monkeypatch.setattr(plain_up, "up_lab", up_lab)
    arguments = ["up", *words.split()]

    assert _plain_up(arguments) == given
    assert plain_up.run(arguments, *given) == app.run(arguments) == 0
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    "words",
    ["", "--help", "-h", "kubenet --check", "kubenet --json", "kubenet --name", "kubenet --name=b", "a b",
     "kubenet --name a/b", "kubenet --name -x", "--name --json kubenet", "kubenet --name --json"],
)  # fmt: skip
def test_everything_else_is_read_by_click(words: str) -> None:
    assert _plain_up(["up", *words.split()]) is None


def test_without_root_click_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert _plain_up(["up", "kubenet"]) is None


def test_an_error_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise UsageError("it does not work")

    monkeypatch.setattr(plain_up, "up_lab", fail)
    assert plain_up.run(["up", "kubenet"], "kubenet", None) == 2
    assert "labctl: it does not work" in capsys.readouterr().err
