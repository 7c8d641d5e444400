"""The fields of Ingress (networking.k8s.io/v1), and of Gateway and HTTPRoute (gateway.networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labctl.scenario.manifests.api_types import ApiAny, ApiChoice, ApiFields, ApiList, ApiNumber, ApiText, Path
from labctl.scenario.manifests.common_fields import ADDRESS, DNS_LABEL, DNS_NAME, metadata
from labctl.scenario.manifests.service_fields import PORT

_HOST = ApiText("a host name, such as shop.example.com")


def _one_of_two(item: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    if len(item) != 1:
        yield (), "a port has either a number or a name", "such as port: {number: 80}"


_BACKEND_PORT = ApiFields({"number": PORT, "name": ApiText("the name of a port")}, closed=True, rules=(_one_of_two,))
_BACKEND = ApiFields(
    {"service": ApiFields({"name": DNS_LABEL, "port": _BACKEND_PORT}, ("name", "port"), closed=True)},
    ("service",),
    elsewhere={
        "serviceName": "since networking.k8s.io/v1, it is service: {name: ...}",
        "servicePort": "since networking.k8s.io/v1, it is service: {port: {number: ...}}",
    },
    not_supported={"resource": "labctl has Services as backends only"},
)
_PATH = ApiFields(
    {
        "path": ApiText("a path that begins with /"),
        "pathType": ApiChoice(("Exact", "Prefix", "ImplementationSpecific")),
        "backend": _BACKEND,
    },
    ("pathType", "backend"),
)
INGRESS_SPEC = ApiFields(
    {
        "defaultBackend": _BACKEND,
        "rules": ApiList(ApiFields({"host": _HOST, "http": ApiFields({"paths": ApiList(_PATH, 1)}, ("paths",))})),
    },
    unused=frozenset({"tls"}),
    silent=frozenset({"ingressClassName"}),
)
_ADDRESSES = ApiList(ApiFields({"ip": ADDRESS}, silent=frozenset({"hostname", "ports", "ipMode"})))
INGRESS = {
    "metadata": metadata(DNS_NAME),
    "spec": INGRESS_SPEC,
    "status": ApiFields({"loadBalancer": ApiFields({"ingress": _ADDRESSES})}),
}

_ALLOWED = ApiFields(
    {"namespaces": ApiFields({"from": ApiChoice(("All", "Same", "Selector", "None"))}, unused=frozenset({"selector"}))},
    unused=frozenset({"kinds"}),
)
_LISTENER = ApiFields(
    {"name": DNS_NAME, "port": PORT, "protocol": ApiText(), "hostname": _HOST, "allowedRoutes": _ALLOWED},
    ("name", "port", "protocol"),
    unused=frozenset({"tls"}),
)
_GATEWAY_ADDRESS = ApiFields({"type": ApiText(), "value": ApiText()})
GATEWAY_SPEC = ApiFields(
    {"listeners": ApiList(_LISTENER, 1), "addresses": ApiList(_GATEWAY_ADDRESS)},
    ("listeners",),
    unused=frozenset({"infrastructure", "backendTLS", "allowedListeners", "tls", "defaultScope"}),
    silent=frozenset({"gatewayClassName"}),
)
GATEWAY = {
    "metadata": metadata(DNS_NAME),
    "spec": GATEWAY_SPEC,
    "status": ApiFields({"addresses": ApiList(_GATEWAY_ADDRESS)}, silent=frozenset({"conditions", "listeners"})),
}

_PARENT = ApiFields(
    {"group": ApiText(), "kind": ApiText(), "namespace": DNS_LABEL, "name": DNS_NAME, "sectionName": DNS_NAME},
    ("name",),
    unused=frozenset({"port"}),
)
_VALUE = ApiFields(
    {"type": ApiChoice(("Exact", "RegularExpression")), "name": ApiText(), "value": ApiText()}, ("name", "value")
)
_MATCH = ApiFields(
    {
        "path": ApiFields(
            {"type": ApiChoice(("Exact", "PathPrefix", "RegularExpression")), "value": ApiText()}, closed=True
        ),
        "headers": ApiList(_VALUE),
        "queryParams": ApiList(_VALUE),
        "method": ApiChoice(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")),
    },
    closed=True,
)
_BACKEND_REF = ApiFields(
    {
        "group": ApiText(),
        "kind": ApiText(),
        "namespace": DNS_LABEL,
        "name": DNS_NAME,
        "port": PORT,
        "weight": ApiNumber(0, 1_000_000),
    },
    ("name", "port"),
    unused=frozenset({"filters"}),
)
_ROUTE_RULE = ApiFields(
    {"matches": ApiList(_MATCH), "filters": ApiList(ApiAny()), "backendRefs": ApiList(_BACKEND_REF)},
    unused=frozenset({"name", "timeouts", "retry", "sessionPersistence"}),
    elsewhere={"path": "it is a field of an entry of `matches`", "backends": "write backendRefs"},
)
HTTP_ROUTE_SPEC = ApiFields(
    {"parentRefs": ApiList(_PARENT), "hostnames": ApiList(_HOST), "rules": ApiList(_ROUTE_RULE)},
    unused=frozenset({"useDefaultGateways"}),
)
HTTP_ROUTE = {"metadata": metadata(DNS_NAME, creationTimestamp=ApiText()), "spec": HTTP_ROUTE_SPEC}
