"""Scenarios with API objects, written briefly."""

from __future__ import annotations

from labctl.core.scenario_types import Scenario
from labctl.errors import ScenarioError
from labctl.kubernetes.api.declared import Declared
from labctl.scenario.definition import parse_and_compile

NODES = "name: t\nmodel: kubenet\nnodes: {node1: {pods: [a]}, node2: {pods: [b]}}\n"


def parsed(more: str, manifest: str | None = None) -> Scenario:
    """A scenario of two nodes with further keys, and perhaps a manifest in the file shop.yaml."""
    files = {} if manifest is None else {"shop.yaml": manifest}
    text = NODES + more + ("" if manifest is None else "manifests: shop.yaml\n")
    return parse_and_compile(text, "t.yaml", files=files)[0]


def declared(more: str = "", manifest: str | None = None) -> Declared:
    """The API objects of such a scenario."""
    found = parsed(more, manifest).kubernetes
    assert isinstance(found, Declared)
    return found


def refusals(more: str = "", manifest: str | None = None) -> list[str]:
    """The problems of such a scenario, each in one line with its place; none if it is accepted."""
    try:
        parsed(more, manifest)
    except ScenarioError as error:
        return [str(one).replace("\n    hint: ", " | ") for one in error.problems]
    return []
