"""The limits of this process: open files, processes and threads, memory. A limit that is reached becomes one sentence.

labctl keeps one or two files open for each namespace of a lab. Before it opens one more of these, some descriptors must
be free for the files that it opens only for a moment: a sysctl, a folder of /proc, the files of a child process. So the
work stops at a clear place. Otherwise a small file could not be read somewhere in the middle, and what is not read
would look as if it were not there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from labctl.errors import LimitError

SPARE_FILES = 24  # descriptors that stay free for files that are open only for a moment
ENOUGH_FILES = 16384  # open files that are enough for labs of some thousand namespaces

_MEMORY_WORDS = ("Cannot allocate memory", "failed to map segment", "out of memory")  # of the dynamic linker, of ctypes
_THREAD_WORDS = "can't start new thread"  # of Python
_NO_FORK = "cannot fork"
_NO_THREAD = "cannot start a thread: "
_PROCESS_HINT = "end other processes, or raise the limit: ulimit -u, or pids.max of the cgroup (systemd: TasksMax)"
_MEMORY_HINT = "end other processes, or raise the limit: ulimit -v, or memory.max of the cgroup"


def raise_open_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit. Only root could go beyond that one, and an administrator
    has set it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # the machine's fs.nr_open is lower now
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def prepare_open_files() -> None:
    """For work on a lab: raise the limit of open files, and raise LimitError if only a few can be opened even so."""
    raise_open_file_limit()
    require_spare_files()


def widen_file_table(count: int) -> None:
    """Let the kernel widen its table of this process's open files at once, to hold so many.

    Otherwise the table doubles each time it is full. In a process with threads, each time waits until no processor can
    read the old table: 10 to 25 ms. So call it before the first thread starts. If the limit of open files is lower, or
    there is no memory for it, the table stays as it is.
    """
    raise_open_file_limit()
    with suppress(OSError):
        fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, count))
        finally:
            os.close(fd)


def require_spare_files(lowest_free: int | None = None, spare: int = SPARE_FILES) -> None:
    """Raise LimitError unless `spare` files can still be opened.

    `lowest_free` is the number of a descriptor that was just opened; the kernel always takes the lowest one that is
    free, and none above the limit.
    """
    if lowest_free is None:
        try:
            lowest_free = os.open("/", os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise limit_error(error) or error from None
        os.close(lowest_free)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and lowest_free + spare > limit:
        raise _too_few_files(lowest_free + spare)


def limit_error(error: BaseException) -> LimitError | None:
    """The sentence for an error that says that a limit is reached; None for any other error."""
    if isinstance(error, LimitError):
        return error
    if isinstance(error, OSError):
        if error.errno == errno.EMFILE:
            return _too_few_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0] + SPARE_FILES)
        if error.errno == errno.ENFILE:
            return LimitError("this machine has too many open files", "sysctl -w fs.file-max=NUMBER raises the limit")
    text = str(error)
    if isinstance(error, RuntimeError) and _THREAD_WORDS in text:
        return LimitError(f"{_NO_THREAD}too many processes, or too little memory", _PROCESS_HINT)
    no_memory = isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM
    if no_memory or (isinstance(error, (ImportError, OSError)) and any(word in text for word in _MEMORY_WORDS)):
        return LimitError("this process cannot get more memory", _MEMORY_HINT)
    return None


def start_error(what: str, error: BaseException) -> LimitError | None:
    """The sentence for a process or thread that could not be started, as the kernel has none to give, or no memory or
    file for it; None for any other error. `what` names it: "ping"."""
    if isinstance(error, BlockingIOError):  # EAGAIN, of fork
        return LimitError(f"cannot start {what}: too many processes", _PROCESS_HINT)
    found = limit_error(error)
    if found is None:
        return None
    reason = found.message.removeprefix(_NO_THREAD)
    return LimitError(f"cannot start {what}: {reason}", found.hint)


def start_error_in(what: str, output: str) -> LimitError | None:
    """As `start_error`, from what a child has printed that itself could not start a process; None for other texts."""
    if _NO_FORK in output.lower():  # of sh
        return start_error(what, BlockingIOError())
    numbers = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE)
    number = next((one for one in numbers if os.strerror(one) in output), None)
    return None if number is None else start_error(what, OSError(number, output))


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Around the start of a process or thread: raises LimitError as `start_error` says. Other errors pass."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        found = start_error(what, error)
        if found is None:
            raise
        raise found from None


def _too_few_files(needed: int) -> LimitError:
    wanted = max(ENOUGH_FILES, 2 * needed)
    return LimitError(
        f"too few open files: this process may have {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} of them, and needs"
        f" at least {needed}",
        f"prlimit --nofile={wanted}:{wanted} labctl ..., or nofile in /etc/security/limits.conf",
    )
