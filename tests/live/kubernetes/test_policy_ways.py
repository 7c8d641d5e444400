"""The source that a policy engine judges, by way of a node without the backend: the address that `policy why` says."""

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
"""


@pytest.mark.parametrize("model", MODELS)
def test_the_engine_judges_the_source_that_the_answer_names(model: str) -> None:
    """A policy that allows only this source lets only this way through."""
    text = TEXT.replace("MODEL", model)
    compiled = labctl.load(text.replace("SOURCE", "192.0.2.1"), name="ways").compiled
    found = answer(compiled, compiled.kubernetes, "vm", "web", "TCP", 80).explanations
    sources = {way.node: way.seen_as or one.source for one in found for way in one.ways}
    assert sorted(sources) == ["node1", "node2"]

    for node, source in sources.items():
        with labctl.up(text.replace("SOURCE", str(source)), name="ways") as lab:
            passing = [
                one.check.say for one in lab.check().outcomes if one.check.say in sources and one.verdict == "pass"
            ]
        assert passing == [node], f"{source} is allowed"
