"""The kernel's neighbour tables, one per IP version, which all namespaces of a machine share. Pure.

When a table is full, the kernel creates no entry for a new neighbour: it drops the packet that needs the entry, and it
does not answer the question of a neighbour that needs one. A lab that is right then loses packets. Permanent entries
and those that a program has learned (`extern_learn`) do not count (Linux 5.0 and later, net/core/neighbour.c).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_LIMIT = 1024  # gc_thresh3 of an untouched machine


@dataclass(frozen=True, slots=True)
class NeighbourTable:
    """One table: how many entries it may have, how many it has (with those that do not count), and how often the
    kernel found it full since the boot."""

    version: int  # 4: ARP, 6: neighbour discovery
    limit: int
    entry_count: int
    full_count: int

    @property
    def room(self) -> int:
        """New entries that fit at least."""
        return max(0, self.limit - self.entry_count)

    @property
    def raise_command(self) -> str:
        """The command that raises the limit."""
        return f"sysctl -w net.ipv{self.version}.neigh.default.gc_thresh3={max(self.limit * 8, 8192)}"


NeighbourTables = tuple[NeighbourTable, ...]


def full_tables(before: NeighbourTables, after: NeighbourTables, versions: Iterable[int] = (4, 6)) -> tuple[str, ...]:
    """A sentence for each table of these IP versions that the kernel found full between two readings, with the command
    that raises its limit."""
    counts = {table.version: table.full_count for table in before}
    return tuple(
        f"the machine's neighbour table for IPv{table.version} was full meanwhile ({table.limit} entries for all labs"
        f" together), so packets were lost outside this lab's rules and routes; as root: {table.raise_command}"
        for table in after
        if table.version in versions and table.full_count > counts.get(table.version, table.full_count)
    )
