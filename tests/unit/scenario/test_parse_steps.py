"""The three steps from a scenario's text to its lab, each alone: parse, compile, resolve the names in the checks."""

from __future__ import annotations

import pytest

from labctl import models
from labctl.core.scenario_types import Scenario
from labctl.errors import ScenarioError
from labctl.scenario.check_parser import resolve
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.document import Reader
from labctl.scenario.parser import ParsedScenario, parse_scenario

LAB = "model: kubenet\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\n"


def parsed(text: str) -> tuple[ParsedScenario, Reader]:
    reader = Reader()
    return parse_scenario(text, "t.yaml", reader), reader


def test_the_parser_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(scenario: Scenario) -> None:
        raise AssertionError(f"{scenario.name} was compiled")

    monkeypatch.setattr(models, "compile_lab", refuse)
    result, reader = parsed(f"{LAB}checks: [ping: a -> nosuch]\n")
    assert [check.target for check in result.scenario.checks] == ["nosuch"]
    assert [item.check for item in result.located_checks] == list(result.scenario.checks)
    assert reader.problems == []


def test_a_parsed_scenario_can_be_compiled_although_its_checks_have_problems() -> None:
    result, reader = parsed(f"{LAB}checks: [{{ping: a -> c, size: 1}}, ping: a -> b]\n")
    assert [problem.line for problem in reader.problems] == [3]
    lab = models.compile_lab(result.scenario)
    assert {"a", "b", "c"} <= {machine.name for machine in lab.machines}


def test_the_names_in_checks_are_resolved_in_the_compiled_lab() -> None:
    result, reader = parsed(f"{LAB}checks:\n  - ping: a -> d\n  - {{ping: a -> c, see: {{at: node1/eth9}}}}\n")
    lab = models.compile_lab(result.scenario)
    resolve(lab, result.located_checks[:1], reader)
    assert [(problem.line, problem.column, problem.what) for problem in reader.problems] == [
        (4, 11, "ping: there is no machine 'd'")
    ]
    resolve(lab, result.located_checks[1:], reader)
    assert (reader.problems[1].line, reader.problems[1].what) == (5, "at: node1 has no device 'eth9'")


def test_the_parser_raises_every_problem_if_the_lab_cannot_be_compiled() -> None:
    with pytest.raises(ScenarioError) as caught:
        parsed(f"{LAB}mtu: x\nchecks: [{{ping: a -> c, size: 1}}]\n")
    assert [problem.line for problem in caught.value.problems] == [3, 4]


def test_problems_of_all_steps_are_reported_together() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(f"{LAB}checks:\n  - ping: a -> d\n  - {{ping: a -> c, size: 1}}\n", "t.yaml")
    assert [problem.line for problem in caught.value.problems] == [4, 5]
