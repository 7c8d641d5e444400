"""What both modes of kube-proxy decide for one port of a Service, before they write a rule. Pure.

Source: kubernetes `pkg/proxy/serviceport.go` and the loops over Services in `pkg/proxy/iptables/proxier.go` and
`pkg/proxy/nftables/proxier.go`, 1.28 to 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from labctl.core.resources import IP, Net
from labctl.kubernetes.api.api_objects import Cluster, Service, ServicePort
from labctl.kubernetes.services.endpoint_choice import Backend, Choice, EndpointIndex, choose
from labctl.kubernetes.services.kube_proxy_config import ProxyConfig

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"


def is_proxied(service: Service) -> bool:
    """Whether kube-proxy serves this Service: one with a cluster IP, and not left to another proxy."""
    return service.type != "ExternalName" and bool(service.cluster_ips) and PROXY_NAME_LABEL not in service.labels


def port_name(service: Service, port: ServicePort) -> str:
    """A port as kube-proxy names it: `default/web:http`, or `default/web` for a port without a name."""
    return f"{service}:{port.name}" if port.name else str(service)


class SharedChoices:
    """What the kube-proxies of a cluster's nodes have in common: the endpoints, and how they are chosen."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.endpoints = EndpointIndex(cluster)
        self._choices: dict[Any, tuple[Choice, ProxyConfig]] = {}

    def choice(
        self, candidates: tuple[Backend, ...], service: Service, config: ProxyConfig, *, accepts_external: bool
    ) -> Choice:
        """As `choose`: the same for all Services with the same endpoints and the same policies."""
        if service.annotations:
            return choose(candidates, service, config.node, config.hints, accepts_external=accepts_external)
        key = id(candidates), id(config), service.internal_policy, service.external_policy, accepts_external
        found = self._choices.get(key)  # the index of endpoints keeps the candidates
        if found is None:
            choice = choose(candidates, service, config.node, config.hints, accepts_external=accepts_external)
            found = self._choices[key] = choice, config
        return found[0]

    def candidates(
        self, config: ProxyConfig, version: Literal[4, 6]
    ) -> list[tuple[Service, ServicePort, tuple[Backend, ...]]]:
        """Each port that kube-proxy serves, with all its endpoints of one address family."""
        return [
            (service, port, self.endpoints.backends(service, port, version, config.node.name))
            for service in self.cluster.services
            if is_proxied(service)
            for port in service.ports
        ]

    def ports(
        self,
        config: ProxyConfig,
        version: Literal[4, 6],
        found: list[tuple[Service, ServicePort, tuple[Backend, ...]]],
    ) -> Iterator[ProxiedPort]:
        """The ports of the Services that have a cluster IP of this family, as the node of `config` serves them."""
        for service, port, candidates in found:
            cluster_ip = next((ip for ip in service.cluster_ips if ip.version == version), None)
            if cluster_ip is not None:
                yield self._port(config, version, service, port, cluster_ip, candidates)

    def _port(
        self,
        config: ProxyConfig,
        version: Literal[4, 6],
        service: Service,
        port: ServicePort,
        cluster_ip: IP,
        candidates: tuple[Backend, ...],
    ) -> ProxiedPort:
        external_ips = tuple([ip for ip in service.external_ips if ip.version == version])
        lb_ips = service.load_balancer_ips
        if not config.release.reads_ip_mode:
            lb_ips += service.proxied_ips
        lb_ips = tuple([ip for ip in lb_ips if ip.version == version])
        is_external = bool(port.node_port or lb_ips or external_ips)
        choice = self.choice(candidates, service, config, accepts_external=is_external)
        ranges = tuple([one for one in service.source_ranges if one.version == version])
        if config.release.ignores_open_source_range and any(one.prefixlen == 0 for one in ranges):
            ranges = ()
        return ProxiedPort(service, port, version, cluster_ip, external_ips, lb_ips, is_external, choice, ranges)


@dataclass(frozen=True, slots=True)
class ProxiedPort:
    """One port of a Service on one node, in one address family. `is_external` is whether it has a nodePort, an external
    address or a load balancer; `ranges` are the clients that the load balancer is limited to."""

    service: Service
    port: ServicePort
    version: Literal[4, 6]
    cluster_ip: IP
    external_ips: tuple[IP, ...]
    lb_ips: tuple[IP, ...]
    is_external: bool
    choice: Choice
    ranges: tuple[Net, ...]

    @property
    def name(self) -> str:
        """As kube-proxy names it."""
        return port_name(self.service, self.port)

    @property
    def protocol(self) -> str:
        """In small letters, as rules have it."""
        return self.port.protocol.lower()

    @property
    def is_internal_local(self) -> bool:
        """Whether the cluster IP leads only to endpoints of the node."""
        return self.service.internal_policy == "Local"

    @property
    def is_external_local(self) -> bool:
        """Whether the other addresses lead only to endpoints of the node."""
        return self.service.external_policy == "Local"

    @property
    def has_internal(self) -> bool:
        """Whether an endpoint can answer at the cluster IP."""
        return self.choice.exist and (bool(self.choice.local) or not self.is_internal_local)

    @property
    def has_external(self) -> bool:
        """Whether an endpoint can answer at the other addresses."""
        return self.choice.exist and (bool(self.choice.local) or not self.is_external_local)

    @property
    def key(self) -> tuple[Any, ...]:
        """All that the rules of this port depend on, beside the settings of kube-proxy."""
        service, choice = self.service, self.choice
        return (
            self.version, service.namespace, service.name, self.port,
            tuple([one.text for one in choice.cluster]), tuple([one.text for one in choice.local]), choice.exist,
        )  # fmt: skip
