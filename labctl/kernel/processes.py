"""Start the processes of a lab in their namespaces, find them by a tag, and end them.

The tag is an environment variable that identifies the process and its lab. No other record is needed: what is found is
what runs. A lab of the same name in another directory of named namespaces (in a container, in a separate mount
namespace) is another lab, so the variable also identifies that directory. What a user starts in a node has no tag and
is never drift.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.core.resources import Process
from labctl.errors import KernelError
from labctl.kernel.host import paths
from labctl.kernel.host.limits import start_error_in, starting
from labctl.kernel.namespaces import occupants
from labctl.kernel.programs import NODE_VARIABLE, READY, argv, module_command
from labctl.kernel.programs.launcher import send_request
from labctl.render.plan_json import process_tag

PROCESS_VARIABLE = "LABCTL_PROCESS"
READY_TIMEOUT_S = 10.0  # seconds within which a program must be ready
REAP_TIMEOUT_S = 1.0  # seconds within which the launcher must end
MAX_STARTING = 16 * (os.cpu_count() or 1)  # processes that start at the same time


def find(lab: str, nodes: Iterable[str]) -> tuple[Process, ...]:
    """The lab's own processes that run in the network namespaces of these nodes, with their ids."""
    node_by_path = {paths.netns_path(lab, node): node for node in nodes}
    groups: dict[tuple[str, str], dict[int, Process]] = {}
    for pid, path in occupants.find_with_path(node_by_path).items():
        process = _tagged_process(pid, lab)
        if process is not None and process.ns == node_by_path[path]:
            groups.setdefault((process.ns, process.name), {})[pid] = process
    return tuple(_main_process(group) for group in groups.values())


def find_anywhere(lab: str) -> tuple[int, ...]:
    """The ids of the tagged processes of a lab in any namespace except the machine's own, also in a namespace that has
    lost its name: processes keep it alive."""
    return tuple(pid for pid in occupants.find_outside_host() if _tagged_process(pid, lab) is not None)


class Starter:
    """Starts processes in the namespaces of a lab, and waits for several at the same time. A context manager: leaving
    it without an error waits until each is ready.

    All are forks of one process, the launcher, which has Python and the programs in memory already.
    """

    def __init__(self, lab: str) -> None:
        self._lab = lab
        self._launcher: _Launcher | None = None
        self._starting: list[tuple[Process, int]] = []  # with the descriptor of its output

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self._wait_until_ready()
        finally:
            for _, output in self._starting:
                os.close(output)
            self._starting.clear()
            if self._launcher is not None:
                self._launcher.close()

    def prepare(self) -> None:
        """Start the launcher, which `start` does otherwise: it gets ready meanwhile. This thread must not be in a
        namespace that is removed before the end. Raises LimitError, OSError."""
        if self._launcher is None:
            with starting("the launcher of processes"):
                self._launcher = _Launcher()

    def start(self, processes: Iterable[Process]) -> None:
        """Start processes in this thread's namespace. Raises KernelError if one of this or of another namespace does
        not get ready, with its output; LimitError if no process can be started."""
        for process in processes:
            if process.inside is not None or len(self._starting) >= MAX_STARTING:
                self._wait_until_ready()
            self.prepare()
            assert self._launcher is not None
            self._starting.append((process, _launch(self._launcher, self._lab, process)))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self._starting:
            process, fd = self._starting[0]
            output = _read_output(fd, deadline)
            os.close(fd)
            del self._starting[0]
            if output != READY:
                problem = output.decode(errors="replace").strip() or "it ended and printed nothing"
                what = f"{process.name} in {process.ns}"
                refused = KernelError(f"cannot start {what}: {problem}", _hint(problem))
                raise start_error_in(what, problem) or refused


def stop(process: Process) -> None:
    """End one process that `find` returned."""
    if process.pid is not None:
        occupants.terminate([process.pid])


