"""labctl's command line, run in the process of the tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.cli import main

Run = Callable[..., tuple[int, str, str]]


def in_process(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs labctl in this process; it returns the exit code and the two outputs."""

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        return code, *capsys.readouterr()

    return go


def pretend_empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which no lab runs, whatever the real one does, and a user who is root."""
    for name in ("netns", "state"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("LABCTL_NETNS_DIR", str(tmp_path / "netns"))
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("LABCTL_PROGRESS_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def error(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)["error"]
    return document
