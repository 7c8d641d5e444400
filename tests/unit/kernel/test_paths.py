"""What a user types before a verb, and before a command that needs the machine's root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
