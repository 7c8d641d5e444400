"""The ways of a connection to a backend of a Service, and the source that a policy engine judges on each. Pure.

A policy engine judges in FORWARD, a node masquerades in POSTROUTING, behind it. So the node that sends a connection to
one of its own pods judges the source itself. If it sends the connection to another node, that one judges the address
that the first node gave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.plan_paths import PlanPaths
from labctl.core.resources import IP
from labctl.kubernetes.api.api_objects import Node, Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.policy_oracle import Endpoint
from labctl.kubernetes.services.node_sources import masquerade_address, own_address


@dataclass(frozen=True, slots=True)
class Way:
    """The node that chooses the backend, and the source that the backend's node judges; None for the source itself."""

    node: str
    seen_as: IP | None = None

    def __str__(self) -> str:
        return self.node if self.seen_as is None else f"{self.node} (seen as {self.seen_as})"


def ways(
    paths: PlanPaths, state: ClusterState, source: Endpoint, service: Service, port: ServicePort, target: Pod
) -> Iterator[Way]:
    """The ways from the source to a pod behind a Service. A pod or a node asks its own kube-proxy, another machine that
    of any node, or with externalTrafficPolicy Local that of the pod's node."""
    own = _node_of(state, source)
    inside = isinstance(source, Pod) and not source.host_network
    keeps_source = inside and not _masquerades_all(state)
    only_local = own is None and is_external(service, port) and service.external_policy == "Local"
    for node in [own] if own is not None else state.cluster.nodes:
        if node.name == target.node or keeps_source:
            yield Way(node.name)
        elif not only_local:
            begin, end = _addresses(source, target)
            yield Way(node.name, masquerade_address(paths, node, begin, end))


def _addresses(source: Endpoint, target: Pod) -> tuple[IP, IP]:
    """The source's address, and the target's of the same version."""
    begin = source.ips[0] if isinstance(source, Pod) else source
    return begin, next((one for one in target.ips if one.version == begin.version), target.ips[0])


def node_source(paths: PlanPaths, state: ClusterState, source: Endpoint, target: Pod) -> IP | None:
    """The address from which a node sends to a pod of another node, if it is not `source`, the address by which the
    node is known. None for another source, too."""
    node = None if isinstance(source, Pod) else _node_of(state, source)
    if node is None or node.name == target.node or target.host_network:
        return None
    found = own_address(paths, node, _addresses(source, target)[1])
    return None if found == source else found


def is_external(service: Service, port: ServicePort) -> bool:
    """Whether other machines than nodes and pods can reach a port: by a nodePort, a load balancer, an external IP."""
    return bool(port.node_port or service.load_balancer_ips or service.proxied_ips or service.external_ips)


def _node_of(state: ClusterState, source: Endpoint) -> Node | None:
    if isinstance(source, Pod):
        return state.cluster.node(source.node)
    return next((one for one in state.cluster.nodes if source in one.internal_ips), None)


def _masquerades_all(state: ClusterState) -> bool:
    return bool((state.kube_proxy.get("iptables") or {}).get("masqueradeAll"))
