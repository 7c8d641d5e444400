"""Children that end, hang, or leave processes behind that have their output open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from labctl.errors import LimitError
from labctl.kernel.host import child_process
from labctl.kernel.host.child_process import Child, ChildTimeoutError, run

LEAVES_A_PROCESS = "sleep 60 & echo $! >&2; echo out"
SOON_S = 5.0  # much less than the sleep, much more than the work


@pytest.fixture
def begun() -> Iterator[float]:
    """The time at the start of a test that must not wait for a process that sleeps."""
    started = time.monotonic()
    yield started
    assert time.monotonic() - started < SOON_S


def runs(pid: int) -> bool:
    """Whether a process runs; one that only was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Whether a killed process ends soon."""
    deadline = time.monotonic() + SOON_S / 2
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


def test_a_process_that_has_the_output_open_is_not_waited_for(begun: float) -> None:
    done = run(["sh", "-c", LEAVES_A_PROCESS], timeout_s=30)
    assert (done.returncode, done.stdout) == (0, "out\n")
    assert ends(int(done.stderr))


def test_what_a_plugin_starts_may_run_on(begun: float) -> None:
    left = int(run(["sh", "-c", LEAVES_A_PROCESS], timeout_s=30, keep_group=True).stderr)
    try:
        assert runs(left)
    finally:
        os.kill(left, signal.SIGKILL)


def test_a_child_that_takes_too_long_is_killed_with_its_group(begun: float) -> None:
    child = Child(["sh", "-c", f"{LEAVES_A_PROCESS}; sleep 60"])
    with child, pytest.raises(ChildTimeoutError):
        child.communicate("", 0.3)
    out, err = "", ""
    with Child(["sh", "-c", f"{LEAVES_A_PROCESS}; sleep 60"]) as second:
        assert not second.wait(0.3)
        second.kill()
        assert second.returncode == -signal.SIGKILL
        out, err = second.output()
    assert out == "out\n"
    assert ends(int(err))


def test_a_process_that_left_the_session_is_not_waited_for_either(begun: float) -> None:
    with Child(["sh", "-c", "setsid sh -c 'echo $$; exec sleep 60' & wait"]) as child:
        pid = int(child.first_output(SOON_S))
        try:
            child.kill()
            assert child.returncode == -signal.SIGKILL
        finally:
            os.kill(pid, signal.SIGKILL)


def test_a_process_that_writes_for_ever_does_not_keep_its_reader(begun: float) -> None:
    done = run(["sh", "-c", "yes & echo $! >&2; exec sleep 0.1"], timeout_s=30, keep_group=True)
    with suppress(ProcessLookupError):  # it ended with its reader
        os.kill(int(done.stderr), signal.SIGKILL)
    assert set(done.stdout.split()) == {"y"}


def test_input_and_output_may_be_larger_than_a_pipe() -> None:
    text = "0123456789abcde\n" * 100_000
    assert run(["cat"], text=text, timeout_s=30).stdout == text
    assert run(["sh", "-c", "cat >&2; exit 3"], text=text, timeout_s=30) == child_process.Finished(3, "", text)


def test_input_that_is_not_read_is_lost() -> None:
    assert run(["true"], text="x" * 1_000_000, timeout_s=30).returncode == 0
    assert run(["sh", "-c", "exec <&-; sleep 0.1; echo on"], text="x" * 1_000_000, timeout_s=30).stdout == "on\n"


def test_a_child_without_input_reads_its_end() -> None:
    assert run(["cat"], timeout_s=30).stdout == ""


def test_a_signal_is_a_negative_code() -> None:
    assert run(["sh", "-c", "kill -TERM $$"], timeout_s=30).returncode == -signal.SIGTERM


def test_the_first_output_comes_before_the_end(begun: float) -> None:
    with Child(["sh", "-c", "echo ready; exec sleep 60"]) as child:
        assert child.first_output(SOON_S) == "ready\n"
        assert not child.wait(0)
    with Child(["sh", "-c", "echo no >&2; exit 1"]) as child:
        assert child.first_output(SOON_S) == ""
        assert child.wait(SOON_S)
        assert child.output()[1] == "no\n"


def test_a_released_child_runs_on() -> None:
    with Child(["sleep", "60"]) as child:
        pid = child.release()
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_forgotten_child_is_ended() -> None:
    child = Child(["sleep", "60"])
    pid = child._process.pid
    del child
    assert not runs(pid)


def test_closing_twice_and_signals_after_the_end_do_no_harm() -> None:
    child = Child(["true"])
    assert child.wait(SOON_S)
    with pytest.raises(ProcessLookupError):
        child.send_signal(signal.SIGUSR1)
    child.close()
    child.close()
    assert child.returncode == 0


def test_a_child_leaves_no_descriptor_open() -> None:
    before = os.listdir("/proc/self/fd")
    run(["sh", "-c", "echo out; echo err >&2"], text="in", timeout_s=30)
    with pytest.raises(FileNotFoundError):
        Child(["/does/not/exist"])
    assert os.listdir("/proc/self/fd") == before


def test_no_process_left_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **named: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(LimitError, match=r"^cannot start ping: too many processes"):
        Child(["/bin/ping"])


def test_no_file_left_is_one_sentence() -> None:
    work = (
        "import resource; from labctl.kernel.host.child_process import Child\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))\n"
        "try: Child(['true'])\n"
        "except Exception as error: print(f'{type(error).__name__}: {error.message}')"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("LimitError: cannot start true: too few open files: this process may have 6 of them")
