"""`scripts/labctl-cni`: the plugin as a runtime calls it from a source tree, with the environment of CNI only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.cni_plugin.config import SUPPORTED_VERSIONS
from tests.support.paths import ROOT

SCRIPT = "#!{python} -Xpycache_prefix={cache}\nimport sys\nsys.path.insert(0, {root!r})\n"
SCRIPT += "from labctl.cni_plugin.main import main\nsys.exit(main())\n"


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that the scripts take for theirs, as `scripts/provision.sh --source` makes one."""
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    text = SCRIPT.format(python=sys.executable, cache=tmp_path / "cache", root=str(ROOT))
    (programs / "labctl-cni").write_text(text)
    (programs / "labctl-cni").chmod(0o755)
    (tmp_path / "venv/.labctl-run").touch()
    return tmp_path / "venv"


@pytest.mark.parametrize("linked", [True, False])
def test_a_runtime_can_call_it_in_the_tree(tmp_path: Path, venv: Path, linked: bool) -> None:
    program = ROOT / "scripts/labctl-cni"
    if linked:
        (tmp_path / "labctl-cni").symlink_to(program)
        program = tmp_path / "labctl-cni"
    environment = {"CNI_COMMAND": "VERSION", "LABCTL_VENV": str(venv)}
    done = subprocess.run(
        [program], input='{"cniVersion": "1.0.0"}', capture_output=True, text=True, env=environment, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"cniVersion": "1.0.0", "supportedVersions": list(SUPPORTED_VERSIONS)}


def test_an_environment_that_cannot_be_made_is_an_error_of_the_specification(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {"CNI_COMMAND": "VERSION", "LABCTL_VENV": str(tmp_path / "file/venv")}
    done = subprocess.run(
        [ROOT / "scripts/labctl-cni"], input="{}", capture_output=True, text=True, env=environment, cwd="/"
    )
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 100)
