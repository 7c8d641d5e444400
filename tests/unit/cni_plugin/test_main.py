"""The start of labctl's CNI plugin: VERSION, its input, and the lock, without a namespace."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.cni_plugin.config import SUPPORTED_VERSIONS
from labctl.errors import LimitError
from labctl.kernel.host import paths
from tests.support.cni_node import CONF, ROOT, environment
from tests.support.cni_plugin import called, version


@pytest.mark.parametrize(("text", "told"), [("", "1.1.0"), ("{", "1.1.0"), ('{"cniVersion": "0.4.0"}', "0.4.0")])
def test_version_needs_nothing_and_repeats_what_it_was_asked_in(text: str, told: str) -> None:
    assert version(text) == {"cniVersion": told, "supportedVersions": list(SUPPORTED_VERSIONS)}


def test_nobody_at_a_terminal_is_waited_for() -> None:
    ours, theirs = pty.openpty()
    try:
        run = [sys.executable, "-m", "labctl.cni_plugin.main"]
        done = subprocess.run(
            run, stdin=theirs, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=60
        )
    finally:
        os.close(ours)
        os.close(theirs)
    error = json.loads(done.stdout)
    assert (done.returncode, error["code"]) == (1, 4)
    assert "CNI_COMMAND is ''" in error["msg"]
    assert done.stderr == ""  # the error is printed once


def test_a_lock_that_cannot_be_had_is_a_failure_of_input_and_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(paths, "state_dir", lambda: tmp_path / "file")
    code, error = called(monkeypatch, capsys, json.dumps(CONF).encode())
    assert (code, error["code"]) == (1, 5)
    assert str(tmp_path / "file") in error["msg"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EMFILE, "Too many open files"), MemoryError(), LimitError("cannot start iptables-save: ...")],
    ids=repr,
)
def test_a_limit_says_try_again_later(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*words: object) -> None:
        raise error

    monkeypatch.setattr("labctl.cni_plugin.main._serve", refuse)
    code, found = called(monkeypatch, capsys, json.dumps(CONF).encode())
    assert (code, found["code"]) == (1, 11)
    assert found["msg"].startswith(("too few open files", "this process cannot get more memory", "cannot start"))


def test_what_is_no_text_cannot_be_decoded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = called(monkeypatch, capsys, b"\xff{}")
    assert (code, error["code"]) == (1, 6)
    assert "not UTF-8" in error["msg"]
