"""What is strange about policies that the API server accepts: no pod is selected, no pod has a named port. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.core.names import did_you_mean
from labctl.kubernetes.api.cluster_policy_objects import ClusterPolicy
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.policy_objects import Direction, NetworkPolicy, Peer, Pod, PolicyPort
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.api.selectors import EVERYTHING
from labctl.kubernetes.validation.pod_index import PodIndex, label_hint

_SIDES: tuple[tuple[Direction, str, str], ...] = (("Ingress", "ingress", "from"), ("Egress", "egress", "to"))


def policy_problems(declared: Declared, index: PodIndex) -> Iterator[ObjectProblem]:
    """The warnings about all policies."""
    for policy in declared.policies:
        yield from _network_policy(policy, index)
    yield from _priorities(declared.cluster_policies)
    for one in declared.cluster_policies:
        yield from _cluster_policy(one, index)


def _warning(policy: NetworkPolicy, path: tuple[str | int, ...], what: str, hint: str = "") -> ObjectProblem:
    return ObjectProblem("NetworkPolicy", policy.namespace, policy.name, ("spec", *path), what, hint, True)


def _network_policy(policy: NetworkPolicy, index: PodIndex) -> Iterator[ObjectProblem]:
    selected = index.select(policy.namespace, policy.pods)
    if not selected:
        hint = index.explain_nothing(policy.pods, policy.namespace)
        yield _warning(policy, ("podSelector",), "the policy selects no pod", hint)
    for direction, key, side in _SIDES:
        for number, rule in enumerate(policy.rules(direction)):
            if direction not in policy.types:
                what = f"policyTypes does not have {direction}, so these rules do nothing"
                yield _warning(policy, (key,), what)
                break
            peers = list(rule.peers)
            for position, peer in enumerate(peers):
                what, hint = _selects_nothing(peer, policy.namespace, index)
                if what:
                    yield _warning(policy, (key, number, side, position), what, hint)
            targets = selected if direction == "Ingress" else _targets(peers, policy.namespace, index)
            for position, port in enumerate(rule.ports):
                problem = _missing_name(port, targets)
                if problem:
                    yield _warning(policy, (key, number, "ports", position, "port"), *problem)


def _selects_nothing(peer: Peer, namespace: str, index: PodIndex) -> tuple[str, str]:
    """The warning and the hint for a peer that means no pod of the lab; empty texts if it means one."""
    if peer.block is not None or any(True for _ in index.selected_by(peer, namespace)):
        return "", ""
    if peer.namespaces is None:
        return "the peer selects no pod", index.explain_nothing(peer.pods or EVERYTHING, namespace)
    names = list(index.select_namespaces(peer.namespaces))
    if names:
        return "the peer selects no pod", index.explain_nothing(peer.pods or EVERYTHING, names[0])
    known = [label for one in index.namespaces.values() for label in one.labels.items()]
    return "the peer selects no namespace that the lab has", label_hint(peer.namespaces.labels, known)


def _targets(peers: Iterable[Peer], namespace: str, index: PodIndex) -> list[Pod] | None:
    """The pods that an egress rule allows; None if it also allows addresses, or everything."""
    peers = list(peers)
    if not peers or any(peer.block is not None for peer in peers):
        return None
    return [pod for peer in peers for pod in index.selected_by(peer, namespace)]


def _missing_name(port: PolicyPort, targets: list[Pod] | None) -> tuple[str, str] | None:
    """The warning and the hint for the name of a port that none of the pods has."""
    if not isinstance(port.port, str) or not targets:
        return None
    named = [one for pod in targets for one in pod.ports if one.name]
    if any((one.name, one.protocol) == (port.port, port.protocol) for one in named):
        return None
    others = sorted({one.protocol for one in named if one.name == port.port})
    known = sorted({one.name for one in named})
    hint = f"{port.port} is a port of {', '.join(others)}, this one is of {port.protocol}" if others else ""
    hint = hint or did_you_mean(port.port, known) or (f"their ports are {', '.join(known)}" if known else "")
    return f"no pod that is meant has a port with the name {port.port!r}", hint or "their ports have no names"


def _priorities(policies: Iterable[ClusterPolicy]) -> Iterator[ObjectProblem]:
    first: dict[tuple[str, int], ClusterPolicy] = {}
    for policy in policies:
        other = first.setdefault((policy.tier, policy.priority), policy)
        if other is not policy:
            what = (
                f"{other.name} has the same priority in the tier {policy.tier}: which of the two decides is not defined"
            )
            path = ("spec", "priority")
            yield ObjectProblem("ClusterNetworkPolicy", "", policy.name, path, what, "choose another priority", True)


def _cluster_policy(policy: ClusterPolicy, index: PodIndex) -> Iterator[ObjectProblem]:
    names = list(index.select_namespaces(policy.namespaces))
    if not any(index.select(name, policy.pods) for name in names):
        path = ("spec", "subject")
        yield ObjectProblem("ClusterNetworkPolicy", "", policy.name, path, "the policy selects no pod", "", True)
