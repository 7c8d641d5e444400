"""Random exercises: the seed is the definition, every kind has a level, and nothing but the record names the fault."""

from __future__ import annotations

from functools import cache

import pytest

from labctl.core.exercise_types import FixGoal, LocateGoal
from labctl.core.scenario_types import Lab
from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.exercises import random_fault
from labctl.exercises.locate import fault_places, require_place
from labctl.exercises.random_fault import (
    EASY,
    HARD,
    LEVELS,
    SCENARIOS,
    choose_fault,
    exercise_name,
    level_of,
    overrides,
    random_scenario,
)
from labctl.faults.catalogue import applicable, find_fault, kinds
from labctl.faults.fault import Fault, FaultKind
from labctl.scenario import catalog
from labctl.scenario.definition import define, parse_and_compile

KUBENET = define("kubenet").compiled


@pytest.fixture
def searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults that fit KUBENET are searched once, not again for each seed: the seed has no part in that."""

    def known(lab: Lab) -> tuple[tuple[FaultKind, tuple[Fault, ...]], ...]:
        assert lab is KUBENET
        return fitting_kubenet()

    monkeypatch.setattr(random_fault, "applicable", known)


@cache
def fitting_kubenet() -> tuple[tuple[FaultKind, tuple[Fault, ...]], ...]:
    return tuple(applicable(KUBENET))


def test_the_levels_name_kinds_of_the_catalogue_and_each_once() -> None:
    assert not (EASY | HARD) - kinds().keys()
    assert not EASY & HARD
    assert {level_of(kind) for kind in kinds()} == {*LEVELS}


@pytest.mark.usefixtures("searched_once")
def test_a_seed_gives_the_same_fault_and_other_seeds_others() -> None:
    found = [choose_fault(KUBENET, seed, None) for seed in range(20)]

    assert found == [choose_fault(KUBENET, seed, None) for seed in range(20)]
    assert len({fault.kind for fault in found}) > 5


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_a_second_search_gives_the_same_fault(level: int | None) -> None:
    assert choose_fault(KUBENET, 7, level) == choose_fault(KUBENET, 7, level)


@pytest.mark.usefixtures("searched_once")
@pytest.mark.parametrize("level", LEVELS)
def test_the_level_decides_the_kinds(level: int) -> None:
    assert {level_of(choose_fault(KUBENET, seed, level).kind) for seed in range(20)} == {level}


def test_a_lab_without_a_fitting_fault_is_refused() -> None:
    alone = parse_and_compile("{name: alone, model: raw, namespaces: [a]}", "alone.yaml")[1]

    with pytest.raises(UsageError, match="no fault of level 1 fits the scenario alone"):
        choose_fault(alone, 1, 1)


def test_a_scenario_of_a_seed_is_built_in() -> None:
    assert {random_scenario(seed) for seed in range(60)} == {*SCENARIOS} <= {*catalog.names()}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_fault_of_a_scenario_is_a_valid_exercise(scenario: str) -> None:
    lab = define(scenario).compiled
    machines = Topology(lab).namespaces
    for kind, faults in applicable(lab):
        if kind.unnoticed or not (faults[0].changes and faults[0].traffic):
            continue
        exercise = define(scenario, None, overrides(faults[0], scenario)).compiled.exercise
        assert exercise is not None
        locate, fix = exercise.tasks
        assert isinstance(locate.goal, LocateGoal)
        assert fix.goal == FixGoal("lab")
        assert require_place(locate.answer, machines) in {*fault_places(faults[:1])}
        assert exercise.level == level_of(kind.name)
        read = " ".join([exercise.title, exercise.text, locate.say, fix.say])
        assert kind.name not in read
        assert exercise.explain.startswith(kind.name)


def test_the_ticket_is_the_packet_that_the_fault_hits() -> None:
    fault = find_fault(KUBENET, "drop-tcp-port")
    exercise = define("kubenet", None, overrides(fault, "kubenet")).compiled.exercise

    assert exercise is not None
    assert f"TCP from {fault.traffic[0].source} to {fault.traffic[0].target} port 80" in exercise.text


def test_the_name_has_what_makes_the_exercise_and_not_the_fault() -> None:
    assert exercise_name("kubenet", 7, None) == "random-kubenet-7"
    assert exercise_name("kubenet", 7, 2) == "random-kubenet-7-level-2"
