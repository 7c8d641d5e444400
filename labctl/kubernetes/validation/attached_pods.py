"""What a cluster cannot have if CNI plugins attach its pods: kube-proxy's rules name the addresses of pods, which the
plugins choose when the lab is built. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import Attachment
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.problems import ObjectProblem


def attached_pod_problems(state: ClusterState, lab: Lab) -> Iterator[ObjectProblem]:
    """A refusal for the first Service with a selector, if plugins attach the pods: none would have endpoints.
    Policies are refused by `policy_engine.policy_problems`."""
    services = (one for one in state.cluster.services if one.selector and not one.headless)
    first = next(services, None)
    if first is not None and any(isinstance(item, Attachment) for item in lab.plan):
        what = "it would have no endpoints: CNI plugins choose the addresses of pods when the lab is built"
        hint = "choose a model that gives pods their addresses itself, such as flannel"
        yield ObjectProblem("Service", first.namespace, first.name, (), what, hint)
