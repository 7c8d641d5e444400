"""What a cluster knows about an address and a port: which Service has it, and where it leads. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.names import summarize_names
from labctl.core.resources import IP
from labctl.core.sentence import Sentence, all_of, in_a_row, sentence
from labctl.kubernetes.api.api_objects import Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.http_routes import HttpLoadBalancer
from labctl.kubernetes.api.selectors import Selector
from labctl.kubernetes.services.endpoint_slices import target_port
from labctl.kubernetes.services.proxied_ports import is_proxied, port_name

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
                text = sentence(
                    "{protocol} {port} is the nodePort of Service {service}",
                    protocol=protocol.upper(),
                    port=port,
                    service=_served(state, service, one),
                )
                if service.external_policy == "Local":
                    return sentence("{text}; with externalTrafficPolicy Local, a node leads only to its own", text=text)
                return text
    if any(ip in cidr for cidr in state.service_cidrs if cidr.version == ip.version):
        return sentence("{ip} is in the range of cluster IPs, but no Service has it", ip=ip)
    return ""


def _http_fact(balancer: HttpLoadBalancer, port: int | None) -> Sentence:
    ports = [number for number, _ in balancer.tables]
    about = sentence(
        "{ip} is the load balancer's address of {balancer} (mode {mode})",
        ip=balancer.address,
        balancer=balancer,
        mode=balancer.mode,
    )
    if port is None or port not in ports:
        served = all_of(f"TCP {number}" for number in ports) if ports else sentence("no port")
        return sentence("{text}, which serves {ports}", text=about, ports=served)
    names = [one.name for one in balancer.backends]
    backends = summarize_names(names, MOST_ENDPOINTS) if names else sentence("nothing")
    return sentence("{text}: it ends connections, and opens others to {backends}", text=about, backends=backends)


def _kind(service: Service, ip: IP) -> Sentence | None:
    """What the address is for a Service; None if it is none of its addresses."""
    if ip in service.cluster_ips:
        return sentence("the cluster IP")
    if ip in (*service.load_balancer_ips, *service.proxied_ips):
        return sentence("the load balancer's address")
    return sentence("an external address") if ip in service.external_ips else None


def _address_fact(
    state: ClusterState, service: Service, kind: Sentence, ip: IP, protocol: str, port: int | None
) -> Sentence:
    about = sentence("{ip} is {kind} of Service {service}", ip=ip, kind=kind, service=service)
    if port is None:
        return sentence("{text}: kube-proxy translates only its ports, so nothing answers a ping", text=about)
    for one in service.ports:
        if (one.port, one.protocol.lower()) == (port, protocol):
            served = _served(state, service, one)
            text = sentence("{ip} is {kind} of Service {service}", ip=f"{ip}:{port}", kind=kind, service=served)
            if ip in service.cluster_ips and service.internal_policy == "Local":
                return sentence("{text}; with internalTrafficPolicy Local, a node leads only to its own", text=text)
            return text
    ports = in_a_row(f"{one.protocol} {one.port}" for one in service.ports) if service.ports else sentence("no port")
    return sentence(
        "{text}, which has no port {protocol} {port}: it has {ports}",
        text=about,
        protocol=protocol.upper(),
        port=port,
        ports=ports,
    )


def _served(state: ClusterState, service: Service, port: ServicePort) -> Sentence:
    """A port of a Service and its endpoints: `default/web, which leads to a:8080, c:8080`."""
    ends, name = list(_endpoints(state, service, port)), port_name(service, port)
    if ends:
        return sentence("{port}, which leads to {ends}", port=name, ends=summarize_names(ends, MOST_ENDPOINTS))
    if service.selector:
        reason = _why_none(state, service, port)
        return sentence("{port}, which has no endpoints: {reason}", port=name, reason=reason)
    return sentence("{port}, which has no endpoints and no selector", port=name)


def _why_none(state: ClusterState, service: Service, port: ServicePort) -> Sentence:
    """Why no pod is behind a port of a Service with a selector."""
    selector = Selector(tuple(service.selector.items()))
    pods = [one for one in state.pods if one.namespace == service.namespace and selector.matches(one.labels)]
    if not pods:
        return sentence("no ready pod has the labels {labels}", labels=selector)
    if all(target_port(port, one) is None for one in pods):
        return sentence(
            "no pod with the labels {labels} has a {protocol} port named {port}",
            labels=selector,
            protocol=port.protocol,
            port=port.target_port,
        )
    versions = {ip.version for ip in service.cluster_ips}
    if not any(ip.version in versions for one in pods for ip in one.ips):
        version = min(versions, default=4)
        return sentence("no pod with the labels {labels} has an IPv{version} address", labels=selector, version=version)
    return sentence("no pod with the labels {labels} is ready", labels=selector)


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
