"""Whether policies allow a connection, and which policy and rule decides. Pure.

Three tiers are asked at each end, until one decides:

1. ClusterNetworkPolicies of the Admin tier, by their priority. The first rule that fits decides: Accept, Deny, or Pass,
   which skips the rest of the tier.
2. NetworkPolicies. A pod that no policy selects for a direction is not decided here. Else it accepts what any rule of
   any of these policies allows, and nothing else: rules only add, so their order means nothing.
3. ClusterNetworkPolicies of the Baseline tier, as those of the Admin tier.

What no tier decides is allowed. A connection needs the egress of its source and the ingress of its destination. Answers
belong to their connection and need nothing.

Two policies with the same priority in one tier that disagree are not defined by the API. The first by name
decides here, as in Calico, and the decision names the other.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies, Kubernetes 1.36, and
apis/v1alpha2/clusternetworkpolicy_types.go of kubernetes-sigs/network-policy-api 0.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from labctl.core.resources import IP
from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.api.cluster_policy_objects import ClusterPolicy, ClusterRule, Tier
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Direction, Namespace, NetworkPolicy, Peer, Pod, PolicyPort, PolicyRule
from labctl.kubernetes.api.selectors import EVERYTHING

Traffic: TypeAlias = Protocol | Literal["ICMP"]  # ICMP has no ports: only rules without ports fit it
Endpoint: TypeAlias = Pod | IP  # a pod of the cluster, or an address outside
DecidingTier: TypeAlias = Literal["", "Admin", "NetworkPolicy", "Baseline"]


@dataclass(frozen=True, slots=True)
class RuleName:
    """A rule of a ClusterNetworkPolicy: its policy, its number (from 1), and its own name, which may be ""."""

    policy: str
    number: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.policy}, rule {self.number}" + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision for one direction of a pod.

    `tier` is the tier that decides, "" if none does. `policies` are the NetworkPolicies that select the pod. `policy`
    and `rule` (counted from 1) are those that decide; without a rule, no rule of `policies` allows the connection.
    `passed` are the rules of ClusterNetworkPolicies that gave the decision to the next tier. `unclear` are policies of
    the same tier and priority that would decide differently.
    """

    direction: Direction
    allowed: bool
    policies: tuple[str, ...] = ()
    policy: str = ""
    rule: int = 0
    tier: DecidingTier = ""
    rule_name: str = ""
    passed: tuple[RuleName, ...] = ()
    unclear: tuple[str, ...] = ()

    def __str__(self) -> str:
        side = self.direction.lower()
        word = "allowed" if self.allowed else "denied"
        if self.tier in ("Admin", "Baseline"):
            rule = RuleName(self.policy, self.rule, self.rule_name)
            return f"{side}: {word} by ClusterNetworkPolicy {rule}, in the {self.tier} tier"
        if not self.policies:
            return f"{side}: no policy selects the pod" if not self.passed else f"{side}: no policy decides"
        if self.allowed:
            return f"{side}: allowed by {self.policy}, rule {self.rule}"
        names = ", ".join(self.policies)
        return f"{side}: no rule of {names} allows it"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a connection is allowed, with the decision at each end that is a pod; the source's comes first.

    `exempt` is the reason if no policy is asked.
    """

    allowed: bool
    decisions: tuple[Decision, ...] = ()
    exempt: str = ""

    @property
    def denials(self) -> tuple[Decision, ...]:
        """The decisions that deny it."""
        return tuple(one for one in self.decisions if not one.allowed)

    def __str__(self) -> str:
        return "; ".join((("allowed" if self.allowed else "denied"), *map(str, self.decisions)))


@dataclass(frozen=True)
class PolicyOracle:
    """The policies of a cluster, with the labels of its namespaces. A namespace without an object has only the label
    of its name. `node_ips` are the addresses of the nodes: what runs on its node always reaches a pod."""

    policies: tuple[NetworkPolicy, ...]
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    cluster_policies: tuple[ClusterPolicy, ...] = ()
    node_ips: Mapping[str, tuple[IP, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: ClusterState) -> PolicyOracle:
        """The oracle of the cluster of a lab."""
        node_ips = {one.name: one.internal_ips for one in state.cluster.nodes}
        return cls(state.policies, state.namespaces, state.cluster_policies, node_ips)

    def verdict(
        self,
        source: Endpoint,
        target: Endpoint,
        protocol: Traffic,
        port: int,
        *,
        hairpin: bool = False,
        seen_as: IP | None = None,
    ) -> Verdict:
        """Whether the source can open a connection to this port of the target: the port of the pod itself, behind
        every Service.

        A pod always reaches itself, because its packets do not leave it. With `hairpin`, they do: through a Service
        that chose the pod itself. A node always reaches its pods, for the probes of its kubelet. `seen_as` is the
        source that the target's node sees, if another node gave the connection its own address.
        """
        if source == target and not hairpin:
            return Verdict(True, exempt="a pod always reaches itself")
        if isinstance(target, Pod) and not target.host_network and self._is_node_of(source, target):
            return Verdict(True, exempt="a node always reaches its own pods")
        decisions = []
        if isinstance(source, Pod) and not source.host_network:
            decisions.append(self.decide(source, "Egress", target, target, protocol, port))
        if isinstance(target, Pod) and not target.host_network:
            seen: Endpoint = source if seen_as is None else seen_as
            decisions.append(self.decide(target, "Ingress", seen, target, protocol, port))
        return Verdict(all(one.allowed for one in decisions), tuple(decisions))

    def selecting(self, pod: Pod, direction: Direction) -> Iterator[NetworkPolicy]:
        """The NetworkPolicies that isolate a pod in a direction."""
        for policy in self.policies:
            if policy.namespace == pod.namespace and direction in policy.types and policy.pods.matches(pod.labels):
                yield policy

    def cluster_policies_of(self, pod: Pod, direction: Direction, tier: Tier) -> list[ClusterPolicy]:
        """The ClusterNetworkPolicies of a tier that have rules for a pod and a direction, in the order in which they
        are asked."""
        namespace = self.namespace(pod.namespace)
        found = (one for one in self.cluster_policies if one.tier == tier and one.rules(direction))
        return sorted((one for one in found if one.selects(pod, namespace)), key=lambda one: (one.priority, one.name))

    def namespace(self, name: str) -> Namespace:
        """The namespace of this name, with its labels."""
        return self.namespaces.get(name) or Namespace(name)

    def decide(
        self, pod: Pod, direction: Direction, other: Endpoint, target: Endpoint, protocol: Traffic, port: int
    ) -> Decision:
        """The decision at one end, about a connection with the `other` end; `target` is the end with the port."""
        selecting = tuple(self.selecting(pod, direction))
        names = tuple(map(str, selecting))
        connection = (other, target, protocol, port)
        admin = self._of_tier("Admin", pod, direction, names, (), connection)
        if admin.tier:
            return admin
        for policy in selecting:
            for number, rule in enumerate(policy.rules(direction), 1):
                if self.fits(rule, policy.namespace, *connection):
                    return replace(admin, policy=str(policy), rule=number, tier="NetworkPolicy")
        if selecting:
            return replace(admin, allowed=False, tier="NetworkPolicy")
        return self._of_tier("Baseline", pod, direction, names, admin.passed, connection)

    def fits(
        self,
        rule: PolicyRule | ClusterRule,
        namespace: str,
        other: Endpoint,
        target: Endpoint,
        protocol: Traffic,
        port: int,
    ) -> bool:
        """Whether a rule of a policy in this namespace is about a connection with the `other` end."""
        return self.fits_peers(rule, namespace, other) and fits_ports(rule, target, protocol, port)

    def fits_peers(self, rule: PolicyRule | ClusterRule, namespace: str, other: Endpoint) -> bool:
        """Whether the `other` end is one of the peers of a rule."""
        return not rule.peers or any(self.is_peer(one, namespace, other) for one in rule.peers)

    def is_peer(self, peer: Peer, namespace: str, other: Endpoint) -> bool:
        """Whether the `other` end is meant by a peer of a policy in this namespace."""
        if peer.block is not None:
            ips: Iterable[IP] = other.ips if isinstance(other, Pod) else (other,)
            return any(ip in peer.block for ip in ips)
        if not isinstance(other, Pod) or other.host_network:
            return False
        if peer.namespaces is None:
            right_namespace = other.namespace == namespace
        else:
            right_namespace = peer.namespaces.matches(self.namespace(other.namespace).labels)
        return right_namespace and (peer.pods or EVERYTHING).matches(other.labels)

    def _of_tier(
        self,
        tier: Tier,
        pod: Pod,
        direction: Direction,
        names: tuple[str, ...],
        passed: tuple[RuleName, ...],
        connection: tuple[Endpoint, Endpoint, Traffic, int],
    ) -> Decision:
        """The decision of a tier of ClusterNetworkPolicies; one without a tier, if it does not decide."""
        fitting = self._first_rules(tier, pod, direction, connection)
        if not fitting:
            return Decision(direction, True, names, passed=passed)
        policy, number, rule = fitting[0]
        same = (one for one in fitting[1:] if one[0].priority == policy.priority and one[2].action != rule.action)
        unclear = tuple(one[0].name for one in same)
        if rule.action == "Pass":
            passed = (*passed, RuleName(policy.name, number, rule.name))
            return Decision(direction, True, names, passed=passed, unclear=unclear)
        allowed = rule.action == "Accept"
        return Decision(direction, allowed, names, policy.name, number, tier, rule.name, passed, unclear)

    def _first_rules(
        self, tier: Tier, pod: Pod, direction: Direction, connection: tuple[Endpoint, Endpoint, Traffic, int]
    ) -> list[tuple[ClusterPolicy, int, ClusterRule]]:
        """The first fitting rule of each policy of a tier, with its number, in the order in which they are asked."""
        found = []
        for policy in self.cluster_policies_of(pod, direction, tier):
            for number, rule in enumerate(policy.rules(direction), 1):
                if self.fits(rule, "", *connection):
                    found.append((policy, number, rule))
                    break
        return found

    def _is_node_of(self, source: Endpoint, pod: Pod) -> bool:
        if isinstance(source, Pod):
            return source.host_network and source.node == pod.node != ""
        return source in self.node_ips.get(pod.node, ())


def fits_ports(rule: PolicyRule | ClusterRule, target: Endpoint, protocol: Traffic, port: int) -> bool:
    """Whether a port of the target is one of the ports of a rule."""
    return not rule.ports or any(is_port(one, target, protocol, port) for one in rule.ports)


def is_port(wanted: PolicyPort, target: Endpoint, protocol: Traffic, port: int) -> bool:
    """Whether an item of `ports` means this port. A name means the port that the target itself gives that name."""
    if wanted.protocol != protocol:
        return False
    if wanted.port is None:
        return True
    if isinstance(wanted.port, str):
        named = target.ports if isinstance(target, Pod) else ()
        return any((one.name, one.protocol, one.port) == (wanted.port, protocol, port) for one in named)
    return wanted.port <= port <= (wanted.end_port if wanted.end_port is not None else wanted.port)
