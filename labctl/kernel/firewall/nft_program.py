"""Read and write the tables of nft with the program `nft`.

One run for a whole namespace, started in a thread that has entered it; then any thread may wait for it. `nft -f`
carries out its input as one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack

from labctl.core.nft_changes import change_script, needs_present
from labctl.core.nft_counters import NftCounters, parse_counters
from labctl.core.nft_refusals import refusals
from labctl.core.nft_ruleset import parse_ruleset
from labctl.core.resources import NftObject
from labctl.errors import KernelError, MissingError
from labctl.kernel.firewall import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from labctl.core.diff import Change

HINT = "apt install nftables"
Table = tuple[str, str]  # family, name
_DENIED = re.compile(r"\bcounter packets (\d+) bytes \d+ (?:drop|reject)\b")


class NftRead:
    """A run of nft that lists some tables of this thread's namespace. A context manager: leaving it ends the program.

    Without the program there is nothing to read in the tables; that is MissingError if `wanted` has objects in them.
    """

    def __init__(self, ns: str, tables: Collection[Table], wanted: Iterable[NftObject] = ()) -> None:
        self._ns, self._tables = ns, tables
        self._running: commands.RunningTool | None = None
        if not tables:
            return
        try:
            program = commands.find("nft")
        except MissingError:
            if any(item.kind != "table" for item in wanted):
                raise MissingError(f"{ns} has rules of nft, and nft is not installed", HINT) from None
            return
        self._running = commands.RunningTool([program, "-s", "list", *_what(tables)])

    def __enter__(self) -> NftRead:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._running is not None:
            self._running.close()

    def objects(self) -> tuple[NftObject, ...]:
        """What is in the tables; each table first. Waits for the end of the program. Raises KernelError."""
        names = tuple(NftObject(self._ns, " ".join(table), "table") for table in self._tables)
        if self._running is None:
            return names
        done = self._running.finish()
        if done.returncode:
            return names  # a table was removed meanwhile
        wanted = {one.table for one in names}
        return tuple(one for one in parse_ruleset(self._ns, done.stdout) if one.table in wanted)


class NftWrite:
    """A run of nft that carries out changes in this thread's namespace. Raises MissingError without the program."""

    def __init__(self, ns: str, changes: Sequence[Change]) -> None:
        self._ns, self._changes = ns, tuple(changes)
        self.script = change_script(changes, _present(ns, changes))
        self._running: commands.RunningTool | None = None
        if not self.script:
            return
        try:
            program = commands.find("nft")
        except MissingError:
            raise MissingError(f"cannot write rules of nft in {ns}: nft is not installed", HINT) from None
        self._running = commands.RunningTool([program, "-f", "-"], self.script)

    def finish(self) -> None:
        """Wait for its end. Raises KernelError with nft's reason."""
        if self._running is None:
            return
        done = self._running.finish()
        if done.returncode:
            wanted = [change.want for change in self._changes if isinstance(change.want, NftObject)]
            reason = "; ".join(map(str, refusals(self.script, done.stderr, wanted)[:3]))
            raise KernelError(f"cannot write rules of nft in {self._ns}: {reason}")

    def close(self) -> None:
        """End it, if it still runs."""
        if self._running is not None:
            self._running.close()


def read_counters(ns: str, tables: Collection[Table]) -> tuple[NftCounters, ...]:
    """What is in these tables of this thread's namespace, with what the rules counted. Nothing without the program.
    Raises KernelError."""
    if not tables:
        return ()
    try:
        program = commands.find("nft")
    except MissingError:
        return ()
    running = commands.RunningTool([program, "list", *_what(tables)])
    try:
        done = running.finish()
    finally:
        running.close()
    names = {" ".join(one) for one in tables}
    found = parse_counters(ns, done.stdout) if not done.returncode else ()
    return tuple(one for one in found if one.item.table in names)


def start_counting_denied(tables: Iterable[Table], held: ExitStack) -> Callable[[], int]:
    """Start nft for each of these tables of this thread's namespace. The returned function waits for the programs, in
    any thread, and returns how many packets their rules with a counter dropped or rejected. Leaving `held` ends the
    programs. Raises MissingError; the function raises KernelError."""
    program = commands.find("nft")
    running = [commands.RunningTool([program, "list", "table", *one]) for one in tables]
    for one in running:
        held.callback(one.close)

    def finish() -> int:
        texts = [one.finish().stdout for one in running]
        return sum(int(packets) for text in texts for packets in _DENIED.findall(text))

    return finish


def _present(ns: str, changes: Sequence[Change]) -> tuple[NftObject, ...]:
    """The objects of the tables in which something is removed that others may refer to."""
    if not needs_present(changes):
        return ()
    changed = [change.subject for change in changes if isinstance(change.subject, NftObject)]
    tables = dict.fromkeys((family, name) for family, _, name in (item.table.partition(" ") for item in changed))
    with NftRead(ns, tables) as reading:
        return reading.objects()


def _what(tables: Collection[Table]) -> tuple[str, ...]:
    """What to list. nft 1.0.6 finds only the first table if it has to list two by their names."""
    return ("table", *next(iter(tables))) if len(tables) == 1 else ("ruleset",)
