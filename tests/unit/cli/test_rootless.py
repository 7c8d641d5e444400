"""`--rootless`: which verbs run inside the user namespace, and when."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import labctl.cli.rootless
from labctl.kernel import rootless


@pytest.mark.parametrize(
    ("words", "inside", "left"),
    [
        ("--rootless plan kubenet", False, "plan kubenet"),
        ("up kubenet --rootless --check", True, "up kubenet --check"),
        ("--rootless exec a -- ls --rootless", True, "exec a -- ls --rootless"),
        ("--rootless up --help", False, "up --help"),
        ("--rootless -l plan status", True, "-l plan status"),
        ("-l plan --rootless plan kubenet", False, "-l plan plan kubenet"),
        ("--rootless", False, ""),
        ("run --rootless -- ls --help", False, "--rootless run -- ls --help"),
    ],
)
def test_which_verbs_go_inside(words: str, inside: bool, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []
    monkeypatch.setattr(rootless, "enter", lambda: entered.append("in"))
    monkeypatch.setattr(rootless, "leave", lambda holder: entered.append("out"))
    seen: list[list[str]] = []

    labctl.cli.rootless.run(words.split(), lambda rest: seen.append(rest) or 0)

    assert seen == [left.split()]
    assert entered == (["in", "out"] if inside else [])


@pytest.mark.parametrize(
    ("words", "wish", "asked"),
    [
        ("--rootless list", None, True),
        ("list", "1", True),
        ("list", "0", False),
        ("list", "", False),
        ("exec a -- dockerd --rootless", None, False),
    ],
)
def test_who_asks_for_labs_without_root(
    words: str, wish: str | None, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wish is None:
        monkeypatch.delenv("LABCTL_ROOTLESS", raising=False)
    else:
        monkeypatch.setenv("LABCTL_ROOTLESS", wish)
    monkeypatch.setattr(labctl.cli.rootless, "run", lambda *_: 77)
    monkeypatch.setattr(labctl.cli, "_run", lambda _: 0)

    assert labctl.cli.main(words.split()) == (77 if asked else 0)


@pytest.mark.parametrize("name", ["holder", "door", "guests"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_in_the_holders_folder(
    name: str,
    make: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(rootless, "_start", lambda folder: pytest.fail("a holder was started"))
    folder = rootless.holder_dir()
    make(folder / name)

    assert labctl.cli.main(["--rootless", "list"]) == 4
    said = capsys.readouterr().err
    assert f"labctl: cannot use {folder / name} without root: " in said
    assert f"remove {folder / name}, or set XDG_RUNTIME_DIR" in said


@pytest.mark.parametrize("text", ["", "x", "-1", "1 2", "9" * 40, "\u0661"])
def test_a_record_of_a_holder_that_names_none(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (rootless.holder_dir() / "holder").write_text(text)

    assert rootless.holder_root() is None
