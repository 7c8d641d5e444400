"""The slices of the endpoints that a Service selects, as the EndpointSlice controller makes them. Pure.

Source: kubernetes `staging/src/k8s.io/endpointslice/reconciler.go`, `utils.go` and `trafficdist/`, 1.35. One slice
holds the endpoints with the same ports; the limit of 100 endpoints for each slice changes nothing for packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from labctl.core.chain_hash import chain_hash
from labctl.core.resources import IP
from labctl.kubernetes.api.api_objects import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort
from labctl.kubernetes.api.policy_objects import Pod

NO_ZONES: Mapping[str, str] = MappingProxyType({})
PodIndex = dict[tuple[str, str, str], list[Pod]]  # (namespace, key, value) of a label: its pods


def endpoint_slices(
    services: Iterable[Service], pods: Iterable[Pod], zones: Mapping[str, str] = NO_ZONES
) -> Iterator[EndpointSlice]:
    """The slices of all Services with a selector, one for each address family and set of ports. `zones` are those of
    the nodes that have one."""
    index = _by_label(pods)
    found: dict[Any, tuple[_Endpoints, ...]] = {}  # Services often select the same pods: their endpoints are made once
    for service in services:
        if not service.selector or service.type == "ExternalName":
            continue
        selects = (service.namespace, *service.selector.items()), service.ports, service.traffic_distribution
        for version in _families(service):
            groups = found.get((version, selects))
            if groups is None:
                groups = tuple(_endpoints(service, _selected(service, index), version, zones))
                found[version, selects] = groups
            for one in groups:
                name = f"{service.name}-{one.suffix}"
                yield EndpointSlice(service.namespace, name, service.name, version, one.endpoints, one.ports)


def selected_pods(service: Service, pods: Iterable[Pod]) -> list[Pod]:
    """The pods that a Service selects, in their order; none without a selector."""
    return _selected(service, _by_label(pods)) if service.selector else []


def target_port(port: ServicePort, pod: Pod) -> int | None:
    """The port of this pod behind a Service's port: `targetPort`, a name as the pod uses it. None if the pod has no
    port of that name and protocol."""
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    named = (one.port for one in pod.ports if (one.name, one.protocol) == (port.target_port, port.protocol))
    return next(named, None)


def _by_label(pods: Iterable[Pod]) -> PodIndex:
    index: PodIndex = {}
    for pod in pods:
        for key, value in pod.labels.items():
            index.setdefault((pod.namespace, key, value), []).append(pod)
    return index


def _selected(service: Service, index: PodIndex) -> list[Pod]:
    wanted = [(service.namespace, key, value) for key, value in service.selector.items()]
    fewest = min((index.get(one, []) for one in wanted), key=len)
    return [pod for pod in fewest if all(pod.labels.get(key) == value for key, value in service.selector.items())]


def _families(service: Service) -> tuple[Literal[4, 6], ...]:
    versions = {ip.version for ip in service.cluster_ips}
    found: list[Literal[4, 6]] = [version for version in (4, 6) if not versions or version in versions]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """The endpoints with the same ports, and the end of the name of their slice."""

    endpoints: tuple[Endpoint, ...]
    ports: tuple[EndpointPort, ...]
    suffix: str


def _endpoints(
    service: Service, pods: Iterable[Pod], version: Literal[4, 6], zones: Mapping[str, str]
) -> Iterator[_Endpoints]:
    groups: dict[tuple[EndpointPort, ...], list[Endpoint]] = {}
    for pod in pods:
        ip = next((one for one in pod.ips if one.version == version), None)
        if ip is None:
            continue
        targets = ((port, target_port(port, pod)) for port in service.ports)
        ports = tuple(EndpointPort(port.name, number, port.protocol) for port, number in targets if number is not None)
        groups.setdefault(ports, []).append(_endpoint(service, ip, pod.node, zones.get(pod.node, "")))
    for ports, endpoints in groups.items():
        yield _Endpoints(tuple(endpoints), ports, chain_hash(f"{version} {ports}")[:5].lower())


def _endpoint(service: Service, ip: IP, node: str, zone: str) -> Endpoint:
    """An endpoint with the hints of the Service's trafficDistribution: its own zone, or its own node and zone."""
    wanted = service.traffic_distribution
    zone_hints = (zone,) if zone and wanted in ("PreferClose", "PreferSameZone", "PreferSameNode") else ()
    node_hints = (node,) if wanted == "PreferSameNode" else ()
    return Endpoint(ip, node, zone_hints=zone_hints, node_hints=node_hints)
