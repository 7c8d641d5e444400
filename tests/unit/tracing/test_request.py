"""The options of a trace: what becomes the question, and the error for what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.scenario.definition import parse_and_compile
from labctl.tracing.evidence import ListenPoint, Question
from labctl.tracing.request import question_of

LAB = """
model: docker-bridge
hosts: {host1: {containers: [web, db]}}
"""


@pytest.fixture(scope="module")
def topology() -> Topology:
    return Topology(parse_and_compile(LAB, "t.yaml")[1])


def asked(topology: Topology, target: str = "host1", **options: Any) -> Question:
    given = {"icmp": False, "tcp": None, "udp": None, "size": None, "fragment": False, "sport": None, "listen": False}
    return question_of(topology, "internet", target, given | options)


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        (False, None),
        (True, ListenPoint("host1", 8080)),
        ("80", ListenPoint("host1", 80)),
        ("web:80", ListenPoint("web", 80)),
    ],
)
def test_where_labctl_listens(topology: Topology, listen: bool | str, expected: ListenPoint | None) -> None:
    assert asked(topology, tcp=8080, listen=listen).listener == expected


def test_an_address_of_no_machine_has_no_listener(topology: Topology) -> None:
    assert asked(topology, "10.96.0.10", udp=53, listen=True).listener == ListenPoint(None, 53)
    assert asked(topology, "10.96.0.10", udp=53, listen="db:53").listener == ListenPoint("db", 53)


def test_the_source_port(topology: Topology) -> None:
    assert asked(topology, udp=53).sport is None
    assert asked(topology, udp=53, sport=4000).sport == 4000
    assert asked(topology, tcp=53, sport=53).sport == 53


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"tcp": 80, "listen": "wbe:80"}, "has no machine 'wbe'", "did you mean web?"),
        ({"tcp": 80, "listen": "web"}, "--listen web is not MACHINE:PORT", "such as --listen web:80"),
        ({"tcp": 80, "listen": "web:http"}, "--listen web:http is not MACHINE:PORT", ""),
        ({"tcp": 80, "listen": ":80"}, "--listen :80 is not MACHINE:PORT", ""),
        ({"tcp": 80, "listen": "web:0"}, "listening port 0 is not between 1 and 65535", ""),
        ({"tcp": 80, "listen": "web:70000"}, "listening port 70000 is not between 1 and 65535", ""),
        ({"listen": True}, "--listen needs a port", ""),
        ({"listen": "web:80"}, "--listen needs a port", ""),
        ({"sport": 4000}, "--sport is for TCP and UDP", ""),
        ({"udp": 53, "sport": 0}, "source port 0 is not between 1 and 65535", ""),
        ({"udp": 53, "sport": 70000}, "source port 70000 is not between 1 and 65535", ""),
        ({"udp": 53, "sport": 53, "target": "internet"}, "internet cannot send from port 53 to port 53 of itself", ""),
        ({"udp": 53, "sport": 53, "target": "127.0.0.1"}, "internet cannot send from port 53 to port 53 of itself", ""),
    ],
)
def test_what_does_not_fit_is_refused(topology: Topology, options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked(topology, **options)

    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("host1/eth1", "host1 has no device 'eth1'", "did you mean eth0? its devices are lo, "),
        ("host1/", "host1 has no device ''", "its devices are lo, "),
        ("host2/eth0", "has no machine, point or address 'host2/eth0'", "did you mean host1?"),
    ],
)
def test_a_point_that_does_not_exist_is_told(topology: Topology, target: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        asked(topology, target)
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize(("target", "hint"), [("cart", "did you mean cart.shop?"), ("wbe", "did you mean web?")])
def test_the_name_of_a_service_that_does_not_exist_has_the_services_in_its_hint(target: str, hint: str) -> None:
    text = "model: kubenet\nnodes: {node1: {pods: [p]}}\nservices: {web: {ports: [80]}, shop/cart: {ports: [80]}}\n"
    cluster = Topology(parse_and_compile(text, "t.yaml")[1])

    with pytest.raises(UsageError, match=f"has no machine, point or address '{target}'") as raised:
        asked(cluster, target)
    assert (raised.value.hint or "").startswith(hint)
    assert (raised.value.hint or "").endswith("; the Services are web, cart.shop")
