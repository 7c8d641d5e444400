"""`labctl run`: the environment of its command, and the command labctl inside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from labctl.kernel import sandbox
from labctl.kernel.host import paths


def test_the_environment_leads_to_no_lab_outside() -> None:
    outside = {
        "HOME": "/home/ada", "PATH": "/opt/bin:/usr/sbin", "LABCTL_ROOTLESS": "1", "LABCTL_NETNS_DIR": "/x",
        "LABCTL_STATE_DIR": "/y", "LABCTL_HOLDER": "/z", "XDG_RUNTIME_DIR": "/run/user/1000", "LABCTL_FIREWALL": "nft",
    }  # fmt: skip

    assert sandbox.environment(outside) == {
        "HOME": "/home/ada", "PATH": "/run/labctl-bin:/opt/bin:/usr/sbin:/sbin", "LABCTL_RUN": "1",
        "LABCTL_FIREWALL": "nft",
    }  # fmt: skip
    again = sandbox.environment(sandbox.environment(outside))
    assert again == sandbox.environment(outside), "also in a sandbox inside a sandbox"
    assert sandbox.environment({"XDG_RUNTIME_DIR": "/tmp/own"})["XDG_RUNTIME_DIR"] == "/tmp/own"
    assert sandbox.environment({"PATH": ""})["PATH"].startswith("/run/labctl-bin:/")


def test_advised_commands_need_no_sudo_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(paths.HOLDER_VARIABLE, raising=False)
    monkeypatch.delenv(paths.SANDBOX_VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert paths.command_prefix() == "sudo labctl"
    monkeypatch.setenv(paths.SANDBOX_VARIABLE, "1")
    assert paths.command_prefix() == "labctl"
    monkeypatch.setenv(paths.HOLDER_VARIABLE, "/x")
    assert paths.command_prefix() == "labctl --rootless"


def test_labctl_inside_is_this_very_labctl_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "labctl").mkdir()  # another package of that name in the current directory
    (tmp_path / "labctl/__init__.py").write_text("raise SystemExit('the wrong labctl')")
    sandbox._write_launcher(tmp_path / "bin")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for more in ({}, {"PYTHONSAFEPATH": "1"}):
        done = subprocess.run(
            [tmp_path / "bin/labctl", "list", "--scenarios"], cwd=tmp_path, env={**environment, **more},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "kubenet" in done.stdout
