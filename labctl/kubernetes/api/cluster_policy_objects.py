"""ClusterNetworkPolicies, as the Kubernetes API describes them (policy.networking.k8s.io/v1alpha2). Pure.

Peers and ports have the types of NetworkPolicies, so that one function decides about both. Each peer of pods names its
namespaces here: a ClusterNetworkPolicy has no namespace of its own.

Source: apis/v1alpha2/clusternetworkpolicy_types.go of kubernetes-sigs/network-policy-api 0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.kubernetes.api.policy_objects import Direction, Namespace, Peer, Pod, PolicyPort
from labctl.kubernetes.api.selectors import EVERYTHING, Selector

Tier: TypeAlias = Literal["Admin", "Baseline"]
Action: TypeAlias = Literal["Accept", "Deny", "Pass"]
TIERS: tuple[Tier, ...] = ("Admin", "Baseline")
ACTIONS: tuple[Action, ...] = ("Accept", "Deny", "Pass")
MAX_PRIORITY = 1000
MAX_RULES = MAX_PEERS = MAX_PROTOCOLS = 25
MAX_RULE_NAME = 100


@dataclass(frozen=True, slots=True)
class ClusterRule:
    """A rule: what is done with connections of these peers at these ports. No ports are all ports of all protocols."""

    action: Action
    peers: tuple[Peer, ...]
    ports: tuple[PolicyPort, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class ClusterPolicy:
    """A ClusterNetworkPolicy. It selects pods by the labels of their namespaces and by their own.

    In its tier, a policy with a lower `priority` is asked first. In a policy, the first rule that fits decides.
    """

    name: str
    tier: Tier
    priority: int
    namespaces: Selector = EVERYTHING
    pods: Selector = EVERYTHING
    ingress: tuple[ClusterRule, ...] = ()
    egress: tuple[ClusterRule, ...] = ()

    def rules(self, direction: Direction) -> tuple[ClusterRule, ...]:
        """Its rules for one direction."""
        return self.ingress if direction == "Ingress" else self.egress

    def selects(self, pod: Pod, namespace: Namespace) -> bool:
        """Whether it is about this pod of this namespace. It is never about a pod in the network of its node."""
        return not pod.host_network and self.namespaces.matches(namespace.labels) and self.pods.matches(pod.labels)

    def __str__(self) -> str:
        return self.name
