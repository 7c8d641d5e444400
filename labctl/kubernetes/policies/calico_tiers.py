"""The policies of a pod as Calico orders them: in tiers, each policy with Calico's own name, selector and rules. Pure.

ClusterNetworkPolicies are in the tiers `kube-admin` and `kube-baseline`, before and behind the tier `default` of
NetworkPolicies. In a tier, the order of a policy decides (the priority of a ClusterNetworkPolicy; all NetworkPolicies
have the same), then its name. At the end of `default`, what no policy accepted is dropped; at the end of the others, it
goes on to the next tier.

Follows projectcalico/calico: libcalico-go/lib/backend/k8s/conversion/conversion.go (3.31) and cnp_conversion.go (3.32),
with the names of policies as in 3.31. Where a rule has a list of `networks`, Felix writes one block of rules for the
list, and labctl a rule for each network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.kubernetes.api.cluster_policy_objects import Action, ClusterPolicy, Tier
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Direction, NetworkPolicy, Peer, Pod, PolicyPort
from labctl.kubernetes.policies.calico_selectors import cluster_policy_selector, policy_selector
from labctl.kubernetes.policies.policy_oracle import PolicyOracle
from labctl.kubernetes.policies.policy_peers import is_selected

TIER_NAMES: dict[Tier, str] = {"Admin": "kube-admin", "Baseline": "kube-baseline"}
DEFAULT_TIER = "default"
DROPPING_TIERS = (DEFAULT_TIER,)


@dataclass(frozen=True, slots=True)
class CalicoRule:
    """A rule: what it does with connections of these peers at these ports. No peers are all."""

    action: Action
    peers: tuple[Peer, ...]
    ports: tuple[PolicyPort, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class CalicoPolicy:
    """A policy under Calico's name. `namespace` is that of a NetworkPolicy, "" for a ClusterNetworkPolicy."""

    name: str
    tier: str
    namespace: str
    selector: str
    ingress: tuple[CalicoRule, ...] = ()
    egress: tuple[CalicoRule, ...] = ()

    def rules(self, direction: Direction) -> tuple[CalicoRule, ...]:
        """Its rules for one direction."""
        return self.ingress if direction == "Ingress" else self.egress


def tiers_of(state: ClusterState, pod: Pod, direction: Direction) -> Iterator[tuple[str, list[CalicoPolicy]]]:
    """The tiers with policies for a pod and a direction, in order, each with its policies in order."""
    oracle = PolicyOracle.of(state)
    selecting = (one for one in state.policies if direction in one.types and is_selected(one, pod))
    found = {
        TIER_NAMES["Admin"]: list(map(of_cluster_policy, oracle.cluster_policies_of(pod, direction, "Admin"))),
        DEFAULT_TIER: sorted(map(of_network_policy, selecting), key=lambda one: one.name),
        TIER_NAMES["Baseline"]: list(map(of_cluster_policy, oracle.cluster_policies_of(pod, direction, "Baseline"))),
    }
    yield from ((tier, policies) for tier, policies in found.items() if policies)


def of_network_policy(policy: NetworkPolicy) -> CalicoPolicy:
    """A NetworkPolicy: each of its rules accepts."""
    ingress, egress = (
        tuple(CalicoRule("Accept", one.peers, one.ports) for one in rules) for rules in (policy.ingress, policy.egress)
    )
    name = f"{policy.namespace}/knp.default.{policy.name}"
    return CalicoPolicy(name, DEFAULT_TIER, policy.namespace, policy_selector(policy), ingress, egress)


def of_cluster_policy(policy: ClusterPolicy) -> CalicoPolicy:
    """A ClusterNetworkPolicy."""
    ingress, egress = (
        tuple(CalicoRule(one.action, one.peers, one.ports, one.name) for one in rules)
        for rules in (policy.ingress, policy.egress)
    )
    tier = TIER_NAMES[policy.tier]
    selector = cluster_policy_selector(policy.namespaces, policy.pods)
    return CalicoPolicy(f"kcnp.{tier}.{policy.name}", tier, "", selector, ingress, egress)
