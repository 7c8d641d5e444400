"""The source that a policy engine judges: the address that `policy why` says. From outside, by way of a node without
the backend, that is not the client's; and a node does not send to every pod from the address by which it is known."""

from __future__ import annotations

import pytest

import labctl
from labctl.kubernetes.policies.policy_question import answer

MODELS = ("weave", "flannel", "calico", "cilium", "kubenet", "eks-vpc-cni", "gke-vpc-native", "kube-router")
TEXT = """
model: MODEL
nodes:
  node1:
  node2: {pods: {c: {labels: {app: web}, containers: ['web:80']}}}
services:
  web: {selector: {app: web}, ports: {port: 80, nodePort: 30080}, type: NodePort}
policies:
  one: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: SOURCE/32}}]}]}
checks:
  - {say: node1, tcp: 'vm -> node1:30080', within: 1}
  - {say: node2, tcp: 'vm -> node2:30080', within: 1}
  - {say: itself, tcp: 'node1 -> c:80', within: 1}
"""


@pytest.mark.parametrize("model", MODELS)
def test_the_engine_judges_the_source_that_the_answer_names(model: str) -> None:
    """A policy that allows only this source lets only its ways through."""
    text = TEXT.replace("MODEL", model)
    compiled = labctl.load(text.replace("SOURCE", "192.0.2.1"), name="ways").compiled
    found = answer(compiled, compiled.kubernetes, "vm", "web", "TCP", 80).explanations
    sources = {way.node: str(way.seen_as or one.source) for one in found for way in one.ways}
    (own,) = answer(compiled, compiled.kubernetes, "node1", "c", "TCP", 80).explanations
    sources["itself"] = str(own.seen_as or own.source)
    assert sorted(sources) == ["itself", "node1", "node2"]

    for source in dict.fromkeys(sources.values()):
        with labctl.up(text.replace("SOURCE", source), name="ways") as lab:
            passing = {one.check.say for one in lab.check().outcomes if one.verdict == "pass"}
        expected = {name for name, one in sources.items() if one == source}
        assert passing & sources.keys() == expected, f"{source} is allowed"
