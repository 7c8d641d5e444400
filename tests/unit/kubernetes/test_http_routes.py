"""The routing table of HTTP load balancers: the examples of the specifications, and properties of all tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kubernetes.api.http_routes import (
    HttpBackend,
    HttpMatch,
    HttpRequest,
    HttpRoute,
    HttpTable,
    from_json,
    host_name,
    ordered,
    request_of,
    to_json,
)


def request(host: str, path: str, method: str = "GET", **headers: str) -> HttpRequest:
    return request_of(method, path, (("Host", host), *headers.items()))


# the table of the page on Ingress, kubernetes.io/docs/concepts/services-networking/ingress
@pytest.mark.parametrize(
    ("kind", "path", "asked", "matches"),
    [
        ("Prefix", "/", "/anything", True),
        ("Exact", "/foo", "/foo", True),
        ("Exact", "/foo", "/bar", False),
        ("Exact", "/foo", "/foo/", False),
        ("Exact", "/foo/", "/foo", False),
        ("Prefix", "/foo", "/foo", True),
        ("Prefix", "/foo", "/foo/", True),
        ("Prefix", "/foo/", "/foo", True),
        ("Prefix", "/aaa/bb", "/aaa/bbb", False),
        ("Prefix", "/aaa/bbb", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb/", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", False),
        ("Prefix", "/foo", "/FOO", False),
    ],
)
def test_paths_match_by_whole_elements(kind: str, path: str, asked: str, matches: bool) -> None:
    assert HttpMatch("", path, kind).matches(request("a.example", asked)) == matches  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "host", "ingress", "gateway"),
    [
        ("*.foo.com", "bar.foo.com", True, True),
        ("*.foo.com", "baz.bar.foo.com", False, True),  # the wildcard of an Ingress is one label
        ("*.foo.com", "foo.com", False, False),
        ("*.foo.com", "barfoo.com", False, False),
        ("*.foo.com", ".foo.com", False, False),
        ("foo.com", "foo.com", True, True),
        ("foo.com", "bar.foo.com", False, False),
        ("", "anything", True, True),
    ],
)
def test_a_wildcard_of_an_ingress_is_one_label_and_of_a_gateway_one_or_more(
    pattern: str, host: str, ingress: bool, gateway: bool
) -> None:
    assert HttpMatch(pattern).matches_host(host) == ingress
    assert HttpMatch(pattern, any_labels=True).matches_host(host) == gateway


def table(*matches: HttpMatch, host_first: bool = True) -> HttpTable:
    return ordered(
        (HttpRoute(one, (HttpBackend(str(number)),)) for number, one in enumerate(matches)), host_first=host_first
    )


def chosen(routes: HttpTable, asked: HttpRequest) -> str | None:
    found = routes.find(asked)
    return None if found is None else found.backends[0].name


def test_the_most_specific_host_and_then_the_longest_path_are_chosen() -> None:
    routes = table(
        HttpMatch(),
        HttpMatch("*.shop.example"),
        HttpMatch("a.shop.example"),
        HttpMatch("a.shop.example", "/cart"),
        HttpMatch("a.shop.example", "/cart/items"),
        HttpMatch("a.shop.example", "/cart", "Exact"),
    )
    asked = {
        "other.example/": "0", "b.shop.example/cart": "1", "a.shop.example/": "2", "a.shop.example/cart/": "3",
        "a.shop.example/cart/items/7": "4", "a.shop.example/cart": "5", "a.shop.example/cart?x=1": "5",
    }  # fmt: skip

    assert {url: chosen(routes, request(url.split("/")[0], url[url.index("/") :])) for url in asked} == asked


def test_methods_headers_and_query_parameters_decide_between_equal_paths_of_http_routes() -> None:
    routes = table(
        HttpMatch(path="/a"),
        HttpMatch(path="/a", method="POST"),
        HttpMatch(path="/a", headers=(("x-version", "2"),)),
        HttpMatch(path="/a", headers=(("x-version", "2"), ("x-user", "me"))),
        HttpMatch(path="/a", query=(("beta", "1"),)),
        host_first=False,
    )
    both = {"X-Version": "2", "X-User": "me"}
    assert [
        chosen(routes, request("h", "/a")),
        chosen(routes, request("h", "/a", "POST", **both)),  # a method counts before headers
        chosen(routes, request("h", "/a", **{"X-Version": "2"})),
        chosen(routes, request("h", "/a", **both)),
        chosen(routes, request("h", "/a?beta=1")),
        chosen(routes, request("h", "/a?beta=1", **both)),  # headers count before query parameters
        chosen(routes, request("h", "/b")),
    ] == ["0", "1", "2", "3", "4", "3", None]


def test_only_an_ingress_stays_with_the_host_that_it_chose() -> None:
    matches = (HttpMatch("a.example", "/shop"), HttpMatch("", "/health"))
    asked = request("a.example", "/health")

    assert chosen(table(*matches), asked) is None
    assert chosen(table(*matches, host_first=False), asked) == "1"


def test_the_default_backend_gets_what_no_rule_matches() -> None:
    default = (HttpBackend("default"),)
    routes = ordered((HttpRoute(HttpMatch("a.example", "/shop"), ()),), default=default)

    assert chosen(routes, request("a.example", "/")) == "default"
    assert chosen(routes, request("b.example", "/")) == "default"


def test_of_equally_specific_routes_the_first_is_chosen() -> None:
    assert chosen(table(HttpMatch(path="/a"), HttpMatch(path="/a/")), request("h", "/a")) == "0"


@pytest.mark.parametrize(
    ("written", "name"), [("A.Example:8080", "a.example"), ("a.example.", "a.example"), ("[fd00::1]:80", "[fd00::1]")]
)
def test_the_host_is_compared_without_port_and_case(written: str, name: str) -> None:
    assert host_name(written) == name


LABELS = some.sampled_from(["a", "b"])
HOSTS = some.one_of(
    some.just(""),
    some.builds("{}.x".format, LABELS),
    some.just("*.x"),
    some.builds("*.{}.x".format, LABELS),
    some.builds("{}.{}.x".format, LABELS, LABELS),
)
PATHS = some.lists(LABELS, max_size=3).map(lambda parts: "/" + "/".join(parts))
PAIRS = some.dictionaries(some.sampled_from(["k", "l"]), some.sampled_from(["1", "2"])).map(lambda one: (*one.items(),))
MATCHES = some.builds(
    HttpMatch,
    HOSTS,
    PATHS,
    some.sampled_from(["Exact", "Prefix"]),
    some.sampled_from(["", "GET", "POST"]),
    PAIRS,
    PAIRS,
    some.booleans(),
)
REQUESTS = some.builds(
    HttpRequest,
    some.one_of(some.builds("{}.x".format, LABELS), some.builds("{}.{}.x".format, LABELS, LABELS)),
    PATHS,
    some.sampled_from(["GET", "POST"]),
    PAIRS.map(dict),
    PAIRS.map(dict),
)


@given(some.lists(MATCHES, max_size=6), REQUESTS, some.booleans())
def test_no_route_that_matches_is_more_specific_than_the_chosen_one(
    matches: list[HttpMatch], asked: HttpRequest, host_first: bool
) -> None:
    found = table(*matches, host_first=host_first).find(asked)
    fitting = [one for one in matches if one.matches(asked)]
    if host_first:
        best = min(
            (one for one in matches if one.matches_host(asked.host)), key=lambda one: one.precedence, default=None
        )
        fitting = [one for one in fitting if best is not None and one.host == best.host]

    assert (found is None) == (not fitting)
    if found is not None:
        assert found.match in fitting
        assert found.match.precedence == min(one.precedence for one in fitting)


@given(some.permutations(range(5)), some.lists(MATCHES, min_size=5, max_size=5), REQUESTS)
def test_the_order_of_differently_specific_routes_never_matters(
    order: list[int], matches: list[HttpMatch], asked: HttpRequest
) -> None:
    distinct = list({one.precedence: one for one in matches}.values())
    moved = [distinct[at] for at in order if at < len(distinct)]
    here, there = (table(*some_matches).find(asked) for some_matches in (distinct, moved))

    assert (here and here.match) == (there and there.match)


@given(some.lists(MATCHES, max_size=4), some.booleans())
def test_a_table_survives_as_json(matches: list[HttpMatch], host_first: bool) -> None:
    backends = (HttpBackend("web", ("10.0.0.1:80",), 3), HttpBackend("none", (), 0, 500))
    routes = ordered((HttpRoute(one, backends) for one in matches), host_first=host_first, default=backends[:1])

    assert from_json(to_json(routes)) == routes
