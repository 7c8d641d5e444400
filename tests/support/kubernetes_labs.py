"""Labs with Kubernetes' objects on top, from a scenario's text and plain API objects, for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from labctl import models
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.api_reader import read_cluster
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.policy_reader import read_namespace, read_policy
from labctl.kubernetes.composition import compose
from labctl.scenario.document import Reader
from labctl.scenario.parser import parse_scenario

TWO_NODES = """
model: kubenet
nodes:
  node1: {pods: {a: {labels: {app: web}, containers: ['web:http=8080']}, b: }}
  node2: {pods: {c: {labels: {app: web}, containers: ['web:http=8080']}}}
"""


def service(name: str = "web", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A Service in the API's own form; by default port 80, which leads to the port `http` of the pods of app web."""
    about = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], **spec}
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": about}


def lab_with(items: list[Mapping[str, Any]], text: str = TWO_NODES, **declared: Any) -> Lab:
    """The compiled lab of a scenario's text with these API objects on top."""
    scenario = parse_scenario(text, "lab.yaml", Reader()).scenario
    cluster = read_cluster(items)
    objects = Declared(
        tuple(read_namespace(one) for one in items if one["kind"] == "Namespace"),
        cluster.services,
        cluster.slices,
        tuple(read_policy(one) for one in items if one["kind"] == "NetworkPolicy"),
        **declared,
    )
    scenario = dataclasses.replace(scenario, kubernetes=objects)
    lab = models.compile_lab(scenario)
    return compose(lab, scenario, getattr(models.find_model(lab.model), "CLUSTER", None))
