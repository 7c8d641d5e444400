"""The routing table of an HTTP load balancer: which backend gets a request. Pure; needs only the standard library,
because labctl's proxy reads the same table.

The routes stand in the order of their precedence (`ordered`). Sources: the API documentation of `IngressRule` and
`HTTPIngressPath` in networking.k8s.io/v1, and of `HTTPRouteRule` and `Hostname` in gateway.networking.k8s.io/v1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

NO_ROUTE, NO_ENDPOINTS, NO_SERVICE = 404, 503, 500  # status codes of the answers that the proxy itself gives


@dataclass(frozen=True, slots=True)
class HttpBackend:
    """A backend of a route: its weight, and its targets as `address:port`. `name` is its Service and port:
    `default/web:80`.

    Requests for a backend without targets get the answer `status`.
    """

    name: str
    targets: tuple[str, ...] = ()
    weight: int = 1
    status: int = NO_ENDPOINTS

    @property
    def service(self) -> tuple[str, str]:
        """The namespace and the name of its Service."""
        namespace, _, name = self.name.partition("/")
        return namespace, name.partition(":")[0]


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """What a request must have. Empty fields match everything.

    A `host` that begins with `*.` matches names with one more label, or with `any_labels` with one or several more.
    A prefix matches whole elements of a path: `/shop` is a prefix of `/shop/cart`, not of `/shopping`. `headers` and
    `query` must have exactly these values; the names of headers are in lower case.
    """

    host: str = ""
    path: str = "/"
    path_type: Literal["Exact", "Prefix"] = "Prefix"
    method: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    any_labels: bool = False

    def matches_host(self, host: str) -> bool:
        """Whether a host name, in lower case and without a port, matches."""
        if not self.host.startswith("*."):
            return self.host in ("", host)
        first, _, rest = host.partition(".")
        if self.any_labels:
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        return bool(first) and rest == self.host[2:]

    def matches_path(self, path: str) -> bool:
        """Whether a path without its query matches."""
        if self.path_type == "Exact":
            return path == self.path
        prefix = self.path.rstrip("/")
        return path == prefix or path.startswith(prefix + "/")

    def matches(self, request: HttpRequest) -> bool:
        """Whether a request matches in every respect."""
        return (
            self.matches_host(request.host)
            and self.matches_path(request.path)
            and self.method in ("", request.method)
            and all(request.headers.get(name) == value for name, value in self.headers)
            and all(request.query.get(name) == value for name, value in self.query)
        )

    @property
    def precedence(self) -> tuple[Any, ...]:
        """A key for sorting: the most specific match has the lowest. Hosts count before paths, an exact host before a
        wildcard, an exact path before a prefix, a longer name or path before a shorter one."""
        prefix_length = 0 if self.path_type == "Exact" else len(self.path.rstrip("/"))
        return (
            self.host == "",
            self.host.startswith("*."),
            -len(self.host),
            self.path_type != "Exact",
            -prefix_length,
            self.method == "",
            -len(self.headers),
            -len(self.query),
        )

    def __str__(self) -> str:
        suffix = "*" if self.path_type == "Prefix" else ""
        extra = "".join(f" {name}={value}" for name, value in (*self.headers, *self.query))
        return f"{self.method + ' ' if self.method else ''}{self.host or '*'}{self.path.rstrip('*')}{suffix}{extra}"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What the table reads of a request. `headers` have names in lower case."""

    host: str
    path: str
    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """A match, and the backends between which requests are divided by weight."""

    match: HttpMatch
    backends: tuple[HttpBackend, ...]


@dataclass(frozen=True, slots=True)
class HttpTable:
    """The routes of one load balancer, in the order of their precedence.

    With `host_first`, as the API of Ingress says, the most specific host that matches decides alone which routes are
    looked at. Without it, as for HTTPRoutes, a request that no route of that host matches may match another's.
    `default` are the backends for requests that no route matches.
    """

    routes: tuple[HttpRoute, ...]
    host_first: bool = True
    default: tuple[HttpBackend, ...] = ()

    def find(self, request: HttpRequest) -> HttpRoute | None:
        """The route of a request; None if no route matches."""
        routes = self.routes
        if self.host_first:
            host = next((one.match.host for one in routes if one.match.matches_host(request.host)), "")
            routes = tuple(one for one in routes if one.match.host == host)
        found = next((one for one in routes if one.match.matches(request)), None)
        return found or (HttpRoute(HttpMatch(), self.default) if self.default else None)


