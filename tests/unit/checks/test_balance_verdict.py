"""When a check of balancing passes, fails, or says that it cannot know."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from labctl.checks.balance_verdict import evaluate_balance
from labctl.core.probe_kinds import connection_count
from labctl.core.results import BackendAnswer
from labctl.core.scenario_types import Check

D, NODE = ip_address("10.244.1.3"), ip_address("10.224.0.4")
NAMES = {D: "d", NODE: "node1"}
CHECK = Check("", "balance", "d", "web", 80, answered_by=(("a", 1), ("b", 1)))
STICKY = replace(CHECK, sticky=True)


def answers(client: object = D, problem: str = "", tool_fault: bool = False, **counts: int) -> list[BackendAnswer]:
    return [
        BackendAnswer("" if problem else machine, client, 40000, "web", problem, tool_fault)  # type: ignore[arg-type]
        for machine, number in counts.items()
        for _ in range(number)
    ]


def test_equal_shares_pass_and_say_so() -> None:
    verdict, lines = evaluate_balance(CHECK, answers(a=210, b=190), (D,), NAMES)

    assert verdict == "pass"
    assert lines == (
        "400 connections: a answered 210, b answered 190",
        "a, b saw 10.244.1.3 (d)",
        "chi-square 1.00 with 1 degree of freedom, p = 0.32; below 1e-06 it is not balanced",
    )


def test_unequal_shares_fail_from_the_bound_on() -> None:
    assert evaluate_balance(CHECK, answers(a=248, b=152))[0] == "pass"  # p = 1.6e-6
    verdict, lines = evaluate_balance(CHECK, answers(a=249, b=151))
    assert verdict == "fail"
    assert lines[-1].endswith("p = 9.6e-07: fair balancing does this in less than one of a million runs")


def test_weights_are_the_expected_shares() -> None:
    weighted = replace(CHECK, answered_by=(("a", 9), ("b", 1)))

    assert evaluate_balance(weighted, answers(a=360, b=40))[0] == "pass"
    assert evaluate_balance(weighted, answers(a=200, b=200))[0] == "fail"


def test_a_machine_that_should_not_answer_fails_at_once() -> None:
    verdict, lines = evaluate_balance(CHECK, answers(a=200, b=200, c=1))

    assert verdict == "fail"
    assert "1 of 401 answers came from c, which should not answer" in lines


def test_a_machine_that_never_answers_fails_or_proves_nothing() -> None:
    assert evaluate_balance(CHECK, answers(a=400))[0] == "fail"
    verdict, lines = evaluate_balance(CHECK, answers(a=10))
    assert verdict == "inconclusive"
    assert lines[-1] == "b answered none of 10 connections; by chance this happens with p = 0.00098"


def test_too_few_answers_prove_nothing() -> None:
    verdict, lines = evaluate_balance(CHECK, answers(a=5, b=4))

    assert verdict == "inconclusive"
    assert lines[-1] == "9 answers are too few to judge the shares: each machine needs 5 on average"
    assert evaluate_balance(CHECK, answers(a=5, b=5))[0] == "pass"


def test_one_machine_alone_needs_no_shares() -> None:
    assert evaluate_balance(replace(CHECK, answered_by=(("a", 1),)), answers(a=1))[0] == "pass"


def test_the_client_is_judged_exactly() -> None:
    mixed = [*answers(a=200, b=199), *answers(NODE, b=1)]

    verdict, lines = evaluate_balance(CHECK, mixed, (D,), NAMES)
    assert verdict == "fail"
    assert "b saw 10.224.0.4 (node1) as the client of 1 connection, not 10.244.1.3 (d)" in lines
    assert evaluate_balance(CHECK, mixed, (D, NODE), NAMES)[0] == "pass"


def test_connections_without_an_answer_fail() -> None:
    verdict, lines = evaluate_balance(CHECK, [*answers(a=200, b=199), *answers(problem="Connection refused", x=1)])

    assert verdict == "fail"
    assert "1 of 400 connections got no answer: Connection refused" in lines
    silent, lines = evaluate_balance(CHECK, answers(problem="no answer", x=32))
    assert silent == "fail"
    assert lines[0] == "32 connections: no answer"


def test_what_labctl_could_not_try_proves_nothing() -> None:
    tries = [*answers(a=200, b=199), *answers(problem="Too many open files", tool_fault=True, x=1)]

    verdict, lines = evaluate_balance(CHECK, tries)
    assert verdict == "inconclusive"
    assert "1 connection could not be tried: Too many open files" in lines


def test_a_server_of_another_program_proves_nothing() -> None:
    verdict, lines = evaluate_balance(CHECK, [*answers(a=200, b=200), BackendAnswer()])

    assert verdict == "inconclusive"
    assert "1 answer came from a server that does not say which machine it is" in lines


def test_affinity_is_one_machine_for_all() -> None:
    assert evaluate_balance(STICKY, answers(a=40))[0] == "pass"
    assert evaluate_balance(STICKY, answers(a=39, b=1))[0] == "fail"
    assert evaluate_balance(STICKY, answers(a=21))[0] == "pass"  # 2 * 0.5 ** 21 is 9.5e-7
    verdict, lines = evaluate_balance(STICKY, answers(a=20))
    assert verdict == "inconclusive"
    assert lines[-1].endswith("so 20 answers are too few: p must be below 1e-06")
    assert evaluate_balance(STICKY, answers(c=40))[0] == "fail"


def test_the_default_number_finds_half_of_a_share() -> None:
    for machines in range(2, 11):
        names = [f"m{number}" for number in range(machines)]
        check = replace(CHECK, answered_by=tuple((name, 1) for name in names))
        total = connection_count(check)
        half = total // machines // 2
        rest, more = divmod(total - half, machines - 1)
        counts = {name: rest + (number <= more) for number, name in enumerate(names) if number} | {"m0": half}
        found = [BackendAnswer(name) for name, times in counts.items() for _ in range(times)]
        assert len(found) == total
        assert evaluate_balance(check, found)[0] == "fail"
    assert connection_count(replace(CHECK, connections=7)) == 7
    assert connection_count(STICKY) == connection_count(replace(CHECK, answered_by=(("a", 1),))) == 40
