"""Labs without root: in a separate user namespace of the caller. A process that does nothing else holds it open.

Inside, the caller is root over a private network namespace and private directories (/run), and all verbs work as they
do for root. Every run of labctl enters the namespaces of this holder process again. It starts with the first lab and
ends with the last one. What only the machine's root may do stays impossible: to load modules, to use the kernel's
tracing, to change global limits.

See user_namespaces(7). unshare(1) of util-linux creates the namespaces, because it can map more than one user
(newuidmap, /etc/subuid) where the machine allows that.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError, MissingError
from labctl.kernel.host import child_process
from labctl.kernel.host.limits import require_spare_files, start_error_in
from labctl.kernel.host.paths import HOLDER_VARIABLE
from labctl.kernel.host.syscalls import CLONE_NEWNET, CLONE_NEWNS, setns
from labctl.kernel.namespaces import occupants

CLONE_NEWUSER = 0x10000000
START_TIMEOUT_S = 10.0  # seconds that the holder may take to start
NO_ANSWER = "unshare did not answer"
SPARE_FILES = 15  # that it takes to start the holder and to enter its namespaces
END_TIMEOUT_S = 2.0  # seconds to wait for the end of a killed holder
ORPHAN_GRACE_S = 0.1  # seconds between SIGTERM and SIGKILL for processes of a killed holder
MAX_DIGITS = 20  # of a process id
HOLDER_FILE = "holder"
LOCK_FILES = ("door", "guests")  # the lock of the holder itself, and the lock that all processes inside share
SETUP = (
    "mount -t tmpfs -o mode=755 none /run && mkdir /run/netns /run/labctl && ip link set lo up"
    " && echo ready && exec sleep infinity"
)
KINDS = ("user", "net")  # of which the holder has its own
NAMESPACE_FLAGS = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET
APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


def holder_dir() -> Path:
    """The user's folder in which the holder is recorded. Raises MissingError if other users could write to it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = (
        Path(base, "labctl")
        if base and os.path.isabs(base) and os.path.isdir(base)
        else Path(f"/tmp/labctl-{os.getuid()}")
    )
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise MissingError(f"cannot use {folder} without root: {error.strerror}") from None
    if found.st_uid != os.getuid() or found.st_mode & 0o022 or not folder.is_dir() or folder.is_symlink():
        raise MissingError(f"{folder} must belong to this user alone", "remove it, or set XDG_RUNTIME_DIR")
    return folder


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the namespaces: its id, and two lock files, kept open because inside they have no name.

    `lock_fd` is locked while labctl looks for the holder, starts it or ends it. All processes that are inside have a
    shared lock on `users_fd`.
    """

    pid: int
    lock_fd: int
    users_fd: int


def enter() -> Holder:
    """Move this process, which must have only one thread, into the namespaces of the holder; start it if necessary.

    Raises MissingError if this machine does not let its users create namespaces, LimitError if only a few files can be
    opened.
    """
    require_spare_files(spare=SPARE_FILES)
    folder, cwd = holder_dir(), os.open(".", os.O_PATH | os.O_CLOEXEC)  # also of a folder that is gone
    lock_fd, users_fd = (_open_file(folder / name, os.O_RDWR | os.O_CREAT) for name in LOCK_FILES)
    with _exclusive_lock(lock_fd):
        pid = _holder(folder)
        if pid is None:
            _end_orphans(folder)
            pid = _start(folder)
        fcntl.flock(users_fd, fcntl.LOCK_SH)
        try:
            fd = os.pidfd_open(pid)
            try:
                setns(fd, NAMESPACE_FLAGS)
            finally:
                os.close(fd)
        except OSError as error:
            raise MissingError(f"cannot enter the namespaces of process {pid}: {error.strerror}") from None
    with suppress(OSError):
        os.chdir(os.readlink(f"/proc/self/fd/{cwd}"))  # the same folder, but in the other mount namespace
    os.close(cwd)
    os.environ[HOLDER_VARIABLE] = str(folder)  # every process that is started inside inherits it
    return Holder(pid, lock_fd, users_fd)


def holder_root() -> Path | None:
    """The root directory of the holder's namespaces, for callers that only read; None if there is no holder.

    Raises MissingError as `holder_dir` does.
    """
    pid = _holder(holder_dir())
    return None if pid is None else Path(f"/proc/{pid}/root")


def leave(holder: Holder) -> None:
    """End the holder if no lab is left in its namespaces and no other process is inside. Call it from inside."""
    from labctl.kernel.host import paths

    with _exclusive_lock(holder.lock_fd), suppress(BlockingIOError, ProcessLookupError):
        fcntl.flock(holder.users_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not paths.labs():
            os.kill(holder.pid, signal.SIGKILL)  # sleep(1) has nothing to clean up
            _wait_for_end(holder.pid)


def _wait_for_end(pid: int) -> None:
    """Wait until a killed process has ended, so that nothing is left when this run ends."""
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            select.select([fd], [], [], END_TIMEOUT_S)
        finally:
            os.close(fd)


def _open_file(path: Path, flags: int) -> int:
    """A file descriptor of one of the holder's files; it must be a regular file.

    Raises MissingError.
    """
    hint = f"remove {path}, or set XDG_RUNTIME_DIR to another folder"
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MissingError(f"cannot use {path} without root: {error.strerror}", hint) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MissingError(f"cannot use {path} without root: it is not a file", hint)
    return fd


@contextmanager
def _exclusive_lock(lock_fd: int) -> Iterator[None]:
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock_fd, fcntl.LOCK_UN)


def _holder(folder: Path) -> int | None:
    """The process id of the recorded holder, if that process still is the holder."""
    if not os.path.lexists(folder / HOLDER_FILE):
        return None
    with os.fdopen(_open_file(folder / HOLDER_FILE, os.O_RDONLY), errors="replace") as file:
        text = file.read(MAX_DIGITS + 1).strip()
    if not (text.isascii() and text.isdigit()):
        return None
    pid = int(text)
    return pid if _is_in_holder(pid, folder) else None


def _is_in_holder(pid: int, folder: Path) -> bool:
    """Whether a process is in the namespaces of a holder that is recorded in this folder."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        shared = any(os.readlink(f"/proc/self/ns/{kind}") == os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS)
    except OSError:
        return False
    return f"{HOLDER_VARIABLE}={folder}".encode() in environment and not shared


