"""The programs of each firewall backend: find them, run them, and put them at the front of PATH."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from labctl.core.iptables import LEGACY_FAMILIES, Backend
from labctl.core.iptables_save import RestoreScript
from labctl.errors import KernelError, MissingError
from labctl.kernel.host import child_process

TIMEOUT_S = 300.0  # seconds that a program may take: some need minutes for ten thousands of rules
LOCK_INTERVAL_S = 0.02  # seconds between two attempts to lock
_OWN_OUTPUT = "/proc/self/fd/1"
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_TOOL_NAMES = tuple(f"{name}{verb}" for name in ("iptables", "ip6tables") for verb in ("", "-save", "-restore"))


@dataclass(frozen=True, slots=True)
class FirewallTool:
    """The programs of one family, and the command that loads what they need."""

    family: str
    command: str  # the name for users
    save: str
    restore: str
    kernel_hint: str  # the hint if the kernel lacks the tables
    legacy: bool = True  # ip_tables: then it has the option -w, wait for the lock


IPTABLES_LEGACY = FirewallTool(
    "ip", "iptables", "iptables-legacy-save", "iptables-legacy-restore", "modprobe ip_tables iptable_nat iptable_filter"
)


IP6TABLES_LEGACY = FirewallTool(
    "ip6", "ip6tables", "ip6tables-legacy-save", "ip6tables-legacy-restore", "modprobe ip6_tables ip6table_filter"
)


EBTABLES_NFT = FirewallTool(
    "bridge",
    "ebtables",
    "ebtables-nft-save",
    "ebtables-nft-restore",
    "modprobe nf_tables nft_compat",
    legacy=False,
)


_NFT = "modprobe nf_tables nft_compat nft_chain_nat"


IPTABLES_NFT = FirewallTool("ip", "iptables", "iptables-nft-save", "iptables-nft-restore", _NFT, legacy=False)


IP6TABLES_NFT = FirewallTool("ip6", "ip6tables", "ip6tables-nft-save", "ip6tables-nft-restore", _NFT, legacy=False)


# by backend: the tool for the chains of each family
TOOLS: dict[Backend, dict[str, FirewallTool]] = {
    "legacy": {"ip": IPTABLES_LEGACY, "ip6": IP6TABLES_LEGACY, "bridge": EBTABLES_NFT},
    "nft": {
        "ip": IPTABLES_NFT,
        "ip6": IP6TABLES_NFT,
        "bridge": EBTABLES_NFT,
        LEGACY_FAMILIES["ip"]: IPTABLES_LEGACY,
        LEGACY_FAMILIES["ip6"]: IP6TABLES_LEGACY,
    },
}


@cache
def find(program: str) -> str:
    """The path of a program. It also searches the sbin directories, which PATH often lacks. Raises MissingError."""
    folders = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}".split(":")
    paths = (os.path.join(folder, program) for folder in folders)  # not shutil, which imports three compressors
    path = next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)
    if path is None:
        raise MissingError(f"cannot find {program} (searched PATH and {_SBIN})", "apt install iptables")
    return path


def try_restore(tool: FirewallTool, work: RestoreScript) -> str | None:
    """Run the restore program with a script as its input. Returns its standard error, or None if it succeeded.

    A restore has nothing to print. If it prints something (a version, a help text), it did not do its work.
    """
    return RestoreRun(tool, work).finish()


class RestoreRun:
    """A restore program that has started in this thread's namespace, with a script as its input. It works on while
    no thread waits for it; then any thread may. With `new_tables` none of the script's tables exists yet.

    Raises LimitError, OSError, MissingError.
    """

    def __init__(self, tool: FirewallTool, work: RestoreScript, *, new_tables: bool = False) -> None:
        self._tool = tool
        # iptables-nft looks for each chain if the table may have it: five times slower with ten thousand chains
        keep = [] if new_tables and not tool.legacy else ["--noflush"]
        self._running = RunningTool([find(tool.restore), *keep, *(["-w"] if tool.legacy else [])], work.text)

    def finish(self) -> str | None:
        """Wait for its end. Returns its standard error, or None if it succeeded. Raises KernelError."""
        done = self._running.finish()
        if done.returncode == 0 and done.stdout.strip():
            first_line = done.stdout.strip().splitlines()[0][:80]
            return f"{self._tool.restore} printed {first_line!r} instead of writing the rules"
        return done.stderr if done.returncode else None

    def close(self) -> None:
        """End it, if it still runs."""
        self._running.close()


def run(command: Sequence[str], text: str | None = None) -> child_process.Finished:
    """Run one of the tools in this thread's namespace, with `text` as its input. Raises KernelError after `TIMEOUT_S`
    seconds."""
    return RunningTool(command, text).finish()


class RunningTool:
    """One of the tools, started in this thread's namespace with `text` as its input. Its input and output are files in
    memory, so it works on while no thread waits for it; then any thread may. The file that it locks is this output,
    which no other program has: who writes holds the lab's lock (`WriteLock`), and programs in several namespaces must
    not wait for each other. Raises LimitError, OSError."""

    def __init__(self, command: Sequence[str], text: str | None = None) -> None:
        self._program = command[0]
        self._output = os.memfd_create("labctl-output")
        given = -1 if text is None else os.memfd_create("labctl-input")
        try:
            if text is not None:
                _write_all(given, text.encode(errors="replace"))
            self._child = child_process.Child(
                command,
                environment={**os.environ, "LC_ALL": "C", "XTABLES_LOCKFILE": _OWN_OUTPUT},
                input_file=None if text is None else given,
                output_file=self._output,
            )
        except BaseException:
            self._close_output()
            raise
        finally:
            if given >= 0:
                os.close(given)

    def finish(self) -> child_process.Finished:
        """Wait for its end. Raises KernelError after `TIMEOUT_S` seconds."""
        try:
            done = self._child.communicate("", TIMEOUT_S)
            return replace(done, stdout=_read_all(self._output))
        except child_process.ChildTimeoutError:
            raise KernelError(f"{os.path.basename(self._program)} did not finish within {TIMEOUT_S:g} s") from None
        finally:
            self.close()

    def close(self) -> None:
        """End it, if it still runs. Can be called twice."""
        self._child.close()
        self._close_output()

    def _close_output(self) -> None:
        if self._output >= 0:
            os.close(self._output)
            self._output = -1


def _write_all(fd: int, data: bytes) -> None:
    """Write a file in memory, and go back to its beginning."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)


