"""Whether NetworkPolicies allow a connection, and which policy and rule decides. Pure.

A pod that no policy selects for a direction accepts everything in it. Else it accepts what any rule of any of these
policies allows: rules only add, so their order means nothing. A connection needs the egress of its source and the
ingress of its destination. Answers belong to their connection and need nothing.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies, Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from labctl.core.resources import IP
from labctl.kubernetes.api_objects import Protocol
from labctl.kubernetes.policy_objects import Direction, Namespace, NetworkPolicy, Peer, Pod, PolicyPort
from labctl.kubernetes.selectors import EVERYTHING

Endpoint: TypeAlias = Pod | IP  # a pod of the cluster, or an address outside


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision for one direction of a pod. `policies` are those that select the pod; `policy` and `rule` (counted
    from 1) allow the connection, if it is allowed by a rule."""

    direction: Direction
    allowed: bool
    policies: tuple[str, ...] = ()
    policy: str = ""
    rule: int = 0

    def __str__(self) -> str:
        side = self.direction.lower()
        if not self.policies:
            return f"{side}: no policy selects the pod"
        if self.allowed:
            return f"{side}: allowed by {self.policy}, rule {self.rule}"
        names = ", ".join(self.policies)
        return f"{side}: no rule of {names} allows it"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a connection is allowed, with the decision at each end that is a pod; the source's comes first."""

    allowed: bool
    decisions: tuple[Decision, ...] = ()

    def __str__(self) -> str:
        return "; ".join((("allowed" if self.allowed else "denied"), *map(str, self.decisions)))


@dataclass(frozen=True)
class PolicyOracle:
    """The policies of a cluster, with the labels of its namespaces. A namespace without an object has only the label
    of its name."""

    policies: tuple[NetworkPolicy, ...]
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)

    def verdict(self, source: Endpoint, target: Endpoint, protocol: Protocol, port: int) -> Verdict:
        """Whether the source can open a connection to this port of the target: the port of the pod itself, behind
        every Service. A pod always reaches itself."""
        if source == target:
            return Verdict(True)
        decisions = []
        if isinstance(source, Pod) and not source.host_network:
            decisions.append(self.decide(source, "Egress", target, target, protocol, port))
        if isinstance(target, Pod) and not target.host_network:
            decisions.append(self.decide(target, "Ingress", source, target, protocol, port))
        return Verdict(all(one.allowed for one in decisions), tuple(decisions))

    def selecting(self, pod: Pod, direction: Direction) -> Iterator[NetworkPolicy]:
        """The policies that isolate a pod in a direction."""
        for policy in self.policies:
            if policy.namespace == pod.namespace and direction in policy.types and policy.pods.matches(pod.labels):
                yield policy

    def decide(
        self, pod: Pod, direction: Direction, other: Endpoint, target: Endpoint, protocol: Protocol, port: int
    ) -> Decision:
        """The decision at one end, about a connection with the `other` end; `target` is the end with the port."""
        selecting = tuple(self.selecting(pod, direction))
        names = tuple(map(str, selecting))
        for policy in selecting:
            for number, rule in enumerate(policy.rules(direction), 1):
                at_port = not rule.ports or any(_has_port(one, target, protocol, port) for one in rule.ports)
                if at_port and (not rule.peers or any(self._is_peer(one, policy, other) for one in rule.peers)):
                    return Decision(direction, True, names, str(policy), number)
        return Decision(direction, not selecting, names)

    def _is_peer(self, peer: Peer, policy: NetworkPolicy, other: Endpoint) -> bool:
        if peer.block is not None:
            ips: Iterable[IP] = other.ips if isinstance(other, Pod) else (other,)
            return any(ip in peer.block for ip in ips)
        if not isinstance(other, Pod) or other.host_network:
            return False
        if peer.namespaces is None:
            right_namespace = other.namespace == policy.namespace
        else:
            namespace = self.namespaces.get(other.namespace) or Namespace(other.namespace)
            right_namespace = peer.namespaces.matches(namespace.labels)
        return right_namespace and (peer.pods or EVERYTHING).matches(other.labels)


def _has_port(wanted: PolicyPort, target: Endpoint, protocol: Protocol, port: int) -> bool:
    """Whether an item of `ports` means this port. A name means the port that the target itself gives that name."""
    if wanted.protocol != protocol:
        return False
    if wanted.port is None:
        return True
    if isinstance(wanted.port, str):
        named = target.ports if isinstance(target, Pod) else ()
        return any((one.name, one.protocol, one.port) == (wanted.port, protocol, port) for one in named)
    return wanted.port <= port <= (wanted.end_port if wanted.end_port is not None else wanted.port)
