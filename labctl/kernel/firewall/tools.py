"""Save and restore with the firewall's command-line tools: iptables of either backend, ebtables-nft for bridges.

Each runs once for a whole namespace, from a thread that has entered it, with the lock file of the lab. All namespaces
of the machine share the tools' default lock file, so labs would wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from labctl.core.iptables import BUILTIN
from labctl.core.iptables_save import (
    ChainCounters,
    RuleTexts,
    TableEdit,
    expected_tables,
    incompatible_line,
    parse_chains,
    parse_save,
    restore_script,
)
from labctl.core.resources import Chain
from labctl.kernel.firewall import written_rules
from labctl.kernel.firewall.commands import FirewallTool, RestoreRun, RunningTool, find, run
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import nft_tables

_UNREADABLE = "Parsing nftables rule failed"


def legacy_tables(name: str) -> list[str]:
    """The legacy tables of one family that exist in this thread's namespace. `name` is the file that lists them, such
    as `ip_tables_names`. Empty if the kernel does not have the family. This does not create a table."""
    try:
        fd = os.open(f"/proc/thread-self/net/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return os.read(fd, 4096).decode().split()
    finally:
        os.close(fd)


class SaveRun:
    """A save program that has started in this thread's namespace. Any thread may wait for its end. A context manager:
    leaving it ends the program. It prints the counters of rules only with `counters`. What it should print is made
    from `wanted`, the chains of a plan, while it runs.

    Raises LimitError, OSError, MissingError.
    """

    def __init__(self, tool: FirewallTool, ns: str, *, counters: bool, wanted: Iterable[Chain] = ()) -> None:
        self.tool, self.ns = tool, ns
        self._running = RunningTool([find(tool.save), *(["-c"] if counters else [])])
        # only iptables-nft and ebtables-nft can meet tables that they cannot read; then they are called again
        self._netns = -1 if tool.legacy else os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        mine = (one for one in wanted if one.ns == ns and one.family == tool.family)
        self.expected = {} if tool.family == "bridge" else expected_tables(mine)  # ebtables prints another form

    def __enter__(self) -> SaveRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.close()
        self._forget_netns()

    def text(self) -> str:
        """What it prints. Waits for its end.

        A table with a rule that the program cannot read is left out and named in a comment, as the program itself does
        with some of them. Raises KernelError.
        """
        try:
            done = self._running.finish()
            if done.returncode and self._netns >= 0 and _UNREADABLE in done.stderr:
                with NetnsThread() as inside:
                    return inside.run(self._netns, _readable_tables, self.tool)
        finally:
            self._forget_netns()
        if done.returncode:
            from labctl.kernel.firewall.diagnose import tool_error

            raise tool_error(f"cannot read the {self.tool.command} rules in {self.ns}", self.tool, done.stderr)
        return done.stdout

    def _forget_netns(self) -> None:
        if self._netns >= 0:
            os.close(self._netns)
            self._netns = -1

    def chains(self) -> tuple[Chain, ...]:
        """The chains that it prints without counters. Waits for its end. Raises KernelError."""
        return tuple(parse_chains(self.ns, self.tool.family, self.text(), self.expected))

    def chain_counters(self) -> tuple[ChainCounters, ...]:
        """The chains that it prints with counters. Waits for its end. Raises KernelError."""
        return tuple(parse_save(self.ns, self.tool.family, self.text()))


def _readable_tables(tool: FirewallTool) -> str:
    """What the save program prints of each table that it can read."""
    texts = []
    for table in (name for family, name in BUILTIN if family == tool.family):
        done = run([find(tool.save), "-c", "-t", table])
        texts.append(
            done.stdout if not done.returncode else incompatible_line(table) if _UNREADABLE in done.stderr else ""
        )
    return "".join(texts)


class RunningWrite:
    """Edits that the restore program of one family makes in this thread's namespace, each table atomically; other
    chains do not change. `texts` are those of rules that other namespaces have, too."""

    def __init__(
        self, tool: FirewallTool, ns: str, table_edits: Sequence[TableEdit], texts: RuleTexts | None = None
    ) -> None:
        self._tool, self._ns, self._edits = tool, ns, table_edits
        self._work = restore_script(table_edits, texts)
        present = () if tool.legacy else nft_tables.tables()
        new_tables = not any((tool.family, edit.table) in present for edit in table_edits)
        self._running = RestoreRun(tool, self._work, new_tables=new_tables)

    def finish(self) -> None:
        """Wait for the end, in the same namespace. Raises KernelError with table, chain, rule and cause, or
        MissingError."""
        if (stderr := self._running.finish()) is not None:
            from labctl.kernel.firewall.diagnose import explain_refusal

            raise explain_refusal(self._tool, self._ns, self._edits, self._work, stderr)
        written_rules.verify(self._tool, self._ns, self._edits)

    def close(self) -> None:
        """End it, if it still runs."""
        self._running.close()


def write(tool: FirewallTool, ns: str, table_edits: Sequence[TableEdit]) -> None:
    """Make these edits in this thread's namespace, and wait for their end. Raises KernelError, MissingError."""
    RunningWrite(tool, ns, table_edits).finish()
