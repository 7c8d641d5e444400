"""What a scenario says about balanced connections, and the texts of such a check."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.core.probe_kinds import equivalent_command, probe_kind, probe_text
from labctl.core.resources import IP
from labctl.core.scenario_types import Check
from labctl.core.topology import Topology
from labctl.render.plan_json import check_json
from labctl.scenario.definition import parse_and_compile

LAB = "model: kubenet\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\nchecks:\n  - "


def made(text: str) -> Check:
    return parse_and_compile(f"{LAB}{{{text}}}", "t.yaml")[0].checks[0]


def test_all_keys_of_a_check() -> None:
    check = made(
        "balance: 'a -> node2/eth0:80', answered_by: {b: 9, c: 1}, saw: [a, node1/cbr0, 203.0.113.1],"
        " connections: 50, sticky: true, host: shop.example, path: /cart, within: 2s"
    )

    assert (check.source, check.target, check.port, check.protocol) == ("a", "node2/eth0", 80, "tcp")
    assert (check.answered_by, check.saw) == ((("b", 9), ("c", 1)), ("a", "node1/cbr0", "203.0.113.1"))
    assert (check.connections, check.sticky, check.host, check.path) == (50, True, "shop.example", "/cart")
    assert (check.within, check.sees) == (2, ())
    assert check_json(check)["answered_by"] == [["b", 9], ["c", 1]]


@pytest.mark.parametrize(
    ("text", "protocol", "shares"),
    [
        ("balance: a -> b:80, answered_by: b", "tcp", (("b", 1),)),
        ("balance: a -> b:53/udp, answered_by: [b, c]", "udp", (("b", 1), ("c", 1))),
        ("balance: a -> b:80/tcp, answered_by: {c: 2, b: 1}", "tcp", (("c", 2), ("b", 1))),
    ],
)
def test_ports_and_shares(text: str, protocol: str, shares: tuple[tuple[str, int], ...]) -> None:
    check = made(text)
    assert (check.protocol, check.answered_by) == (protocol, shares)


@pytest.mark.parametrize(
    ("text", "say", "plan"),
    [
        (
            "balance: a -> c:80, answered_by: [b, c], saw: a",
            "connections from a to c:80 are balanced over b and c, which see a",
            "balance a -> c:80, answered by b, c, saw a",
        ),
        (
            "balance: a -> c:80, answered_by: {a: 1, b: 2, c: 1}, connections: 99",
            "connections from a to c:80 are balanced over a (1), b (2) and c (1)",
            "balance a -> c:80, answered by a, b (2), c, 99 connections",
        ),
        (
            "balance: a -> c:53/udp, answered_by: c, saw: [a, b]",
            "c answers all connections from a to c:53/udp, and sees a or b",
            "balance a -> c:53/udp, answered by c, saw a, b",
        ),
        (
            "balance: a -> c:80, answered_by: [b, c], sticky: true, host: shop.example",
            "one of b and c answers all connections from a to c:80",
            "balance a -> c:80, answered by b, c, sticky, host shop.example",
        ),
    ],
)
def test_its_sentence_and_its_line_in_a_plan(text: str, say: str, plan: str) -> None:
    check = made(text)
    assert (check.say, probe_kind(check).plan_line(check)) == (say, plan)
    assert plan.startswith(probe_text(check))


def command(text: str, target: Any = "c") -> str:
    lab = parse_and_compile(f"{LAB}{{{text}}}", "t.yaml")[1]
    address: IP = Topology(lab).addresses(target)[0]
    return equivalent_command("labctl", lab.checks[0], address)


def test_the_command_that_shows_the_same() -> None:
    tcp = command("balance: a -> c:80, answered_by: c, host: shop.example, path: /cart")
    udp = command("balance: a -> c:53/udp, answered_by: c")
    six = command("balance: 'a -> [2001:db8::1]:80', answered_by: c", "2001:db8::1")

    asks = "labctl exec a -- curl -s -H 'Accept: application/json'"
    assert tcp == f"{asks} -H 'Host: shop.example' http://10.244.1.2:80/cart"
    assert udp == "labctl trace a 10.244.1.2 --udp 53"
    assert six == f"{asks} http://[2001:db8::1]:80/who"
