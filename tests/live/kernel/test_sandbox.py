"""`labctl run`: a command with root in namespaces of its own, signals and exit codes, and nothing left at the end."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from labctl.kernel.host import paths
from labctl.kernel.rule_trace import tracefs
from tests.support.paths import ROOT
from tests.support.person import NOBODY, USER, Person
from tests.support.pytest_suites import OTHERS, PLUGIN

MARK = "LABCTL_TEST_OF_RUN"


class Runner:
    """Somebody who types `labctl run ...`: the user nobody, root with --rootless, or root."""

    def __init__(self, person: Person, options: tuple[str, ...]) -> None:
        self.person = person
        self.argv = [*person.prefix, sys.executable, "-m", "labctl", *options, "run"]
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"

    def environment(self, **more: str) -> dict[str, str]:
        return self.person.environment(**{MARK: self.mark, **more})

    def types(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.argv, *words], capture_output=True, text=True, timeout=90, env=self.environment(**more),
            cwd=self.person.folder, check=False,
        )  # fmt: skip

    def starts(self, *words: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.argv, *words], stdout=subprocess.PIPE, text=True, env=self.environment(), cwd=self.person.folder,
            **options,  # type: ignore[call-overload]
        )  # fmt: skip

    def living(self) -> list[int]:
        """The processes of these commands. Those of labs do not have the mark."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "environ").read_bytes()
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in words and (path / "cmdline").read_bytes():
                found.append(int(path.name))
        return found


