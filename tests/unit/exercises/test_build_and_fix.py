"""Tasks that are work: what passes, and what a failure says. It says what is there, and never what should be there."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from labctl.core.diff import Change, diff
from labctl.core.exercise_types import BuildGoal, Exercise, FixGoal, Task
from labctl.core.iptables import rule
from labctl.core.resources import Address, Chain, Link, Plan, Resource, Route, Sysctl
from labctl.core.results import Outcome, Report
from labctl.exercises.build import judge_build, task_keys
from labctl.exercises.fix import judge_fix
from labctl.exercises.observed_state import without_free_fields
from labctl.scenario.definition import parse_and_compile
from tests.support import samples

TEXT = """
name: t
model: raw
namespaces: {host: {role: host}, c1: {role: container, on: host}}
links: [{veth: [host/veth1, c1/eth0]}]
addresses: {host/veth1: 10.0.0.1/24, c1/eth0: 10.0.0.2/24}
routes: {c1: default via 10.0.0.1}
firewall: {host: {nat: {POSTROUTING: [-s 10.0.0.0/24 -m comment --comment "the way out" -j MASQUERADE]}}}
"""
PLAN = parse_and_compile(TEXT, "t.yaml")[1].plan
TASKS = Exercise(
    "t",
    "t",
    (
        Task("cable", BuildGoal(("c1/eth0",))),
        Task("addresses", BuildGoal(("c1/eth0/10.0.0.2/24", "host/veth1/10.0.0.1/24"))),
        Task("question", FixGoal()),
        Task("route", BuildGoal(("c1/default",))),
    ),
)
KEYS = task_keys(TASKS, PLAN)
NONE: frozenset[tuple[object, ...]] = frozenset()


def one(kind: type, ns: str = "c1") -> Resource:
    return next(
        item for item in PLAN if type(item) is kind and item.ns == ns and getattr(item, "kind", "") != "loopback"
    )


def without(*kinds: type) -> Plan:
    return tuple(item for item in PLAN if type(item) not in kinds or getattr(item, "kind", "") == "loopback")


def changed(item: Resource, **fields: object) -> Plan:
    return tuple(replace(one, **fields) if one is item else one for one in PLAN)  # type: ignore[arg-type]


def judged(have: Plan, later: frozenset[tuple[object, ...]] = NONE) -> tuple[str, tuple[str, ...]]:
    judgement = judge_build(diff(PLAN, have), have, later)
    return judgement.state, judgement.seen


def test_an_object_belongs_to_the_task_that_names_it_and_what_goes_with_it_to_the_first() -> None:
    assert [sorted(key[0] for key in keys) for keys in KEYS] == [
        ["link", "link"],
        ["address", "address"],
        [],
        ["route"],
    ]


def test_the_finished_lab_passes() -> None:
    assert judged(PLAN) == ("passed", ())


def test_what_a_later_task_is_about_may_be_missing() -> None:
    assert judged(without(Route), KEYS[3]) == ("passed", ())
    assert judged(without(Route, Address), KEYS[3])[0] == "failed"


def test_a_missing_object_is_said_by_its_kind_and_with_what_is_there() -> None:
    state, seen = judged(without(Route))

    assert (state, seen) == ("failed", ("c1 lacks a route; its routes: none",))
    assert "10.0.0.1" not in " ".join(seen)


def test_a_wrong_value_is_said_as_it_was_found() -> None:
    link = one(Link)
    assert judged(changed(link, up=False))[1] == ("c1: link eth0: it is down",)
    state, seen = judged(changed(one(Route), via=ip_address("10.0.0.9")))
    assert (state, seen) == ("failed", ("c1: route default: via is 10.0.0.9",))


def test_something_that_does_not_belong_there_is_said_in_full() -> None:
    extra = Route("c1", ip_network("192.0.2.0/24"), via=ip_address("10.0.0.1"), dev="eth0")

    assert judged((*PLAN, extra))[1] == (
        "c1 has something that does not belong there: route 192.0.2.0/24 via 10.0.0.1 dev eth0",
    )


@pytest.mark.parametrize(
    "fields", [{"mac": "02:00:00:00:00:99"}, {"autoconf": True}, {"mac": "02:00:00:00:00:99", "autoconf": True}]
)
def test_what_the_kernel_chooses_for_a_new_device_is_free(fields: dict[str, object]) -> None:
    assert judged(changed(one(Link), **fields)) == ("passed", ())


def test_the_comment_of_a_rule_is_free_and_the_rule_is_not() -> None:
    chain = one(Chain, "host")

    assert judged(changed(chain, rules=(rule("-s 10.0.0.0/24 -j MASQUERADE"),))) == ("passed", ())
    state, seen = judged(changed(chain, rules=(rule("-s 10.0.1.0/24 -j MASQUERADE"),)))
    assert state == "failed"
    assert "-s 10.0.1.0/24 -j MASQUERADE" in seen[0]
    assert "10.0.0.0/24" not in seen[0]


def test_the_forwarding_of_devices_follows_from_that_of_the_machine() -> None:
    whole, devices = Sysctl("r", "net.ipv4.ip_forward", "1"), Sysctl("r", "net.ipv4.conf.eth0.forwarding", "1")
    changes = tuple(Change(item, replace(item, value="0")) for item in (devices, whole))

    assert without_free_fields(changes) == changes[1:]
    assert without_free_fields(changes[:1]) == changes[:1], "only this one is off"
    judgement = judge_build(changes, (), frozenset({whole.key}))
    assert judgement.state == "passed", "a later task is about it"


def test_many_differences_are_counted() -> None:
    extras = tuple(Route("c1", ip_network(f"192.0.{n}.0/24"), dev="eth0") for n in range(20))

    assert judged((*PLAN, *extras))[1][-1] == "and 12 more differences"


FAILED = Outcome(samples.PING, "fail", ("expected a reply", "got\nnothing", "third", "fourth"))
PASSED = Outcome(samples.PING, "pass")


def fixed(goal: FixGoal, *outcomes: Outcome, changes: tuple[Change, ...] = ()) -> tuple[str, tuple[str, ...]]:
    judgement = judge_fix(goal, Report("t", outcomes), changes, PLAN)
    return judgement.state, judgement.seen


def test_a_repair_passes_if_all_checks_pass_and_nothing_differs() -> None:
    assert fixed(FixGoal(), PASSED, Outcome(samples.PING, "skip")) == ("passed", ())


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_a_check_that_does_not_pass_is_shown_with_its_evidence(verdict: str) -> None:
    bad = replace(FAILED, verdict=verdict)  # type: ignore[arg-type]
    state, seen = fixed(FixGoal("checks"), PASSED, bad)

    assert state == "failed"
    assert seen[0] == f"the check does not pass: {samples.PING.say}"
    assert seen[1:] == ("  expected a reply", "  got", "  nothing", "  third")


def test_a_mac_address_is_part_of_a_repair_but_not_of_what_is_built() -> None:
    link = replace(one(Link), mac="02:00:00:00:00:01")
    change = (Change(link, replace(link, mac="02:00:00:00:00:99")),)

    assert judge_build(change, PLAN, NONE).state == "passed"
    assert fixed(FixGoal(), PASSED, changes=change)[0] == "failed"


def test_a_repair_in_another_way_is_no_repair_of_the_lab_but_of_its_checks() -> None:
    extra = (Change(None, Route("c1", ip_network("192.0.2.0/24"), dev="eth0")),)
    state, seen = fixed(FixGoal("lab"), PASSED, changes=extra)

    assert state == "failed"
    assert seen[0] == "all checks pass, but the lab is not as it should be:"
    assert "192.0.2.0/24" in seen[1]
    assert fixed(FixGoal("checks"), PASSED, changes=extra) == ("passed", ())
