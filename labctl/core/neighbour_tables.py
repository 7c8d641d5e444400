"""The kernel's neighbour tables, one per IP version, which all namespaces of a machine share. Pure.

When a table is full, the kernel creates no entry for a new neighbour: it drops the packet that needs the entry, and it
does not answer a neighbour that it cannot remember. A lab that is right then loses packets. Permanent entries and
those that a program has learned (`extern_learn`) do not count (Linux 5.0 and later, net/core/neighbour.c).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from labctl.core.sentence import Sentence, sentence

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
    def raised_limit(self) -> str:
        """The sysctl of the limit, with a value that is high enough."""
        return _raised_limit(self.version, self.limit)

    @property
    def raise_command(self) -> str:
        """The command that raises the limit."""
        return f"sysctl -w {self.raised_limit}"


@dataclass(frozen=True, slots=True)
class FullTable:
    """A table that the kernel found full."""

    version: int
    limit: int = DEFAULT_LIMIT

    @property
    def raise_command(self) -> str:
        """The command that raises the limit."""
        return f"sysctl -w {_raised_limit(self.version, self.limit)}"

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Sentence:
        """What was full, and what gives it room."""
        return sentence(
            "the machine's neighbour table for IPv{version} was full meanwhile ({limit} entries for all labs together),"
            " so packets may be lost: the sysctl {sysctl} gives it room",
            version=self.version,
            limit=self.limit,
            sysctl=_raised_limit(self.version, self.limit),
        )


def _raised_limit(version: int, limit: int) -> str:
    return f"net.ipv{version}.neigh.default.gc_thresh3={max(limit * 8, 8192)}"


NeighbourTables: TypeAlias = tuple[NeighbourTable, ...]


def full_tables(
    before: NeighbourTables, after: NeighbourTables, versions: Iterable[int] = (4, 6)
) -> tuple[FullTable, ...]:
    """The tables of these IP versions that the kernel found full between two readings."""
    counts = {table.version: table.full_count for table in before}
    return tuple(
        FullTable(table.version, table.limit)
        for table in after
        if table.version in versions and table.full_count > counts.get(table.version, table.full_count)
    )
