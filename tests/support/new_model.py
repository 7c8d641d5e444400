"""A copy of the source tree in which docs/extending.md was followed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/extending.md").read_text()
NOT_COPIED = (".git", ".venv", ".ruff_cache", ".mypy_cache", ".pytest_cache", "__pycache__", "build", "*.egg-info")
NEW = {"labctl/models/island.py", "scenarios/island.yaml", "plans/island.txt", "docs/models/island.md"}


def page_commands() -> list[str]:
    """The commands of the page's first section, in their order."""
    section = PAGE.split("\n## 1. ")[1].split("\n## 2. ")[0]
    found = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [line for block in found for line in block.splitlines()]


def copied(folder: Path) -> Path:
    """A copy of the source tree, with an environment that its scripts take for their own."""
    tree = folder / "labctl"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    programs = folder / "venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "labctl").write_text("import sys\nfrom labctl.cli import main\nsys.exit(main())\n")
    (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    (folder / "venv/.labctl-run").touch()
    copy_bytecode(tree)
    return tree


def copy_bytecode(tree: Path) -> None:
    """Give a copy the bytecode of the source tree. It is valid: a copied file has the time and the size of the file.
    Python's library and the installed packages are the same ones, and so is the folder of their bytecode."""
    known, new = Path(sys.pycache_prefix or "/no"), tree.parent / "venv/pycache"
    for name in ("labctl", "tests"):
        if known.joinpath(*ROOT.parts[1:], name).exists():
            copy = new.joinpath(*tree.parts[1:], name)
            shutil.copytree(known.joinpath(*ROOT.parts[1:], name), copy, dirs_exist_ok=True)
    for path in {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}:
        library = known.joinpath(*Path(path).parts[1:])
        link = new.joinpath(*Path(path).parts[1:])
        if library.exists() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(library)


def run(tree: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command line as a person types it in the tree."""
    venv = tree.parent / "venv"
    own = {"LABCTL_VENV": str(venv), "PYTHONPATH": str(tree), "PYTHONPYCACHEPREFIX": str(venv / "pycache")}
    environment = {**os.environ, **own, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    for name in ("LABCTL_SUMMARY", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    return subprocess.run(
        ["bash", "-c", command], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def with_island(folder: Path) -> Path:
    """A copy in which the page was followed: a new model `island`."""
    made = copied(folder)
    first = page_commands()[0]
    assert first == "./scripts/new-model island"
    done = run(made, first)
    assert done.returncode == 0, done.stderr
    for name in NEW:
        assert re.search(rf"^wrote .*{re.escape(name)}$", done.stdout, re.MULTILINE), name
    assert "changed docs/README.md" in done.stdout
    return made
