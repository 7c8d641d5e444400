"""The texts and documents of `policy matrix` and `policy why`, as recorded in tests/golden/policy."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.policy_matrix import PolicyMatrix, policy_matrix
from labctl.kubernetes.policies.policy_question import answer
from labctl.report import policy_matrix as matrix_text
from labctl.report import policy_why as why_text
from labctl.report.policy_json import matrix_document, why_document
from tests.support.golden import Golden
from tests.support.policy_lab import policy_lab

LAB = policy_lab()
QUESTIONS = {
    "allowed": ("c", "a"), "denied-twice": ("b", "a"), "admin": ("e", "a"), "passed": ("f", "a"),
    "baseline": ("e", "d"), "service": ("d", "x/web"), "node": ("node1", "a"), "outside": ("internet", "a"),
}  # fmt: skip
COLOUR = re.compile(r"<\w+:([^>]*)>")


def painted(text: str, colour: str) -> str:
    return f"<{colour}:{text}>"


def live_matrix() -> PolicyMatrix:
    matrix = policy_matrix(LAB.kubernetes, "TCP", 8080)
    results = {
        (one.source.machine, one.target.machine): ("connected" if one.verdict.allowed else "timeout", "")
        for one in matrix
    }
    results |= {
        ("b", "a"): ("connected", ""), ("d", "a"): ("refused", "Connection refused"),
        ("e", "c"): ("unknown", "cannot listen in c: Permission denied"),
    }  # fmt: skip
    return matrix.measured(results)  # type: ignore[arg-type]


def big_state(namespaces: int, each: int) -> ClusterState:
    pods = tuple(
        Pod(f"team-{one}", f"frontend-{at}", machine=f"frontend-{one}-{at}", labels={"at": str(at)})
        for one in range(namespaces)
        for at in range(each)
    )
    return ClusterState(pods=pods, policies=LAB.kubernetes.policies)


def test_the_matrix_is_as_recorded(golden: Golden) -> None:
    matrix = policy_matrix(LAB.kubernetes, "TCP", 8080)

    golden("policy/matrix.txt").check("\n".join(matrix_text.lines(matrix, width=80)) + "\n")
    golden("policy/matrix-colour.txt").check("\n".join(matrix_text.lines(matrix, painted)) + "\n")


def test_the_measured_matrix_is_as_recorded(golden: Golden) -> None:
    golden("policy/matrix-live.txt").check("\n".join(matrix_text.lines(live_matrix())) + "\n")


def test_the_document_of_the_matrix_is_as_recorded(golden: Golden) -> None:
    matrix = policy_matrix(LAB.kubernetes, "TCP", 8080, ["e", "f"], ["x"])

    golden("policy/matrix.json").check(json.dumps(matrix_document("six-pods", matrix), indent=2) + "\n")


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_answer_is_as_recorded(name: str, golden: Golden) -> None:
    port = 80 if name == "service" else 8080
    found = answer(LAB, LAB.kubernetes, *QUESTIONS[name], "TCP", port)

    golden(f"policy/why-{name}.txt").check("\n".join(why_text.lines(found)) + "\n")
    golden(f"policy/why-{name}.json").check(json.dumps(why_document("six-pods", found), indent=2) + "\n")


def test_colours_change_nothing_but_the_colour() -> None:
    matrix = policy_matrix(LAB.kubernetes, "TCP", 8080)
    found = answer(LAB, LAB.kubernetes, "b", "a", "TCP", 8080)

    for plain, coloured in (
        (matrix_text.lines(matrix), matrix_text.lines(matrix, painted)),
        (why_text.lines(found), why_text.lines(found, painted)),
    ):
        assert [COLOUR.sub(r"\1", one) for one in coloured] == list(plain)


@pytest.mark.parametrize(
    ("namespaces", "each", "head"), [(2, 2, "frontend-0 "), (3, 5, " 1 2 3 4 5"), (4, 12, "team-0")]
)
def test_a_wide_matrix_fits_into_80_columns(namespaces: int, each: int, head: str) -> None:
    matrix = policy_matrix(big_state(namespaces, each), "TCP", 80)
    found = list(matrix_text.lines(matrix, width=80))

    assert max(map(len, found)) <= 80
    assert any(head in line for line in found[2:4])


def test_columns_that_are_left_out_are_counted() -> None:
    matrix = policy_matrix(big_state(30, 2), "TCP", 80)
    found = list(matrix_text.lines(matrix, width=60))
    shown = len(re.findall(r"team-\d+", found[2]))

    assert max(map(len, found[2:33])) <= 60
    assert f"without {30 - shown} namespaces as a target; --json has every pair" in found
    assert 0 < shown < 30


def test_a_namespace_s_cell_counts_its_pairs_and_marks_differences() -> None:
    matrix = live_matrix()
    found = list(matrix_text._by_namespace(matrix, lambda text, _: text, 3))

    assert [line.split() for line in found[:4]] == [
        ["x", "y", "z"], ["x", "1/2!", "none", "none"], ["y", "1/4!", "all", "all"], ["z", "1/4", "none", "1/2"],
    ]  # fmt: skip


def test_many_differences_are_cut_and_counted() -> None:
    matrix = policy_matrix(big_state(5, 2), "TCP", 80)
    wrong = {(one.source.machine, one.target.machine): ("timeout", "") for one in matrix}
    found = list(matrix_text.notes(matrix.measured(wrong)))  # type: ignore[arg-type]

    assert len(found) == matrix_text.MAX_DIFFERENCES + 2
    assert found[-1] == f"and {len(wrong) - matrix_text.MAX_DIFFERENCES} more; --json has all of them"


def test_rules_that_do_not_fit_are_cut_and_counted_without_v() -> None:
    found = answer(LAB, LAB.kubernetes, "b", "a", "TCP", 8080)
    into = found.explanations[0].directions[1]
    many = replace(into, misses=into.misses * (why_text.MAX_MISSES + 2))
    longer = replace(found, explanations=(replace(found.explanations[0], directions=(many,)),))

    assert any("and 2 rules more" in line for line in why_text.lines(longer))
    assert sum("rule 1 of" in line for line in why_text.lines(longer, verbose=True)) == why_text.MAX_MISSES + 2
