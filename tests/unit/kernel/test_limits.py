"""Limits of open files, processes and memory: which errors say that one is reached, and what the user reads."""

from __future__ import annotations

import errno
import gc
import os
import resource
import subprocess
import sys
import threading
import weakref
from functools import partial
from pathlib import Path

import pytest

from labctl import cli
from labctl.checks import runner
from labctl.cli.failure import report_error
from labctl.cli.session import Session
from labctl.core.diff import Change
from labctl.core.resources import Netns
from labctl.errors import KernelError, LimitError
from labctl.kernel import lab_kernel
from labctl.kernel.host import limits, thread_pool
from labctl.kernel.namespaces.lab_namespaces import FILES_PER_NAMESPACE
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.observe import comparison
from labctl.report.plain_text import with_sudo
from labctl.scenario.definition import define

NO_THREAD = RuntimeError("can't start new thread")
REACHED = {
    "files": (OSError(errno.EMFILE, "Too many open files"), "too few open files: this process may have 64 of them"),
    "machine": (OSError(errno.ENFILE, "Too many open files in system"), "this machine has too many open files"),
    "thread": (NO_THREAD, "cannot start a thread: too many processes, or too little memory"),
    "memory": (MemoryError(), "this process cannot get more memory"),
    "mmap": (OSError(errno.ENOMEM, "Cannot allocate memory"), "this process cannot get more memory"),
    "library": (
        ImportError("libm.so.6: failed to map segment from shared object"),
        "this process cannot get more memory",
    ),
}
OTHERS = (
    OSError(errno.ENOENT, "No such file or directory"), RuntimeError("cannot schedule new futures after shutdown"),
    ImportError("cannot import name 'x'"), KernelError("too many open files"), ValueError("Cannot allocate memory"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def limit_64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))


@pytest.mark.parametrize("name", REACHED)
def test_a_limit_is_one_sentence_with_a_hint(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, sentence = REACHED[name]
    found = limits.limit_error(error)
    assert found is not None
    assert found.message.startswith(sentence)
    assert found.hint
    assert report_error(error, Session([])) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("labctl: "), "Traceback" in err) == ("", 1, False)
    assert err.startswith(f"labctl: {sentence}")


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_other_errors_are_no_limits(error: Exception) -> None:
    assert limits.limit_error(error) is None
    assert limits.start_error("ping", error) is None


def test_only_the_start_of_a_process_says_again_later() -> None:
    assert limits.limit_error(BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")) is None
    with (
        pytest.raises(LimitError, match=r"^cannot start ping: too many processes\n.*pids.max"),
        limits.starting("ping"),
    ):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    with pytest.raises(LimitError, match=r"^cannot start ping: this process cannot get more"), limits.starting("ping"):
        raise MemoryError
    with pytest.raises(FileNotFoundError), limits.starting("ping"):
        raise FileNotFoundError


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("sh: 1: Cannot fork", "cannot start it: too many processes"),
        ("unshare: fork failed: Resource temporarily unavailable", "cannot start it: too many processes"),
        ("unshare failed: Cannot allocate memory", "cannot start it: this process cannot get more memory"),
        ("Too many open files", "cannot start it: too few open files"),
        ("tcp port 80: Address already in use", ""),
        ("unshare: unshare failed: Operation not permitted", ""),
    ],
)
def test_a_child_that_cannot_start_a_process_says_so_in_its_words(output: str, sentence: str) -> None:
    found = limits.start_error_in("it", output)
    assert (found.message if found is not None else "").startswith(sentence)
    assert (found is None) == (not sentence)


def test_the_hint_raises_the_limit_for_one_command() -> None:
    found = limits.limit_error(OSError(errno.EMFILE, ""))
    assert found is not None
    assert with_sudo(found.hint, "sudo ").startswith("sudo prlimit --nofile=16384:16384 labctl ...")


def file_table_size() -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition("FDSize:")[2].split()[0])


def test_the_file_table_is_widened_at_once_and_no_file_stays_open() -> None:
    before, opened = file_table_size(), set(os.listdir("/proc/self/fd"))

    limits.widen_file_table(before + 1)

    assert file_table_size() > before
    assert len(os.listdir("/proc/self/fd")) == len(opened)


def test_the_table_is_wide_enough_for_a_lab_before_its_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []  # before each start
    monkeypatch.setattr(lab_kernel, "widen_file_table", wanted.append)
    kernel = lab_kernel.KernelLab("wide")

    def start(self: NetnsThread) -> None:
        assert wanted.pop() == 3 * FILES_PER_NAMESPACE + limits.SPARE_FILES
        raise KernelError("no thread in this test")

    monkeypatch.setattr(NetnsThread, "start", start)
    with pytest.raises(KernelError, match="no thread"):
        kernel.apply([Change(Netns(f"n{number}"), None) for number in range(3)])
    with pytest.raises(KernelError, match="no thread"):
        kernel.observe(nodes=["n0", "n1", "n2"])


def test_a_file_table_beyond_the_limit_stays_as_it_is() -> None:
    before = file_table_size()
    limits.widen_file_table(resource.getrlimit(resource.RLIMIT_NOFILE)[1] + 1)
    assert file_table_size() == before


