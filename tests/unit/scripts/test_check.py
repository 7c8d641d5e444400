"""scripts/check as git's pre-commit hook: installed by one option, removed by another, and no other hook is touched."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git repository with the script and what it reads first."""
    (tmp_path / "scripts").mkdir()
    for name in ("check", "env.sh"):
        shutil.copy2(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def check(tree: Path, option: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tree / "scripts/check", option], capture_output=True, text=True, cwd=tree, check=False)


def test_the_hook_is_installed_and_removed(tree: Path) -> None:
    hook = tree / ".git/hooks/pre-commit"

    done = check(tree, "--hook")
    assert (done.returncode, done.stderr) == (0, "")
    assert "before each commit" in done.stdout
    assert hook.resolve() == (tree / "scripts/check").resolve()
    assert check(tree, "--hook").returncode == 0, "a second time changes nothing"

    assert check(tree, "--no-hook").returncode == 0
    assert not hook.exists()
    assert check(tree, "--no-hook").returncode == 0


def test_another_hook_is_never_touched(tree: Path) -> None:
    hook = tree / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 0\n")

    done = check(tree, "--hook")
    assert done.returncode == 1
    assert "is not this script" in done.stderr
    assert check(tree, "--no-hook").returncode == 0
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"


def test_an_unknown_option_shows_the_usage(tree: Path) -> None:
    done = check(tree, "--hoook")

    assert (done.returncode, done.stderr) == (2, "usage: scripts/check [--fix | --hook | --no-hook]\n")
