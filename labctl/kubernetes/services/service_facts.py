"""What a cluster knows about an address and a port: which Service has it, and where it leads. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import IP
from labctl.kubernetes.api.api_objects import Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.http_routes import HttpLoadBalancer
from labctl.kubernetes.api.selectors import Selector
from labctl.kubernetes.services.endpoint_slices import target_port
from labctl.kubernetes.services.kube_proxy_iptables import is_proxied, port_name

MOST_ENDPOINTS = 4  # more are counted


def service_fact(state: ClusterState, ip: IP, protocol: str, port: int | None) -> str:
    """A sentence on an address of a Service, or a nodePort; "" if the cluster has nothing to say about it.

    `protocol` is tcp, udp or icmp; `port` is None for icmp.
    """
    for balancer in state.http_balancers:
        if balancer.address == str(ip):
            return _http_fact(balancer, port)
    for service in state.cluster.services:
        if (kind := _kind(service, ip)) and is_proxied(service):
            return _address_fact(state, service, kind, ip, protocol, port)
    if any(ip in one.internal_ips for one in state.cluster.nodes) and port is not None:
        for service, one in _ports(state, protocol):
            if port == one.node_port:
                local = "; with externalTrafficPolicy Local, a node leads only to its own"
                local = local if service.external_policy == "Local" else ""
                return f"{protocol.upper()} {port} is the nodePort of Service {_served(state, service, one)}{local}"
    if any(ip in cidr for cidr in state.service_cidrs if cidr.version == ip.version):
        return f"{ip} is in the range of cluster IPs, but no Service has it"
    return ""


def _http_fact(balancer: HttpLoadBalancer, port: int | None) -> str:
    ports = [number for number, _ in balancer.tables]
    about = f"{balancer.address} is the load balancer's address of {balancer} (mode {balancer.mode})"
    if port is None or port not in ports:
        return f"{about}, which serves {' and '.join(f'TCP {number}' for number in ports) or 'no port'}"
    names = [one.name for one in balancer.backends]
    more = f" and {len(names) - MOST_ENDPOINTS} more" if len(names) > MOST_ENDPOINTS else ""
    return f"{about}: it ends connections, and opens others to {', '.join(names[:MOST_ENDPOINTS]) or 'nothing'}{more}"


def _kind(service: Service, ip: IP) -> str:
    """What the address is for a Service; "" if it is none of its addresses."""
    if ip in service.cluster_ips:
        return "the cluster IP"
    if ip in (*service.load_balancer_ips, *service.proxied_ips):
        return "the load balancer's address"
    return "an external address" if ip in service.external_ips else ""


def _address_fact(state: ClusterState, service: Service, kind: str, ip: IP, protocol: str, port: int | None) -> str:
    about = f"{ip} is {kind} of Service {service}"
    if port is None:
        return f"{about}: kube-proxy translates only its ports, so nothing answers a ping"
    for one in service.ports:
        if (one.port, one.protocol.lower()) == (port, protocol):
            local = "; with internalTrafficPolicy Local, a node leads only to its own"
            local = local if ip in service.cluster_ips and service.internal_policy == "Local" else ""
            return f"{ip}:{port} is {kind} of Service {_served(state, service, one)}{local}"
    ports = ", ".join(f"{one.protocol} {one.port}" for one in service.ports) or "no port"
    return f"{about}, which has no port {protocol.upper()} {port}: it has {ports}"


def _served(state: ClusterState, service: Service, port: ServicePort) -> str:
    """A port of a Service and its endpoints: `default/web, which leads to a:8080, c:8080`."""
    ends = list(_endpoints(state, service, port))
    if ends:
        more = f" and {len(ends) - MOST_ENDPOINTS} more" if len(ends) > MOST_ENDPOINTS else ""
        return f"{port_name(service, port)}, which leads to {', '.join(ends[:MOST_ENDPOINTS])}{more}"
    if service.selector:
        return f"{port_name(service, port)}, which has no endpoints: {_why_none(state, service, port)}"
    return f"{port_name(service, port)}, which has no endpoints and no selector"


def _why_none(state: ClusterState, service: Service, port: ServicePort) -> str:
    """Why no pod is behind a port of a Service with a selector."""
    selector = Selector(tuple(service.selector.items()))
    pods = [one for one in state.pods if one.namespace == service.namespace and selector.matches(one.labels)]
    if not pods:
        return f"no ready pod has the labels {selector}"
    if all(target_port(port, one) is None for one in pods):
        return f"no pod with the labels {selector} has a {port.protocol} port named {port.target_port}"
    versions = {ip.version for ip in service.cluster_ips}
    if not any(ip.version in versions for one in pods for ip in one.ips):
        return f"no pod with the labels {selector} has an IPv{min(versions, default=4)} address"
    return f"no pod with the labels {selector} is ready"


def _endpoints(state: ClusterState, service: Service, port: ServicePort) -> Iterator[str]:
    names = {ip: pod.machine for pod in state.pods for ip in pod.ips}
    for one in state.cluster.slices:
        if (one.namespace, one.service) == (service.namespace, service.name):
            numbers = [at.port for at in one.ports if (at.name, at.protocol) == (port.name, port.protocol)]
            for end in one.endpoints:
                if end.ready:
                    yield from (f"{names.get(end.address, str(end.address))}:{number}" for number in numbers)


def _ports(state: ClusterState, protocol: str) -> Iterator[tuple[Service, ServicePort]]:
    for service in state.cluster.services:
        if is_proxied(service):
            yield from ((service, one) for one in service.ports if one.protocol.lower() == protocol)
