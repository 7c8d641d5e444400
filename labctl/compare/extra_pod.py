"""The scenario with one more pod; the difference is the cost of a pod. Pure."""

from __future__ import annotations

from dataclasses import replace

from labctl import models
from labctl.core.scenario_types import Lab, ScenarioNode
from labctl.errors import UsageError
from labctl.scenario.definition import Definition, scenario_of, with_kubernetes

EXTRA_POD = "one-more"  # the name of the additional pod


def with_extra_pod(definition: Definition, lab: Lab, node: str) -> Lab:
    """The lab of a definition with one more pod on a node and without checks. It uses the same substitutes as `lab`.

    Raises UsageError if the model has no room for the pod.
    """
    scenario = scenario_of(definition, lab)
    nodes = tuple(_with_pod(one) if one.name == node else one for one in scenario.nodes)
    if nodes == scenario.nodes:
        raise UsageError("its scenario does not list pods by node")
    scenario = replace(scenario, nodes=nodes, checks=())
    model = models.find_model(scenario.model)
    for _, what, _ in model.refuse(scenario) if hasattr(model, "refuse") else ():
        raise UsageError(what)
    return with_kubernetes(scenario)


def _with_pod(node: ScenarioNode) -> ScenarioNode:
    return replace(node, pods=(*node.pods, EXTRA_POD))
