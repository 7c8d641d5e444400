"""Programs in the background of a node: started for a program, found with all that they start, and ended with it.

The program is a child of the caller and has its own session. What it starts is found by that session, and by a variable
in the environment, which a daemon keeps that leaves the session. Only these processes are ever ended. The output goes
to a file without a name: a pipe that no process reads would block the program.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4
from weakref import finalize

from labctl.core.scenario_types import ListeningPort
from labctl.errors import KernelError, UsageError
from labctl.kernel.host.limits import starting
from labctl.kernel.namespaces import occupants
from labctl.kernel.node_exec.run_command import helper_argv, problem_in

if TYPE_CHECKING:
    from types import TracebackType

VARIABLE = "LABCTL_BACKGROUND"  # in the environment of the program and of all that it starts
POLL_S = 0.02  # seconds between two looks at the sockets
GRACE_S = 1.0  # seconds between SIGTERM and SIGKILL
UNKNOWN_CODE = 255
MAX_ROUNDS = 5  # of ending processes
OUTPUT_LINES = 20  # the last lines of the output, in an error message
STATES = {"tcp": "0A", "udp": "07"}  # of a socket that listens, in /proc/net: TCP_LISTEN; TCP_CLOSE, not connected


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens on a port."""

    protocol: str
    port: int
    inode: str

    def __str__(self) -> str:
        return f"{self.protocol} port {self.port}"


class BackgroundProcess:
    """A program that runs in a machine of a lab until it ends, `stop` is called, or the lab goes down.

    As a context manager, it is stopped at the end.
    """

    def __init__(self, node: str, command: tuple[str, ...], pid: int, token: str, output_fd: int) -> None:
        self.node = node
        self.command = command
        self.pid = pid  # of the program itself, as `ps` shows it outside of the lab
        self._assignment = f"{VARIABLE}={token}".encode()
        self._output_fd = output_fd
        self._exit_code: int | None = None
        self._reaped = False
        finalize(self, os.close, output_fd)

    @property
    def returncode(self) -> int | None:
        """Its exit code (127: not found, 128 + signal: killed); None while it runs.

        255 if it is not known, because another part of the calling program waited for all its children."""
        if self._exit_code is None:
            try:
                # WNOWAIT: until `stop`, no other process can get the same id
                found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._exit_code, self._reaped = UNKNOWN_CODE, True
            else:
                if found is not None:
                    self._exit_code = found.si_status + (0 if found.si_code == os.CLD_EXITED else 128)
        return self._exit_code

    @property
    def output(self) -> str:
        """What it has written to standard output and standard error so far."""
        return os.pread(self._output_fd, os.fstat(self._output_fd).st_size, 0).decode(errors="replace")

    def stop(self) -> None:
        """End it, and every process that it started: by SIGTERM, and after a second by SIGKILL. Can be called twice."""
        for _ in range(MAX_ROUNDS):  # more than one for what was started meanwhile
            if not (processes := self._processes()):
                break
            occupants.terminate(processes, GRACE_S)
        if self.returncode is not None and not self._reaped:
            os.waitpid(self.pid, 0)
            self._reaped = True

    def wait_for_port(self, port: ListeningPort, timeout_s: float) -> None:
        """Wait until it listens on a port. Raises UsageError if it ends before, TimeoutError after `timeout_s` seconds.

        If the program's first process ends with exit code 0 and another one goes on, as daemons do, it still runs.
        """
        deadline = time.monotonic() + timeout_s
        wanted = f"{port.protocol} port {port.port}"
        while True:
            candidates = {socket.inode for socket in self._sockets() if str(socket) == wanted}
            if candidates and candidates & self._own_inodes():
                return
            if self.returncode is not None and (self.returncode != 0 or not self._processes()):
                ending = f"{_ending(self.returncode)} before it listened on {wanted}"
                raise UsageError(f"{self._name}: {ending}{self._tail()}")
            if time.monotonic() > deadline:
                found = f"it does not listen on {wanted} after {timeout_s:g} s{self._found(wanted)}"
                raise TimeoutError(f"{self._name}: {found}{self._tail()}")
            time.sleep(POLL_S)

    def __enter__(self) -> BackgroundProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "runs" if self.returncode is None else _ending(self.returncode)
        return f"<{type(self).__name__} {self.pid} {self._name}: {state}>"

    @property
    def _name(self) -> str:
        text = " ".join(" ".join(self.command).split())
        return f"{text if len(text) <= 80 else text[:79] + '…'} in {self.node}"

    def _tail(self) -> str:
        lines = self.output.rstrip().splitlines()[-OUTPUT_LINES:]
        return "".join(f"\n    {line}" for line in lines) if lines else " (it printed nothing)"

    def _found(self, wanted: str) -> str:
        """What listens instead: on that port another program, or this program on other ports."""
        own = self._own_inodes()
        others = sorted({str(found) for found in self._sockets() if found.inode in own})
        if any(str(found) == wanted for found in self._sockets()):
            return "; another program listens there"
        return f"; it listens on {', '.join(others)}" if others else ""

    def _processes(self) -> list[int]:
        """The ids of its processes that have not ended."""
        found = []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with suppress(OSError):
                state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
                # once the program has been waited for, its id can be another session's
                in_session = int(session) == self.pid and not self._reaped
                if state not in "ZX" and (in_session or self._has_variable(pid)):
                    found.append(pid)
        return found

    def _has_variable(self, pid: int) -> bool:
        return self._assignment in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

    def _sockets(self) -> list[Listener]:
        """The listening sockets of its network namespace."""
        for pid in (self.pid, *(self._processes() if self.returncode is not None else ())):
            with suppress(OSError):
                return [
                    found
                    for protocol in STATES
                    for version in ("", "6")
                    for found in parse_listeners(Path(f"/proc/{pid}/net/{protocol}{version}").read_text(), protocol)
                ]
        return []

    def _own_inodes(self) -> set[str]:
        """The inodes of the sockets that its processes have open."""
        inodes = set()
        for pid in self._processes():
            with suppress(OSError):
                for name in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(OSError):
                        inodes.add(os.readlink(f"/proc/{pid}/fd/{name}").removeprefix("socket:[").removesuffix("]"))
        return inodes


