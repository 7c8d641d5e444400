"""The labels, the namespace and the named ports of a pod in a scenario."""

from __future__ import annotations

import pytest

from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile

POD = "model: kubenet\nnodes: {node1: {pods: {a: {%s}}}}\n"


def test_a_pod_has_labels_a_namespace_and_named_ports() -> None:
    text = POD % "labels: {app: web, example.com/tier: ''}, namespace: shop, containers: ['web:http=80,53/udp']"
    scenario, _ = parse_and_compile(text, "f.yaml")
    (settings,) = (settings for node in scenario.nodes for _, settings in node.settings)
    assert settings.labels == (("app", "web"), ("example.com/tier", ""))
    assert settings.namespace == "shop"
    assert [(one.name, one.port, one.protocol) for one in settings.containers[0].ports] == [
        ("http", 80, "tcp"),
        ("", 53, "udp"),
    ]
    assert str(settings.containers[0]) == "web:http=80,53/udp"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ("labels: [app]", "expected a mapping of labels"),
        ("labels: {'-app': web}", "is not the key of a label"),
        ("labels: {'UPPER.example/app': web}", "is not the prefix of a label"),
        ("labels: {app: 'a b'}", "is not the value of a label"),
        ("labels: {app: " + "x" * 64 + "}", "is not the value of a label"),
        ("containers: ['web:80=http']", "'80' is not the name of a port"),
        ("containers: ['web:http=80,http2=80']", "appears twice"),
        ("namespace: a_b", "is not allowed"),
    ],
)
def test_a_mistake_has_its_place(settings: str, what: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        parse_and_compile(POD % settings, "f.yaml")
    (problem,) = refused.value.problems
    assert what in problem.what
    assert (problem.line, problem.column > 30) == (2, True)