def ordered(
    routes: Iterable[HttpRoute], *, host_first: bool = True, default: tuple[HttpBackend, ...] = ()
) -> HttpTable:
    """The table of these routes. Routes whose matches are equally specific keep the order in which they are given."""
    return HttpTable(tuple(sorted(routes, key=lambda one: one.match.precedence)), host_first, default)


def to_json(table: HttpTable) -> str:
    """The table as JSON text; `from_json` reads it."""
    routes = []
    for one in table.routes:
        match = one.match
        fields: dict[str, Any] = {"host": match.host, "path": match.path, "type": match.path_type}
        fields |= {"method": match.method} if match.method else {}
        fields |= {"headers": dict(match.headers)} if match.headers else {}
        fields |= {"query": dict(match.query)} if match.query else {}
        fields |= {"any_labels": True} if match.any_labels else {}
        routes.append(fields | {"backends": _backend_list(one.backends)})
    whole = {"host_first": table.host_first, "routes": routes, "default": _backend_list(table.default)}
    return json.dumps(whole, separators=(",", ":"))


def from_json(text: str) -> HttpTable:
    """The table that `to_json` wrote. Raises ValueError, KeyError or TypeError for any other text."""
    fields = json.loads(text)
    routes = tuple(
        HttpRoute(
            HttpMatch(
                one["host"],
                one["path"],
                one["type"],
                one.get("method", ""),
                tuple(one.get("headers", {}).items()),
                tuple(one.get("query", {}).items()),
                one.get("any_labels", False),
            ),
            _backends(one["backends"]),
        )
        for one in fields["routes"]
    )
    return HttpTable(routes, fields["host_first"], _backends(fields["default"]))


def _backend_list(backends: Iterable[HttpBackend]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "targets": list(one.targets), "weight": one.weight, "status": one.status} for one in backends
    ]


def _backends(items: Iterable[Mapping[str, Any]]) -> tuple[HttpBackend, ...]:
    return tuple(HttpBackend(one["name"], tuple(one["targets"]), one["weight"], one["status"]) for one in items)


def request_of(method: str, target: str, headers: Iterable[tuple[str, str]]) -> HttpRequest:
    """What the table reads of a request, from its request line and its header fields. Of several fields or query
    parameters with one name the first counts."""
    fields: dict[str, str] = {}
    for name, value in headers:
        fields.setdefault(name.lower(), value)
    path, _, text = target.partition("?")
    query: dict[str, str] = {}
    for item in text.split("&") if text else ():
        name, _, value = item.partition("=")
        query.setdefault(name, value)
    return HttpRequest(host_name(fields.get("host", "")), path, method, fields, query)


def host_name(host: str) -> str:
    """The name in a Host header: in lower case, without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower().rstrip(".")


@dataclass(frozen=True, slots=True)
class HttpLoadBalancer:
    """The load balancer of one Ingress or Gateway: its tables by port, and its address if its author wrote one."""

    kind: Literal["Ingress", "Gateway"]
    namespace: str
    name: str
    mode: Literal["instance", "ip"]
    address: str
    tables: tuple[tuple[int, HttpTable], ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def backends(self) -> tuple[HttpBackend, ...]:
        """The backends of all its routes."""
        routes = (one.backends for _, table in self.tables for one in table.routes)
        defaults = (table.default for _, table in self.tables)
        return tuple(dict.fromkeys(one for some in (*routes, *defaults) for one in some))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names in its tables, without wildcards."""
        names = (route.match.host for _, table in self.tables for route in table.routes)
        return tuple(dict.fromkeys(name for name in names if name and not name.startswith("*.")))
