"""From Ingresses, Gateways and HTTPRoutes to HTTP load balancers: their routing tables, with every target. Pure.

A cloud makes one load balancer for each Ingress and one for each Gateway. In mode `instance` its targets are the nodes
at the Service's nodePort, in mode `ip` the Service's endpoints themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from labctl.kubernetes.api.api_objects import Cluster, Service, ServicePort
from labctl.kubernetes.api.http_routes import (
    NO_ENDPOINTS,
    NO_SERVICE,
    HttpBackend,
    HttpLoadBalancer,
    HttpMatch,
    HttpRoute,
    ordered,
)
from labctl.kubernetes.api.ingress_objects import BackendRef, Gateway, HTTPRoute, Ingress, Listener, Mode
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.services.endpoint_choice import backends

HTTP_PORT = 80  # of the load balancer of an Ingress
DEFAULT_MODE: Mode = "instance"


@dataclass(frozen=True, slots=True)
class _Place:
    """An object in which a backend is written, for problems."""

    kind: str
    namespace: str
    name: str
    path: tuple[str | int, ...]

    def problem(self, what: str, hint: str = "", *, warning: bool = False) -> ObjectProblem:
        return ObjectProblem(self.kind, self.namespace, self.name, self.path, what, hint, warning)


def load_balancers(
    cluster: Cluster,
    ingresses: Iterable[Ingress] = (),
    gateways: Iterable[Gateway] = (),
    routes: Iterable[HTTPRoute] = (),
) -> tuple[tuple[HttpLoadBalancer, ...], tuple[ObjectProblem, ...]]:
    """The load balancers of these objects, and what is wrong with the objects."""
    targets, routes, gateways = _Targets(cluster), tuple(routes), tuple(gateways)
    found = [_of_ingress(one, targets) for one in ingresses]
    found += [_of_gateway(one, routes, targets) for one in gateways]
    problems = [*targets.problems, *_other_protocols(gateways), *_unattached(routes, gateways)]
    return tuple(found), tuple(dict.fromkeys(problems))


class _Targets:
    """Looks up the targets of backends, and collects what is wrong."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.services = {(one.namespace, one.name): one for one in cluster.services}
        self.problems: list[ObjectProblem] = []

    def backend(self, ref: BackendRef, mode: Mode, place: _Place, invalid: int = NO_ENDPOINTS) -> HttpBackend:
        """The backend of a reference. Requests for one that does not exist get the answer `invalid`."""
        service = self.services.get((ref.namespace, ref.service))
        nothing = HttpBackend(str(ref), (), ref.weight, invalid)
        if service is None:
            self.problems.append(place.problem(f"there is no Service {ref.namespace}/{ref.service}", warning=True))
            return nothing
        port = next((one for one in service.ports if ref.port in (one.port, one.name)), None)
        if port is None or port.protocol != "TCP":
            names = ", ".join(f"{one.port}" + (f" ({one.name})" if one.name else "") for one in service.ports)
            what = f"Service {service} has no TCP port {ref.port}"
            self.problems.append(place.problem(what, f"its ports are {names}" if names else "", warning=True))
            return nothing
        if mode == "instance" and not port.node_port:
            what = f"Service {service} has no nodePort for port {ref.port}, and mode instance sends requests to nodes"
            self.problems.append(place.problem(what, "give the Service type: NodePort, or use mode: ip"))
            return nothing
        return HttpBackend(str(ref), self._addresses(service, port, mode), ref.weight)

    def _addresses(self, service: Service, port: ServicePort, mode: Mode) -> tuple[str, ...]:
        """In mode instance the nodes. The health checks of a cloud leave out nodes without endpoints if
        externalTrafficPolicy is Local, and all of them if there is no endpoint."""
        ready = [one for one in backends(self.cluster, service, port, 4, "") if one.endpoint.ready]
        if mode == "ip":
            return tuple(map(str, ready))
        nodes = {one.endpoint.node for one in ready}
        return tuple(
            f"{ip}:{port.node_port}"
            for node in self.cluster.nodes
            if nodes and (service.external_policy == "Cluster" or node.name in nodes)
            for ip in node.internal_ips[:1]
        )


def _of_ingress(ingress: Ingress, targets: _Targets) -> HttpLoadBalancer:
    mode = ingress.mode or DEFAULT_MODE
    found: list[HttpRoute] = []
    default: tuple[HttpBackend, ...] = ()
    if ingress.default_backend is not None:
        place = _Place("Ingress", ingress.namespace, ingress.name, ("spec", "defaultBackend"))
        default = (targets.backend(ingress.default_backend, mode, place),)
    for number, rule in enumerate(ingress.rules):
        for index, path in enumerate(rule.paths):
            at = ("spec", "rules", number, "http", "paths", index, "backend")
            place = _Place("Ingress", ingress.namespace, ingress.name, at)
            backend = targets.backend(path.backend, mode, place)
            found.append(HttpRoute(HttpMatch(rule.host, path.path, path.path_type), (backend,)))
    tables = ((HTTP_PORT, ordered(found, default=default)),)
    return HttpLoadBalancer("Ingress", ingress.namespace, ingress.name, mode, ingress.address, tables)


