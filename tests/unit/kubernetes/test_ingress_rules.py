"""Ingresses, Gateways and HTTPRoutes: how they are read, and the tables and targets that follow from them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from labctl.kubernetes.api.api_objects import Cluster, Endpoint, EndpointPort, EndpointSlice, Node, Service, ServicePort
from labctl.kubernetes.api.http_routes import request_of
from labctl.kubernetes.api.ingress_objects import read_gateway, read_http_route, read_ingress
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.ingress.ingress_rules import HttpLoadBalancer, load_balancers


def service(name: str, *ports: ServicePort, **more: Any) -> Service:
    return Service("default", name, ports=ports, **more)


def slice_of(name: str, **nodes: str) -> EndpointSlice:
    """A slice with one endpoint on each named node."""
    endpoints = tuple(Endpoint(ip_address(ip), node) for node, ip in nodes.items())
    return EndpointSlice("default", f"{name}-1", name, 4, endpoints, (EndpointPort("", 8080),))


CLUSTER = Cluster(
    tuple(Node(f"node{number}", (), (ip_address(f"10.224.0.{3 + number}"),)) for number in (1, 2)),
    (
        service("web", ServicePort(80, node_port=30080)),
        service("local", ServicePort(80, node_port=30081), external_policy="Local"),
        service("inner", ServicePort(80)),
        service("empty", ServicePort(80, node_port=30082)),
    ),
    (
        slice_of("web", node1="10.244.0.2", node2="10.244.1.2"),
        slice_of("local", node2="10.244.1.3"),
        slice_of("inner", node1="10.244.0.3"),
    ),
)


def backend(name: str, port: int | str = 80) -> dict[str, Any]:
    return {"service": {"name": name, "port": {"name" if isinstance(port, str) else "number": port}}}


def ingress(*paths: tuple[str, str], mode: str | None = None, default: str = "", host: str = "a.example") -> Any:
    items = [{"path": path, "pathType": "Prefix", "backend": backend(name)} for path, name in paths]
    annotations = {"labctl/target-type": mode} if mode else {}
    spec: dict[str, Any] = {"rules": [{"host": host, "http": {"paths": items}}]} if items else {}
    spec |= {"defaultBackend": backend(default)} if default else {}
    return {"metadata": {"name": "i", "annotations": annotations}, "spec": spec}


def of_ingress(item: Any) -> tuple[HttpLoadBalancer, tuple[ObjectProblem, ...]]:
    (found,), problems = load_balancers(CLUSTER, [read_ingress(item)])
    return found, problems


def answer(balancer: HttpLoadBalancer, url: str, method: str = "GET", port: int = 80) -> tuple[str, ...] | None:
    host, slash, path = url.partition("/")
    found = dict(balancer.tables)[port].find(request_of(method, slash + path, [("Host", host)]))
    return None if found is None else tuple(one.name.partition("/")[2] for one in found.backends)


@pytest.mark.parametrize(
    ("name", "mode", "targets"),
    [
        ("web", "instance", ("10.224.0.4:30080", "10.224.0.5:30080")),
        ("web", None, ("10.224.0.4:30080", "10.224.0.5:30080")),
        ("web", "ip", ("10.244.0.2:8080", "10.244.1.2:8080")),
        ("local", "instance", ("10.224.0.5:30081",)),  # only nodes with an endpoint
        ("inner", "ip", ("10.244.0.3:8080",)),
        ("empty", "ip", ()),
        ("empty", "instance", ()),
    ],
)
def test_the_targets_are_nodes_or_endpoints(name: str, mode: str | None, targets: tuple[str, ...]) -> None:
    found, problems = of_ingress(ingress(("/", name), mode=mode))

    assert ([one.targets for one in found.backends], problems) == ([targets], ())


def test_mode_instance_needs_a_node_port() -> None:
    _, (problem,) = of_ingress(ingress(("/", "web"), ("/in", "inner")))

    assert (problem.warning, problem.path) == (False, ("spec", "rules", 0, "http", "paths", 1, "backend"))
    assert "has no nodePort" in problem.what


@pytest.mark.parametrize(
    ("name", "port", "what"),
    [("none", 80, "there is no Service default/none"), ("web", 81, "Service default/web has no TCP port 81")],
)
def test_a_backend_that_does_not_exist_is_a_warning_and_answers_503(name: str, port: int, what: str) -> None:
    item = ingress(("/", name))
    item["spec"]["rules"][0]["http"]["paths"][0]["backend"] = backend(name, port)
    found, (problem,) = of_ingress(item)

    assert (problem.what, problem.warning) == (what, True)
    assert [(one.targets, one.status) for one in found.backends] == [((), 503)]


def test_an_ingress_without_rules_has_only_its_default_backend() -> None:
    found, problems = of_ingress(ingress(default="web"))

    assert (answer(found, "b.example/x"), problems, found.hosts) == (("web:80",), (), ())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"rules": []}, "needs rules or a defaultBackend"),
        ({"rules": [{"host": "10.0.0.1"}]}, r"rules\[0\].host: '10.0.0.1' is an address"),
        ({"rules": [{"host": "a_b.example"}]}, r"rules\[0\].host: 'a_b.example' is not a host name"),
        ({"rules": [{"http": {"paths": [{"path": "x", "pathType": "Exact"}]}}]}, "path 'x' does not begin with /"),
        ({"rules": [{"http": {"paths": [{"path": "/", "pathType": "Regex"}]}}]}, "path type 'Regex' is not Exact or"),
        ({"defaultBackend": {"resource": {}}}, "defaultBackend: needs a service"),
        ({"defaultBackend": {"service": {"name": "x"}}}, "defaultBackend.service.port: needs a number or a name"),
    ],
)
def test_bad_ingresses_are_refused_with_their_field(change: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_ingress({"metadata": {"name": "i"}, "spec": change})


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="annotation labctl/target-type: 'pods' is not instance or ip"):
        read_ingress(ingress(("/", "web"), mode="pods"))


def gateway(*listeners: dict[str, Any]) -> Any:
    return {
        "metadata": {"name": "g"},
        "spec": {"listeners": [{"name": "web", "port": 80, "protocol": "HTTP", **one} for one in listeners]},
    }


def http_route(name: str = "r", hosts: tuple[str, ...] = (), parent: Any = None, **rule: Any) -> Any:
    rule.setdefault("backendRefs", [{"name": "web", "port": 80}])
    return {
        "metadata": {"name": name},
        "spec": {"parentRefs": [parent or {"name": "g"}], "hostnames": list(hosts), "rules": [rule]},
    }


def of_gateway(item: Any, *routes: Any) -> tuple[HttpLoadBalancer, tuple[ObjectProblem, ...]]:
    (found,), problems = load_balancers(CLUSTER, (), [read_gateway(item)], map(read_http_route, routes))
    return found, problems


def test_a_route_serves_the_host_names_that_it_shares_with_its_listener() -> None:
    names = ("shop.a.example", "*.b.example", "other.example")
    found, problems = of_gateway(
        gateway({"hostname": "*.a.example"}, {"name": "b", "hostname": "x.b.example"}), http_route(hosts=names)
    )

    assert [route.match.host for _, table in found.tables for route in table.routes] == [
        "shop.a.example",
        "x.b.example",
    ]
    assert problems == ()


def test_each_port_has_its_own_table() -> None:
    found, _ = of_gateway(
        gateway({}, {"name": "alt", "port": 8080}),
        http_route("one", parent={"name": "g", "sectionName": "web"}),
        http_route("two", parent={"name": "g", "sectionName": "alt"}, backendRefs=[{"name": "local", "port": 80}]),
    )

    assert (answer(found, "h/"), answer(found, "h/", port=8080)) == (("web:80",), ("local:80",))


def test_of_equal_matches_the_oldest_route_is_chosen_and_then_the_first_by_name() -> None:
    other = [{"name": "local", "port": 80}]
    old, new = http_route("z"), http_route("a", backendRefs=other)
    by_name, _ = of_gateway(gateway({}), old, new)
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    new["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    by_age, _ = of_gateway(gateway({}), new, old)

    assert (answer(by_name, "h/"), answer(by_age, "h/")) == (("local:80",), ("web:80",))


def test_weights_and_matches_of_a_rule_are_kept() -> None:
    found, problems = of_gateway(
        gateway({}),
        http_route(
            matches=[{"path": {"value": "/a"}, "headers": [{"name": "X-V", "value": "2"}]}, {"method": "POST"}],
            backendRefs=[{"name": "web", "port": 80, "weight": 9}, {"name": "empty", "port": 80, "weight": 0}],
        ),
    )

    assert [(one.weight, bool(one.targets)) for one in found.backends] == [(9, True), (0, False)]
    assert (answer(found, "h/a"), answer(found, "h/", "POST"), problems) == (None, ("web:80", "empty:80"), ())


@pytest.mark.parametrize(
    ("route", "what", "status"),
    [
        (http_route(parent={"name": "other"}), "no listener of a Gateway serves this route", None),
        (http_route(parent={"name": "g", "sectionName": "x"}), "no listener of a Gateway serves this route", None),
        (http_route(backendRefs=[{"name": "none", "port": 80}]), "there is no Service default/none", 500),
        (http_route(backendRefs=[{"name": "web", "port": 80, "namespace": "b"}]), "ReferenceGrant", 500),
    ],
)
def test_routes_and_backends_that_lead_nowhere_are_warnings(route: Any, what: str, status: int | None) -> None:
    found, (problem,) = of_gateway(gateway({}), route)

    assert problem.warning
    assert what in problem.what
    assert [one.status for one in found.backends] == ([] if status is None else [status])


def test_a_listener_accepts_routes_of_other_namespaces_only_if_it_says_so() -> None:
    route = http_route()
    route["metadata"]["namespace"] = "b"
    route["spec"]["parentRefs"][0]["namespace"] = "default"
    closed, _ = of_gateway(gateway({}), route)
    opened, _ = of_gateway(gateway({"allowedRoutes": {"namespaces": {"from": "All"}}}), route)

    assert [len(one.tables[0][1].routes) for one in (closed, opened)] == [0, 1]


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (http_route(filters=[{"type": "URLRewrite"}]), r"rules\[0\].filters: filters are not supported"),
        (http_route(matches=[{"path": {"type": "RegularExpression", "value": "/"}}]), "'RegularExpression' is not"),
        (
            http_route(matches=[{"headers": [{"name": "a", "value": "b", "type": "RegularExpression"}]}]),
            r"headers\[0\].type: 'RegularExpression' is not Exact",
        ),
        (http_route(backendRefs=[{"kind": "Bucket", "name": "x"}]), r"backendRefs\[0\].kind: 'Bucket' is not Service"),
    ],
)
def test_what_is_not_supported_in_a_route_is_refused_with_its_field(item: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_http_route(item)


def test_a_listener_for_another_protocol_is_not_served_and_a_warning() -> None:
    found, (problem,) = of_gateway(gateway({}, {"name": "tls", "port": 443, "protocol": "HTTPS"}), http_route())

    assert [port for port, _ in found.tables] == [80]
    assert (problem.what, problem.path) == ("labctl serves no listener for HTTPS", ("spec", "listeners", 1, "protocol"))
    assert problem.warning


def test_a_listener_that_accepts_no_routes_has_none() -> None:
    found, (problem,) = of_gateway(gateway({"allowedRoutes": {"namespaces": {"from": "None"}}}), http_route())

    assert (found.backends, problem.what) == ((), "no listener of a Gateway serves this route")
