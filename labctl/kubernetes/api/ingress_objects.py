"""Ingress, Gateway and HTTPRoute, as the Kubernetes API describes them, and how they are read from JSON. Pure.

The names are those of networking.k8s.io/v1 and gateway.networking.k8s.io/v1. The functions raise ValueError, KeyError,
TypeError or AttributeError for an object of another shape, as `api_reader` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Mode: TypeAlias = Literal["instance", "ip"]
MODES: tuple[Mode, ...] = ("instance", "ip")
# annotations in which people write the mode: of labctl, and of the AWS Load Balancer Controller
MODE_ANNOTATIONS = ("labctl/target-type", "alb.ingress.kubernetes.io/target-type")
_PATH_TYPES = {"Exact": "Exact", "Prefix": "Prefix", "PathPrefix": "Prefix", "ImplementationSpecific": "Prefix"}
PathType: TypeAlias = Literal["Exact", "Prefix"]


@dataclass(frozen=True, slots=True)
class BackendRef:
    """A Service's port, by its number or, of an Ingress, by its name."""

    namespace: str
    service: str
    port: int | str
    weight: int = 1

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}:{self.port}"


@dataclass(frozen=True, slots=True)
class IngressPath:
    """One path of a rule of an Ingress."""

    path: str
    path_type: PathType
    backend: BackendRef


@dataclass(frozen=True, slots=True)
class IngressRule:
    """The paths of one host; "" for all hosts."""

    host: str
    paths: tuple[IngressPath, ...]


@dataclass(frozen=True, slots=True)
class Ingress:
    """An Ingress. `mode` is None if its author did not choose one; `address` is the load balancer's, if written."""

    namespace: str
    name: str
    rules: tuple[IngressRule, ...] = ()
    default_backend: BackendRef | None = None
    mode: Mode | None = None
    address: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener of a Gateway. `allowed` is of which namespaces HTTPRoutes may use it: of its own, all, or none."""

    name: str
    port: int
    hostname: str = ""
    allowed: Literal["Same", "All", "None"] = "Same"
    protocol: str = "HTTP"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Gateway. `mode` and `address` are as those of an Ingress."""

    namespace: str
    name: str
    listeners: tuple[Listener, ...] = ()
    mode: Mode | None = None
    address: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """A match of a rule of an HTTPRoute."""

    path: str = "/"
    path_type: PathType = "Prefix"
    method: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RouteRule:
    """A rule of an HTTPRoute: it applies if one of its matches does."""

    matches: tuple[RouteMatch, ...] = (RouteMatch(),)
    backends: tuple[BackendRef, ...] = ()


@dataclass(frozen=True, slots=True)
class ParentRef:
    """The Gateway, and the name of its listener or "" for all, to which an HTTPRoute belongs."""

    namespace: str
    gateway: str
    section: str = ""


@dataclass(frozen=True, slots=True)
class HTTPRoute:
    """An HTTPRoute. `created` is its creation timestamp as text, "" if unknown."""

    namespace: str
    name: str
    parents: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[RouteRule, ...] = ()
    created: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def read_ingress(item: Mapping[str, Any]) -> Ingress:
    """An Ingress (networking.k8s.io/v1). `tls` is not read: the load balancer serves HTTP. A scenario may have `mode`
    and `address` in its spec, which manifests have elsewhere."""
    meta, spec = item["metadata"], item.get("spec") or {}
    namespace = meta.get("namespace") or "default"
    default = spec.get("defaultBackend")
    rules = []
    for number, rule in enumerate(spec.get("rules") or ()):
        at = f"rules[{number}]"
        paths = tuple(
            _ingress_path(one, namespace, f"{at}.http.paths[{index}]")
            for index, one in enumerate((rule.get("http") or {}).get("paths") or ())
        )
        rules.append(IngressRule(_hostname(rule.get("host") or "", f"{at}.host"), paths))
    if not rules and default is None:
        raise ValueError("spec: an Ingress needs rules or a defaultBackend")
    return Ingress(
        namespace,
        meta["name"],
        tuple(rules),
        None if default is None else _ingress_backend(default, namespace, "defaultBackend"),
        spec.get("mode") or _mode(meta),
        spec.get("address") or _status_address(item, ("loadBalancer", "ingress")),
    )


def read_gateway(item: Mapping[str, Any]) -> Gateway:
    """A Gateway (gateway.networking.k8s.io/v1)."""
    meta, spec = item["metadata"], item["spec"]
    listeners = []
    for number, one in enumerate(spec["listeners"]):
        hostname = _hostname(one.get("hostname") or "", f"listeners[{number}].hostname")
        allowed = ((one.get("allowedRoutes") or {}).get("namespaces") or {}).get("from", "Same")
        if allowed not in ("Same", "All", "None"):
            at = f"listeners[{number}].allowedRoutes.namespaces.from"
            raise ValueError(f"{at}: {allowed!r} is not Same, All or None")
        listeners.append(Listener(one["name"], one["port"], hostname, allowed, one["protocol"]))
    wanted = [one["value"] for one in spec.get("addresses") or () if one.get("type", "IPAddress") == "IPAddress"]
    address = next(iter(wanted), "") or _status_address(item, ("addresses",))
    return Gateway(meta.get("namespace") or "default", meta["name"], tuple(listeners), _mode(meta), address)


