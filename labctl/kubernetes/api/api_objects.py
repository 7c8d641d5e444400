"""The API objects that labctl uses: Node, Service, EndpointSlice, with the fields that decide about packets. Pure.

The names and their meaning are those of the Kubernetes API, v1 and discovery.k8s.io/v1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from labctl.core.resources import IP, Net

Protocol: TypeAlias = Literal["TCP", "UDP", "SCTP"]
ServiceType: TypeAlias = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]
TrafficPolicy: TypeAlias = Literal["Cluster", "Local"]

AFFINITY_TIMEOUT_S = 10800  # seconds that a client keeps its endpoint, if the Service does not say


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its name, the ranges of its pods, its InternalIP addresses, and its zone ("" if it has no such label)."""

    name: str
    pod_cidrs: tuple[Net, ...] = ()
    internal_ips: tuple[IP, ...] = ()
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service. `name` is "" if the Service has only one; `node_port` is 0 without one."""

    port: int
    protocol: Protocol = "TCP"
    name: str = ""
    target_port: int | str = 0
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A Service. `load_balancer_ips` are the addresses of its load balancer for which a node itself receives packets
    (ipMode VIP); `proxied_ips` are those with ipMode Proxy. `affinity_timeout_s` is None without session affinity."""

    namespace: str
    name: str
    type: ServiceType = "ClusterIP"
    cluster_ips: tuple[IP, ...] = ()  # empty for a headless Service
    ports: tuple[ServicePort, ...] = ()
    external_ips: tuple[IP, ...] = ()
    load_balancer_ips: tuple[IP, ...] = ()
    proxied_ips: tuple[IP, ...] = ()
    source_ranges: tuple[Net, ...] = ()
    internal_policy: TrafficPolicy = "Cluster"
    external_policy: TrafficPolicy = "Cluster"
    affinity_timeout_s: int | None = None
    health_check_node_port: int = 0
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    annotations: dict[str, str] = field(default_factory=dict, hash=False)
    selector: dict[str, str] = field(default_factory=dict, hash=False)  # without one, its slices are written by hand
    headless: bool = False
    traffic_distribution: str = ""  # PreferSameZone (older: PreferClose) or PreferSameNode
    wanted_ip: IP | None = None  # loadBalancerIP: the address that its author asks the load balancer for

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of a slice: its first address, and what decides whether it is used. `zone_hints` and `node_hints` are
    the zones and nodes whose clients should use it."""

    address: IP
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """A port of a slice; its name is that of the Service's port."""

    name: str
    port: int
    protocol: Protocol = "TCP"


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """The endpoints of one address family of a Service, or a part of them."""

    namespace: str
    name: str
    service: str
    version: Literal[4, 6]
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The API objects of a cluster."""

    nodes: tuple[Node, ...] = ()
    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()

    def node(self, name: str) -> Node | None:
        """The node of that name; None if there is none."""
        return next((one for one in self.nodes if one.name == name), None)
