"""scripts/image and scripts/bundle: mirrors, mistakes, and what is in a copy of the source. Nothing is downloaded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TARGETS = """\
Debian http://one.example/debian/ bookworm main
Debian http://one.example/debian/ bookworm contrib
Debian http://one.example/debian/ bookworm-updates main
Debian-Security http://two.example/security bookworm-security main
Other http://three.example/ bookworm main
Ubuntu http://four.example/ubuntu noble universe
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with an apt-get that prints the index targets of a machine, and with programs that are never called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("apt-get", f"cat <<'END'\n{TARGETS}END\n"), ("mmdebstrap", "exit 9\n"), ("umoci", "exit 9\n")):
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    return folder


def shell(programs: Path, script: str) -> subprocess.CompletedProcess[str]:
    text = f"root={ROOT}; . {ROOT}/scripts/image.d/release.sh; own_release() {{ echo bookworm; }}; {script}"
    return subprocess.run(
        ["bash", "-euc", text], capture_output=True, text=True, env={"PATH": f"{programs}:{os.environ['PATH']}"}
    )


def test_another_release_comes_from_the_mirrors_of_this_machine(programs: Path) -> None:
    done = shell(programs, "sources_of trixie")

    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert done.stdout.splitlines() == [
        f"deb {key} http://one.example/debian/ trixie main",
        f"deb {key} http://one.example/debian/ trixie-updates main",
        f"deb {key} http://two.example/security trixie-security main",
    ]


def test_ubuntu_is_not_unpacked_from_a_mirror_of_debian(programs: Path) -> None:
    done = shell(programs, "own_release() { echo trixie; }; unpack noble /nowhere python3")

    assert (done.returncode, done.stdout) == (4, "")
    assert "no mirror with noble" in done.stderr


@pytest.mark.parametrize(
    ("script", "words", "code", "told"),
    [
        ("image", ["--release", "noble"], 2, "an image is made of Debian"),
        ("image", ["--zip"], 2, "unknown argument --zip; try --help"),
        ("image", ["-o"], 1, "-o needs a file"),
        ("bundle", ["--release", "buster"], 2, "there is no bundle for buster"),
        ("bundle", ["--release", "bookworm", "--release", "trixie", "--wheels", "x"], 2, "--wheels is for one release"),
    ],
)
def test_mistakes_are_told(programs: Path, script: str, words: list[str], code: int, told: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / script, *words],
        capture_output=True, text=True, cwd=programs, env={"PATH": f"{programs}:{os.environ['PATH']}"},
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


@pytest.mark.parametrize("script", ["image", "bundle"])
def test_help_names_every_option(script: str) -> None:
    text = (ROOT / "scripts" / script).read_text()
    done = subprocess.run([ROOT / "scripts" / script, "--help"], capture_output=True, text=True, check=True)

    for option in ("--release", "--wheels", "-o FILE"):
        assert option in done.stdout
    assert text.splitlines()[1].removeprefix("# ") == done.stdout.splitlines()[0]


def test_a_wheel_is_built_from_a_complete_copy(programs: Path, tmp_path: Path) -> None:
    """With every file that pyproject.toml names: the manual page, the completion files, and the glossary."""
    (tmp_path / "root").mkdir()
    for name in ("labctl", "scenarios", "docs", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / "root" / name).symlink_to(ROOT / name)
    build = "mkdir -p scripts; printf '#!/bin/sh\\nexit 4\\n' >scripts/build-view; chmod +x scripts/build-view"
    done = shell(programs, f"cd {tmp_path}/root; {build}; root=$PWD; copy_source {tmp_path}/copy")
    copy = tmp_path / "copy"

    assert done.returncode == 0, done.stderr
    for name in (
        "docs/man/labctl.1",
        "docs/completion/labctl",
        "docs/glossary.md",
        "scenarios/kubenet.yaml",
        "LICENSE",
    ):
        assert (copy / name).is_file()
    assert not list(copy.rglob("__pycache__"))
