"""A matrix of policies: the verdicts for chosen pods, and what was measured."""

from __future__ import annotations

import pytest

from labctl.errors import UsageError
from labctl.kubernetes.policies.policy_matrix import PolicyMatrix, choose, filters, policy_matrix
from tests.support.policy_cases import CASES, NAMES, PolicyCase
from tests.support.policy_lab import policy_lab

STATE = policy_lab().kubernetes


def matrix() -> PolicyMatrix:
    return policy_matrix(STATE, "TCP", 8080)


def test_the_cells_are_the_verdicts_of_the_policies() -> None:
    denied = {(one.source.machine, one.target.machine) for one in matrix() if not one.passes}

    to_a, of_x = {(name, "a") for name in "be"}, {(one, other) for one in "ab" for other in "abcdef" if one != other}
    to_b = {(name, "b") for name in "acdef"}
    from_f = {("f", name) for name in "cde"}
    assert denied == to_a | of_x | to_b | from_f | {("e", "c"), ("e", "d")}


def test_every_truth_table_is_a_matrix() -> None:
    from labctl.kubernetes.api.cluster_state import ClusterState

    for case in CASES:
        state = ClusterState(pods=_pods(case), namespaces=dict(case.oracle.namespaces), policies=case.oracle.policies)
        found = policy_matrix(state, case.protocol, case.port)
        assert {(one.source.machine, one.target.machine) for one in found if not one.passes} == case.denied_flows


@pytest.mark.parametrize(
    ("texts", "names"),
    [((), "abcdef"), (("x",), "ab"), (("x/a",), "a"), (("z", "a"), "aef"), (("app=web",), "ad"), (("pod=c",), "c")],
)
def test_pods_are_chosen_by_namespace_name_or_label(texts: tuple[str, ...], names: str) -> None:
    assert "".join(one.machine for one in choose(STATE, texts)) == names


@pytest.mark.parametrize(
    ("text", "hint"), [("x/aa", "did you mean x/a?"), ("app=none", "namespaces and pods are x, y, z, a")]
)
def test_a_text_that_means_no_pod_is_refused(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match="no pod is meant by") as caught:
        policy_matrix(STATE, "TCP", 80, [text])

    assert hint in caught.value.hint
    assert "x/a" in filters(STATE)


def test_what_differs_is_what_was_measured_otherwise() -> None:
    found = matrix().measured({
        ("c", "a"): ("connected", ""), ("d", "a"): ("timeout", ""), ("a", "b"): ("refused", "Connection refused"),
        ("b", "a"): ("connected", ""), ("e", "c"): ("unknown", "no room"),
    })  # fmt: skip

    assert [(one.source.machine, one.target.machine) for one in found.differences] == [("b", "a"), ("d", "a")]
    assert [one.detail for one in found.unmeasured] == ["no room"]
    assert found.live
    assert not matrix().differences


def _pods(case: PolicyCase) -> tuple[object, ...]:
    from dataclasses import replace

    return tuple(replace(case.pod(name), machine=name) for name in NAMES)
