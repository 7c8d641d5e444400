"""Entering a node: what a command sees there, how its end is reported, and that the machine outside is unchanged."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.kernel.host import syscalls
from labctl.kernel.node_exec import exec
from tests.support import machine

pytestmark = pytest.mark.firewall

LABCTL = [sys.executable, "-m", "labctl"]
DEADLINE = 20.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def lab() -> Iterator[str]:
    """Two namespaces of a lab, a and b, joined; the record says who is who."""
    for node in ("a", "b"):
        ip("netns", "add", f"labctl.tiny.{node}")
        ip("-n", f"labctl.tiny.{node}", "link", "set", "lo", "up")
    ip("-n", "labctl.tiny.a", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", "labctl.tiny.b")
    for node, address in (("a", "192.0.2.1/24"), ("b", "192.0.2.2/24")):
        ip("-n", f"labctl.tiny.{node}", "addr", "add", address, "dev", "eth0")
        ip("-n", f"labctl.tiny.{node}", "link", "set", "eth0", "up")
    folder = Path("/run/labctl/tiny")
    folder.mkdir()
    machines = [{"name": "a", "addresses": ["192.0.2.1"]}, {"name": "b", "addresses": ["192.0.2.2"]}]
    (folder / "definition.json").write_text(json.dumps({"machines": [*machines, {"name": "wire", "addresses": []}]}))
    yield "tiny"
    for node in ("a", "b"):
        ip("netns", "del", f"labctl.tiny.{node}")
    subprocess.run(["rm", "-r", str(folder)], check=True)


def run(*words: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LABCTL, *words], capture_output=True, text=True, timeout=60, **kwargs)  # type: ignore[call-overload, no-any-return]


def inside(node: str, script: str) -> str:
    done = run("exec", node, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["no-such-command"], 127),
        (["./no/such/file"], 127),
        (["/etc/passwd"], 126),
        (["/"], 126),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -INT $$"], 130),
        ([""], 127),
    ],
)
def test_the_exit_code_is_the_commands_own(lab: str, command: list[str], code: int) -> None:
    assert run("exec", "a", "--", *command).returncode == code


@pytest.mark.parametrize(("word", "code"), [("no-such-command", 127), ("there", 126), ("true", 0)])
def test_a_folder_that_may_not_be_looked_into_hides_nothing(word: str, code: int) -> None:
    """As without root: root may look into every folder."""
    with tempfile.TemporaryDirectory(dir="/run") as place:  # pytest's own folders are closed to others
        Path(place).chmod(0o755)
        for name in ("closed", "open"):
            Path(place, name).mkdir(mode=0o700 if name == "closed" else 0o755)
        Path(place, "open/there").write_text("not to be run")
        path = f"{place}/closed:{place}/open:{os.environ['PATH']}"
        pid = os.fork()
        if not pid:
            os.setgid(65534)
            os.setuid(65534)
            os._exit(exec.exec_command([word], {"PATH": path})[0])

        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code


def test_what_a_command_sees_is_the_node(lab: str) -> None:
    assert inside("a", "ls /sys/class/net").split() == ["eth0", "lo"]
    assert inside("a", "getent hosts b").split() == ["192.0.2.2", "b"]
    assert inside("a", "getent hosts example.org || echo none") == "none\n"
    assert inside("a", "echo $LABCTL_LAB/$LABCTL_NODE") == "tiny/a\n"
    assert "1 received" in inside("a", "ping -c 1 -W 2 b")
    assert "(legacy)" in inside("a", "iptables -V")


def test_cgroups_stay_reachable(lab: str) -> None:
    if not os.path.ismount("/sys/fs/cgroup"):
        pytest.skip("no cgroups are mounted here")

    assert inside("a", "ls /sys/fs/cgroup").split() == sorted(os.listdir("/sys/fs/cgroup"))


def test_without_a_record_names_are_read_from_the_nodes_themselves(lab: str) -> None:
    Path("/run/labctl/tiny/definition.json").unlink()

    assert inside("a", "getent hosts b").split() == ["192.0.2.2", "b"]


def test_a_state_directory_that_cannot_be_written_costs_only_the_iptables_links(lab: str) -> None:
    done = run("exec", "a", "--", "getent", "hosts", "a", env={**os.environ, "LABCTL_STATE_DIR": "/proc/nothing"})

    assert done.stdout.split() == ["192.0.2.1", "a"]
    assert "`iptables` is the machine's default variant here" in done.stderr


def test_a_machine_without_legacy_iptables_can_be_entered_all_the_same(
    lab: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from labctl.errors import MissingError
    from labctl.kernel.firewall import commands
    from labctl.kernel.node_exec import exec

    def refuse(directory: Path, backend: str) -> Path:
        raise MissingError("iptables-legacy is not here")

    monkeypatch.setattr(commands, "make_tool_directory", refuse)

    assert exec.run("tiny", "a", ["sh", "-c", "exit 5"]) == 5
    assert "iptables-legacy is not here" in capfd.readouterr().err


def test_the_machine_outside_sees_nothing_of_it(lab: str) -> None:
    inside("a", "true")  # the first one makes the folder of iptables links
    before = machine.fingerprint()
    inside("a", "mount -t tmpfs none /mnt; cat /etc/hosts")

    assert machine.changed(before, machine.fingerprint()) == {}


def test_mounts_made_inside_stay_inside_even_where_mounts_are_shared(lab: str, tmp_path: Path) -> None:
    syscalls.mount("none", str(tmp_path), "tmpfs")
    syscalls.mount("none", str(tmp_path), None, syscalls.MS_SHARED)
    try:
        (tmp_path / "inner").mkdir()
        inside("a", f"mount -t tmpfs none {tmp_path}/inner && touch {tmp_path}/inner/file")
        assert list((tmp_path / "inner").iterdir()) == []
    finally:
        syscalls.umount(str(tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        ["exec", "a", "echo", "--json", "-l", "x"],
        ["exec", "-l", "tiny", "a", "echo", "--json", "-l", "x"],
        ["exec", "-l", "tiny", "a", "--", "echo", "--json", "-l", "x"],
        ["-l", "tiny", "exec", "a", "--", "echo", "--json", "-l", "x"],
        ["exec", "a", "-l", "tiny", "echo", "--json", "-l", "x"],
        ["exec", "a", "--lab=tiny", "--", "echo", "--json", "-l", "x"],
    ],
)
def test_the_commands_own_options_are_never_ours(lab: str, words: list[str]) -> None:
    done = run(*words)

    assert (done.returncode, done.stdout) == (0, "--json -l x\n")


def test_an_unknown_node_or_lab_is_named_with_those_that_exist(lab: str) -> None:
    node, other = run("exec", "aa", "--", "true"), run("exec", "-l", "tini", "a", "--", "true")

    assert (node.returncode, other.returncode) == (2, 2)
    assert "lab tiny has no node 'aa'" in node.stderr
    assert "did you mean a? its nodes are a, b" in node.stderr
    assert "did you mean tiny?" in other.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_to_labctl_reach_the_command(lab: str, number: signal.Signals, code: int) -> None:
    child = subprocess.Popen([*LABCTL, "exec", "a", "--", "sh", "-c", "echo ready; exec sleep 60"], stdout=-1)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        assert child.wait(DEADLINE) == code


def test_interrupts_are_the_commands_own_affair(lab: str) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    child = subprocess.Popen([*LABCTL, "exec", "a", "--", "sh", "-c", script], stdout=-1, start_new_session=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"ready\n"
        os.killpg(child.pid, signal.SIGINT)
        assert (child.stdout.read(), child.wait(DEADLINE)) == (b"caught\n", 5)


def test_a_closed_pipe_ends_the_command_as_usual(lab: str) -> None:
    done = run("exec", "a", "--", "sh", "-c", "yes | head -1; exit 0")

    assert (done.returncode, done.stdout, done.stderr) == (0, "y\n", "")


class Terminal:
    """A shell in a node, on a separate terminal."""

    def __init__(self, *words: str, **extra: str) -> None:
        environment = {**os.environ, "HOME": "/", "TERM": "dumb", **extra}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [*LABCTL, *words], environment)
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until the text has come; returns all that came since the last time."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen:
            if time.monotonic() > deadline:
                os.close(self.fd)  # hangs up, which ends the shell
                pytest.fail(f"no {text!r} in {self.seen!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
        found, _, self.seen = self.seen.partition(text)
        return found

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def enter(self, command: str) -> None:
        """Type a command; a blank goes first, as the shell can lose a letter while it takes the terminal over."""
        self.type(f" {command}\n")

    def close(self) -> int:
        """The exit code, once the shell has ended and let go of its terminal."""
        deadline = time.monotonic() + DEADLINE
        with contextlib.suppress(OSError):  # a terminal without a writer is an input error
            while select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                os.read(self.fd, 4096)
            os.kill(self.pid, signal.SIGKILL)  # it did not end by itself
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_shells_prompt_says_where_one_is_and_its_exit_code_is_ours(lab: str) -> None:
    shell = Terminal("shell", "a")
    shell.until("tiny/a:")
    shell.enter("echo $(hostname -I) =; ls /proc/self/fd")
    shell.until("192.0.2.1 =")
    shell.until("# ")
    shell.enter("exit 9")

    assert shell.close() == 9


def test_the_shell_reads_the_persons_own_bashrc_first(lab: str, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("alias hello='echo from my bashrc'\nPS1='mine> '\nPATH=/bin\n")
    shell = Terminal("shell", "a", HOME=str(tmp_path), SHELL="/bin/bash")
    shell.until("tiny/a:")
    shell.enter("hello; command -v iptables")
    shell.until("from my bashrc")
    assert "/run/labctl/tiny/bin/iptables" in shell.until("# ")
    shell.enter("exit")

    assert shell.close() == 0


def test_interrupt_and_suspend_work_in_a_shell(lab: str) -> None:
    shell = Terminal("shell", "b", SHELL="/bin/zsh")
    shell.until("tiny/b:")
    shell.enter("sh -c 'echo go; exec sleep 60'")
    shell.until("go\r\n")
    shell.type("\x03")
    shell.until("# ")
    shell.enter("sh -c 'echo again; exec sleep 60'")
    shell.until("again\r\n")
    shell.type("\x1a")
    shell.until("Stopped")
    shell.until("# ")
    shell.enter("kill -9 %1; exit 4; exit 4")

    assert shell.close() == 4


def test_a_script_on_standard_input_runs_in_the_node(lab: str) -> None:
    done = run("shell", "a", input="echo $LABCTL_NODE; exit 6\n")

    assert (done.returncode, done.stdout) == (6, "a\n")


def test_suspending_stops_labctl_with_the_command_and_goes_on(lab: str) -> None:
    script = f"'{sys.executable}' -m labctl exec a -- sh -c 'echo ready; read line; exit 3'"
    shell = Terminal("shell", "b", PYTHONPATH=os.getcwd())
    shell.until("tiny/b:")
    shell.enter(script)
    shell.until("ready\r\n")
    shell.type("\x1a")
    shell.until("Stopped")
    shell.until("# ")
    shell.enter("fg")
    shell.until("exit 3'\r\n")
    shell.type("line\n")
    shell.until("# ")
    shell.enter("exit $?")

    assert shell.close() == 3
