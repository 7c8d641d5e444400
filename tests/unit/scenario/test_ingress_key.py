"""The key `ingress`, and manifests of Ingress, Gateway and HTTPRoute: what they become, and where mistakes are."""

from __future__ import annotations

from textwrap import dedent

import pytest

from labctl.core.scenario_types import Lab
from labctl.core.topology import Topology
from labctl.errors import ScenarioError
from labctl.kubernetes.api.http_routes import HttpLoadBalancer
from labctl.scenario.definition import manifest_key, parse_and_compile

BASE = """\
model: kubenet
nodes:
  node1: {pods: {a: {labels: {app: web}}}}
  node2: {pods: {b: {labels: {app: cart}}}}
services:
  web: {type: NodePort, selector: {app: web}, ports: [http=80]}
  cart: {selector: {app: cart}, ports: [80:8080]}
"""


def lab_of(text: str, manifest: str = "", model: str = "kubenet") -> Lab:
    files = {manifest_key("shop.yaml"): dedent(manifest)} if manifest else {}
    names = ("shop.yaml",) if manifest else ()
    text = BASE.replace("kubenet", model) + dedent(text)
    return parse_and_compile(text, "lab.yaml", files=files, manifests=names)[1]


def routes(balancer: HttpLoadBalancer) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (str(route.match), route.backends[0].name, route.backends[0].targets)
        for _, table in balancer.tables
        for route in table.routes
    ]


def problems(text: str, manifest: str = "", model: str = "kubenet") -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        lab_of(text, manifest, model)
    return [f"{one.file}:{one.line}:{one.column}: {one.what}" for one in caught.value.problems]


def test_the_short_form_of_rules() -> None:
    lab = lab_of("""\
        ingress:
          shop:
            mode: ip
            address: 203.0.113.77
            rules: {shop.example: web:http, shop.example/cart/: cart:80, /health: web:80}
            defaultBackend: cart:80
        """)
    (balancer,) = lab.kubernetes.http_balancers

    assert (balancer.mode, balancer.address) == ("ip", "203.0.113.77")
    assert routes(balancer) == [
        ("shop.example/cart/*", "default/cart:80", ("10.244.1.2:8080",)),
        ("shop.example/*", "default/web:http", ("10.244.0.2:80",)),
        ("*/health*", "default/web:80", ("10.244.0.2:80",)),
    ]
    assert [one.name for _, table in balancer.tables for one in table.default] == ["default/cart:80"]


def test_the_form_of_the_api_in_a_scenario() -> None:
    backend = "{service: {name: web, port: {number: 80}}}"
    rule = f"{{host: shop.example, http: {{paths: [{{path: /a, pathType: Exact, backend: {backend}}}]}}}}"
    (balancer,) = lab_of(f"ingress: {{shop/shop: {{mode: ip, rules: [{rule}]}}}}\n").kubernetes.http_balancers

    assert str(balancer) == "Ingress shop/shop"
    assert [match for match, _, _ in routes(balancer)] == ["shop.example/a"]


def test_a_host_name_is_a_name_of_the_lab() -> None:
    lab = lab_of(
        "ingress: {shop: {rules: {shop.example: web:80}}}\nchecks: [{tcp: vm -> shop.example:80, listen: false}]\n"
    )
    (balancer,) = lab.kubernetes.http_balancers

    assert [str(ip) for ip in Topology(lab).addresses("shop.example")] == [balancer.address]
    assert Topology(lab).namespace_of("shop.example") == "lb"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ingress: {shop: {rules: {shop.example: cart:80}}}\n",
            "lab.yaml:8:40: Ingress shop: spec.rules[0].http.paths[0].backend: Service default/cart has no nodePort for"
            " port 80, and mode instance sends requests to nodes",
        ),
        (
            "ingress: {shop: {mode: pods, rules: {a.example: web:80}}}\n",
            "lab.yaml:8:24: Ingress shop: spec.mode: 'pods' is not one of instance, ip",
        ),
        (
            "ingress: {shop: {rules: {a.example: web}}}\n",
            "lab.yaml:8:37: Ingress shop: spec.rules[0].http.paths[0].backend: expected a mapping with service, but"
            " 'web' is a text",
        ),
        (
            "ingress: {shop: {rules: {a_b: web:80}}}\n",
            "lab.yaml:8:26: Ingress shop: spec.rules[0].host: 'a_b' is not a host name",
        ),
        (
            "ingress: {shop: {address: web, rules: {a.example: web:80}}}\n",
            "lab.yaml:8:27: Ingress shop: spec.address: 'web' is not an IP address",
        ),
        ("ingress: [shop]\n", "lab.yaml:8:10: ingress: expected a mapping from names to specs of Ingresses, such as"
                              " {shop: {...}}"),
    ],
)  # fmt: skip
def test_mistakes_have_their_place(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_mode_ip_is_refused_with_its_place_where_pods_are_not_routable() -> None:
    (found,) = problems("ingress:\n  shop: {mode: ip, rules: {shop.example: web:80}}\n", model="flannel")

    assert found.startswith("lab.yaml:9:3: Ingress shop: mode ip: the fabric has no route to the pod 10.244.1.2")


GATEWAY = """\
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: front, annotations: {labctl/target-type: ip}}
    spec:
      gatewayClassName: any
      listeners:
      - {name: web, port: 8080, protocol: HTTP, hostname: "*.example"}
      - {name: tls, port: 443, protocol: HTTPS}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: split}
    spec:
      parentRefs: [{name: front}]
      hostnames: [shop.example]
      rules:
      - matches: [{path: {type: PathPrefix, value: /cart}}]
        backendRefs:
        - {name: web, port: 80, weight: 9}
        - {name: cart, port: 80}
    """


def test_a_gateway_and_its_routes_come_from_manifests() -> None:
    lab = lab_of("", GATEWAY)
    (balancer,) = lab.kubernetes.http_balancers
    ((port, table),) = balancer.tables

    assert (str(balancer), balancer.mode, port) == ("Gateway default/front", "ip", 8080)
    assert [(one.name, one.weight, one.targets) for one in table.routes[0].backends] == [
        ("default/web:80", 9, ("10.244.0.2:80",)),
        ("default/cart:80", 1, ("10.244.1.2:8080",)),
    ]
    assert lab.warnings == (
        "shop.yaml:8:38: Gateway front: spec.listeners[1].protocol: labctl serves no listener for HTTPS"
        " (it serves HTTP)",
    )


def test_what_a_route_cannot_do_is_refused_with_its_place() -> None:
    filters = "      - filters: [{type: URLRewrite}]\n        matches:"
    text = GATEWAY.replace("      - matches:", filters)

    assert problems("", text) == ["shop.yaml:17:14: HTTPRoute split: spec.rules[0].filters: filters are not supported"]
