"""What a scenario says about an HTTP request, and the texts of such a check."""

from __future__ import annotations

import pytest

from labctl.core.probe_kinds import equivalent_command, http_host, probe_kind, probe_text
from labctl.core.scenario_types import Check
from labctl.core.topology import Topology
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile

LAB = "model: kubenet\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\nchecks:\n  - "


def made(text: str) -> Check:
    return parse_and_compile(f"{LAB}{{{text}}}", "t.yaml")[0].checks[0]


def test_all_keys_of_a_check() -> None:
    check = made(
        "http: 'a -> http://c:8080/cart?x=1', answered_by: [b, c], saw: [a, node1/cbr0], host: shop.example,"
        " status: 201, forwarded_for: vm, within: 2s, see: {at: c/eth0, src: a}"
    )

    assert (check.source, check.target, check.port, check.path) == ("a", "c", 8080, "/cart?x=1")
    assert (check.answered_by, check.saw) == ((("b", 1), ("c", 1)), ("a", "node1/cbr0"))
    assert (check.status, check.forwarded_for, check.host, check.within) == (201, "vm", "shop.example", 2)
    assert [(see.at.ns, see.src) for see in check.sees] == [("c", "a")]


@pytest.mark.parametrize(
    ("text", "target", "port", "path", "host"),
    [
        ("a -> c", "c", 80, "/", "c"),
        ("a -> c/", "c", 80, "/", "c"),
        ("a -> c:8080", "c", 8080, "/", "c:8080"),
        ("a -> 10.244.1.2/x/y", "10.244.1.2", 80, "/x/y", "10.244.1.2"),
        ("a -> http://vm:81/x", "vm", 81, "/x", "vm:81"),
        ("a -> [2001:db8::1]:81/x", "2001:db8::1", 81, "/x", "[2001:db8::1]:81"),
    ],
)
def test_forms_of_an_address(text: str, target: str, port: int, path: str, host: str) -> None:
    check = made(f"http: '{text}'")
    assert (check.target, check.port, check.path, http_host(check)) == (target, port, path, host)


@pytest.mark.parametrize(
    ("text", "say", "plan"),
    [
        ("http: a -> c/x", "a gets c/x", "http a -> c/x"),
        (
            "http: a -> c/x, status: 404, host: shop.example",
            "a gets status 404 for shop.example/x",
            "http a -> shop.example/x, status 404",
        ),
        (
            "http: vm -> c/x, answered_by: [b, c], saw: node1, forwarded_for: vm",
            "b or c answers vm for c/x, and sees node1 as the client, with vm in X-Forwarded-For",
            "http vm -> c/x, answered by b or c, who sees node1, forwarded for vm",
        ),
    ],
)
def test_a_check_as_text(text: str, say: str, plan: str) -> None:
    check = made(text)
    assert (check.say, probe_kind(check).plan_line(check)) == (say, plan)
    assert probe_text(check) in plan


def test_the_command_that_sends_the_same() -> None:
    check = made("http: a -> c:81/x, host: shop.example")
    address = Topology(parse_and_compile(f"{LAB}{{ping: a -> c}}", "t.yaml")[1]).addresses("c")[0]
    assert equivalent_command("labctl", check, address) == (
        "labctl exec a -- curl -si -H 'Accept: application/json' -H 'Host: shop.example' http://10.244.1.2:81/x"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http: a -> https://c/", "'https' is not http"),
        ("http: a -> c:x/", "'x' is not a whole number"),
        ("http: a:4000 -> c/", "'a:4000' is not a valid name"),
        ("http: 'a -> c/x y'", "'/x y' is not a path"),
        ("http: a -> d/", "there is no machine 'd'"),
        ("http: a -> c/, status: 99", "99"),
        ("http: a -> c/, forwarded_for: d", "there is no machine 'd'"),
        ("http: a -> c/, answered_by: d", "there is no machine 'd'"),
        ("http: a -> c/, sticky: true", "'sticky' does not apply to http"),
        ("http: a -> c/, listen: false", "'listen' does not apply to http"),
        ("http: a -> c/, expect: refused", "expect: 'refused' is not possible for http"),
        ("tcp: 'a -> c:80', status: 200", "'status' does not apply to tcp"),
    ],
)
def test_mistakes_are_named(text: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        made(text)
    assert problem in "\n".join(one.what for one in caught.value.problems)
