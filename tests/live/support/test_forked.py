"""A forked labctl does what a started one does: exit codes, streams, environment, folder, descriptors, signals."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import labctl
from tests.support import forked
from tests.support.cni_node import node_with_pods
from tests.support.paths import ROOT

LAB = "forked"
TEXT = f"name: {LAB}\nmodel: raw\nnamespaces: {{a: {{role: host}}}}\n"
STARTED = (sys.executable, "-m", "labctl")
WAIT_S = 30.0
# what a command has of its parent: its environment, folder, umask, open files, signals and network
SHOW = """
env | sort; pwd; umask; ls /proc/self/fd; grep -E '^(Sig(Ign|Blk|Cgt)|Groups|NoNewPrivs)' /proc/self/status
readlink /proc/self/ns/net; tr '\\0' '\\n' </proc/$PPID/cmdline | grep -A 3 '^exec$'
read line; echo "read: $line"; echo wrong >&2; exit 7
"""


@pytest.fixture
def lab() -> Iterator[None]:
    labctl.up(TEXT)
    yield
    labctl.down(LAB)


def both(*words: str, **options: Any) -> list[tuple[int, str, str]]:
    """What a started and a forked labctl do."""
    done = [
        subprocess.run([*program, *words], capture_output=True, text=True, timeout=WAIT_S, check=False, **options)
        for program in (STARTED, (forked.labctl_program(),))
    ]
    return [(one.returncode, one.stdout, one.stderr) for one in done]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["no-such-verb"], 2),
        (["plan", "kubenet", "--manifest", "-"], 2),
        (["exec", "b", "--", "true"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_prints_and_exits_as_a_started_one(lab: None, words: list[str], code: int) -> None:
    started, this = both(*words, input=TEXT, env={**os.environ, "LABCTL_LANG": "ja"})
    assert started == this
    assert this[0] == code
    assert started[1] + started[2] != ""


def test_a_command_has_what_its_client_has(lab: None, tmp_path: Path) -> None:
    kept_names = ("PATH", "PYTHONPYCACHEPREFIX")  # the second: no bytecode in the source tree
    environment = {name: os.environ[name] for name in kept_names if name in os.environ}
    environment |= {"TWO": "1\n2", "PYTHONPATH": str(ROOT)}

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.umask(0o27)

    with (tmp_path / "kept").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)
        started, this = both(
            "exec", "a", "--", "sh", "-c", SHOW, input="given\n", env=environment, cwd=tmp_path, preexec_fn=ignore
        )
    assert this == started
    assert (this[0], this[2]) == (7, "wrong\n")
    for line in ("TWO=1", str(tmp_path), "0027", "read: given"):
        assert line in this[1].splitlines(), this[1]


def test_the_plugin_works_in_the_network_of_its_client(tmp_path: Path) -> None:
    with node_with_pods(tmp_path) as node:
        before = node.ip("node", "-br link")
        said = node.add("pod1")
        names = {one["name"] for one in said["interfaces"] if not one.get("sandbox")}
        assert names
        for name in names:
            assert name not in before
            assert name in node.ip("node", "-br link")


def test_two_commands_do_not_send_the_same_numbers() -> None:
    """The kernel would take their packets for one connection, to which it applies no rule again."""
    labctl.up("docker-bridge", name=LAB)
    try:
        told = [both("trace", "c1", "internet")[1] for _ in range(2)]
    finally:
        labctl.down(LAB)
    assert [text.count("MASQUERADE") for _, text, _ in told] == [told[0][1].count("MASQUERADE")] * 2
    assert "MASQUERADE" in told[0][1]


def start(program: tuple[str, ...], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*program, *words], stdin=-1, stdout=-1, stderr=-1, text=True)


@pytest.mark.parametrize("is_forked", [False, True], ids=["started", "forked"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_of_the_client_reaches_the_command(lab: None, number: signal.Signals, is_forked: bool) -> None:
    program = (forked.labctl_program(),) if is_forked else STARTED
    script = "trap 'echo got; exit 5' HUP TERM; echo ready; while :; do sleep 0.1; done"
    run = start(program, "exec", "a", "--", "sh", "-c", script)
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    run.send_signal(number)
    out, _ = run.communicate(timeout=WAIT_S)
    assert (run.returncode, out) == (5, "got\n")


def reading(program: tuple[str, ...]) -> subprocess.Popen[str]:
    """A verb that reads its input, and goes on reading."""
    run = start(program, "plan", "kubenet", "--manifest", "-")
    assert run.stdin is not None
    run.stdin.write("#")
    run.stdin.flush()
    end = time.monotonic() + WAIT_S
    while fcntl.ioctl(run.stdin, termios.FIONREAD, bytes(4)) != bytes(4):
        assert time.monotonic() < end
        time.sleep(0.02)
    return run


def test_an_interrupted_verb_says_so() -> None:
    for program in (STARTED, (forked.labctl_program(),)):
        run = reading(program)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=WAIT_S)
        assert (run.returncode, "interrupted" in errors) == (130, True), errors


def test_a_killed_command_is_seen_and_a_killed_client_kills_its_command(lab: None) -> None:
    started, this = both("exec", "a", "--", "sh", "-c", "kill -KILL $PPID")
    assert started[0] == this[0] == -signal.SIGKILL

    run = reading((forked.labctl_program(),))
    poll = select.poll()
    assert run.stdin is not None
    poll.register(run.stdin, 0)
    assert poll.poll(0) == []
    run.kill()
    assert poll.poll(WAIT_S * 1000), "nobody reads the pipe any longer"
    run.communicate(timeout=WAIT_S)


def test_what_nobody_handles_is_a_traceback_and_exit_code_1() -> None:
    program = forked.server().program("no-such", "no-such-program")
    run = subprocess.run([program], capture_output=True, text=True, timeout=WAIT_S)
    assert run.returncode == 1
    assert run.stderr.endswith("KeyError: 'no-such-program'\n")


def test_the_server_ends_with_its_process() -> None:
    script = "from tests.support import forked; forked.labctl_program(); print(forked.server().process.pid)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    try:
        watched = os.pidfd_open(int(done.stdout))
    except ProcessLookupError:
        return  # it has ended
    try:
        assert select.select([watched], [], [], WAIT_S)[0]
    finally:
        os.close(watched)
