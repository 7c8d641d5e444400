"""How the pairs of a mesh are given to the threads that ask them."""

from __future__ import annotations

import math

import pytest

from labctl.kernel.probes import mesh
from labctl.kernel.probes.mesh import TILE, _Tiles

PAIRS = [(f"a{number}", "b") for number in range(20 * TILE + 3)]


def taken(tiles: _Tiles) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while tile := tiles.take():
        assert len(tile) <= TILE
        found += tile
    return found


@pytest.mark.parametrize("count", [0, 1, TILE, TILE + 1, 7 * TILE, len(PAIRS)])
def test_every_pair_is_in_one_tile(count: int) -> None:
    tiles = _Tiles(PAIRS[:count], math.inf, str)

    assert sorted(taken(tiles)) == sorted(PAIRS[:count])
    assert sum(map(len, tiles.taken)) == count
    assert tiles.problem == ""


def test_tiles_that_are_asked_together_are_far_from_each_other() -> None:
    tiles = _Tiles(PAIRS, math.inf, str)
    places = [PAIRS.index(tiles.take()[0]) // TILE for _ in range(mesh.MAX_THREADS)]

    assert all(abs(one - other) >= 5 for one in places for other in places if one != other)


def test_no_tile_is_taken_after_the_deadline_but_the_first_of_a_mesh() -> None:
    late, first = _Tiles(PAIRS, 0, str), _Tiles(PAIRS, 0, str, in_any_case=True)

    assert (taken(late), late.problem) == ([], "the time was up")
    assert (len(taken(first)), first.problem) == (TILE, "the time was up")


def test_a_reason_ends_the_asking() -> None:
    reasons = iter(["", "", "enough"])
    tiles = _Tiles(PAIRS, math.inf, lambda: next(reasons))

    assert len(taken(tiles)) == 2 * TILE
    assert tiles.problem == "enough"
