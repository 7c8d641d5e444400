"""A process that has imported labctl, and forks for each command: it starts in a third of the time of a new Python.

`forked` starts it, one for each test process, and `fork_client` is the program that asks it. A forked command has what
its client has: the arguments, the environment, the folder, the umask, the standard streams, the network namespace, and
the signals that are ignored. It gets the signals that the client gets, and is killed when the client is killed. What a
command takes from its start alone it has from this server: a session without a terminal, the limits, the mounts, and
what the variables of Python itself ask for. Tests of these, and of the start itself, start labctl as users do.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import io
import marshal
import os
import pkgutil
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import labctl
from labctl.cli import run_program
from labctl.cni_plugin.main import main as run_plugin
from labctl.kernel import processes
from labctl.kernel.firewall import iptc_import
from labctl.kernel.host.command_line import set_command_line
from labctl.kernel.host.syscalls import CLONE_NEWNET, setns
from labctl.kernel.probes.unused_ids import ICMP_IDS, SOURCE_PORTS, UnusedIds

# the first is not for tests; the others cost much to import, or are for a program that tests start themselves; and
# pytest rewrites its plugin when it imports it
NOT_IMPORTED = (
    "labctl.__main__",
    "labctl.view",
    "labctl.testing",
    "labctl.pytest_plugin",
    "labctl.scenarios",
    "labctl.docs",
)
# what verbs import late from other projects
OTHERS = (
    "yaml",
    "pyroute2.netlink.exceptions",
    "pyroute2.netlink.nfnetlink.ipset",
    "pyroute2.netlink.rtnl.ndmsg",
    "pyroute2.netlink.rtnl.rtmsg",
)
PYTEST = "pytest"
PROGRAMS: dict[str, Callable[[], int | None]] = {
    "labctl": run_program,
    "labctl-cni": run_plugin,
    "processes": lambda: processes.main(sys.argv[1:]),
}
NUMBERS = {ids: (ids._low, ids._low + ids._size - 1) for ids in (ICMP_IDS, SOURCE_PORTS)}
STREAMS = 3
DESCRIPTORS = STREAMS + 2  # and the folder and the network namespace
HEAD = struct.Struct("<I")
REQUEST_WAIT_S = 10.0
PARENT_WAIT_MS = 500


def import_all() -> None:
    for module in pkgutil.walk_packages(labctl.__path__, "labctl."):
        if not module.name.startswith(NOT_IMPORTED):
            importlib.import_module(module.name)
    with suppress(Exception):  # where it cannot work, each command says so
        iptc_import.load()
    for name in OTHERS:
        importlib.import_module(name)


def import_pytest() -> None:
    """Once, when it is first asked for. Its plugins of other projects are imported by each run: it rewrites them."""
    from _pytest import config

    for name in config.default_plugins:
        importlib.import_module(f"_pytest.{name}")

    def run_pytest() -> int:
        sys.path.insert(0, os.getcwd())  # as `python -m pytest`
        return config.main()

    PROGRAMS[PYTEST] = run_pytest


class Server:
    """It answers at a listening socket, a descriptor that its parent gives it, until the parent ends."""

    def __init__(self, fd: int, parent: int) -> None:
        self.parent = parent
        self.socket = socket.socket(fileno=fd)
        self.poll = select.poll()
        self.poll.register(self.socket, select.POLLIN)
        self.clients: dict[int, tuple[socket.socket, int]] = {}  # a descriptor: the connection, and its command
        self.commands: dict[int, tuple[socket.socket, int]] = {}

    def serve(self) -> None:
        while os.getppid() == self.parent:
            for fd, _ in self.poll.poll(PARENT_WAIT_MS):
                if fd == self.socket.fileno():
                    self.accept()
                elif fd in self.clients:
                    self.hear(fd)
                elif fd in self.commands:
                    self.end(fd)

    def accept(self) -> None:
        client, _ = self.socket.accept()
        client.settimeout(REQUEST_WAIT_S)
        try:
            request, descriptors = received(client)
        except (OSError, EOFError, ValueError):  # a client that was killed at once
            client.close()
            return
        if request["program"] == PYTEST and PYTEST not in PROGRAMS:
            import_pytest()
        pid = os.fork()
        if not pid:
            run(request, descriptors)
        for fd in descriptors:
            os.close(fd)
        watched = os.pidfd_open(pid)
        self.clients[client.fileno()] = client, pid
        self.commands[watched] = client, pid
        self.poll.register(client, select.POLLIN)
        self.poll.register(watched, select.POLLIN)

    def hear(self, fd: int) -> None:
        """Pass on the signals that a client got. The end of the client is the end of its command."""
        client, pid = self.clients[fd]
        try:
            numbers = client.recv(64) or bytes([signal.SIGKILL])
        except OSError:
            numbers = bytes([signal.SIGKILL])
        for number in numbers:
            os.kill(pid, number)
            if number == signal.SIGKILL:
                self.poll.unregister(client)
                del self.clients[fd]

    def end(self, watched: int) -> None:
        client, pid = self.commands.pop(watched)
        self.poll.unregister(watched)
        os.close(watched)
        _, status = os.waitpid(pid, 0)
        if self.clients.pop(client.fileno(), None) is not None:
            self.poll.unregister(client)
        try:
            client.sendall(HEAD.pack(status))
        except OSError:
            pass  # it was killed
        client.close()


def received(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, descriptors, _, _ = socket.recv_fds(client, HEAD.size, DESCRIPTORS)
    if len(head) < HEAD.size or len(descriptors) != DESCRIPTORS:
        raise EOFError
    (size,), data = HEAD.unpack(head), b""
    while len(data) < size:
        if not (part := client.recv(size - len(data))):
            raise EOFError
        data += part
    request: dict[str, Any] = marshal.loads(data)
    return request, descriptors


def run(request: dict[str, Any], descriptors: list[int]) -> None:
    """Become the command: what a new process has of its parent is the client's. It does not return."""
    code = 1
    try:
        os.setsid()
        for number, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD, DESCRIPTORS) for fd in descriptors]):
            os.dup2(fd, number)
        os.closerange(DESCRIPTORS, 1 << 16)
        os.fchdir(STREAMS)
        setns(STREAMS + 1, CLONE_NEWNET)
        os.closerange(STREAMS, DESCRIPTORS)
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update({os.fsdecode(name): os.fsdecode(value) for name, value in request["environment"].items()})
        sys.argv[:] = [request["program"], *map(os.fsdecode, request["words"])]
        with suppress(OSError):  # a kernel without that shows the server's
            set_command_line(sys.argv, os.environ)
        make_streams()
        draw_numbers()
        for number in request["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        code = PROGRAMS[request["program"]]() or 0
        atexit._run_exitfuncs()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def make_streams() -> None:
    """Standard streams as Python makes them when it starts."""
    encoding = sys.stdout.encoding
    given = io.BufferedReader(io.FileIO(0, "r", closefd=False))
    output, errors = (io.BufferedWriter(io.FileIO(fd, "w", closefd=False)) for fd in (1, 2))
    sys.stdin = io.TextIOWrapper(given, encoding, sys.stdin.errors)
    sys.stdout = io.TextIOWrapper(output, encoding, sys.stdout.errors, line_buffering=os.isatty(1))
    sys.stderr = io.TextIOWrapper(errors, encoding, "backslashreplace", line_buffering=True)


def draw_numbers() -> None:
    """Draw what labctl draws at its import: commands with the same numbers would be parts of one connection."""
    for ids, (low, high) in NUMBERS.items():
        vars(ids).update(vars(UnusedIds(low, high)))


def main() -> None:
    server = Server(*map(int, sys.argv[1:]))
    import_all()
    gc.collect()
    gc.freeze()
    server.serve()


if __name__ == "__main__":
    main()
