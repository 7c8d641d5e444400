"""How the pairs of a mesh are given to the threads that ask them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from labctl.core.mesh_pairs import Row, each_pair
from labctl.kernel.probes import mesh
from labctl.kernel.probes.mesh import TILE, _Tiles

TARGETS = tuple(f"b{number}" for number in range(8))
ROWS = [(f"a{number}", TARGETS) for number in range(20 * TILE // len(TARGETS))] + [("a", TARGETS[:3])]


def taken(tiles: _Tiles) -> list[Row]:
    found: list[Row] = []
    while tile := tiles.take():
        assert pair_count(tile) <= TILE
        found += tile
    return found


def pair_count(rows: Sequence[Row]) -> int:
    return len(list(each_pair(rows)))


@pytest.mark.parametrize("count", [0, 1, TILE // 8, TILE // 8 + 1, 7 * TILE // 8, len(ROWS)])
def test_every_row_is_in_one_tile(count: int) -> None:
    tiles = _Tiles(ROWS[:count], math.inf, str)

    assert sorted(taken(tiles)) == sorted(ROWS[:count])
    assert sum(map(pair_count, tiles.taken)) == tiles.pair_count == pair_count(ROWS[:count])
    assert tiles.problem == ""


def test_tiles_that_are_asked_together_are_far_from_each_other() -> None:
    tiles = _Tiles(ROWS, math.inf, str)
    places = [ROWS.index(tiles.take()[0]) * len(TARGETS) // TILE for _ in range(mesh.MAX_THREADS)]

    assert all(abs(one - other) >= 5 for one in places for other in places if one != other)


def test_no_tile_is_taken_after_the_deadline_but_the_first_of_a_mesh() -> None:
    late, first = _Tiles(ROWS, 0, str), _Tiles(ROWS, 0, str, in_any_case=True)

    assert (taken(late), late.problem) == ([], "the time was up")
    assert (pair_count(taken(first)), first.problem) == (TILE, "the time was up")


def test_a_reason_ends_the_asking() -> None:
    reasons = iter(["", "", "enough"])
    tiles = _Tiles(ROWS, math.inf, lambda: next(reasons))

    assert pair_count(taken(tiles)) == 2 * TILE
    assert tiles.problem == "enough"
