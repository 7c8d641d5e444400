"""Two users of one machine build the same scenario; neither changes the other's lab by mistake."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from labctl.cli import main
from labctl.kernel.host import paths, user
from labctl.lab import lifecycle
from tests.support import forked

RunAs = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_as(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[RunAs]:
    """A function that runs labctl as a user who types sudo."""
    for name in (user.VARIABLE, paths.LAB_VARIABLE):
        monkeypatch.delenv(name, raising=False)

    def run(name: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("SUDO_USER", name)
        capsys.readouterr()
        code = main(words)
        return code, *capsys.readouterr()

    yield run
    for lab in paths.labs():
        lifecycle.down(lab, force=True)
    assert paths.labs() == {}


def test_two_users_build_one_scenario(run_as: RunAs) -> None:
    assert run_as("ana", "up", "docker-bridge", "--check")[0] == 0
    code, out, error = run_as("ben", "up", "docker-bridge")
    assert (code, error) == (0, "lab docker-bridge belongs to ana: this one is docker-bridge-ben\n")
    assert out.startswith("docker-bridge-ben is up: ")
    assert run_as("ben", "check")[1].splitlines()[-1].startswith("docker-bridge-ben: ")
    assert run_as("ben", "trace", "c1", "c2")[0] == 0
    assert run_as("ana", "check")[1].splitlines()[-1].startswith("docker-bridge: ")

    assert run_as("ben", "break", "forwarding-off")[0] == 0
    assert run_as("ana", "status")[0] == 0, "that was ben's lab"
    code, _, error = run_as("ana", "-l", "docker-bridge-ben", "fix")
    assert (code, error.splitlines()[0]) == (2, "labctl: lab docker-bridge-ben belongs to ben")
    assert run_as("ana", "-l", "docker-bridge-ben", "break", "forwarding-off")[0] == 2
    assert run_as("ben", "up", "docker-bridge")[1].startswith("docker-bridge-ben is repaired: ")
    assert run_as("ben", "up", "docker-bridge", "--name", "docker-bridge", "--replace")[0] == 2
    assert paths.owner_of("docker-bridge") == "ana"

    assert run_as("ben", "up", "docker-bridge", "--name", "docker-bridge", "--replace", "--force")[0] == 0
    assert paths.owner_of("docker-bridge") == "ben", "it was built again for ben"
    assert run_as("root", "up", "docker-bridge", "--name", "docker-bridge", "--replace")[0] == 0
    assert paths.owner_of("docker-bridge") == "ben", "root builds it again for its owner"

    assert run_as("ana", "down", "--all")[:2] == (0, "no lab of ana runs: nothing to remove\n")
    assert run_as("ben", "down", "--all")[0] == 0
    assert json.loads(run_as("ana", "list", "--json")[1]) == {"labs": []}


def test_a_lab_without_a_known_owner_is_everybodys(run_as: RunAs) -> None:
    assert run_as("ana", "up", "docker-bridge")[0] == 0
    (paths.state_dir() / "docker-bridge" / paths.OWNER_FILE).unlink()
    assert run_as("ben", "break", "forwarding-off")[0] == 0
    assert run_as("ben", "up", "docker-bridge")[1].startswith("docker-bridge is repaired: ")
    assert run_as("ben", "down")[1].startswith("docker-bridge is down: ")


def test_an_exercise_of_another_user_is_refused(run_as: RunAs) -> None:
    assert run_as("ana", "exercise", "start", "first-cable")[0] == 0
    lab = next(iter(paths.labs()))
    for verb in ("check", "hint", "reset", "solve"):
        code, _, error = run_as("ben", "exercise", verb, "-l", lab)
        assert (code, error.splitlines()[0]) == (2, f"labctl: lab {lab} belongs to ana")
    assert run_as("ben", "exercise", "start", "first-cable")[0] == 0
    assert run_as("ben", "exercise", "reset")[0] == 0
    assert run_as("root", "exercise", "reset", "-l", lab)[0] == 0
    assert paths.owner_of(lab) == "ana"
    assert run_as("ana", "exercise", "reset")[0] == 0


def test_many_users_build_one_scenario_at_the_same_time() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in (user.VARIABLE, paths.LAB_VARIABLE)}

    def run(learner: str, *words: str) -> int:
        command = [forked.labctl_program(), *words]
        done = subprocess.run(command, env={**environment, "SUDO_USER": learner}, capture_output=True, timeout=100)
        assert b"Traceback" not in done.stderr
        return done.returncode

    learners = [f"learner{number}" for number in range(6)]
    for up, names in (
        (("up", "docker-bridge"), "docker-bridge"),
        (("exercise", "start", "first-cable"), "first-cable"),
    ):
        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(lambda learner, up=up: run(learner, *up), learners)) == {0}
            assert {paths.owner_of(lab) for lab in paths.labs()} == {*learners}
            assert len(paths.labs()) == 6
            assert names in paths.labs()
            assert set(pool.map(lambda learner: run(learner, "down"), learners)) == {0}
        assert paths.labs() == {}