@pytest.fixture(params=["nobody", "root --rootless", "root"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    prefix = USER if request.param == "nobody" else ()
    # below /run, it would not exist inside; and the folder in TMPDIR may be for root only
    with TemporaryDirectory(prefix="labctl-run-", dir="/tmp") as folder:
        if prefix:
            os.chown(folder, NOBODY, NOBODY)
        someone = Runner(Person(Path(folder), prefix), tuple(request.param.split()[1:]))
        if reason := someone.person.reason_to_skip:
            pytest.skip(reason)
        yield someone
    assert until(lambda: not someone.living()), someone.living()


def until(holds: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_labs_are_built_proven_and_traced_without_options_and_nothing_is_left(runner: Runner) -> None:
    script = "labctl up pods --check && labctl trace a c && cd / && labctl list"
    done = runner.types("--", "sh", "-ec", script)

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed in " in done.stdout
    assert "\nOK  answered" in done.stdout
    assert "\npods  " in done.stdout
    assert "pods" not in paths.labs()
    assert not list(paths.state_dir().glob("pods*"))
    assert runner.living() == []


def test_the_network_and_run_are_the_sandboxs_own(runner: Runner) -> None:
    script = (
        "id -u; ls /run; ip -br link | cut -d' ' -f1; ping -c1 127.0.0.1 >&2; readlink /proc/self/ns/net; labctl list"
    )
    done = runner.types("sh", "-ec", script, LABCTL_ROOTLESS="1" if runner.argv[-2] == "--rootless" else "0")
    lines = done.stdout.splitlines()

    assert lines[:5] == ["0", "labctl", "labctl-bin", "netns", "lo"], done.stderr
    assert lines[5] != os.readlink("/proc/self/ns/net")
    assert lines[6:] == ["no lab runs; start one: labctl up kubenet"]


def test_directories_of_labs_outside_are_not_used_inside(runner: Runner) -> None:
    own = {"LABCTL_NETNS_DIR": str(runner.person.folder / "n"), "LABCTL_STATE_DIR": str(runner.person.folder / "s")}
    done = runner.types("sh", "-c", "labctl up docker-bridge >&2 && ls /run/netns | head -1", **own)

    assert done.stdout == "labctl.docker-bridge.c1\n", done.stderr
    assert list(runner.person.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["--", "sh", "-c", "kill -9 $$"], 128 + 9, ""),
        (["--", "no-such-program"], 127, "labctl: no-such-program: command not found\n"),
        (["/etc/passwd"], 126, "labctl: /etc/passwd: Permission denied\n"),
        (["--", ""], 127, "labctl: : command not found\n"),
        (["--", "sh", "-c", "labctl check"], 2, "labctl: no lab runs\n    hint: start one: labctl up kubenet\n"),
    ],
)
def test_the_exit_code_is_that_of_the_command(runner: Runner, words: list[str], code: int, message: str) -> None:
    done = runner.types(*words)

    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_goes_to_the_command(runner: Runner, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 3' {name}; labctl up pods >&2; echo ready; while :; do sleep 0.05; done"
    with runner.starts("--", "sh", "-c", script) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert len(runner.living()) > 2
        child.send_signal(number)
        assert child.stdout.read() == f"got {name}\n"
    assert child.returncode == 3


def test_a_command_that_a_signal_ends_is_told_by_its_exit_code(runner: Runner) -> None:
    with runner.starts("sh", "-c", "echo ready; exec sleep 98.7") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.terminate()
    assert child.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("whom", ["the first process", "its group", "the keeper"])
def test_nothing_is_left_after_sigkill(runner: Runner, whom: str) -> None:
    script = "labctl up pods >&2; setsid sleep 98.7 & (setsid sleep 98.7 &); echo ready; sleep 98.7"
    with runner.starts("--", "sh", "-c", script, start_new_session=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert until(lambda: len(runner.living()) == 6), "two watchers, a shell, three sleeps"
        inside = [pid for pid in everybody() if mounts_of(pid) == mounts_of(child.pid)]
        assert len(inside) > 6 + 4, "and the processes of the pods"
        if whom == "its group":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            keeper = next(pid for pid in inside if parent(pid) == child.pid)
            os.kill(child.pid if whom == "the first process" else keeper, signal.SIGKILL)
    assert child.returncode == (128 + 9 if whom == "the keeper" else -9)
    assert until(lambda: not any(mounts_of(pid) for pid in inside)), [pid for pid in inside if mounts_of(pid)]


TRACING = """
import sys, time
from labctl.kernel.host.work_record import WorkRecord
from labctl.kernel.rule_trace.tracefs import Tracing
record = WorkRecord("a trace of lab x")
record.note("tracing", name=sys.argv[1])
tracing = Tracing(sys.argv[1])
print("ready", flush=True)
time.sleep(98.7)
"""


@pytest.mark.parametrize("runner", ["root"], indirect=True)
@pytest.mark.parametrize("whom", ["the first process", "the keeper"])
def test_tracing_ends_with_a_sandbox_that_was_killed(runner: Runner, whom: str) -> None:
    """The tracing instances are the machine's, and their records end with the sandbox."""
    try:
        tracefs.instances()
    except OSError as error:
        pytest.skip(str(error))
    name = f"labctl-x-{runner.mark}"
    with runner.starts("--", sys.executable, "-c", TRACING, name) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert name in tracefs.instances()
        keeper = next(pid for pid in everybody() if parent(pid) == child.pid)
        os.kill(child.pid if whom == "the first process" else keeper, signal.SIGKILL)
    assert until(lambda: name not in tracefs.instances())


def everybody() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def mounts_of(pid: int) -> str:
    """The mount namespace of a process; "" if it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def parent(pid: int) -> int:
    """The parent of a process; 0 if the process has ended meanwhile: others come and go while all are listed."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_whatever_the_command_leaves_running_ends_with_it(runner: Runner) -> None:
    done = runner.types("sh", "-c", "setsid sh -c 'trap : TERM HUP; while :; do sleep 0.1; done' & echo $!")

    assert done.returncode == 0
    assert runner.living() == []


PROGRAM = """
import labctl
with labctl.up("docker-bridge") as lab:
    print(lab.check().verdict, *lab.trace("c1", "c2").hops)
"""
SUITE = """
import pytest

@pytest.mark.lab("docker-bridge")
def test_it(lab):
    assert lab.trace("c1", "c2").answered
"""


def test_programs_and_pytest_build_labs_as_the_page_says(runner: Runner) -> None:
    page = (ROOT / "docs/rootless.md").read_text()
    assert "labctl run -- python3 program.py\n" in page
    (runner.person.folder / "program.py").write_text(PROGRAM)
    done = runner.types("--", sys.executable, "program.py")
    assert (done.returncode, done.stdout) == (0, "pass c1 host1 c2\n"), done.stderr
    assert "labctl run -- pytest --labctl-require\n" in page
    (runner.person.folder / "test_it.py").write_text(SUITE)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PLUGIN, *OTHERS, "--labctl-require"]
    done = runner.types("--", *words, "test_it.py", TMPDIR=str(runner.person.folder))
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def exit_code_of(pid: int, timeout_s: float = 20) -> int | None:
    """The exit code of a child; None if it has not ended in time, and then it is killed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def test_a_shell_inside_controls_the_terminal(runner: Runner) -> None:
    """^C ends the command of the shell and not the shell, and job control works."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(runner.person.folder)
        own = runner.environment(TERM="dumb", PS1="$ ")
        os.execvpe(runner.argv[0], [*runner.argv, "--", "bash", "--norc", "-i"], own)
    seen = b""

    def read_until(text: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + 20
        while text not in seen:
            assert select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], seen
            seen += os.read(fd, 4096)
        seen = seen.partition(text)[2]

    read_until(b"$ ")
    os.write(fd, b"sleep 98.7\n")
    read_until(b"98.7")
    time.sleep(0.3)
    os.write(fd, b"\x03")
    read_until(b"$ ")
    os.write(fd, b"sleep 97.6\n")
    read_until(b"97.6")
    time.sleep(0.3)
    os.write(fd, b"\x1a")
    read_until(b"Stopped")
    # with a stopped job, bash would refuse to exit
    os.write(fd, b"kill -9 %1; while jobs %1 > /dev/null 2>&1; do sleep 0.1; done; echo still $((40+2))\n")
    read_until(b"still 42")
    os.write(fd, b"exit 5\n")
    assert exit_code_of(pid) == 5
    os.close(fd)


def test_where_users_get_no_namespaces_one_sentence_says_so(person: Person) -> None:
    fake = person.folder / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    path = f"{person.folder}:{os.environ['PATH']}"

    refused = person.types("run", "--", "echo", "never", PATH=path)

    assert (refused.returncode, refused.stdout) == (4, "")
    assert "users create namespaces: unshare: unshare failed: Operation not permitted" in refused.stderr
    assert "hint:" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert '"kind": "missing"' in person.types("--json", "run", "--", "echo", "never", PATH=path).stdout


def test_root_without_the_right_to_make_namespaces_is_told_so() -> None:
    words = [sys.executable, "-m", "labctl", "run", "--", "echo", "never"]
    dropped = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    refused = subprocess.run([*dropped, *words], capture_output=True, text=True, env=own, check=False)

    assert (refused.returncode, refused.stdout) == (4, "")
    assert "no namespaces can be made here: unshare: Operation not permitted" in refused.stderr
