"""Which endpoints of a Service's port a node uses. Pure.

Source: kubernetes `pkg/proxy/topology.go` and `pkg/proxy/endpointslicecache.go`, 1.28 to 1.36.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from labctl.core.resources import IP
from labctl.kubernetes.api.api_objects import Cluster, Endpoint, EndpointSlice, Node, Service, ServicePort

TOPOLOGY_ANNOTATIONS = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")


@dataclass(frozen=True, slots=True)
class Backend:
    """An endpoint with the port that it serves. `local` is whether it is on the node that chooses, `text` its address
    and port."""

    endpoint: Endpoint
    port: int
    local: bool
    text: str

    @property
    def ip(self) -> IP:
        """Its address."""
        return self.endpoint.address

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Choice:
    """The endpoints that a node uses for one port of a Service, sorted as kube-proxy does, by their text.

    `cluster` are those for the traffic policy Cluster, `local` those for Local. `exist` is whether any endpoint in the
    cluster can be used, here or elsewhere.
    """

    cluster: tuple[Backend, ...]
    local: tuple[Backend, ...]
    exist: bool

    @property
    def reachable(self) -> tuple[Backend, ...]:
        """All of both, without repeats."""
        if not self.local:
            return self.cluster
        return tuple(sorted({one.text: one for one in (*self.cluster, *self.local)}.values(), key=str))


@dataclass(frozen=True, slots=True)
class HintRules:
    """How a release of kube-proxy reads the hints of endpoints: whether the Service needs an annotation (up to 1.30),
    and whether hints for nodes count (PreferSameNode)."""

    needs_annotation: bool
    for_nodes: bool


class EndpointIndex:
    """The endpoints of a cluster by Service, with their texts: what the kube-proxies of all nodes have in common, and
    Services with the same endpoints too."""

    def __init__(self, cluster: Cluster) -> None:
        self._slices: dict[tuple[str, str, int], list[EndpointSlice]] = {}
        for one in cluster.slices:
            self._slices.setdefault((one.namespace, one.service, one.version), []).append(one)
        self._listed: dict[tuple[tuple[int, int], ...], list[tuple[str, Endpoint, int]]] = {}
        self._found: dict[tuple[tuple[tuple[int, int], ...], str], tuple[Backend, ...]] = {}

    def backends(self, service: Service, port: ServicePort, version: Literal[4, 6], node: str) -> tuple[Backend, ...]:
        """The endpoints of this port in the slices of one address family, sorted as kube-proxy does, by their text. An
        endpoint in two slices is one."""
        parts = [
            (one.endpoints, at.port)
            for one in self._slices.get((service.namespace, service.name, version), ())
            for at in one.ports
            if (at.name, at.protocol) == (port.name, port.protocol)
        ]
        key = tuple([(id(endpoints), number) for endpoints, number in parts])  # the slices keep their endpoints
        found = self._found.get((key, node))
        if found is None:
            listed = self._listed.get(key)
            if listed is None:
                listed = self._listed[key] = sorted(_with_texts(parts), key=lambda one: one[0])
            by_text: dict[str, Backend] = {}
            for text, endpoint, number in listed:
                local = endpoint.node == node
                if local or text not in by_text:
                    by_text[text] = Backend(endpoint, number, local, text)
            found = self._found[key, node] = tuple(by_text.values())
        return found


def _with_texts(parts: Iterable[tuple[Iterable[Endpoint], int]]) -> Iterator[tuple[str, Endpoint, int]]:
    """The endpoints of slices with their ports, and the texts of both."""
    for endpoints, number in parts:
        yield from ((_endpoint_text(one.address, number), one, number) for one in endpoints)


def backends(
    cluster: Cluster, service: Service, port: ServicePort, version: Literal[4, 6], node: str
) -> tuple[Backend, ...]:
    """The endpoints of one port, see `EndpointIndex.backends`."""
    return EndpointIndex(cluster).backends(service, port, version, node)


def _endpoint_text(ip: IP, port: int) -> str:
    return f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}"


def choose(
    candidates: Collection[Backend], service: Service, node: Node, hints: HintRules, *, accepts_external: bool
) -> Choice:
    """The endpoints that a node uses. Ready ones; if there are none, those that still serve while they terminate.

    `accepts_external` is whether the port has a nodePort, an external address or a load balancer.
    """
    uses_cluster = service.internal_policy == "Cluster" or accepts_external
    uses_local = service.internal_policy == "Local" or (service.external_policy == "Local" and accepts_external)
    cluster: list[Backend] = []
    if uses_cluster:
        ready = [one for one in candidates if one.endpoint.ready]
        cluster = _by_hints(ready, service, node, hints) or _serving(candidates)
    if not uses_local:
        return Choice(tuple(cluster), (), bool(cluster))
    here = [one for one in candidates if one.local]
    local = [one for one in here if one.endpoint.ready] or _serving(here)
    exist = any(one.endpoint.ready or one in _serving([one]) for one in candidates)
    return Choice(tuple(cluster), tuple(local), exist)


def _serving(candidates: Collection[Backend]) -> list[Backend]:
    """Those that terminate, and still serve."""
    return [one for one in candidates if one.endpoint.serving and one.endpoint.terminating]


def _by_hints(ready: list[Backend], service: Service, node: Node, hints: HintRules) -> list[Backend]:
    """The endpoints that are meant for clients on this node, if every endpoint has a hint and one is meant for it."""
    annotation = next((service.annotations[one] for one in TOPOLOGY_ANNOTATIONS if one in service.annotations), "")
    if hints.needs_annotation and annotation not in ("Auto", "auto"):
        return ready
    if hints.for_nodes and all(one.endpoint.node_hints for one in ready):
        near = [one for one in ready if node.name in one.endpoint.node_hints]
        if near:
            return near
    if node.zone and all(one.endpoint.zone_hints for one in ready):
        return [one for one in ready if node.zone in one.endpoint.zone_hints] or ready
    return ready
