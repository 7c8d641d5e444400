"""Which pairs of a mesh a check asks about: all of them, or in a large mesh a sample. Pure.

The number of pairs grows with the square of the number of pods, and one core asks about 20,000 pairs in a second. So
a mesh of more than `MAX_PAIRS` pairs is sampled. A sample has, in each group of the mesh:

- a pair from each node to each node, also to itself, if the group has one;
- each source as a sender, and each target as a receiver;
- beyond that, pairs at random until there are `MAX_PAIRS` together.

The random numbers come from a seed, so the same lab always has the same sample. No list of all pairs is ever made.

Pairs come in blocks: those of few sources and few targets together. So the kernel finds what it needs in the caches of
the processor, and only the machines of one part need open sockets. In a block they come in rows: a source, with targets
that the next rows have as well. So what a mesh does for each row is much less than what it would do for each pair.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from labctl.core.probe_kinds import MAX_PAIRS as MAX_PAIRS
from labctl.core.scenario_types import MeshGroups

if TYPE_CHECKING:
    import random

TILE = 32  # sources, and targets, whose pairs come together: what the kernel knows of them fits into its caches
BLOCK = 16 * TILE  # the same, one level above: sources, and targets, whose sockets are open together

Row: TypeAlias = tuple[str, tuple[str, ...]]  # a source, and targets that it asks


@dataclass(frozen=True, slots=True)
class MeshPairs:
    """The pairs that a check asks about. Iterating yields (source, target), `rows` yields the same in rows. `len` is
    the number of pairs.

    `total` is the number of all pairs of the mesh. `sampled` is set if only some of them are chosen.
    """

    total: int
    sampled: bool
    _groups: tuple[_Group, ...] = field(repr=False)
    _chosen: tuple[array[int], ...] = field(repr=False, default=())

    def __len__(self) -> int:
        return sum(map(len, self._chosen)) if self.sampled else self.total

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return each_pair(self.rows())

    def rows(self) -> Iterator[Row]:
        """The pairs, in rows of at most `TILE` targets."""
        if self.sampled:
            for group, cells in zip(self._groups, self._chosen, strict=True):
                yield from in_rows(map(group.pair, cells))
            return
        for group in self._groups:
            yield from group.rows()


def each_pair(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """The pairs of these rows."""
    return ((source, target) for source, targets in rows for target in targets)


def in_rows(pairs: Iterable[tuple[str, str]]) -> Iterator[Row]:
    """These pairs in rows. Those of one source that follow each other are together, at most `TILE` of them."""
    for source, group in groupby(pairs, itemgetter(0)):
        targets = tuple(target for _, target in group)
        for start in range(0, len(targets), TILE):
            yield source, targets[start : start + TILE]


def choose_pairs(groups: MeshGroups, nodes: Mapping[str, str], seed: str, limit: int | None = MAX_PAIRS) -> MeshPairs:
    """The pairs of a mesh to ask about: all if there are at most `limit`, or if it is None; else a sample.

    `nodes` has the node of each machine; a machine that is missing there is its own. A sample has more than `limit`
    pairs only if it cannot have all that the module promises with fewer.
    """
    meshes = tuple(_Group(sources, targets) for sources, targets in groups)
    total = sum(group.total for group in meshes)
    if limit is None or total <= limit:
        return MeshPairs(total, False, meshes)
    import random

    numbers = random.Random(seed)
    chosen = (_sample(group, nodes, numbers, limit * group.total // total) for group in meshes)
    return MeshPairs(total, True, meshes, tuple(chosen))


def parts(rows: Iterable[Row], max_pairs: int, max_machines: int) -> Iterator[list[Row]]:
    """The rows in parts, in their order: each of at most `max_pairs` pairs between at most `max_machines` machines, of
    which there are two or more. A row that is longer than a limit is divided."""
    part: list[Row] = []
    machines: set[str] = set()
    count, longest = 0, min(max_pairs, max_machines - 1)
    for source, all_targets in rows:
        for start in range(0, len(all_targets), longest):
            targets = all_targets[start : start + longest]
            together = len(machines) + 1 + len(targets)  # at most
            if part and (
                count + len(targets) > max_pairs
                or (together > max_machines and len(machines.union(targets, (source,))) > max_machines)
            ):
                yield part
                part, machines, count = [], set(), 0
            part.append((source, targets))
            machines.add(source)
            machines.update(targets)
            count += len(targets)
    if part:
        yield part


class _Group:
    """A group of a mesh as a grid: the cell number of a pair is its source's row and its target's column."""

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        self.sources, self.targets = tuple(dict.fromkeys(sources)), tuple(dict.fromkeys(targets))
        self.total = len(self.sources) * len(self.targets) - len({*self.sources} & {*self.targets})

    def pair(self, cell: int) -> tuple[str, str]:
        """The source and the target of a cell."""
        row, column = divmod(cell, len(self.targets))
        return self.sources[row], self.targets[column]

    def rows(self) -> Iterator[Row]:
        """All pairs of the group, in blocks."""
        for row, column in product(range(0, len(self.sources), BLOCK), range(0, len(self.targets), BLOCK)):
            sources, targets = self.sources[row : row + BLOCK], self.targets[column : column + BLOCK]
            for top, left in product(range(0, len(sources), TILE), range(0, len(targets), TILE)):
                columns = targets[left : left + TILE]
                for source in sources[top : top + TILE]:
                    others = tuple(name for name in columns if name != source) if source in columns else columns
                    if others:
                        yield source, others

    def position(self, cell: int) -> tuple[int, int, int, int, int]:
        """Where a cell comes in the order of `rows`."""
        row, column = divmod(cell, len(self.targets))
        return row // BLOCK, column // BLOCK, row // TILE, column // TILE, cell

    def cell(self, row: int, column: int) -> int | None:
        """The cell number; None if source and target are the same machine."""
        return None if self.sources[row] == self.targets[column] else row * len(self.targets) + column


def _sample(group: _Group, nodes: Mapping[str, str], numbers: random.Random, limit: int) -> array[int]:
    """The cells of a sample, those that the promise needs first."""
    cells: dict[int, None] = {}
    _add_node_pairs(cells, group, nodes, numbers)
    _add_machines(cells, group, numbers)
    while len(cells) < min(limit, group.total):
        cell = group.cell(_below(numbers, len(group.sources)), _below(numbers, len(group.targets)))
        if cell is not None:
            cells[cell] = None
    return array("Q", sorted(cells, key=group.position))


def _add_node_pairs(cells: dict[int, None], group: _Group, nodes: Mapping[str, str], numbers: random.Random) -> None:
    """Add a pair from each node to each node. The machines of a node take turns; each asks as many nodes in a row as
    are needed for the last of them to have its turn at the end."""
    senders, receivers = _by_node(group.sources, nodes), _by_node(group.targets, nodes)
    start = _below(numbers, max(len(group.sources), len(group.targets), 1))
    for i, rows in enumerate(senders):
        turn = max(1, len(receivers) // len(rows))
        for j, columns in enumerate(receivers):
            turn_of_other = max(1, len(senders) // len(columns))
            for k in range(2 if len(rows) > 1 or len(columns) > 1 else 1):  # the first may be a machine and itself
                row = rows[(start + j // turn + (k if len(columns) == 1 else 0)) % len(rows)]
                cell = group.cell(row, columns[(start + i // turn_of_other + k) % len(columns)])
                if cell is not None:
                    cells[cell] = None
                    break


def _add_machines(cells: dict[int, None], group: _Group, numbers: random.Random) -> None:
    """Add a pair for each source that does not send so far, if possible to a target that does not receive so far; then
    one for each target that still does not."""
    if not group.total:
        return
    width, height = len(group.targets), len(group.sources)
    sending, receiving = {cell // width for cell in cells}, {cell % width for cell in cells}
    idle = [column for column in range(width) if column not in receiving]
    for row in range(height):
        if row not in sending:
            column = idle.pop() if idle else _below(numbers, width)
            cell = group.cell(row, column)
            if cell is None and width > 1:
                cell = group.cell(row, (column + 1) % width)
                idle += [column] if column not in receiving else []
            if cell is not None:
                cells[cell] = None
                receiving.add(cell % width)
    for column in idle:
        if column not in receiving:
            row = _below(numbers, height)
            tries = (group.cell(at, column) for at in (row, (row + 1) % height))
            found = [cell for cell in tries if cell is not None]
            cells.update(dict.fromkeys(found[:1]))


def _by_node(machines: Sequence[str], nodes: Mapping[str, str]) -> list[list[int]]:
    """The indexes of the machines of each node."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(machines):
        found.setdefault(nodes.get(name, name), []).append(index)
    return list(found.values())


def _below(numbers: random.Random, limit: int) -> int:
    """A random number from 0 to `limit` - 1. Python promises the same sequence of `random()` in every version, and not
    that of its other methods."""
    return int(numbers.random() * limit)
