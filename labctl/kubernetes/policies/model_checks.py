"""The checks of a model in a lab with policies: what they claim of pods that policies isolate is left out. Pure.

A model claims that every pod reaches every pod, as Kubernetes requires. A policy is an exception to it, so the claim is
made for the other pods only. Whether policies are enforced is a question of its own: `labctl policy matrix --live`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from labctl.core.scenario_types import Check
from labctl.core.sentence import Sentence, sentence
from labctl.kubernetes.api.cluster_policy_objects import Tier
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Direction
from labctl.kubernetes.policies.policy_oracle import PolicyOracle


def checks_with_policies(checks: Iterable[Check], state: ClusterState) -> Iterator[Check]:
    """The checks without the model's claims about pods that a policy isolates. Those of the scenario stay."""
    sources, targets = _isolated(state, "Egress"), _isolated(state, "Ingress")
    node_of = {one.machine: one.node for one in state.pods}

    def is_exempt(source: str, target: str) -> bool:
        """Whether no policy can forbid it: a pod reaches itself, and a node its own pods."""
        return source == target or (source not in node_of and node_of.get(target) == source)

    for one in checks:
        if one.origin != "model" or not (sources or targets):
            yield one
        elif one.groups:
            groups = []
            for own, others in one.groups:
                if not all(is_exempt(name, other) for name in own for other in others):
                    own = tuple(name for name in own if name not in sources)
                    others = tuple(name for name in others if name not in targets)
                if any(name != other for name in own for other in others):
                    groups.append((own, others))
            if groups:
                same = tuple(groups) == one.groups
                yield one if same else replace(one, groups=tuple(groups), say=_except_isolated(one.say))
        else:
            target = one.server[0] if one.server is not None else one.target
            if is_exempt(one.source, target) or (one.source not in sources and target not in targets):
                yield one


def _isolated(state: ClusterState, direction: Direction) -> frozenset[str]:
    oracle = PolicyOracle.of(state)
    pods = (one for one in state.pods if not one.host_network)
    tiers: tuple[Tier, ...] = ("Admin", "Baseline")
    return frozenset(
        one.machine
        for one in pods
        if any(oracle.selecting(one, direction))
        or any(oracle.cluster_policies_of(one, direction, tier) for tier in tiers)
    )


def _except_isolated(say: str) -> Sentence:
    return sentence("{claim}, except for pods that a policy isolates", claim=say)
