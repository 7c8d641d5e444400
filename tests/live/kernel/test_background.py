"""`lab["c"].start(...)`: programs in the background, what they listen on, and how they end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.kernel.host import paths

SERVER = """
import socket, sys, time
kind = socket.SOCK_DGRAM if sys.argv[2] == "udp" else socket.SOCK_STREAM
time.sleep(float(sys.argv[3]))
server = socket.socket(type=kind)
server.bind((sys.argv[4], int(sys.argv[1])))
if kind == socket.SOCK_STREAM:
    server.listen()
print("listening", flush=True)
time.sleep(98.7)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[labctl.RunningLab]:
    with labctl.up("docker-bridge", name="background") as made:
        yield made
    assert paths.labs() == {}


def server(port: int, protocol: str = "tcp", delay: float = 0.2, address: str = "0.0.0.0") -> list[str]:
    return [sys.executable, "-c", SERVER, str(port), protocol, str(delay), address]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_a_server_is_there_when_start_returns_and_gone_after_the_block(lab: labctl.RunningLab) -> None:
    with lab["c2"].start(server(80), wait_port=80) as web:
        assert runs(web.pid)
        assert b"listening" in Path(f"/proc/{web.pid}/cmdline").read_bytes(), "it is the program itself"
        assert os.readlink(f"/proc/{web.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        assert lab.trace("c1", "c2", tcp=80).answered
        assert web.returncode is None
        assert f"{web.pid} " in repr(web)
        assert len(repr(web)) <= 200
        assert "\n" not in repr(web)
    assert not runs(web.pid)
    assert web.returncode == 128 + signal.SIGTERM
    assert web.output == "listening\n"
    assert lab.trace("c1", "c2", tcp=80).verdict == "refused"
    web.stop()  # once more


@pytest.mark.parametrize("port", ["53/udp", "80/tcp", "80"])
def test_ports_of_tcp_and_udp(lab: labctl.RunningLab, port: str) -> None:
    number, _, protocol = port.partition("/")
    with lab["c2"].start(server(int(number), protocol or "tcp"), wait_port=port, timeout=20) as found:
        assert found.output == "listening\n"
    with pytest.raises(TimeoutError, match=r"does not listen on udp port 80 after 0\.4 s; it listens on tcp port 80"):
        lab["c2"].start(server(80, delay=0), wait_port="80/udp", timeout=0.4)


def test_a_program_that_ends_first_is_told_with_its_exit_code_and_its_last_lines(lab: labctl.RunningLab) -> None:
    lines = "; ".join(f"echo line {number}" for number in range(30))
    with pytest.raises(labctl.UsageError) as caught:
        lab["c2"].start(f"{lines}; echo 'cannot bind' >&2; exit 3", wait_port=80)
    assert "c2: it ended with exit code 3 before it listened on tcp port 80\n    line 11\n" in caught.value.message
    assert caught.value.message.endswith("\n    line 29\n    cannot bind")
    with pytest.raises(labctl.UsageError, match=r"it was killed by SIGKILL before it .* \(it printed nothing\)"):
        lab["c2"].start("kill -9 $$", wait_port=80)
    with pytest.raises(labctl.UsageError, match="exit code 0 before it listened on udp port 53"):
        lab["c2"].start(["true"], wait_port="53/udp")


def test_a_port_that_another_program_has_is_not_the_programs_own(lab: labctl.RunningLab) -> None:
    with lab["c2"].start(server(80), wait_port=80):
        with pytest.raises(labctl.UsageError, match=r"exit code 1 before it listened(.|\n)*Address already in use"):
            lab["c2"].start(server(80), wait_port=80)
        with pytest.raises(TimeoutError, match="another program listens there") as caught:
            lab["c2"].start(["sleep", "98.7"], wait_port=80, timeout=0.3)
        assert "printed nothing" in str(caught.value)
        assert "sleep 98.7" not in lab["host1"].run("ps ax -o args").stdout.splitlines()
    with lab["c1"].start(server(80), wait_port=80), pytest.raises(TimeoutError):
        lab["c2"].start(["sleep", "98.7"], wait_port=80, timeout=0.3)  # that one listens in another machine


def test_a_program_that_is_not_there(lab: labctl.RunningLab) -> None:
    for port in (None, 80):
        with pytest.raises(labctl.UsageError, match="cannot start no-such-program in c2: command not found"):
            lab["c2"].start(["no-such-program"], wait_port=port)
    with pytest.raises(labctl.UsageError, match="cannot start /etc/passwd in c2: Permission denied"):
        lab["c2"].start(["/etc/passwd"])
    with pytest.raises(labctl.UsageError, match="no command is given"):
        lab["c2"].start([])
    assert lab["c1"].run(["no-such-program"]).returncode == 127


def test_output_never_blocks_a_program(lab: labctl.RunningLab) -> None:
    with lab["c2"].start("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last >&2; sleep 98.7") as noisy:
        deadline = time.monotonic() + 20
        while not noisy.output.endswith("last\n"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(noisy.output) > 3_000_000


def test_all_that_it_started_ends_with_it_and_nothing_else(lab: labctl.RunningLab) -> None:
    script = "sleep 98.7 & echo $!; setsid sleep 98.6 & (trap '' TERM; setsid sh -c 'echo $$; sleep 98.5') & wait"
    with lab["c2"].start("sleep 98.8") as other, lab["c1"].start(script) as first:
        deadline = time.monotonic() + 5
        while len(children := first._processes()) < 5 or len(first.output.split()) < 2:
            assert time.monotonic() < deadline, children
            time.sleep(0.02)
        first.stop()
        assert not [pid for pid in children if runs(pid)]
        assert runs(other.pid)


def test_a_daemon_still_runs_when_its_first_process_has_ended(lab: labctl.RunningLab) -> None:
    words = " ".join(f"'{word}'" for word in server(80))
    with lab["c2"].start(f"setsid {words} >/dev/null 2>&1 &", wait_port=80) as daemon:
        assert daemon.returncode == 0
        assert lab.trace("c1", "c2", tcp=80).answered
    assert lab.trace("c1", "c2", tcp=80).verdict == "refused"


def test_what_still_runs_ends_with_the_lab() -> None:
    with labctl.up("docker-bridge", name="ending") as made:
        web = made["c2"].start(server(80), wait_port=80)
        assert made.status() == (), "what a user starts is no drift"
    assert not runs(web.pid)
    assert not Path(f"/proc/{web.pid}").exists(), "it has been waited for"
    assert web.returncode == 128 + signal.SIGTERM
    assert web.output == "listening\n"
    with pytest.raises(labctl.UsageError, match="the lab is down"):
        made["c2"].start(["true"])