def read_http_route(item: Mapping[str, Any]) -> HTTPRoute:
    """An HTTPRoute (gateway.networking.k8s.io/v1). Filters and matches by regular expressions raise ValueError."""
    meta, spec = item["metadata"], item.get("spec") or {}
    namespace = meta.get("namespace") or "default"
    parents = tuple(
        ParentRef(one.get("namespace") or namespace, one["name"], one.get("sectionName") or "")
        for one in spec.get("parentRefs") or ()
        if one.get("kind", "Gateway") == "Gateway"
    )
    hostnames = tuple(_hostname(one, f"hostnames[{number}]") for number, one in enumerate(spec.get("hostnames") or ()))
    rules = tuple(_route_rule(one, namespace, f"rules[{number}]") for number, one in enumerate(spec.get("rules") or ()))
    created = str(meta.get("creationTimestamp") or "")
    return HTTPRoute(namespace, meta["name"], parents, hostnames, rules, created)


def _ingress_path(item: Mapping[str, Any], namespace: str, at: str) -> IngressPath:
    path, path_type = _path(item.get("path"), item["pathType"], at)
    return IngressPath(path, path_type, _ingress_backend(item["backend"], namespace, f"{at}.backend"))


def _ingress_backend(item: Mapping[str, Any], namespace: str, at: str) -> BackendRef:
    service = item.get("service")
    if service is None:
        raise ValueError(f"{at}: needs a service")
    port = service.get("port") or {}
    value = port.get("number") or port.get("name")
    if value is None:
        raise ValueError(f"{at}.service.port: needs a number or a name")
    return BackendRef(namespace, service["name"], value)


def _route_rule(item: Mapping[str, Any], namespace: str, at: str) -> RouteRule:
    if item.get("filters"):
        raise ValueError(f"{at}.filters: filters are not supported")
    matches = tuple(
        _route_match(one, f"{at}.matches[{number}]") for number, one in enumerate(item.get("matches") or ({},))
    )
    backends = []
    for number, one in enumerate(item.get("backendRefs") or ()):
        if one.get("kind", "Service") != "Service":
            raise ValueError(f"{at}.backendRefs[{number}].kind: {one['kind']!r} is not Service")
        weight = one.get("weight")
        backends.append(
            BackendRef(one.get("namespace") or namespace, one["name"], one["port"], 1 if weight is None else weight)
        )
    return RouteRule(matches, tuple(backends))


def _route_match(item: Mapping[str, Any], at: str) -> RouteMatch:
    given = item.get("path") or {}
    path, path_type = _path(given.get("value"), given.get("type", "PathPrefix"), f"{at}.path")
    headers = _values(item.get("headers") or (), f"{at}.headers")
    lower: dict[str, str] = {}
    for name, value in headers:
        lower.setdefault(name.lower(), value)  # of several with one name, only the first counts
    query = dict(reversed(_values(item.get("queryParams") or (), f"{at}.queryParams")))
    return RouteMatch(path, path_type, item.get("method") or "", tuple(lower.items()), tuple(query.items()))


def _values(items: Any, at: str) -> list[tuple[str, str]]:
    for number, one in enumerate(items):
        if one.get("type", "Exact") != "Exact":
            raise ValueError(f"{at}[{number}].type: {one['type']!r} is not Exact")
    return [(one["name"], one["value"]) for one in items]


def _path(path: str | None, path_type: str, at: str) -> tuple[str, PathType]:
    if path_type not in _PATH_TYPES:
        raise ValueError(f"{at}: path type {path_type!r} is not Exact or {'PathPrefix' if 'match' in at else 'Prefix'}")
    path = "/" if path is None else path
    if not path.startswith("/"):
        raise ValueError(f"{at}: path {path!r} does not begin with /")
    return path, _PATH_TYPES[path_type]  # type: ignore[return-value]


def _hostname(host: str, at: str) -> str:
    name = host.lower()
    labels = (name[2:] if name.startswith("*.") else name).split(".")
    if name and not all(one and all(char.isalnum() or char == "-" for char in one) for one in labels):
        raise ValueError(f"{at}: {host!r} is not a host name")
    if name and all(one.isdigit() for one in labels):
        raise ValueError(f"{at}: {host!r} is an address, not a host name")
    return name


def _mode(meta: Mapping[str, Any]) -> Mode | None:
    annotations = meta.get("annotations") or {}
    for key in MODE_ANNOTATIONS:
        if key in annotations:
            if annotations[key] not in MODES:
                raise ValueError(f"annotation {key}: {annotations[key]!r} is not {' or '.join(MODES)}")
            return annotations[key]  # type: ignore[no-any-return]
    return None


def _status_address(item: Mapping[str, Any], path: tuple[str, ...]) -> str:
    found: Any = item.get("status") or {}
    for key in path:
        found = found.get(key) or {}
    return next((one.get("ip") or one.get("value") or "" for one in found or ()), "")
