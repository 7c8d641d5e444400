"""`labctl run`: a command in new namespaces, in which labs are built without root and end with the command.

The sandbox is a new network namespace with a loopback device only, and a new mount namespace with a new /run. Root
makes these two directly. Any other user first becomes root in a new user namespace, by unshare(1) of util-linux, which
then continues as this module in the same process.

Two processes watch the command. The first is the caller's: it forwards signals and returns the exit code. The second,
the keeper, is the command's parent, and the subreaper of everything that the command starts. It is in a new session, so
a signal to the process group of the caller does not end it. When the command has ended, or the first process (by
SIGKILL, too), the keeper kills all that is left; the namespaces end with the last process. There is no process
namespace: the kernel's tracing, by which `trace` finds the reason of a drop, knows only the machine's process ids.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from labctl.errors import LabError, MissingError
from labctl.kernel.host import paths
from labctl.kernel.host.limits import starting
from labctl.kernel.host.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MS_PRIVATE,
    MS_REC,
    libc,
    mount,
    raise_on_error,
    unshare,
)
from labctl.kernel.node_exec.exec import exec_command, restore_signal_defaults
from labctl.kernel.programs import module_command

BIN = "/run/labctl-bin"  # the folder of the command labctl inside, first in PATH
ADMIN_FOLDERS = ("/usr/sbin", "/sbin")  # users often do not have them in PATH
# of the labs outside: inside, /run/netns and /run/labctl are the sandbox's own, and the command is root already
OUTSIDE_VARIABLES = ("LABCTL_ROOTLESS", "LABCTL_NETNS_DIR", "LABCTL_STATE_DIR", paths.HOLDER_VARIABLE)
FORWARDED_SIGNALS = {
    signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip
PARENT_ENDED = signal.SIGRTMIN + 1  # the kernel sends it to the keeper when the first process ends
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
LAUNCHER = """\
import os, sys
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [folder for folder in sys.path if folder != here]
if {folder!r} not in sys.path:
    sys.path.insert(0, {folder!r})
from labctl.cli import main
sys.exit(main())
"""


def run(command: Sequence[str], *, rootless: bool) -> int:
    """Run a command in a new sandbox. Returns its exit code: 127 if it is not found, 128 + signal if it was killed.

    With `rootless`, this process becomes another one, and the function does not return. The process must have only one
    thread, and its namespaces are those of the sandbox afterwards. Raises MissingError if namespaces cannot be made.
    """
    if rootless:
        from labctl.kernel.rootless import user_namespace_command

        prefix = user_namespace_command()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        argv = [*prefix, *module_command(("sandbox", os.pathsep.join(sys.path), *command))]
        os.execv(argv[0], argv)
    try:
        _make_namespaces()
    except OSError as error:
        hint = "labctl doctor shows what is missing; in a container, its runtime may forbid it"
        raise MissingError(f"no namespaces can be made here: {error.args[-1]}", hint) from None
    return _run_and_watch(command, environment(os.environ))


def environment(outside: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command in a sandbox, from that of the caller. Pure."""
    inside = {name: value for name, value in outside.items() if name not in OUTSIDE_VARIABLES}
    if inside.get("XDG_RUNTIME_DIR", "").startswith("/run/"):  # that folder does not exist inside
        del inside["XDG_RUNTIME_DIR"]
    folders = [folder for folder in (outside.get("PATH") or os.defpath).split(":") if folder != BIN]
    folders += [folder for folder in ADMIN_FOLDERS if folder not in folders]
    return {**inside, "PATH": ":".join([BIN, *folders]), paths.SANDBOX_VARIABLE: "1"}


def _make_namespaces() -> None:
    """Move this process into new network and mount namespaces, with a loopback device and a new /run. Raises OSError
    that names the call."""
    unshare(CLONE_NEWNS | CLONE_NEWNET)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("labctl", "/run", "tmpfs", 0, "mode=755")
    for folder in ("/run/netns", "/run/labctl"):
        os.mkdir(folder)
        mount("labctl", folder, "tmpfs", 0, "mode=755")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    _write_launcher(Path(BIN))