@pytest.mark.parametrize(("lowest_free", "spare", "refused"), [(40, 24, False), (41, 24, True), (63, 1, False)])
def test_spare_files_count_from_the_lowest_that_is_free(lowest_free: int, spare: int, refused: bool) -> None:
    if refused:
        with pytest.raises(LimitError, match=f"may have 64 of them, and needs at least {lowest_free + spare}\n"):
            limits.require_spare_files(lowest_free, spare)
    else:
        limits.require_spare_files(lowest_free, spare)


def test_a_report_for_which_no_file_can_be_opened_is_still_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*words: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files", "plain_text.py")

    monkeypatch.setattr("labctl.cli.failure._typed_hint", refuse)
    assert report_error(MemoryError(), Session([])) == 3
    assert capfd.readouterr().err.startswith("labctl: too few open files")
    monkeypatch.setattr("labctl.cli.failure.limit_error", lambda _: None)
    with pytest.raises(OSError, match="plain_text"):
        report_error(MemoryError(), Session([]))


# without threads


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise NO_THREAD

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_pool_without_threads_works_in_its_caller(no_threads: None) -> None:
    here = []
    with thread_pool.ThreadPool("test") as pool:
        call = pool.submit(lambda: here.append(threading.current_thread()) or 7)
        failed = pool.submit(lambda: 1 // 0)
    assert (call.result(), here) == (7, [threading.main_thread()])
    assert isinstance(failed.wait(), ZeroDivisionError)


def test_a_pool_with_one_thread_does_each_work_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def only_one(self: threading.Thread) -> None:
        if started:
            raise NO_THREAD
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", only_one)
    done: list[int] = []
    with thread_pool.ThreadPool("test") as pool:
        for number in range(200):
            pool.submit(partial(done.append, number))
    assert sorted(done) == list(range(200))
    assert started


def test_a_pool_has_a_limit_of_threads_and_leaves_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 2)
    gate, names, done = threading.Event(), set(), []

    def work(number: int) -> int:
        names.add(threading.get_ident())
        gate.wait(10)
        done.append(number)
        return number

    with thread_pool.ThreadPool("test") as pool:
        calls = [pool.submit(partial(work, number)) for number in range(20)]
        assert not any(call.is_done for call in calls)
        gate.set()
    assert all(call.is_done for call in calls)
    assert ([call.result() for call in calls], sorted(done), len(names)) == ([*range(20)], [*range(20)], 2)


def test_an_error_of_a_call_is_raised_in_each_that_waits_and_leaves_no_cycle() -> None:
    def refuse() -> None:
        raise KernelError("no such device")

    gc.collect()
    with NetnsThread() as thread, thread_pool.ThreadPool("test") as pool:
        call = pool.submit(refuse)
        for _ in range(2):
            with pytest.raises(KernelError, match="no such device"):
                call.result()
        with pytest.raises(KernelError, match="no such device"):
            thread.run(None, refuse)
    weak = weakref.ref(call)
    gc.disable()
    try:
        del call
        assert weak() is None
    finally:
        gc.enable()


def test_all_calls_are_made_although_one_fails(no_threads: None) -> None:
    done: list[int] = []
    thread_pool.call_all("test", [lambda: done.append(1), lambda: 1 // 0, lambda: done.append(2)])
    assert done == [1, 2]


def test_a_netns_thread_that_does_nothing_starts_none(no_threads: None) -> None:
    with NetnsThread():
        pass
    with NetnsThread() as thread, pytest.raises(LimitError, match=r"^cannot start a thread: too many processes"):
        thread.run(None, os.getpid)


# with few files


def test_processes_are_ended_in_groups_if_few_files_can_be_opened() -> None:
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(12)]
    work = (
        "import resource, sys; from labctl.kernel.namespaces import occupants\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))\n"
        "occupants.terminate(map(int, sys.argv[1:]), 0.05)"
    )
    try:
        subprocess.run([sys.executable, "-c", work, *(str(child.pid) for child in children)], check=True)
        assert {child.wait(5) for child in children} == {-15}
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    work = (
        "import resource; from labctl.kernel.namespaces.thread import NetnsThread\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))\n"
        "with NetnsThread() as thread: thread.run(None, int)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert done.stdout == "(4096, 4096)\n"


def test_too_little_memory_to_import_the_report_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(arguments: list[str]) -> int:
        raise MemoryError

    monkeypatch.setattr(cli, "_run", refuse)
    assert cli.main(["list"]) == 3
    assert capfd.readouterr().err.startswith("labctl: this process cannot get more memory\n    hint: ")


def test_the_table_is_wide_enough_before_two_processes_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []
    monkeypatch.setattr(comparison, "widen_file_table", wanted.append)

    def start(share: object) -> None:
        assert wanted == [3 * FILES_PER_NAMESPACE + limits.SPARE_FILES]
        raise KernelError("no process in this test")

    monkeypatch.setattr(comparison, "second_process", start)
    with pytest.raises(KernelError, match="no process"):
        comparison.compare("wide", (), ("n0", "n1", "n2"), "legacy")


def test_the_table_is_wide_enough_before_checks_start_their_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = define("kubenet").compiled
    wanted: list[int] = []
    monkeypatch.setattr(runner, "widen_file_table", wanted.append)

    def start() -> None:
        assert wanted == [runner.FILES_PER_MACHINE * len(lab.machines)]
        raise KernelError("no thread in this test")

    monkeypatch.setattr(runner, "NetnsThread", start)
    with pytest.raises(KernelError, match="no thread"):
        runner.run(lab)
