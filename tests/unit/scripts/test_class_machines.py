"""The machines of a class: `vagrant/class/board`, with programs that answer as vagrant and ssh do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

VAGRANT = """#!/bin/sh
case "$1 $2" in
"status --machine-readable") for name in teacher learner01 learner02 learner03; do
  state=running; [ $name = learner02 ] && state=poweroff
  echo "1,$name,metadata,provider,libvirt"; echo "1,$name,state,$state"; done ;;
"ssh-config teacher") shift; for name in "$@"; do echo "Host $name"; done ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
"""
SSH = """#!/bin/bash
[[ $1 == -F ]] && grep -q teacher "$2" || exit 1
shift 2
while [[ $1 == -o ]]; do shift 2; done
name=$1; shift
echo "$name: $*" >>"$LOG"
case $name in
learner03) exit 255 ;;
learner*) echo "{\\"entries\\": []}" ;;
teacher) HOME=$TEACHER; export HOME; cd "$HOME"; PATH=$TEACHER/bin:$PATH exec bash -c "$*" ;;
esac
"""
LABCTL = '#!/bin/sh\necho "labctl $*"; ls "$4"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the folder of the class, with programs beside it."""
    shutil.copytree(ROOT / "vagrant/class", tmp_path / "class", ignore=shutil.ignore_patterns("gathered", ".vagrant"))
    for name, text in (("bin/vagrant", VAGRANT), ("bin/ssh", SSH), ("teacher/bin/labctl", LABCTL)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def board(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "LOG": str(folder / "log"),
        "TEACHER": str(folder / "teacher"),
    }  # fmt: skip
    environment.pop("INTERVAL", None)
    return subprocess.run(
        [folder / "class/board", *words], env=environment, capture_output=True, text=True, timeout=30, cwd="/"
    )


def test_the_answers_of_all_machines_that_run_come_to_the_teacher(folder: Path) -> None:
    done = board(folder, "--sort", "state")
    assert (done.returncode, done.stderr) == (0, "board: learner03 does not answer\n")
    assert done.stdout == f"labctl class board --from {folder}/teacher/gathered --sort state\nlearner01.json\n"
    assert [path.name for path in (folder / "class/gathered").iterdir()] == ["learner01.json"]
    assert "learner01: sudo labctl class board --json" in (folder / "log").read_text()


def test_a_page_is_written_to_a_file(folder: Path) -> None:
    done = board(folder, "--as", "html")
    assert (done.returncode, done.stdout) == (0, "")
    assert (folder / "class/board.html").read_text().startswith("labctl class board --from ")


def test_a_word_with_spaces_or_a_command_in_it_stays_one_word(folder: Path) -> None:
    done = board(folder, "--sort", "$(touch x); a b")
    assert "--sort $(touch x); a b\n" in done.stdout
    assert not list(folder.glob("**/x"))


def test_without_a_machine_the_way_out_is_named(folder: Path) -> None:
    (folder / "bin/vagrant").write_text("#!/bin/sh\nexit 0\n")
    done = board(folder)
    assert (done.returncode, done.stderr) == (1, "board: no machine of a learner runs: vagrant up\n")
