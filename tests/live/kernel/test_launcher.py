"""The launcher of processes: what it starts looks like a program that was started by exec."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.core.diff import diff
from labctl.core.resources import Netns, Process
from labctl.errors import KernelError, LimitError
from labctl.kernel import processes
from labctl.kernel.host.command_line import set_command_line
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.programs import READY, argv, launcher

pytestmark = pytest.mark.kernel

ENVIRONMENT = {"PATH": "/usr/bin", "LABCTL_NODE": "b", "TAG": "a=b c"}
WORDS = ("serve", "web", "tcp:80")


def starter_of(fresh: Callable[..., Any], ask: Callable[[list[str], int, list[int]], None]) -> int:
    """The process that listens at port 80 of a new namespace, after `ask` has started it."""
    output, theirs = os.pipe()
    netns = fresh(os.open, "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ask(argv(WORDS), netns, [netns, theirs])
        os.close(theirs)
        assert os.read(output, 100) == READY
    finally:
        os.close(netns)
        os.close(output)
    found = fresh(subprocess.run, ["ss", "-Htlnp4", "sport = 80"], capture_output=True, text=True, check=True).stdout
    return int(found.partition("pid=")[2].partition(",")[0])


@pytest.fixture
def launched(fresh: Callable[..., Any]) -> Iterator[int]:
    """A server that a launcher has started."""
    with processes_launcher() as sock:
        number = starter_of(
            fresh, lambda command, _, fds: launcher.send_request(sock, command, len(WORDS), ENVIRONMENT, fds)
        )
        yield number
        os.kill(number, signal.SIGKILL)


class processes_launcher:
    """A launcher for a time; entering it gives its socket."""

    def __enter__(self) -> socket.socket:
        self._launcher = processes._Launcher()
        return self._launcher.socket

    def __exit__(self, *exc: object) -> None:
        self._launcher.close()
        assert self._launcher._child.returncode == 0


def test_a_launched_program_looks_like_one_that_was_started_by_exec(launched: int) -> None:
    of_process = Path(f"/proc/{launched}")
    assert (of_process / "cmdline").read_bytes().split(b"\0")[:-1] == [word.encode() for word in argv(WORDS)]
    variables = (of_process / "environ").read_bytes().split(b"\0")[:-1]
    assert variables == [f"{name}={value}".encode() for name, value in ENVIRONMENT.items()]
    assert (of_process / "comm").read_text() == "web\n"
    assert os.readlink(of_process / "cwd") == "/"
    open_files = {os.readlink(file) for file in (of_process / "fd").iterdir()}
    assert {one.partition(":")[0] for one in open_files} == {"/dev/null", "socket", "anon_inode"}
    assert os.getsid(launched) not in (os.getsid(0), launched)  # of the process that has detached it
    shown = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(launched)], capture_output=True, text=True, check=True
    ).stdout
    assert shown.rstrip("\n") == " ".join(argv(WORDS))


def test_where_the_kernel_cannot_change_the_command_line_the_fork_runs_the_program(
    fresh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "no CONFIG_CHECKPOINT_RESTORE")

    monkeypatch.setattr(launcher, "set_command_line", refuse)
    mine, theirs = socket.socketpair()

    def ask(command: list[str], netns: int, fds: list[int]) -> None:
        child = os.fork()
        if child == 0:
            launcher._become(theirs, launcher._Request(command, len(WORDS), ENVIRONMENT, fds))
        os.waitpid(child, 0)

    number = starter_of(fresh, ask)
    mine.close()
    theirs.close()
    try:
        assert Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")[:-1] == [word.encode() for word in argv(WORDS)]
        assert b"TAG=a=b c" in Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    finally:
        os.kill(number, signal.SIGKILL)


def test_a_command_line_may_be_longer_than_the_one_at_the_start() -> None:
    child = os.fork()
    if child == 0:
        set_command_line(["word"] * 30_000, {"NAME": "x" * 200_000})
        is_set = Path("/proc/self/cmdline").read_bytes() == b"word\0" * 30_000
        is_set &= Path("/proc/self/environ").read_bytes() == b"NAME=" + b"x" * 200_000 + b"\0"
        os._exit(0 if is_set else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_launcher_ends_with_its_socket_and_leaves_what_it_started(launched: int) -> None:
    with processes_launcher():
        pass
    os.kill(launched, 0)


def test_a_launcher_that_has_ended_is_an_error_of_the_process() -> None:
    with KernelLab("gone") as kernel:
        try:
            kernel.apply(diff((Netns("a"),), ()))
            path = processes.paths.netns_path("gone", "a")

            def start() -> None:
                with processes.Starter("gone") as starter:
                    starter.prepare()
                    assert starter._launcher is not None
                    starter._launcher._child.kill()
                    starter._launcher._child.wait()
                    starter.start([Process("a", "web", WORDS)])

            with pytest.raises(KernelError, match=r"cannot start web in a: (Broken pipe|it ended and printed nothing)"):
                kernel.thread.run(path, start)
        finally:
            kernel.destroy()


def test_a_limit_of_processes_is_named(fresh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    output, theirs = os.pipe()
    mine, other = socket.socketpair()

    def no_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    launcher._start(other, launcher._Request(argv(WORDS), len(WORDS), ENVIRONMENT, [theirs, theirs]))
    for one in (mine, other):
        one.close()
    os.close(theirs)
    starter = processes.Starter("x")
    starter._starting.append((Process("a", "web", WORDS), output))
    with pytest.raises(LimitError, match="cannot start web in a: too many processes"):
        starter._wait_until_ready()
