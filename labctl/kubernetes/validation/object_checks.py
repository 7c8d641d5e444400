"""What is wrong with the API objects of a lab, or strange about them, as far as one object cannot show it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.validation.pod_index import PodIndex
from labctl.kubernetes.validation.policy_checks import policy_problems
from labctl.kubernetes.validation.service_checks import service_problems


def problems(declared: Declared, state: ClusterState) -> Iterator[ObjectProblem]:
    """The problems of the objects as their author wrote them, in the cluster that they make; then those that were
    found when it was made."""
    index = PodIndex(state.pods, state.namespaces)
    yield from service_problems(declared, state, index)
    yield from policy_problems(declared, index)
    yield from state.problems
