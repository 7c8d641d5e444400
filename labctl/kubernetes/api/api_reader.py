"""Read API objects from their JSON form, as `kubectl get -o json` prints them. Pure.

Only the fields that labctl uses are read; kinds that it does not use are left out. An object of another shape raises
ValueError with its kind, name and field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from labctl.core.resources import IP, Net
from labctl.kubernetes.api.api_objects import (
    AFFINITY_TIMEOUT_S,
    Cluster,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Node,
    Service,
    ServicePort,
)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ZONE_LABEL = "topology.kubernetes.io/zone"
HEADLESS_LABEL = "service.kubernetes.io/headless"


def read_cluster(items: Iterable[Mapping[str, Any]]) -> Cluster:
    """The objects of a list, by kind. Raises ValueError."""
    nodes, services, slices = [], [], []
    for item in items:
        kind = item.get("kind")
        name = item.get("metadata", {}).get("name", "")
        try:
            if kind == "Node":
                nodes.append(read_node(item))
            elif kind == "Service":
                services.append(read_service(item))
            elif kind == "EndpointSlice":
                found = read_slice(item)
                slices += [found] if found is not None else []
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{kind} {name}: {error}") from None
    return Cluster(tuple(nodes), tuple(services), tuple(slices))


def read_node(item: Mapping[str, Any]) -> Node:
    """A Node."""
    spec, meta = item.get("spec", {}), item["metadata"]
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    addresses = [one["address"] for one in item.get("status", {}).get("addresses", []) if one["type"] == "InternalIP"]
    zone = meta.get("labels", {}).get(ZONE_LABEL, "")
    return Node(meta["name"], tuple(map(ip_network, cidrs)), tuple(map(ip_address, addresses)), zone)


def read_service(item: Mapping[str, Any]) -> Service:
    """A Service."""
    spec, meta = item["spec"], item["metadata"]
    ips = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    ingress = [one for one in item.get("status", {}).get("loadBalancer", {}).get("ingress", []) if one.get("ip")]
    affinity = None
    if spec.get("sessionAffinity") == "ClientIP":
        client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity = client_ip.get("timeoutSeconds", AFFINITY_TIMEOUT_S)
    return Service(
        meta.get("namespace", "default"),
        meta["name"],
        spec.get("type", "ClusterIP"),
        tuple(ip_address(ip) for ip in ips if ip != "None"),
        tuple(_service_port(one) for one in spec.get("ports", [])),
        tuple(map(ip_address, spec.get("externalIPs") or ())),
        tuple(ip_address(one["ip"]) for one in ingress if one.get("ipMode", "VIP") == "VIP"),
        tuple(ip_address(one["ip"]) for one in ingress if one.get("ipMode") == "Proxy"),
        tuple(map(_network, spec.get("loadBalancerSourceRanges") or ())),
        spec.get("internalTrafficPolicy") or "Cluster",
        spec.get("externalTrafficPolicy") or "Cluster",
        affinity,
        spec.get("healthCheckNodePort", 0),
        dict(meta.get("labels") or {}),
        dict(meta.get("annotations") or {}),
        dict(spec.get("selector") or {}),
        "None" in ips,
        spec.get("trafficDistribution") or "",
        ip_address(spec["loadBalancerIP"]) if spec.get("loadBalancerIP") else None,
    )


def _network(text: str) -> Net:
    return ip_network(text.strip(), strict=False)


def _service_port(item: Mapping[str, Any]) -> ServicePort:
    return ServicePort(
        item["port"],
        item.get("protocol", "TCP"),
        item.get("name") or "",
        item.get("targetPort", item["port"]),
        item.get("nodePort", 0),
    )


def read_slice(item: Mapping[str, Any]) -> EndpointSlice | None:
    """An EndpointSlice.

    None for a slice of names (FQDN), and for one that belongs to no Service or to a headless one.
    """
    meta, labels = item["metadata"], item["metadata"].get("labels") or {}
    if item["addressType"] not in ("IPv4", "IPv6") or SERVICE_NAME_LABEL not in labels or HEADLESS_LABEL in labels:
        return None
    ports = tuple(
        EndpointPort(one.get("name") or "", one["port"], one.get("protocol", "TCP"))
        for one in item.get("ports") or ()
        if one.get("port")
    )
    endpoints = tuple(_endpoint(one) for one in item.get("endpoints") or () if one.get("addresses"))
    version: Literal[4, 6] = 4 if item["addressType"] == "IPv4" else 6
    return EndpointSlice(
        meta.get("namespace", "default"), meta["name"], labels[SERVICE_NAME_LABEL], version, endpoints, ports
    )


def _endpoint(item: Mapping[str, Any]) -> Endpoint:
    conditions, hints = item.get("conditions") or {}, item.get("hints") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    address: IP = ip_address(item["addresses"][0])
    return Endpoint(
        address,
        item.get("nodeName") or "",
        ready,
        ready if serving is None else bool(serving),
        bool(conditions.get("terminating")),
        tuple(one["name"] for one in hints.get("forZones") or ()),
        tuple(one["name"] for one in hints.get("forNodes") or ()),
    )
