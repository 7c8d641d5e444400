"""`labctl up` on a live machine: a signal in the middle of a build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import Run, error, in_process, pretend_empty_machine

pytestmark = pytest.mark.firewall


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return pretend_empty_machine(monkeypatch, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


BUILD_SLOWLY = """
import sys, time
from labctl.cli import main
from labctl.kernel.lab_kernel import KernelLab
apply = KernelLab.apply
def slow(self, changes):
    apply(self, changes)
    print("here", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)
KernelLab.apply = slow
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("keep", [False, True])
def test_sigterm_in_the_midst_of_up_rolls_back_and_says_so(run: Run, empty_machine: Path, keep: bool) -> None:
    words = [sys.executable, "-c", BUILD_SLOWLY, "up", "docker-bridge", "--json", *(["--keep"] if keep else [])]
    child = subprocess.Popen(words, stdout=-1, stderr=-1, text=True)
    assert child.stderr is not None
    assert child.stderr.readline() == "here\n"
    child.terminate()
    out, err = child.communicate(timeout=20)
    left = list((empty_machine / "netns").iterdir())

    assert (child.returncode, err, bool(left)) == (143, "", keep)
    assert ("left incomplete" if keep else "rolled back, nothing is left") in error(out)["message"]
    assert run("down", "docker-bridge")[0] == 0
    assert list((empty_machine / "netns").iterdir()) == list((empty_machine / "state").iterdir()) == []