def _write_launcher(folder: Path) -> None:
    """Write the command labctl that starts this very labctl, with this Python, from any current directory."""
    folder.mkdir()
    package_parent = str(Path(__file__).parents[2])
    (folder / "launcher.py").write_text(LAUNCHER.format(folder=package_parent))
    script = folder / "labctl"
    # with the cache of this Python, or root would write __pycache__ into a source tree
    cache = ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix is not None else []
    python = shlex.join([sys.executable, *cache, str(folder / "launcher.py")])
    script.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    script.chmod(0o755)


def _run_and_watch(command: Sequence[str], variables: dict[str, str]) -> int:
    """Start the keeper, forward signals to it, and return its exit code."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # if the keeper is killed, its children come here
    # under nohup, SIGHUP is ignored
    forwarded = {number for number in FORWARDED_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # with SIG_IGN the exit status of a child is lost
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, PARENT_ENDED, *forwarded})
    parent = os.getpid()
    with starting("the command"):
        keeper = os.fork()
    if keeper == 0:
        _keep(parent, command, variables, forwarded, old_mask)
    while True:
        ended, status = os.waitpid(keeper, os.WNOHANG)
        if ended:
            _kill_descendants()
            if os.WIFSIGNALED(status):  # the keeper could not do it
                _sweep()
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        received = signal.sigwaitinfo({signal.SIGCHLD, *forwarded})
        # si_code > 0: the terminal sent it, and the command has it already
        if received.si_signo != signal.SIGCHLD and received.si_code <= 0:
            with suppress(ProcessLookupError):
                os.kill(keeper, received.si_signo)


def _keep(
    parent: int, command: Sequence[str], variables: dict[str, str], forwarded: set[signal.Signals], old_mask: set[int]
) -> NoReturn:
    """The keeper: start the command, wait for its end or the parent's, and kill all processes that are left."""
    code = 70
    try:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        _prctl(PR_SET_PDEATHSIG, int(PARENT_ENDED))
        if os.getppid() == parent:  # else it ended before the last line
            code = _run_command(command, variables, forwarded, old_mask)
        _kill_descendants()
        _sweep()
    except LabError as error:
        os.write(2, f"labctl: {error}\n".encode(errors="replace"))
        code = error.code
        _kill_descendants()
    except BaseException as error:
        os.write(2, f"labctl: {type(error).__name__}: {error}\n".encode(errors="replace"))
        _kill_descendants()
    finally:
        os._exit(code)


def _run_command(
    command: Sequence[str], variables: dict[str, str], forwarded: set[signal.Signals], old_mask: set[int]
) -> int:
    with starting(command[0]):
        pid = os.fork()
    if pid == 0:
        code = 70
        try:
            restore_signal_defaults()
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
            code, _ = exec_command(list(command), variables)
        finally:
            os._exit(code)
    os.setsid()
    while True:
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == pid:
                return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            if not ended:
                break
        number = signal.sigwait({signal.SIGCHLD, PARENT_ENDED, *forwarded})
        if number == PARENT_ENDED:
            return 128 + signal.SIGKILL
        if number != signal.SIGCHLD:
            os.kill(pid, number)


def _kill_descendants() -> None:
    """Kill all processes below this one until there are none. Their orphans come to this process, the subreaper."""
    while True:
        for pid in _descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _descendants(pid: int) -> list[int]:
    """The ids of all processes below a process that has not been waited for: read from /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError):
            parent = int(Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _sweep() -> None:
    """Undo what killed verbs changed outside the namespaces: the instances of traces in the kernel's tracing."""
    if paths.has_unfinished_work():
        from labctl.kernel.leftovers import sweep

        sweep()


def _prctl(option: int, value: int) -> None:
    raise_on_error(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def main(args: Sequence[str]) -> int:
    """`sandbox PATH COMMAND...`: run the command in a sandbox, as root in a user namespace that was made before.

    PATH is the caller's `sys.path`, for the modules that clean up after killed verbs.
    """
    path, *command = args
    sys.path += [folder for folder in path.split(os.pathsep) if folder not in sys.path]
    try:
        return run(command, rootless=False)
    except LabError as error:
        print(f"labctl: {error}", file=sys.stderr)
        return error.code