def _of_gateway(gateway: Gateway, routes: Iterable[HTTPRoute], targets: _Targets) -> HttpLoadBalancer:
    mode = gateway.mode or DEFAULT_MODE
    by_port: dict[int, list[HttpRoute]] = {one.port: [] for one in gateway.listeners if one.protocol == "HTTP"}
    for route in sorted(routes, key=lambda one: (one.created == "", one.created, str(one))):
        rules = [(_backends_of_rule(route, number, mode, targets), rule) for number, rule in enumerate(route.rules)]
        hosts: dict[int, list[str]] = {}
        for listener in _listeners_of(route, gateway):
            hosts.setdefault(listener.port, []).extend(_hostnames(listener.hostname, route.hostnames))
        for port, names in hosts.items():
            by_port[port] += [
                HttpRoute(
                    HttpMatch(host, one.path, one.path_type, one.method, one.headers, one.query, any_labels=True),
                    found,
                )
                for found, rule in rules
                for host in dict.fromkeys(names)
                for one in rule.matches
            ]
    tables = tuple((port, ordered(found, host_first=False)) for port, found in by_port.items())
    return HttpLoadBalancer("Gateway", gateway.namespace, gateway.name, mode, gateway.address, tables)


def _backends_of_rule(route: HTTPRoute, number: int, mode: Mode, targets: _Targets) -> tuple[HttpBackend, ...]:
    found = []
    for index, ref in enumerate(route.rules[number].backends):
        place = _Place("HTTPRoute", route.namespace, route.name, ("spec", "rules", number, "backendRefs", index))
        if ref.namespace != route.namespace:
            what = f"a backend in namespace {ref.namespace} needs a ReferenceGrant there, which labctl does not read"
            hint = f"requests for it get status {NO_SERVICE}: use a Service of namespace {route.namespace}"
            targets.problems.append(place.problem(what, hint, warning=True))
            found.append(HttpBackend(str(ref), (), ref.weight, NO_SERVICE))
        else:
            found.append(targets.backend(ref, mode, place, NO_SERVICE))
    return tuple(found)


def _listeners_of(route: HTTPRoute, gateway: Gateway) -> Iterator[Listener]:
    """The listeners of a Gateway that a route may use and names as its parents."""
    for parent in route.parents:
        if (parent.namespace, parent.gateway) == (gateway.namespace, gateway.name):
            for one in gateway.listeners:
                same = one.allowed == "Same" and route.namespace == gateway.namespace
                usable = one.protocol == "HTTP" and (same or one.allowed == "All")
                if usable and parent.section in ("", one.name) and _hostnames(one.hostname, route.hostnames):
                    yield one


def _hostnames(listener: str, route: Sequence[str]) -> tuple[str, ...]:
    """The host names that both a listener and a route serve; "" is every name."""
    if not route:
        return (listener,)
    found = []
    for name in route:
        if _covers(listener, name):
            found.append(name)
        elif _covers(name, listener):
            found.append(listener)
    return tuple(dict.fromkeys(found))


def _covers(pattern: str, name: str) -> bool:
    """Whether every host name that `name` stands for matches the pattern."""
    if pattern in ("", name):
        return True
    return pattern.startswith("*.") and name.removeprefix("*").endswith(pattern[1:]) and name != pattern[2:]


def _other_protocols(gateways: Iterable[Gateway]) -> Iterator[ObjectProblem]:
    """Warnings for listeners that labctl does not serve."""
    for gateway in gateways:
        for number, one in enumerate(gateway.listeners):
            if one.protocol != "HTTP":
                place = _Place("Gateway", gateway.namespace, gateway.name, ("spec", "listeners", number, "protocol"))
                yield place.problem(f"labctl serves no listener for {one.protocol}", "it serves HTTP", warning=True)


def _unattached(routes: Iterable[HTTPRoute], gateways: Sequence[Gateway]) -> Iterator[ObjectProblem]:
    """Warnings for HTTPRoutes that no listener of any Gateway serves."""
    for route in routes:
        if not any(True for gateway in gateways for _ in _listeners_of(route, gateway)):
            known = ", ".join(map(str, gateways)) or "none"
            place = _Place("HTTPRoute", route.namespace, route.name, ("spec", "parentRefs"))
            hint = f"the Gateways are {known}; without from: All, a listener accepts only routes of its namespace"
            yield place.problem("no listener of a Gateway serves this route", hint, warning=True)


def with_address(balancer: HttpLoadBalancer, address: str) -> HttpLoadBalancer:
    """The load balancer with its chosen address."""
    return replace(balancer, address=address)
