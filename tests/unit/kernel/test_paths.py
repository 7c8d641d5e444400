"""What a user types before a verb, and before a command that needs the machine's root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labctl.cli import main
from labctl.errors import KernelError
from labctl.kernel.host import paths
from tests.support.command_line import pretend_empty_machine

ROOT, USER = 0, 1000


@pytest.mark.parametrize(
    ("user", "environment", "sudo", "labctl"),
    [
        (ROOT, {}, "", "labctl"),
        (ROOT, {"SUDO_USER": "anna"}, "sudo ", "sudo labctl"),
        (USER, {}, "sudo ", "sudo labctl"),
        (ROOT, {paths.HOLDER_VARIABLE: "/run/user/1000/labctl"}, "sudo ", "labctl --rootless"),
        (ROOT, {paths.SANDBOX_VARIABLE: "1"}, "sudo ", "labctl"),
    ],
    ids=["a shell of root", "sudo", "a user", "without root", "labctl run"],
)
def test_commands_begin_as_this_user_types_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, environment: dict[str, str], sudo: str, labctl: str
) -> None:
    machine = pretend_empty_machine(monkeypatch, tmp_path)
    for name in ("SUDO_USER", paths.HOLDER_VARIABLE, paths.SANDBOX_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert (paths.sudo(), paths.command_prefix()) == (sudo, labctl)

    (machine / "netns/labctl.one.a").touch()
    assert paths.command_prefix("one") == labctl
    (machine / "netns/labctl.two.a").touch()
    assert paths.command_prefix("one") == f"{labctl} -l one", "several labs run"


def test_a_directory_of_namespaces_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = pretend_empty_machine(monkeypatch, tmp_path)
    (machine / "netns").rmdir()
    (machine / "netns").symlink_to("netns")
    for words in (["list"], ["-l", "x", "status"], ["down", "x"]):
        assert main(words) == 3
        assert capsys.readouterr().err.startswith(f"labctl: cannot read {machine}/netns: Too many levels of symbolic")
    assert paths.command_prefix("x").endswith("labctl -l x")


@pytest.mark.parametrize("variable", ["LABCTL_NETNS_DIR", "LABCTL_STATE_DIR"])
@pytest.mark.parametrize(
    ("value", "problem"), [("here", "is not an absolute path"), (".", "not an absolute"), ("/", "root"), ("//", "root")]
)
def test_a_directory_that_cannot_be_labctls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, problem: str
) -> None:
    pretend_empty_machine(monkeypatch, tmp_path)
    paths.require_own_directories()
    monkeypatch.setenv(variable, "")
    paths.require_own_directories()
    monkeypatch.setenv(variable, value)
    with pytest.raises(KernelError, match=f"{variable}={value} .*{problem}"):
        paths.require_own_directories()


def test_directories_are_absolute_also_where_the_current_one_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LABCTL_STATE_DIR", "here")
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert paths.state_dir() == folder / "here"
    folder.rmdir()
    assert paths.state_dir().is_absolute()


def test_completion_is_silent_where_no_lab_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = pretend_empty_machine(monkeypatch, tmp_path)
    (machine / "netns").rmdir()
    (machine / "netns").symlink_to("netns")
    for name, value in {"_LABCTL_COMPLETE": "bash_complete", "COMP_WORDS": "labctl down x", "COMP_CWORD": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 1
    assert capsys.readouterr() == ("", "")
