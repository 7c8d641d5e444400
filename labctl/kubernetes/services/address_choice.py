"""Choose what the authors of Services leave open: cluster IPs, nodePorts, addresses of load balancers. Pure.

A cluster chooses by chance. Here a hash of the Service's name decides, so a lab has the same addresses each time, and a
Service keeps its address when others come or go (unless both have the same hash).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network

from labctl.core.resources import IP, Net
from labctl.kubernetes.api.api_objects import Service, ServicePort
from labctl.kubernetes.api.problems import ObjectProblem

NODE_PORTS = range(30000, 32768)
HEALTH_PORT_TEXT = "healthCheckNodePort"
FALLBACK_SERVICE_CIDRS = ("10.96.0.0/16", "172.20.0.0/16", "10.0.0.0/16", "192.168.224.0/20", "100.64.0.0/16")


def service_cidr(wanted: Iterable[str], taken: Iterable[Net]) -> Net | None:
    """The first of these ranges, then of labctl's own, that overlaps nothing in the lab; None if all do."""
    used = tuple(taken)
    for text in (*wanted, *FALLBACK_SERVICE_CIDRS):
        found = ip_network(text)
        if not any(found.version == one.version and found.overlaps(one) for one in used):
            return found
    return None


def with_addresses(services: Iterable[Service], service_cidrs: tuple[Net, ...], lb_ranges: tuple[Net, ...],
                   taken: Iterable[IP] = (), *, proxied: bool = False) -> tuple[Service, ...]:  # fmt: skip
    """The Services with every address and port chosen. What the author wrote stays. A Service gets a cluster IP of
    the first range unless it is headless or an ExternalName; one of type LoadBalancer an address of the first of
    `lb_ranges` without one of `taken`, or none if there is no range; with `proxied` its ipMode is Proxy."""
    found = tuple(services)
    ips = {ip for one in found for ip in (*one.cluster_ips, *one.load_balancer_ips, *one.proxied_ips)} | set(taken)
    ips |= {one.wanted_ip for one in found if one.wanted_ip is not None}
    ports = {port.node_port for one in found for port in one.ports} | {one.health_check_node_port for one in found}
    chosen = []
    for service in found:
        if service.type != "ExternalName" and not service.headless and not service.cluster_ips and service_cidrs:
            ip = free_address(str(service), service_cidrs[0], ips)
            service = replace(service, cluster_ips=() if ip is None else (ip,))
        if service.type in ("NodePort", "LoadBalancer"):
            service = replace(service, ports=tuple(_with_node_port(service, one, ports) for one in service.ports))
        if service.type == "LoadBalancer":
            if not (service.load_balancer_ips or service.proxied_ips) and lb_ranges:
                ip = service.wanted_ip or free_address(f"{service} load balancer", lb_ranges[0], ips)
                chosen_ips = () if ip is None else (ip,)
                field = "proxied_ips" if proxied else "load_balancer_ips"
                service = replace(service, **{field: chosen_ips})  # type: ignore[arg-type]
            if service.external_policy == "Local" and not service.health_check_node_port:
                number = _free_port(f"{service} {HEALTH_PORT_TEXT}", ports)
                service = replace(service, health_check_node_port=number)
        chosen.append(service)
    return tuple(chosen)


def problems(services: Iterable[Service], service_cidrs: tuple[Net, ...]) -> Iterator[ObjectProblem]:
    """The Services for which no address or port was left."""
    ranges = " and ".join(map(str, service_cidrs)) or "no range"
    for one in services:
        if one.type == "ExternalName" or one.headless:
            continue
        if not one.cluster_ips:
            what, hint = f"{ranges} has no free address for it", "service_cidr: sets a larger range"
            yield ObjectProblem("Service", one.namespace, one.name, (), what, hint)
        if one.type != "ClusterIP" and any(port.node_port == 0 for port in one.ports):
            what = f"no nodePort is left in {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
            yield ObjectProblem("Service", one.namespace, one.name, ("spec", "ports"), what)
        if one.type == "LoadBalancer" and not (one.load_balancer_ips or one.proxied_ips):
            what = "its load balancer has no address: the lab has no internet with a free one"
            yield ObjectProblem("Service", one.namespace, one.name, ("spec", "type"), what, warning=True)


def _with_node_port(service: Service, port: ServicePort, taken: set[int]) -> ServicePort:
    return port if port.node_port else replace(port, node_port=_free_port(f"{service}:{port.name}{port.port}", taken))


def _free_port(text: str, taken: set[int]) -> int:
    """A nodePort for this text; 0 if none is left."""
    for number in _from(text, len(NODE_PORTS)):
        if (port := NODE_PORTS[number]) not in taken:
            taken.add(port)
            return port
    return 0


def free_address(text: str, network: Net, taken: set[IP]) -> IP | None:
    """An address of a range for this text, never its first two or its last. None if none is left."""
    size = min(network.num_addresses - 3, 1 << 16)
    for number in _from(text, size):
        if (ip := network.network_address + 2 + number) not in taken:
            taken.add(ip)
            return ip
    return None


def _from(text: str, size: int) -> Iterator[int]:
    """All numbers below `size`, beginning with a hash of the text."""
    if size > 0:
        first = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % size
        yield from range(first, size)
        yield from range(first)
