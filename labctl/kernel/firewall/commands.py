"""The programs of each firewall backend: find them, run them, and put them at the front of PATH."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labctl.core.iptables import LEGACY_FAMILIES, Backend
from labctl.core.iptables_save import RestoreScript
from labctl.errors import KernelError, MissingError
from labctl.kernel.host import child_process

TIMEOUT_S = 300.0  # seconds that a program may take: some need minutes for ten thousands of rules
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
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if path is None:
        raise MissingError(f"cannot find {program} (searched PATH and {_SBIN})", "apt install iptables")
    return path


def try_restore(tool: FirewallTool, work: RestoreScript, lock: Path | None = None) -> str | None:
    """Run the restore program with a script as its input. Returns its standard error, or None if it succeeded.

    A restore has nothing to print. If it prints something (a version, a help text), it did not do its work.
    """
    done = run([find(tool.restore), "--noflush", *(["-w"] if tool.legacy else [])], work.text, lock)
    if done.returncode == 0 and done.stdout.strip():
        return f"{tool.restore} printed {done.stdout.strip().splitlines()[0][:80]!r} instead of writing the rules"
    return done.stderr if done.returncode else None


def run(command: list[str], text: str | None = None, lock: Path | None = None) -> child_process.Finished:
    """Run one of the tools in this thread's namespace, with `text` as its input.

    Without a `lock` file (to read, or in a namespace that no other process uses) the tool locks /dev/null. Raises
    KernelError after `TIMEOUT_S` seconds.
    """
    if lock is not None:
        lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        return child_process.run(command, text=text, environment=_environment(lock), timeout_s=TIMEOUT_S)
    except child_process.ChildTimeoutError:
        raise _timeout_error(command[0], lock) from None


class RunningTool:
    """One of the tools, started in this thread's namespace to read: without input, and without a lock. Any thread may
    wait for its end. Raises LimitError, OSError."""

    def __init__(self, command: list[str]) -> None:
        self._child = child_process.Child(command, environment=_environment(None))
        self._program = command[0]

    def finish(self) -> child_process.Finished:
        """Wait for its end. Raises KernelError after `TIMEOUT_S` seconds."""
        try:
            return self._child.communicate("", TIMEOUT_S)
        except child_process.ChildTimeoutError:
            raise _timeout_error(self._program) from None

    def close(self) -> None:
        """End it, if it still runs."""
        self._child.close()


def _timeout_error(program: str, lock: Path | None = None) -> KernelError:
    hint = f"does another process hold its lock? fuser {lock}" if lock is not None else ""
    return KernelError(f"{os.path.basename(program)} did not finish within {TIMEOUT_S:g} s", hint)


def _environment(lock: Path | None) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "XTABLES_LOCKFILE": str(lock or os.devnull)}


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