def parse_listeners(text: str, protocol: str) -> Iterator[Listener]:
    """The listening sockets in the text of /proc/net/tcp, tcp6, udp or udp6. Pure."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == STATES[protocol]:
            yield Listener(protocol, int(fields[1].rpartition(":")[2], 16), fields[9])


def start(lab: str, node: str, command: Sequence[str], *, name: str) -> BackgroundProcess:
    """Start a program in the background of a node; `name` is the machine's, for messages.

    Raises UsageError if there is no such program, KernelError if the node cannot be entered.
    """
    token = uuid4().hex
    with tempfile.TemporaryFile() as file:
        output_fd = os.dup(file.fileno())
    fcntl.fcntl(output_fd, fcntl.F_SETFL, fcntl.fcntl(output_fd, fcntl.F_GETFL) | os.O_APPEND)
    error_pipe, error_fd = os.pipe()
    try:
        with starting(command[0]):
            child = subprocess.Popen(
                helper_argv(error_fd, lab, node, command), stdin=subprocess.DEVNULL, stdout=output_fd, stderr=output_fd,
                pass_fds=(error_fd,), start_new_session=True, env={**os.environ, VARIABLE: token},
            )  # fmt: skip
    except BaseException:
        os.close(error_pipe)
        os.close(output_fd)
        raise
    finally:
        os.close(error_fd)
    child.returncode = 0  # BackgroundProcess waits for it
    started = BackgroundProcess(name, tuple(command), child.pid, token, output_fd)
    try:
        with os.fdopen(error_pipe, encoding="utf-8", errors="replace") as pipe:
            entering, running = problem_in(pipe.read())  # it ends when the program runs, or the helper
        if entering:
            raise KernelError(entering)
        if running:
            raise UsageError(f"cannot start {command[0]} in {name}: {running}")
    except BaseException:
        started.stop()
        raise
    return started


def _ending(code: int) -> str:
    if code <= 128:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"it ended with exit code {code}"