class _Launcher:
    """A launcher that runs, and the socket to it. Raises OSError."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        try:
            self._child = subprocess.Popen(
                module_command(("launcher", str(theirs.fileno()))),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()

    def close(self) -> None:
        """End it: it has started all that it was asked for. If it does not end, kill it."""
        self.socket.close()
        for _ in range(2):
            try:
                self._child.wait(REAP_TIMEOUT_S)
                return
            except subprocess.TimeoutExpired:
                os.killpg(self._child.pid, signal.SIGKILL)


def _launch(launcher: _Launcher, lab: str, process: Process) -> int:
    """Start a process in this thread's namespace. Returns a descriptor of what it prints."""
    words = (*process.command, str(paths.netns_path(lab, process.ns))) if process.sandbox else process.command
    tag = f"{_netns_dir_id()} {process_tag(process, paths.netns_name(lab, process.ns))}"
    variables = {"PATH": os.environ.get("PATH", os.defpath), PROCESS_VARIABLE: tag, NODE_VARIABLE: process.ns}
    with ExitStack() as held:
        fds = [os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)]
        held.callback(os.close, fds[0])
        if process.inside is not None:
            fds.append(_open_pid_namespace(lab, process))
            held.callback(os.close, fds[1])
        output, theirs = os.pipe()
        held.callback(os.close, theirs)
        fds.insert(1, theirs)
        try:
            send_request(launcher.socket, argv(words), len(words), {**variables, **_holder()}, fds)
        except OSError as error:
            os.close(output)
            raise KernelError(f"cannot start {process.name} in {process.ns}: {error.strerror}") from None
    return output


def _holder() -> dict[str, str]:
    return {paths.HOLDER_VARIABLE: os.environ[paths.HOLDER_VARIABLE]} if paths.HOLDER_VARIABLE in os.environ else {}


def _open_pid_namespace(lab: str, process: Process) -> int:
    """A file descriptor of the process namespace of the sandbox that a process belongs to. Raises KernelError."""
    tagged = {pid: _tagged_process(pid, lab) for pid in occupants.find_in_current_netns()}
    group = {
        pid: candidate
        for pid, candidate in tagged.items()
        if candidate and (candidate.ns, candidate.name) == (process.ns, process.inside)
    }
    if not group:
        raise KernelError(f"cannot start {process.name} in {process.ns}: its {process.inside} is not running")
    return os.open(f"/proc/{_main_process(group).pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def _read_output(fd: int, deadline: float) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        return b"it is not ready after %d s" % READY_TIMEOUT_S
    return os.read(fd, 4096)


def _hint(problem: str) -> str:
    return "to see which process uses the port: labctl exec NODE -- ss -tulpn" if "in use" in problem else ""


def _tagged_process(pid: int, lab: str) -> Process | None:
    """The lab's process that the process with this id is, by its tag; None if it is not one."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assignment = next(variable for variable in variables if variable.startswith(f"{PROCESS_VARIABLE}=".encode()))
    except (OSError, StopIteration):
        return None
    dir_id, _, tag = assignment.partition(b"=")[2].decode(errors="replace").partition(" ")
    parsed = parse_process_tag(tag) if dir_id == _netns_dir_id() else None
    return replace(parsed[1], pid=pid) if parsed is not None and parsed[0] == lab else None


def _netns_dir_id() -> str:
    """The directory of named namespaces, by device and inode."""
    try:
        found = os.stat(paths.netns_dir())
    except OSError:
        return "nowhere"
    return f"{found.st_dev}:{found.st_ino}"


def parse_process_tag(text: str) -> tuple[str, Process] | None:
    """The lab and the process that a tag identifies (`render.plan_json.process_tag`); None if it is not a tag."""
    try:
        fields: dict[str, Any] = json.loads(text)
        lab_and_node = paths.parse_netns_name(fields.pop("netns"))
        return (
            None
            if lab_and_node is None
            else (lab_and_node[0], Process(lab_and_node[1], **{**fields, "command": tuple(fields["command"])}))
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _main_process(group: dict[int, Process]) -> Process:
    """One process of a group with the same tag: the parent of the others, but of a sandbox its pause, which has no
    children in the group. Above the shim of a sandbox can still be the process that started it and is about to exit.
    """
    parents = {pid: _parent(pid) for pid in group}
    first = next(iter(group.values()))
    innermost = [pid for pid, parent in parents.items() if parent in group and pid not in parents.values()]
    outermost = [pid for pid, parent in parents.items() if parent not in group]
    pid = min(innermost if first.sandbox and innermost else outermost or group)
    return replace(first, pid=pid)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def main(args: Sequence[str]) -> int:
    """`python3 -m labctl.kernel.processes TAG`: start one process manually, in the namespace where this runs."""
    parsed = parse_process_tag(args[0]) if len(args) == 1 else None
    if parsed is None:
        print("usage: python3 -m labctl.kernel.processes TAG (from labctl plan --as shell)", file=sys.stderr)
        return 2
    try:
        with Starter(parsed[0]) as starter:
            starter.start([parsed[1]])
    except KernelError as error:
        print(error.message, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
