"""The firewall's command-line tools, to save and to restore: iptables of either back end, ebtables-nft for bridges.

Each runs once for a whole namespace, from a thread that has entered it, with a lock file of the lab's
own: the tools' usual one is shared by all namespaces of the machine, and labs would wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labctl.core.iptables_save import Counted, Edit, parse, script
from labctl.kernel.firewall.commands import Tool, attempt, find, run


def listed(name: str) -> list[str]:
    """The legacy tables that exist in this thread's namespace, by the file that lists a family's
    (`ip_tables_names`); none where the kernel has no such family. Makes none."""
    try:
        fd = os.open(f"/proc/thread-self/net/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return os.read(fd, 4096).decode().split()
    finally:
        os.close(fd)


def save(tool: Tool, ns: str) -> tuple[Counted, ...]:
    """All chains of the tool's family in the namespace of this thread. Raises KernelError, MissingError."""
    return tuple(parse(ns, tool.family, save_text(tool, ns)))


def save_text(tool: Tool, ns: str) -> str:
    """What the tool prints of the namespace of this thread, counters too. Raises KernelError, MissingError."""
    done = run([find(tool.save), "-c"])
    if done.returncode:
        from labctl.kernel.firewall.diagnose import refused

        raise refused(f"cannot read the {tool.command} rules in {ns}", tool, done.stderr)
    return done.stdout


def write(tool: Tool, ns: str, changing: Sequence[Edit], lock: Path | None = None) -> None:
    """Make these edits, each table in one stroke, and touch no other chain.

    Raises KernelError naming table, chain, rule and cause, MissingError.
    """
    work = script(changing)
    if (stderr := attempt(tool, work, lock)) is not None:
        from labctl.kernel.firewall.diagnose import explain

        raise explain(tool, ns, changing, work, stderr)