def _end_orphans(folder: Path) -> None:
    """End the processes that are left in the namespaces of a killed holder: no run of labctl can enter these again."""
    occupants.terminate(
        (int(name) for name in os.listdir("/proc") if name.isdigit() and _is_in_holder(int(name), folder)),
        ORPHAN_GRACE_S,
    )


def user_namespace_command() -> list[str]:
    """The unshare command before a command that shall be root in a new user namespace. It was tried, with the other
    namespaces of labs. Raises MissingError if this machine does not let its users create namespaces."""
    problem = ""
    for command in _unshare_commands():
        try:
            tried = child_process.run([*command, "--mount", command[0], "--net", "true"], timeout_s=START_TIMEOUT_S)
        except child_process.ChildTimeoutError:
            problem = NO_ANSWER
            continue
        if tried.returncode == 0:
            return command
        problem = (tried.stderr.strip().splitlines() or [problem])[-1]
    raise _refusal(problem)


def _start(folder: Path) -> int:
    problem = ""
    for command in _unshare_commands():
        words = [*command, "--mount", "--propagation", "private", command[0], "--net", "sh", "-c", SETUP]
        pid, message = _try(words, folder)
        if pid is not None:
            try:
                with os.fdopen(_open_file(folder / HOLDER_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
                    file.write(f"{pid}\n")
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise
            return pid
        problem = message or problem
    raise _refusal(problem)


def _unshare_commands() -> Iterator[list[str]]:
    """The commands that make a user namespace, the best first. Raises MissingError without unshare."""
    unshare = shutil.which("unshare", path=f"{os.environ.get('PATH', os.defpath)}:/usr/bin:/bin")
    if unshare is None:
        raise MissingError("labs without root need the program unshare", "install util-linux")
    for users in (["--map-auto"], []):  # more than one user where possible: tcpdump changes to another user
        yield [unshare, "--user", "--map-root-user", *users]


def _refusal(problem: str) -> LabError:
    """The error for what unshare, or the shell that it becomes, has printed."""
    refused = MissingError(f"this machine does not let its users create namespaces: {problem}", _userns_hint())
    return start_error_in("the process that holds the namespaces", problem) or refused


def _try(command: list[str], folder: Path) -> tuple[int | None, str]:
    environment = {
        **os.environ,
        HOLDER_VARIABLE: str(folder),
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
    }
    with child_process.Child(command, environment=environment, folder="/") as child:
        if child.first_output(START_TIMEOUT_S) == "ready\n":
            return child.release(), ""
        child.kill()
        message = child.output()[1].strip()
    return None, message.splitlines()[-1] if message else NO_ANSWER


def _userns_hint() -> str:
    with suppress(OSError):
        if APPARMOR.read_text().strip() == "1":
            return "AppArmor forbids it: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or use sudo"
    for name, wanted in (("kernel/unprivileged_userns_clone", "1"), ("user/max_user_namespaces", "15000")):
        with suppress(OSError):
            if Path("/proc/sys", name).read_text().strip() == "0":
                return f"sudo sysctl -w {name.replace('/', '.')}={wanted}, or use sudo"
    return "use sudo"
