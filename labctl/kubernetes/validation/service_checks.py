"""What is wrong with Services, or strange about them. Pure.

The errors are those of the API server: kubernetes pkg/apis/core/validation (ValidateService), and its allocators of
cluster IPs and nodePorts. The warnings are about Services that the API server accepts and that lead nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from labctl.core.names import did_you_mean
from labctl.core.resources import IP, Net
from labctl.kubernetes.api.api_objects import EndpointSlice, Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.api.selectors import Selector
from labctl.kubernetes.services.address_choice import NODE_PORTS
from labctl.kubernetes.services.endpoint_slices import target_port
from labctl.kubernetes.validation.pod_index import PodIndex

_OUTSIDE = ("NodePort", "LoadBalancer")  # the types that nodes and load balancers receive packets for


def service_problems(declared: Declared, state: ClusterState, index: PodIndex) -> Iterator[ObjectProblem]:
    """The problems of all Services and slices that the author wrote."""
    yield from _shared_cluster_ips(declared.services)
    yield from _shared_node_ports(declared.services)
    yield from _shared_outside(declared.services)
    machines = {pod.machine or pod.name for pod in state.pods} | {node.name for node in state.cluster.nodes}
    sliced = {(one.namespace, one.service) for one in declared.slices}
    for service in declared.services:
        yield from _ports(service)
        yield from _addresses(service, state)
        yield from _type(service)
        if service.namespace == "default" and service.name in machines:
            what = f"{service.name!r} is also a machine: in checks, traces and /etc/hosts this name means the machine"
            hint = f"the name of the Service is {service.name}.default"
            yield ObjectProblem("Service", "default", service.name, ("metadata", "name"), what, hint, True)
        yield from _endpoints(service, sliced, index, state.service_cidrs)
    known = {(one.namespace, one.name) for one in declared.services}
    for one in declared.slices:
        yield from _slice(one, known)


def _problem(service: Service, *path: str | int, what: str, hint: str = "", warning: bool = False) -> ObjectProblem:
    return ObjectProblem("Service", service.namespace, service.name, ("spec", *path), what, hint, warning)


def _shared_cluster_ips(services: Iterable[Service]) -> Iterator[ObjectProblem]:
    users: dict[IP, Service] = {}
    for service in services:
        for ip in service.cluster_ips:
            if ip in users:
                what = f"the cluster IP {ip} is already that of {users[ip]}"
                yield _problem(service, "clusterIP", what=what, hint="without clusterIP, labctl chooses one")
            users.setdefault(ip, service)


def _shared_outside(services: Iterable[Service]) -> Iterator[ObjectProblem]:
    """Ports of external addresses that two Services have: the rules of kube-proxy lead packets to one of the two."""
    users: dict[tuple[IP, int, str], Service] = {}
    for service in services:
        wanted = () if service.wanted_ip is None or service.type != "LoadBalancer" else (service.wanted_ip,)
        for ip in dict.fromkeys((*service.external_ips, *service.load_balancer_ips, *service.proxied_ips, *wanted)):
            for port in service.ports:
                user = users.setdefault((ip, port.port, port.protocol), service)
                if user is not service:
                    what = (
                        f"{ip} port {port.port} ({port.protocol}) is also an address of {user}: only one gets packets"
                    )
                    yield _problem(service, what=what, hint="choose another address or port", warning=True)


def _shared_node_ports(services: Iterable[Service]) -> Iterator[ObjectProblem]:
    """One number of a nodePort belongs to one Service, which may use it for several protocols."""
    users: dict[int, Service] = {}
    for service in services:
        own: set[tuple[int, str]] = set()
        for number, port in enumerate(service.ports):
            if not port.node_port:
                continue
            what = _node_port_in_use(port, service, users.setdefault(port.node_port, service), own)
            own.add((port.node_port, port.protocol))
            if what:
                hint = "without nodePort, labctl chooses one"
                yield _problem(service, "ports", number, "nodePort", what=what, hint=hint)
        if service.health_check_node_port:
            other = users.setdefault(service.health_check_node_port, service)
            if other is not service:
                what = f"the nodePort {service.health_check_node_port} is already that of {other}"
                yield _problem(service, "healthCheckNodePort", what=what)


def _node_port_in_use(port: ServicePort, service: Service, user: Service, own: set[tuple[int, str]]) -> str:
    if user is not service:
        return f"the nodePort {port.node_port} is already that of {user}"
    if (port.node_port, port.protocol) in own:
        return f"the nodePort {port.node_port} ({port.protocol}) appears twice"
    return ""


def _ports(service: Service) -> Iterator[ObjectProblem]:
    seen: set[tuple[int, str]] = set()
    names: set[str] = set()
    for number, port in enumerate(service.ports):
        problem = partial(_problem, service, "ports", number)
        if (port.port, port.protocol) in seen:  # two such ports in short form also get the same name
            hint = "each port of a Service is another number or protocol"
            yield problem("port", what=f"duplicate port {port.port} ({port.protocol})", hint=hint)
        elif len(service.ports) > 1 and not port.name:
            yield problem(what="a Service with several ports needs a name for each", hint="such as name: http")
        elif port.name and port.name in names:
            yield problem("name", what=f"two ports have the name {port.name!r}")
        seen.add((port.port, port.protocol))
        names.add(port.name)
        if port.node_port and service.type not in _OUTSIDE:
            what = f"a Service of the type {service.type} has no nodePort"
            yield problem("nodePort", what=what, hint="write type: NodePort")
        elif port.node_port and port.node_port not in NODE_PORTS:
            what = f"{port.node_port} is not a nodePort"
            yield problem("nodePort", what=what, hint=f"from {NODE_PORTS[0]} up to {NODE_PORTS[-1]}")


def _addresses(service: Service, state: ClusterState) -> Iterator[ObjectProblem]:
    ranges = state.service_cidrs
    for ip in service.cluster_ips:
        own = [one for one in ranges if one.version == ip.version]
        if own and not any(ip in one for one in own):
            what = f"the cluster IP {ip} is outside of the range of Services, {' and '.join(map(str, own))}"
            hint = "without clusterIP, labctl chooses one; the key service_cidr is another range"
            yield _problem(service, "clusterIP", what=what, hint=hint)
    for number, ip in enumerate(service.external_ips):
        if ip.is_unspecified or ip.is_loopback or ip.is_link_local or ip.is_multicast:
            yield _problem(service, "externalIPs", number, what=f"{ip} cannot be an external IP")


def _type(service: Service) -> Iterator[ObjectProblem]:
    """Fields that do not fit the type."""
    if service.headless and service.type in _OUTSIDE:
        yield _problem(service, "clusterIP", what=f"a headless Service cannot have the type {service.type}")
    if service.type == "ExternalName":
        what = "a Service of the type ExternalName is an alias in DNS: no packet uses it in a lab"
        yield _problem(service, "type", what=what, warning=True)
    if service.source_ranges and service.type != "LoadBalancer":
        yield _problem(service, "loadBalancerSourceRanges", what="only a Service of the type LoadBalancer has them")
    if service.external_policy == "Local" and service.type not in _OUTSIDE and not service.external_ips:
        what = "only Services of the types NodePort and LoadBalancer, or with externalIPs, have it"
        yield _problem(service, "externalTrafficPolicy", what=what)
    if service.health_check_node_port:
        if service.type != "LoadBalancer" or service.external_policy != "Local":
            what = "only a LoadBalancer with externalTrafficPolicy: Local has health checks"
            yield _problem(service, "healthCheckNodePort", what=what)
        elif service.health_check_node_port not in NODE_PORTS:
            what = f"{service.health_check_node_port} is not a nodePort"
            hint = f"from {NODE_PORTS[0]} up to {NODE_PORTS[-1]}"
            yield _problem(service, "healthCheckNodePort", what=what, hint=hint)


def _endpoints(
    service: Service, sliced: set[tuple[str, str]], index: PodIndex, cidrs: Iterable[Net]
) -> Iterator[ObjectProblem]:
    """Whether a packet to the Service reaches a pod."""
    if service.type == "ExternalName":
        return
    if not service.selector:
        if (service.namespace, service.name) not in sliced and not service.headless:
            what = "no endpoints: the Service has no selector, and no EndpointSlice belongs to it"
            yield _problem(service, what=what, warning=True)
        return
    selector = Selector(tuple(service.selector.items()))
    pods = index.select(service.namespace, selector)
    if not pods:
        hint = index.explain_nothing(selector, service.namespace)
        yield _problem(service, "selector", what=f"no pod has the labels {selector}", hint=hint, warning=True)
        return
    versions = {ip.version for ip in service.cluster_ips} or {one.version for one in cidrs}
    if versions and any(pod.ips for pod in pods) and not any(ip.version in versions for pod in pods for ip in pod.ips):
        what = f"no endpoints: the Service has IPv{min(versions)} addresses only, and its pods have none"
        yield _problem(service, what=what, hint="service_cidr is another range", warning=True)
    for number, port in enumerate(service.ports):
        without = [pod for pod in pods if target_port(port, pod) is None]
        if without:
            yield _missing_name(service, number, port, pods, without)


def _missing_name(
    service: Service, number: int, port: ServicePort, pods: list[Pod], without: list[Pod]
) -> ObjectProblem:
    name = str(port.target_port)
    others = {one.protocol for pod in pods for one in pod.ports if one.name == name} - {port.protocol}
    known = sorted({one.name for pod in pods for one in pod.ports if one.name and one.protocol == port.protocol})
    if len(without) < len(pods):
        hint = "it gets no connections to this port"
    elif others:
        hint = f"{name} is a port of {', '.join(sorted(others))}, this one is of {port.protocol}"
    else:
        hint = did_you_mean(name, known) or (
            f"their ports are {', '.join(known)}" if known else "their ports have no names"
        )
    subject = "no selected pod has" if len(without) == len(pods) else f"the pod {without[0].name} does not have"
    what = f"{subject} a port with the name {name!r}"
    return _problem(service, "ports", number, "targetPort", what=what, hint=hint, warning=True)


def _slice(one: EndpointSlice, known: set[tuple[str, str]]) -> Iterator[ObjectProblem]:
    if (one.namespace, one.service) in known:
        return
    names = [name for namespace, name in known if namespace == one.namespace]
    what = f"there is no Service {one.service} in the namespace {one.namespace}"
    hint = did_you_mean(one.service, names)
    yield ObjectProblem("EndpointSlice", one.namespace, one.name, ("metadata", "labels"), what, hint, True)
