"""labctl's CNI plugin, called in a process or in this one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from labctl.cni_plugin.main import main
from tests.support import forked
from tests.support.cni_node import ROOT, environment


def version(text: str) -> Any:
    run = [forked.cni_plugin_program()]
    env = {"CNI_COMMAND": "VERSION", **environment()}
    done = subprocess.run(run, input=text, capture_output=True, text=True, env=env, cwd=ROOT, check=True)
    return json.loads(done.stdout)


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: bytes) -> tuple[int, Any]:
    """The plugin called in this process, for an ADD."""
    given = {"COMMAND": "ADD", "CONTAINERID": "pod1", "NETNS": "/run/netns/pod1", "IFNAME": "eth0", "PATH": "/nowhere"}
    for name, value in given.items():
        monkeypatch.setenv(f"CNI_{name}", value)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    code = main()
    return code, json.loads(capsys.readouterr().out)