def _read_all(fd: int) -> str:
    with open(os.dup(fd), "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")


class WriteLock:
    """The lock of a lab's writers, for the time between `acquire` and `release`: the file that iptables locks in CNI
    plugins, too. This process holds it, so that the tools can work in several namespaces at the same time."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._fd = path, -1

    def acquire(self) -> None:
        """Take the lock, if this object does not have it. Without a file there is nothing to lock. Raises KernelError
        after `TIMEOUT_S` seconds, OSError."""
        if self._path is None or self._fd >= 0:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self.release()
                    what = f"cannot lock {self._path} within {TIMEOUT_S:g} s"
                    raise KernelError(what, f"another process holds it: fuser {self._path}") from None
                time.sleep(LOCK_INTERVAL_S)

    def release(self) -> None:
        """Give the lock back. Can be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def make_tool_directory(directory: Path | str, backend: Backend = "legacy") -> Path:
    """Create a directory for the front of PATH in which `iptables` is the variant of the lab's backend.

    Returns the directory; a second call is harmless. ebtables stays the system's. Raises MissingError, OSError.
    """
    multi = os.path.realpath(find(f"iptables-{backend}"))
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in _TOOL_NAMES:
        link = directory / name
        if not link.is_symlink() or os.readlink(link) != multi:
            link.unlink(missing_ok=True)
            link.symlink_to(multi)
    return directory
