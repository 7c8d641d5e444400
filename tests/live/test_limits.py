"""Labs with few open files, without a new thread or process, and with a ping that hangs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

import labctl
from labctl.checks import runner
from labctl.errors import LimitError
from labctl.kernel.firewall import commands
from labctl.kernel.host import child_process, lab_state, paths
from labctl.kernel.namespaces import entry, occupants
from labctl.kernel.namespaces.lab_namespaces import MAX_DESCRIPTORS
from labctl.kernel.probes import clients
from labctl.lab import cni_attach, lifecycle
from tests.support import plugins
from tests.support.paths import ROOT

LAB, OTHER = "limits", "limits-other"
LIMITS = (8, 30)  # files: too few for most verbs; too few for some
# the slowest verbs and those that need no open file are in the wide sweep: scripts/reliability resources
VERBS = ("list", "status", "show", "check", "trace", "capture", "exec", "up", "down")


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    """The sweep of scripts/reliability, with this file's names."""
    spec = util.spec_from_file_location("resources", ROOT / "scripts/reliability.d/resources.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["resources"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    module.LAB, module.OTHER = LAB, OTHER
    return module


@pytest.fixture(scope="module")
def lab() -> Iterator[labctl.RunningLab]:
    with labctl.up("kubenet", name=LAB) as running:
        yield running


def test_every_verb_does_its_work_or_names_the_limit(lab: labctl.RunningLab, sweep: ModuleType) -> None:
    tried = sweep.Sweep("open files", LIMITS, sweep.limit_files)
    tried.run(VERBS, dict.fromkeys(VERBS, 0))
    assert tried.problems == []
    assert tried.counts["refused"] >= 8
    assert tried.counts["done"] >= 4


def test_a_soft_limit_below_the_hard_one_is_no_limit(lab: labctl.RunningLab) -> None:
    for words in (("check", "-k", "see each other"), ("capture", "--seconds", "0.1"), ("status",), ("trace", "a", "c")):
        limited = ["prlimit", "--nofile=26:1024", sys.executable, "-m", "labctl", *words, "-l", LAB]
        done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
        assert (words, done.returncode) == (words, 0), done.stderr


def test_a_lab_that_is_too_large_for_the_limit_is_not_even_begun(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text(f"{{model: kubenet, name: {OTHER}, nodes: {{count: 10, pods: 90}}}}")
    limited = ["prlimit", "--nofile=1024:1024", sys.executable, "-m", "labctl", "up", str(file)]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    found = re.match(r"labctl: too few open files: .* may have 1024 of them, and needs at least (\d+)\n", done.stderr)
    assert found is not None, done.stderr
    assert int(found[1]) - 913 - MAX_DESCRIPTORS in range(24, 40)  # all are counted before the first namespace is made
    assert left_behind() == ()


# without a new thread or process


def refuse_after(monkeypatch: pytest.MonkeyPatch, count: int, kind: str) -> None:
    """From now on, only `count` threads, or processes, can be started."""
    left = iter(range(count))

    def refuse(start: Callable[..., object], error: Exception) -> Callable[..., object]:
        def begin(*words: object, **named: object) -> object:
            if next(left, None) is None:
                raise error
            return start(*words, **named)

        return begin

    if kind == "threads":
        no_thread = refuse(threading.Thread.start, RuntimeError("can't start new thread"))
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    else:
        no_process = refuse(child_process.subprocess.Popen, BlockingIOError(11, "Resource temporarily unavailable"))
        monkeypatch.setattr(child_process.subprocess, "Popen", no_process)


def left_behind() -> tuple[object, ...]:
    found = lab_state.directory(OTHER), paths.state_dir() / f"{OTHER}.lock"
    return (*paths.labs().get(OTHER, ()), *(path for path in found if path.exists()))


@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.parametrize("firewall", ["legacy", "nft"])
def test_a_build_that_gets_no_more_threads_or_processes_rolls_back(
    kind: str, firewall: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = labctl.load("kubenet", name=OTHER, firewall=firewall)
    messages: list[str] = []
    for count in range(12):
        with monkeypatch.context() as patch:
            refuse_after(patch, count, kind)
            try:
                labctl.up(scenario)
            except LimitError as error:
                messages.append(error.message)
            else:
                break
        assert left_behind() == ()
    with monkeypatch.context() as patch:
        refuse_after(patch, 0, kind)
        assert len(labctl.down(OTHER)) == 8
    assert left_behind() == ()
    assert messages
    assert {message.split(" ", 2)[:2] == ["cannot", "start"] for message in messages} == {True}


def test_a_lab_with_plugins_goes_down_without_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.skip_without("cni")
    labctl.up("cni", name=OTHER)
    warnings: list[str] = []
    with monkeypatch.context() as patch:
        refuse_after(patch, 0, "processes")
        labctl.down(OTHER, warn=warnings.append)
    assert left_behind() == ()
    assert any("cannot start " in text for text in warnings)


def test_a_lab_goes_down_if_its_plugins_cannot_even_be_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lab: str) -> tuple[str, ...]:
        raise LimitError("cannot start a thread")

    labctl.up("kubenet", name=OTHER)
    warnings: list[str] = []
    monkeypatch.setattr(cni_attach, "detach", refuse)
    assert len(labctl.down(OTHER, warn=warnings.append)) == 8
    assert (warnings, left_behind()) == (["cannot start a thread"], ())


def test_a_rollback_that_fails_says_so_beside_the_first_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "_remove", lambda *words: 1 // 0)
        refuse_after(patch, 1, "threads")
        with pytest.raises(LimitError, match=r"cannot start a .*\n.*pids.*the rollback failed.*down limits-o"):
            labctl.up("kubenet", name=OTHER)
    labctl.down(OTHER)
    assert left_behind() == ()


def test_a_lab_is_read_without_a_thread(lab: labctl.RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    home = os.readlink("/proc/self/ns/net")
    lab["a"].run("ip route add 192.0.2.0/24 via 10.244.0.1")
    with monkeypatch.context() as patch:
        refuse_after(patch, 0, "threads")
        assert os.readlink("/proc/thread-self/ns/net") == home
        assert [str(change.have.dst) for change in lab.status()] == ["192.0.2.0/24"]
        assert os.readlink("/proc/thread-self/ns/net") == home
    lab["a"].run("ip route del 192.0.2.0/24")
    with labctl.up("docker-proxy", name=OTHER) as with_processes, monkeypatch.context() as patch:
        refuse_after(patch, 0, "threads")
        assert with_processes.status() == ()


def test_the_own_namespace_is_known_while_the_main_thread_visits_another(lab: labctl.RunningLab) -> None:
    own = os.stat(entry.OWN)
    fd = entry.open_netns(paths.netns_path(LAB, "a"))
    visited = os.fstat(fd)
    try:
        with entry.returning():
            entry.enter_netns(fd)
            assert os.stat(entry.OWN).st_ino == visited.st_ino
            assert (own.st_dev, own.st_ino) in entry.host_namespaces()
            assert (visited.st_dev, visited.st_ino) not in entry.host_namespaces()
    finally:
        os.close(fd)
    assert os.stat(entry.OWN).st_ino == own.st_ino


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_trace_that_gets_no_more_threads_or_processes_leaves_nothing(
    kind: str, lab: labctl.RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loggers() -> str:
        return lab["node1"].run("cat /proc/sys/net/netfilter/nf_log/2").stdout

    before = loggers()
    for count in range(6):
        with monkeypatch.context() as patch:
            refuse_after(patch, count, kind)
            try:
                assert lab.trace("a", "c").answered
            except LimitError:
                pass
        assert (loggers(), (paths.state_dir() / ".trace").exists()) == (before, False)


def test_a_check_without_processes_is_refused(lab: labctl.RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    clients.ping_program()  # is known
    refuse_after(monkeypatch, 0, "processes")
    with pytest.raises(LimitError, match="cannot start ping: too many processes"):
        lab.check("see each other")


# programs that leave processes behind


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A function that puts a script in the place of a program."""

    def put(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for cached in (clients.ping_program, commands.find):
        cached.cache_clear()
    yield put
    for cached in (clients.ping_program, commands.find):
        cached.cache_clear()


def processes_in(lab: labctl.RunningLab) -> tuple[int, ...]:
    return occupants.find(paths.netns_path(LAB, node) for node in paths.labs()[LAB])


@pytest.mark.parametrize("own", ["sleep 60; exit 1", "exit 1", "setsid sleep 61 >/dev/null & wait"])
def test_a_ping_with_a_process_that_hangs_keeps_no_check(
    own: str, lab: labctl.RunningLab, tools: Callable[[str, str], None]
) -> None:
    tools("ping", f'[ "$1" = -V ] && {{ sleep 60 & echo ping from iputils; exit; }}\nsleep 60 & {own}')
    check = replace(runner.select(lab.compiled.checks, "pods of one node reach")[0], within=1)
    began = time.monotonic()
    report = runner.run(replace(lab.compiled, checks=(check,)))
    assert report.outcomes[0].verdict != "pass"
    assert time.monotonic() - began < 30
    left = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_in(lab)]
    assert {text for text in left if b"60" in text} == set()
    occupants.terminate(processes_in(lab))


def test_programs_that_leave_processes_behind_keep_no_build(tools: Callable[[str, str], None]) -> None:
    real = commands.find("iptables-nft-restore")
    commands.find.cache_clear()
    tools("iptables-nft-restore", f'sleep 20 & exec {real} "$@"')
    began = time.monotonic()
    labctl.up("kubenet", name=OTHER, firewall="nft").down()
    assert time.monotonic() - began < 18
    assert left_behind() == ()
