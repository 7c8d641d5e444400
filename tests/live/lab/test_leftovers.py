"""What killed verbs left is removed by the next verb, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support import forked
from tests.support.drift import drift

pytestmark = pytest.mark.firewall

NAME = "leftovers"
MINE = "10.0.1.4"  # the address of c3, for which a check of all pairs presets an entry in c1
PRELUDE = """
import os, signal, sys
from labctl.checks import runner
from labctl.kernel.host import lab_state
from labctl.lab import lifecycle
def kill(*words, **options):
    os.kill(os.getpid(), signal.SIGKILL)
"""
CHECK = """
from labctl.core.neighbour_tables import NeighbourTable
from labctl.kernel.probes.mesh import Mesh
NeighbourTable.room = 4  # so that the check presets entries
Mesh.ask = kill
runner.run(lifecycle.load_compiled_lab("leftovers"))
"""
COMPARISON = """
from labctl.compare import run
run.measure = kill
run.compare([run.ComparedScenario("docker-bridge", lifecycle.define("docker-bridge"))], print)
"""
TEST = """
from labctl.running_lab import RunningLab
from labctl.testing import assert_laws
RunningLab.status = kill
assert_laws("docker-bridge", name="compare-laws")
"""
FIXTURE = """
from pathlib import Path
from labctl.testing import Labs
class Config:
    getini = getoption = lambda *words: False
Labs(Config, Path("unused"))("docker-bridge", name="compare-fixture")
kill()
"""
UP = """
lab_state.os.replace = kill  # the first file of the lab is written, and has no name yet
lifecycle.up(lifecycle.define("docker-bridge"))
"""
DOWN = """
lifecycle.up(lifecycle.define("docker-bridge"))
lab_state.remove_files = kill  # the namespaces are gone, the files are not
lifecycle.down("docker-bridge")
"""


def run_killed(script: str) -> None:
    """Run a script that kills itself; what it leaves must be there for the tests."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def labctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([forked.labctl_program(), *words], capture_output=True, text=True, check=False)


def state() -> set[str]:
    """All names in the directory of state, also hidden ones."""
    return {str(path.relative_to(paths.state_dir())) for path in paths.state_dir().rglob("*")}


def permanent_entries(node: str) -> set[str]:
    words = ["ip", "-n", paths.netns_name(NAME, node), "neigh", "show", "nud", "permanent"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines())


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    """docker-overlay, in which a check of all pairs can preset neighbour entries."""
    lifecycle.up(lifecycle.define("docker-overlay", NAME))
    yield NAME
    lifecycle.down(NAME)


@pytest.mark.parametrize("verb", [("status", "-l", NAME), ("list",), ("exec", "-l", NAME, "c1", "--", "true")])
def test_the_neighbour_entries_of_a_killed_check_are_removed(lab: str, verb: tuple[str, ...]) -> None:
    before = permanent_entries("c1")
    run_killed(CHECK)
    assert permanent_entries("c1") > before
    assert drift(lab)

    done = labctl(*verb)

    assert done.returncode == 0, done.stdout
    assert f"a check of lab {lab} was killed; removed what it left: " in done.stderr
    assert " neighbour entries in c1, " in done.stderr
    assert permanent_entries("c1") == before
    assert drift(lab) == []
    assert not any(name.startswith(".work") for name in state())
    assert labctl("list").stderr == ""


@pytest.mark.parametrize("mac", ["right", "02:00:00:00:00:99"])
def test_an_entry_that_the_check_has_found_stays(lab: str, mac: str) -> None:
    show = ["ip", "-n", paths.netns_name(lab, "c3"), "-json", "link", "show", "eth0"]
    (device,) = json.loads(subprocess.run(show, capture_output=True, text=True, check=True).stdout)
    mac = device["address"] if mac == "right" else mac
    words = f"ip -n {paths.netns_name(lab, 'c1')} neigh replace {MINE} dev eth0 lladdr {mac} nud permanent"
    subprocess.run(words.split(), check=True)
    found = permanent_entries("c1")
    try:
        run_killed(CHECK)
        assert labctl("list").returncode == 0
        assert permanent_entries("c1") == found
        assert any(line.startswith(MINE) for line in found)
    finally:
        subprocess.run(words.replace("replace", "del").removesuffix(" nud permanent").split(), check=True)
    assert drift(lab) == []


def test_a_running_check_is_not_swept(lab: str) -> None:
    script = PRELUDE + CHECK.replace("Mesh.ask = kill", "Mesh.ask = lambda *words: os.kill(os.getpid(), 19)")  # SIGSTOP
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        try:
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            assert "was killed" not in labctl("list").stderr
            assert drift(lab)
        finally:
            process.kill()
    assert "was killed" in labctl("list").stderr
    assert drift(lab) == []


@pytest.mark.parametrize(("script", "work"), [(COMPARISON, "a comparison"), (TEST, "a test"), (FIXTURE, "a test")])
def test_the_lab_of_killed_work_is_removed(lab: str, script: str, work: str) -> None:
    run_killed(script)
    (name,) = (name for name in paths.labs() if name.startswith("compare-"))

    done = labctl("list", "--json")

    assert f"{work} was killed; removed what it left: lab {name}" in done.stderr
    assert set(paths.labs()) == {lab}
    assert not any(path.startswith((".work", "compare-")) for path in state())


@pytest.mark.parametrize(("script", "left"), [(UP, "docker-bridge"), (DOWN, "docker-bridge/definition.json")])
def test_the_files_of_a_lab_that_does_not_run_are_removed(lab: str, script: str, left: str) -> None:
    before = state()
    run_killed(script)
    assert {"docker-bridge.lock", left} <= state()
    assert "docker-bridge" not in paths.labs()

    done = labctl("list")

    assert done.returncode == 0
    assert state() == before


def test_a_draft_is_removed_and_the_files_of_a_running_lab_stay(lab: str) -> None:
    before = state()
    run_killed("lab_state.os.replace = kill\nlifecycle.up(lifecycle.define('docker-overlay', 'leftovers'))")
    assert any(name.startswith(f"{lab}/.definition.json.") for name in state())

    assert labctl("status", "-l", lab).returncode == 0
    assert state() == before


def test_a_directory_of_others_stays(lab: str) -> None:
    folder = paths.state_dir() / "other"
    folder.mkdir()
    (folder / "notes").touch()
    (paths.state_dir() / "other.lock").touch()
    try:
        assert labctl("list").returncode == 0
        assert (folder / "notes").exists()
        assert not (paths.state_dir() / "other.lock").exists()
    finally:
        (folder / "notes").unlink()
        folder.rmdir()
