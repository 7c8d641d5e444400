"""The section `break` of a scenario file: faults by name, with or without an object; each mistake with its position."""

from __future__ import annotations

import pytest

from labctl.core.scenario_types import ScenarioFault
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile

HEAD = "model: kubenet\nnodes: {node1: {pods: [a]}, node2: {pods: [b]}}\n"


def faults(text: str) -> tuple[ScenarioFault, ...]:
    return parse_and_compile(HEAD + text, "lab.yaml")[1].faults


def test_a_fault_has_a_name_and_perhaps_an_object() -> None:
    assert faults("break: forwarding-off\n") == (ScenarioFault("forwarding-off"),)
    assert faults("break: [forwarding-off: node1, route-missing: node2]\n") == (
        ScenarioFault("forwarding-off", "node1"),
        ScenarioFault("route-missing", "node2"),
    )
    assert faults("") == ()


def test_faults_do_not_change_the_plan() -> None:
    assert parse_and_compile(HEAD, "lab.yaml")[1].plan == parse_and_compile(HEAD + "break: forwarding-off", "l")[1].plan


@pytest.mark.parametrize(
    ("text", "place", "what", "hint"),
    [
        ("break: forwarding-of\n", "3:8", "there is no fault 'forwarding-of'", "did you mean 'forwarding-off'?"),
        ("break: [forwarding-off: nod1]\n", "3:9", "does not fit 'nod1'", "did you mean node1?"),
        ("break:\n  - forwarding-off:\n", "4:20", "the object of 'forwarding-off' is missing", "such as"),
        ("break: [[a]]\n", "3:9", "expected the name of a fault", "such as"),
        ("break: [forwarding-off: node1, forwarding-off: node1]\n", "3:32", "already has the fault", ""),
        ("break: [drop-forward: node1, policy-drop-forward: node1]\n", "3:30", "changes the same object", "omit one"),
    ],
)
def test_a_mistake_has_its_position_and_a_hint(text: str, place: str, what: str, hint: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        faults(text)
    (problem,) = raised.value.problems
    assert f"{problem.line}:{problem.column}" == place
    assert what in problem.what
    assert hint in problem.hint


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(ScenarioError) as raised:
        faults("break: [forwarding-of, route-missing: nowhere]\nchecks: [{ping: x -> a}]\n")
    assert len(raised.value.problems) >= 2
