"""Run a function in a child process, count what it does in the kernel, and kill the child before the Nth operation.

The child is traced with ptrace(2): it stops at the entry of every system call, all its threads included, and the child
programs that it starts run free, as they would. SIGKILL reaches it in such a stop, so the operation itself does not
happen any more. Nothing in labctl is changed for that.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
OPTIONS = 0x1 | 0x8 | 0x100000  # TRACESYSGOOD, TRACECLONE, EXITKILL
WALL = 0x40000000
SYSCALL_STOP = signal.SIGTRAP | 0x80
ENTRY, EXIT = 1, 2
RESTARTS = range(-516, -511)  # ERESTARTSYS and the like: the kernel makes the call again, while others hold a lock
RESULT = struct.Struct("=24xq")  # the same at an exit: the result
SYSCALL_INFO = struct.Struct("=B3xIQQ7Q")  # struct ptrace_syscall_info at an entry: op, arch, ip, sp, nr, six arguments
NLMSG = struct.Struct("=IH")  # the beginning of struct nlmsghdr: the length, the type
NLMSG_BYTES = 16  # the whole header
RTM_BASE, RTM_END = 16, 256  # the types of rtnetlink messages; each fourth reads
LIMIT_S = 120  # seconds that a child may take
O_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SOL_PACKET, TUNSETIFF, TUNSETPERSIST = 263, 0x400454CA, 0x400454CB
FIRST_XTABLES_OPTION = 64  # IPT_BASE_CTL: setsockopt() of iptables begins here

# what can change something that outlives the call, by its number on x86_64 (asm/unistd_64.h)
OPERATIONS = {
    1: "write", 2: "open", 16: "ioctl", 18: "pwrite64", 20: "writev", 44: "sendto", 46: "sendmsg", 54: "setsockopt",
    56: "clone", 57: "fork", 58: "vfork", 62: "kill", 73: "flock", 77: "ftruncate", 82: "rename", 83: "mkdir",
    84: "rmdir", 86: "link", 87: "unlink", 88: "symlink", 165: "mount", 166: "umount2", 257: "openat", 258: "mkdirat",
    263: "unlinkat", 264: "renameat", 265: "linkat", 266: "symlinkat", 272: "unshare", 307: "sendmmsg",
    316: "renameat2", 424: "pidfd_send_signal", 430: "fsopen", 431: "fsconfig", 432: "fsmount", 435: "clone3",
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


@dataclass
class Run:
    """One run of a child: the operations that it made, whether it was killed before the last of them, its exit code
    (-9 if it was killed), and what it printed."""

    operations: list[str] = field(default_factory=list)
    killed: bool = False
    code: int = 0
    output: str = ""


def unsupported() -> str:
    """Why this machine cannot trace, or ""."""
    return (
        "" if platform.machine() == "x86_64" else f"system calls are counted on x86_64 only, not {platform.machine()}"
    )


def run(function: Callable[[], int], kill_at: int | None = None) -> Run:
    """Run a function in a traced child; kill the child before its operation with the number `kill_at` (from 1)."""
    found = Run()
    with tempfile.TemporaryFile() as output:
        pid = _start(function, output.fileno(), traced=True)
        os.waitpid(pid, WALL)  # it has stopped itself
        _ptrace(SETOPTIONS, pid, OPTIONS)
        _ptrace(SYSCALL, pid)
        found.code = _follow(pid, found, kill_at)
        output.seek(0)
        found.output = output.read().decode(errors="replace")
    return found


def run_free(function: Callable[[], int]) -> Run:
    """Run a function in a child process that is not traced."""
    with tempfile.TemporaryFile() as output:
        pid = _start(function, output.fileno(), traced=False)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        return Run(code=code, output=output.read().decode(errors="replace"))


def _start(function: Callable[[], int], output: int, *, traced: bool) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        for fd in (1, 2):
            os.dup2(output, fd)
        signal.alarm(LIMIT_S)
        if traced:
            libc.ptrace(TRACEME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
        code = function()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _follow(pid: int, found: Run, kill_at: int | None) -> int:
    """Let the child and its threads go from stop to stop until it ends; returns its exit code."""
    threads, restarted = {pid}, set[int]()
    while True:
        tid, status = os.waitpid(-1, WALL)
        if tid == pid and not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        if not os.WIFSTOPPED(status):
            continue  # a thread, or an orphan of an earlier run
        number = os.WSTOPSIG(status)
        passed_on = 0
        if number == SYSCALL_STOP:
            name = _operation(tid, restarted)
            if name and not found.killed:
                found.operations.append(name)
                if len(found.operations) == kill_at:
                    found.killed = True
                    os.kill(pid, signal.SIGKILL)
        elif number == signal.SIGSTOP and tid not in threads:
            threads.add(tid)  # a new thread begins with this stop
        elif number != signal.SIGTRAP:
            passed_on = number
        try:
            _ptrace(SYSCALL, tid, passed_on)
        except ProcessLookupError:
            continue  # killed


def _operation(tid: int, restarted: set[int]) -> str:
    """The operation that a thread is about to make; "" if it is none, if the call has ended, or if the kernel makes it
    again. `restarted` are the threads with such a call."""
    buffer = ctypes.create_string_buffer(SYSCALL_INFO.size)
    if libc.ptrace(GET_SYSCALL_INFO, tid, SYSCALL_INFO.size, ctypes.addressof(buffer)) < 0:
        return ""
    operation, _, _, _, number, *args = SYSCALL_INFO.unpack(buffer.raw)
    name = OPERATIONS.get(number, "")
    if operation == EXIT and RESULT.unpack_from(buffer.raw)[0] in RESTARTS:
        restarted.add(tid)
    if operation != ENTRY:
        return ""
    if tid in restarted:
        restarted.remove(tid)
        return ""
    if not name:
        return ""
    if name in ("open", "openat") and not args[1 if name == "open" else 2] & O_WRITES:
        return ""  # it only reads
    if name in ("write", "writev") and args[0] in (1, 2):
        return ""  # what it prints
    if name == "ioctl" and args[1] & 0xFFFFFFFF not in (TUNSETIFF, TUNSETPERSIST):
        return ""  # a question
    if name == "sendto" and not _is_change(tid, args[1], args[2]):
        return ""
    if name == "setsockopt" and args[1] != SOL_PACKET and args[2] < FIRST_XTABLES_OPTION:
        return ""  # of the socket only
    return name


def _is_change(tid: int, address: int, size: int) -> bool:
    """Whether the bytes that a thread is about to send are netlink messages that do not only read: neither a probe
    packet nor one message such as RTM_GETLINK."""
    if size < NLMSG_BYTES:
        return False
    with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        length, kind = NLMSG.unpack(memory.read(NLMSG.size))
    if not NLMSG_BYTES <= length <= size:
        return False  # no netlink message
    return not (length == size and RTM_BASE <= kind < RTM_END and kind % 4 == 2)


def _ptrace(request: int, tid: int, data: int = 0) -> None:
    if libc.ptrace(request, tid, None, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
