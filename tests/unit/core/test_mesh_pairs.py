"""The choice of the pairs of a mesh: all, or a sample that keeps its promise."""

from __future__ import annotations

import tracemalloc
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.core.mesh_pairs import MAX_PAIRS, TILE, MeshPairs, choose_pairs, each_pair, in_rows, parts

NODES = [f"node{number}" for number in range(6)]


@st.composite
def meshes(draw: st.DrawFn) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], dict[str, str]]:
    """A group of sources and targets, which may share machines, and the node of each machine."""
    names = [f"pod{number}" for number in range(draw(st.integers(1, 30)))]
    nodes = {name: draw(st.sampled_from(NODES)) for name in names}
    sources, targets = (draw(st.lists(st.sampled_from(names), min_size=1, unique=True)) for _ in range(2))
    return (tuple(sources), tuple(targets)), nodes


@settings(max_examples=300, deadline=None)
@given(st.lists(meshes(), min_size=1, max_size=3), st.integers(0, 400), st.text(max_size=5))
def test_a_sample_has_every_pair_of_nodes_and_every_machine_on_both_sides(
    made: list[tuple[tuple[tuple[str, ...], tuple[str, ...]], dict[str, str]]], limit: int, seed: str
) -> None:
    groups, nodes = [], {}
    for number, ((sources, targets), places) in enumerate(made):  # names of one group are not those of another
        groups.append((tuple(f"g{number}-{name}" for name in sources), tuple(f"g{number}-{name}" for name in targets)))
        nodes |= {f"g{number}-{name}": node for name, node in places.items()}
    found = choose_pairs(tuple(groups), nodes, seed, limit)
    pairs = list(found)
    every = {(one, other) for ones, others in groups for one, other in product(ones, others) if one != other}

    assert len(pairs) == len({*pairs}) == len(found)
    assert {*pairs} <= every
    assert found.total == len(every)
    assert found.sampled == (len(every) > limit)
    assert found.sampled or {*pairs} == every
    for sources, targets in groups:
        mine = {(one, other) for one, other in product(sources, targets) if one != other}
        mine_asked = mine & {*pairs}
        assert {one for one, _ in mine_asked} == {one for one, _ in mine}
        assert {other for _, other in mine_asked} == {other for _, other in mine}
        assert {(nodes[a], nodes[b]) for a, b in mine_asked} == {(nodes[a], nodes[b]) for a, b in mine}
    assert list(choose_pairs(tuple(groups), nodes, seed, limit)) == pairs


def cluster(
    nodes: int, pods: int, limit: int | None = MAX_PAIRS, seed: str = "lab"
) -> tuple[MeshPairs, dict[str, str]]:
    on = {f"pod{node}-{pod}": f"node{node}" for node in range(nodes) for pod in range(pods)}
    return choose_pairs(((tuple(on), tuple(on)),), on, seed, limit), on


def test_two_hundred_pods_are_asked_in_full_and_more_are_sampled() -> None:
    assert (len(cluster(10, 20)[0]), cluster(10, 20)[0].sampled) == (39_800, False)
    found, on = cluster(20, 50)
    pairs = set(found)

    assert (len(found), found.total, found.sampled) == (MAX_PAIRS, 999_000, True)
    assert {a for a, _ in pairs} == {b for _, b in pairs} == {*on}
    assert len({(on[a], on[b]) for a, b in pairs}) == 400


def test_without_a_limit_every_pair_is_asked() -> None:
    found, _ = cluster(10, 50, limit=None)

    assert len(set(found)) == len(found) == found.total == 249_500
    assert not found.sampled


def test_other_seeds_give_other_samples() -> None:
    assert set(cluster(10, 30)[0]) != set(cluster(10, 30, seed="other")[0])


@pytest.mark.parametrize("limit", [0, 1, 300])
def test_the_promise_comes_before_the_limit(limit: int) -> None:
    found, on = cluster(20, 2, limit)

    assert len({(on[a], on[b]) for a, b in found}) == 400
    assert len(found) < 450


def test_a_sample_is_spread_over_the_machines() -> None:
    """No machine is asked about much more often than another: a fault in one place is met by many pairs."""
    found, _ = cluster(10, 60)
    senders: dict[str, int] = {}
    for source, _ in found:
        senders[source] = senders.get(source, 0) + 1

    assert min(senders.values()) > 30
    assert max(senders.values()) < 110


def test_the_pairs_of_a_large_mesh_are_never_in_memory_together() -> None:
    found, _ = cluster(20, 20, limit=None)
    tracemalloc.start()
    number = sum(1 for _ in found)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert number == 159_600
    assert peak_bytes < 100_000


@pytest.mark.parametrize("limit", [MAX_PAIRS, None])
def test_pairs_that_come_together_have_few_machines(limit: int | None) -> None:
    pairs = list(cluster(20, 20, limit)[0])
    windows = (pairs[start : start + 200] for start in range(0, len(pairs), 200))
    numbers = [len({name for pair in window for name in pair}) for window in windows]

    assert max(numbers) <= 4 * TILE


def test_a_part_is_bounded_by_its_pairs_and_by_its_machines() -> None:
    pairs = cluster(20, 20)[0]
    found = [list(each_pair(part)) for part in parts(pairs.rows(), 5000, 90)]

    assert [pair for part in found for pair in part] == list(pairs)
    assert max(map(len, found)) <= 5000
    assert max(len({name for pair in part for name in pair}) for part in found) <= 90
    assert len(found) < 200


def test_a_part_of_one_pair_is_possible_and_none_is_empty() -> None:
    rows = [("a", ("b",)), ("c", ("d", "e"))]
    assert list(parts(rows, 9, 2)) == [[("a", ("b",))], [("c", ("d",))], [("c", ("e",))]]
    assert list(parts(rows, 2, 9)) == [[("a", ("b",))], [("c", ("d", "e"))]]
    assert list(parts(rows, 2, 3)) == [[("a", ("b",))], [("c", ("d", "e"))]]
    assert list(parts([], 9, 2)) == []


@pytest.mark.parametrize("limit", [MAX_PAIRS, None])
def test_rows_are_the_pairs_in_their_order_and_most_have_the_same_targets_as_others(limit: int | None) -> None:
    found = cluster(20, 20, limit)[0]
    rows = list(found.rows())

    assert list(each_pair(rows)) == list(found)
    assert list(each_pair(in_rows(found))) == list(found)
    assert all(0 < len(targets) <= TILE for _, targets in rows)
    assert limit is not None or len({targets for _, targets in rows}) < len(rows) / 10


def test_a_row_is_not_longer_than_a_tile() -> None:
    pairs = [("a", f"b{number}") for number in range(TILE + 1)]
    assert [len(targets) for _, targets in in_rows(pairs)] == [TILE, 1]


def test_the_sample_of_many_nodes_needs_few_machines_at_a_time() -> None:
    """A machine asks several nodes in a row, so that the machines of one part do not change with every pair."""
    found, on = cluster(100, 30, 10_000)
    pairs = list(found)

    assert len({(on[a], on[b]) for a, b in pairs}) == 10_000
    assert {a for a, _ in pairs} == {b for _, b in pairs} == {*on}
    assert len(pairs) < 10_000 + 3000
    assert len(list(parts(found.rows(), MAX_PAIRS, 1024))) <= 8
