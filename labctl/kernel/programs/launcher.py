"""Start many of labctl's own programs fast: `launcher FD`, a process that forks once for each request.

To start Python and import a program takes 15 ms, a fork 1 ms. A process of a lab is then a fork of this one, in its
namespaces, with its own command line and environment in /proc: ps, and labctl itself, see no difference. Where the
kernel cannot change these two, the fork becomes the program by exec.

FD is a socket. A request is a length with the descriptors of the network namespace in which the asking thread is, of
the program's output, and for a program in a pod's sandbox of the process namespace; then a text. The launcher ends when
the socket is closed.
"""

from __future__ import annotations

import gc
import os
import socket
import struct
from collections.abc import Mapping, Sequence

from labctl.kernel.host.command_line import set_command_line
from labctl.kernel.host.syscalls import CLONE_NEWPID, setns
from labctl.kernel.programs.run import find_program, run_program

MAX_FDS = 4096  # file descriptors to close in the process that only waits
_LENGTH = struct.Struct("=I")


def send_request(
    sock: socket.socket, command: Sequence[str], words: int, environment: Mapping[str, str], fds: Sequence[int]
) -> None:
    """Ask a launcher to start a command, the last `words` of which are a program and its arguments. Raises OSError."""
    variables = (f"{name}={value}" for name, value in environment.items())
    text = "\0".join((str(len(command)), str(words), *command, *variables)).encode(errors="surrogateescape")
    socket.send_fds(sock, [_LENGTH.pack(len(text))], list(fds))
    sock.sendall(text)


def main(args: Sequence[str]) -> int:
    """Serve requests until the socket is closed, and then wait for the first process of each program: it ends when the
    program runs on in its child. While both exist, there seem to be two of the program."""
    sock = socket.socket(fileno=int(args[0]))
    gc.disable()  # a search for unused cycles would copy the memory that the forks share
    while (request := _receive(sock)) is not None:
        _start(sock, request)
        for fd in request.fds:
            os.close(fd)
        _reap(os.WNOHANG)
    _reap(0)
    os._exit(0)


def _reap(options: int) -> None:
    """Reap children until none has ended (WNOHANG), or none is left (0)."""
    try:
        while os.waitpid(-1, options)[0]:
            pass
    except ChildProcessError:
        pass


class _Request:
    """A command with its environment, the program and its arguments in it, and descriptors. (The module dataclasses
    would double the time until the launcher works.)"""

    def __init__(self, command: list[str], words: int, environment: dict[str, str], fds: list[int]) -> None:
        self.command, self.program = command, command[-words:]
        self.environment, self.fds = environment, fds


def _receive(sock: socket.socket) -> _Request | None:
    """The next request; None if the socket is closed."""
    header, fds, *_ = socket.recv_fds(sock, _LENGTH.size, 3)
    if len(header) < _LENGTH.size:
        return None
    left, parts = _LENGTH.unpack(header)[0], []
    while left:
        data = sock.recv(left)
        if not data:
            return None
        parts.append(data)
        left -= len(data)
    length, words, *texts = b"".join(parts).decode(errors="surrogateescape").split("\0")
    command, variables = texts[: int(length)], texts[int(length) :]
    environment = dict(one.split("=", 1) for one in variables)
    return _Request(command, int(words), environment, fds)


def _start(sock: socket.socket, request: _Request) -> None:
    try:
        find_program(request.program[0])  # imported here, the next fork has it
        pid = os.fork()
    except OSError as error:
        os.write(request.fds[1], f"cannot fork: {error.strerror}".encode())
        return
    if pid == 0:
        _become(sock, request)


def _become(sock: socket.socket, request: _Request) -> None:
    """In the fork: enter the namespaces, and run the program."""
    status = 1
    try:
        sock.close()
        netns, output, *process_namespace = request.fds
        null = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, null), (1, output), (2, null)):
            os.dup2(source, target)
        os.setsid()
        setns(netns)
        for pid_ns in process_namespace:
            _enter_pid_namespace(pid_ns)
        for fd in (null, *request.fds):
            os.close(fd)
        try:
            set_command_line(request.command, request.environment)
        except OSError:
            os.execve(request.command[0], request.command, request.environment)
        os.environ.clear()
        os.environ.update(request.environment)
        status = run_program(request.program)
    except OSError as error:
        os.write(1, (error.strerror or str(error)).encode())
    finally:
        os._exit(status)


def _enter_pid_namespace(pid_ns: int) -> None:
    """Enter a process namespace: continue in a child, which is inside.

    A program that is forked from outside would be reparented to the host's init, not to the pod's.
    """
    setns(pid_ns, CLONE_NEWPID)
    pid = os.fork()
    if pid:
        os.closerange(0, MAX_FDS)
        os.waitpid(pid, 0)
        os._exit(0)
