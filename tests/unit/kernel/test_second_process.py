"""A second process: its messages come whole, or it is known that they do not come; none is left."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from labctl.errors import LimitError
from labctl.kernel.host.second_process import Pipe, can_fork, second_process

LARGE = bytes(range(256)) * 20_000  # more than a socket holds


def children() -> str:
    return Path("/proc/thread-self/children").read_text()


def echo(pipe: Pipe) -> None:
    while data := pipe.receive():
        pipe.send(data[::-1])


def test_messages_of_any_length_come_whole() -> None:
    before = children()
    with second_process(echo) as pipe:
        assert children() != before
        for message in (b"x", LARGE, b"abc"):
            pipe.send(message)
            assert pipe.receive() == message[::-1]
    assert children() == before


def test_it_works_on_what_this_process_has_in_memory() -> None:
    words, own = ["a", "b"], os.getpid()
    with second_process(lambda pipe: pipe.send(f"{'-'.join(words)} {os.getppid()}".encode())) as pipe:
        words.append("c")
        assert pipe.receive() == f"a-b {own}".encode()


def fail(pipe: Pipe) -> None:
    raise ValueError


def end(pipe: Pipe) -> None:
    os._exit(0)


def be_killed(pipe: Pipe) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_interrupted(pipe: Pipe) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    pipe.send(b"it still runs")


def break_off(pipe: Pipe) -> None:
    pipe._socket.sendall(b"\x08\0\0\0\0\0\0\0half")


@pytest.mark.parametrize("work", [fail, end, be_killed, be_interrupted, break_off])
def test_a_second_process_that_ends_early_has_sent_nothing(work: object, capfd: pytest.CaptureFixture[str]) -> None:
    before = children()
    with second_process(work) as pipe, pytest.raises((EOFError, ConnectionResetError)):  # type: ignore[arg-type]
        pipe.receive()
    assert children() == before
    assert capfd.readouterr() == ("", "")


def test_an_error_in_this_process_ends_the_second_one() -> None:
    before = children()
    with pytest.raises(KeyboardInterrupt), second_process(lambda pipe: pipe.receive()):
        raise KeyboardInterrupt
    assert children() == before


def test_cycles_are_searched_again_afterwards() -> None:
    assert gc.isenabled()
    with second_process(lambda pipe: pipe.send(str(gc.isenabled()).encode())) as pipe:
        assert (pipe.receive(), gc.isenabled()) == (b"False", False)
    assert gc.isenabled()


def test_signals_are_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with second_process(lambda pipe: None):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_no_process_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(LimitError, match="a second process"), second_process(echo):
        pass
    assert gc.isenabled()


def test_a_process_with_two_threads_or_one_core_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert can_fork()
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert not can_fork()
    finally:
        end.set()
        thread.join()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1})
    assert not can_fork()
