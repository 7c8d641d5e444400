"""A lab with policies of both kinds and a Service, for tests of what is said about them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.cluster_policy_reader import read_cluster_policy
from tests.support.cluster_policy_cases import Spec, house_pods, houses, policy, rules
from tests.support.kubernetes_labs import lab_with, service
from tests.support.policy_cases import DENY_ALL, egress, ingress, ns, pod, tcp

SIX_PODS = """
name: six-pods
model: kubenet
nodes:
  node1:
    pods:
      a: {namespace: x, labels: {app: web, pod: a}, containers: ['web:http=8080']}
      b: {namespace: x, labels: {pod: b}}
      c: {namespace: y, labels: {pod: c}}
  node2:
    pods:
      d: {namespace: y, labels: {app: web, pod: d}, containers: ['web:http=8080']}
      e: {namespace: z, labels: {pod: e}}
      f: {namespace: z, labels: {pod: f}}
"""
ON_8080: Spec = {"protocols": [{"tcp": {"destinationPort": {"number": 8080}}}]}
GUARD = policy(
    {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}},
    priority=10,
    ingress=[{"name": "no-e", **rules("from", ("Deny", house_pods({"pod": "e"}), {}))[0]}],
)
PASS_F = policy(
    {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}},
    priority=20,
    ingress=[{"name": "ask-x", **rules("from", ("Pass", houses("z"), {}))[0]}],
)
DEFAULT = policy(
    {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}},
    "Baseline",
    5,
    ingress=[
        *rules("from", ("Accept", houses("y"), {})),
        {"name": "closed", **rules("from", ("Deny", {"namespaces": {}}, ON_8080))[0]},
    ],
)


def network_policy(name: str, namespace: str, spec: Spec) -> dict[str, Any]:
    """A NetworkPolicy in the API's own form."""
    return {"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


NETWORK_POLICIES = (
    network_policy("deny-all", "x", DENY_ALL),
    network_policy("allow-web", "x", ingress("a", ns("y"), {**ns("z"), **pod("f")}, ports=tcp("http"))),
    network_policy("out", "z", egress("f", ns("x"), ports=tcp(8080))),
)


@lru_cache(maxsize=1)
def policy_lab() -> Lab:
    """The lab, compiled."""
    cluster = tuple(
        read_cluster_policy({"metadata": {"name": name}, "spec": spec})
        for name, spec in (("guard", GUARD), ("ask", PASS_F), ("default", DEFAULT))
    )
    empty = service("empty", "x", selector={"app": "nothing"})
    return lab_with([*NETWORK_POLICIES, service(namespace="x"), empty], SIX_PODS, cluster_policies=cluster)
