"""With which source a policy engine judges a connection to a Service: the client's, or that of a node in between."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from labctl.core.plan_paths import PlanPaths
from labctl.core.resources import Address, Interface, NextHop, Plan, Route, Rule
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.api_objects import Node
from labctl.kubernetes.policies.policy_question import PolicyAnswer, answer
from labctl.kubernetes.services.node_sources import masquerade_address, own_address
from labctl.report import policy_why as why_text
from labctl.scenario.definition import parse_and_compile

TEXT = """
name: ways
model: flannel
nodes:
  node1: {pods: {a: {labels: {app: web}, containers: ['web:80']}, b: {}}}
  node2: {pods: {c: {labels: {app: web}, containers: ['web:80']}}}
  node3:
services:
  web: {selector: {app: web}, ports: ['80'], type: NodePort}
policies:
  only-vm: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.168.0.253/32}}]}]}
"""
Ways = list[tuple[str, bool, list[str]]]


def lab(text: str = TEXT) -> Lab:
    return parse_and_compile(text, "lab.yaml")[1]


def ask(text: str, source: str, target: str = "web.default") -> PolicyAnswer:
    compiled = lab(text)
    return answer(compiled, compiled.kubernetes, source, target, "TCP", 80)


def ways(found: PolicyAnswer) -> Ways:
    """The target, whether it is allowed, and the ways, of each explanation."""
    return [(one.target.name, one.verdict.allowed, list(map(str, one.ways))) for one in found.explanations]  # type: ignore[union-attr]


def test_a_node_in_between_gives_the_connection_its_own_address() -> None:
    """The address is that of flannel's tunnel: the node's own is not on the way to the pods of another node."""
    found = ask(TEXT, "vm")

    assert ways(found) == [
        ("a", True, ["node1"]),
        ("a", False, ["node2 (seen as 10.244.2.0)", "node3 (seen as 10.244.3.0)"]),
        ("c", False, ["node1 (seen as 10.244.1.0)", "node3 (seen as 10.244.3.0)"]),
        ("c", True, ["node2"]),
    ]
    text = "\n".join(why_text.lines(found))
    assert "web, TCP 80: partly allowed" in text
    assert "backend a at TCP 80 by way of node2 (seen as 10.244.2.0), node3 (seen as 10.244.3.0): denied" in text
    assert "no rule allows TCP 80 from 10.244.2.0" in text


def test_with_the_traffic_policy_local_the_source_stays() -> None:
    found = ask(TEXT.replace("type: NodePort", "type: NodePort, externalTrafficPolicy: Local"), "vm")

    assert ways(found) == [("a", True, ["node1"]), ("c", True, ["node2"])]
    assert "own address" not in "\n".join(found.notes)


def test_a_node_asks_its_own_kube_proxy() -> None:
    assert ways(ask(TEXT, "node1")) == [("a", True, ["node1"]), ("c", False, ["node1 (seen as 10.244.1.0)"])]


@pytest.mark.parametrize(
    ("more", "remote"), [("", "node1"), ("kube_proxy: {iptables: {masqueradeAll: true}}", "node1 (seen as 10.244.1.0)")]
)
def test_a_pod_keeps_its_address_unless_everything_is_masqueraded(more: str, remote: str) -> None:
    found = ask(TEXT + more, "b")

    assert ways(found) == [("a", False, ["node1"]), ("c", False, [remote])]
    words = "\n".join(why_text.lines(found))
    assert ("by way of" in words) == bool(more)


NODE = Node("n", internal_ips=(ip_address("203.0.113.1"),))
DEFAULT = ip_network("0.0.0.0/0")
TO_TUNNEL = ip_network("10.9.0.0/16")


def plan(*items: Any) -> Plan:
    return Plan(
        (
            Address(Interface("n", "eth0"), ip_interface("192.0.2.1/24")),
            Address(Interface("n", "eth0"), ip_interface("198.51.100.1/24")),
            Address(Interface("other", "eth1"), ip_interface("10.9.0.1/24")),
            Route("n", DEFAULT, ip_address("198.51.100.9"), "eth0"),
            *items,
        )
    )


@pytest.mark.parametrize(
    ("items", "target", "address"),
    [
        ([], "192.0.2.7", "192.0.2.1"),
        ([], "10.9.0.7", "198.51.100.1"),  # the next hop is in the range of the second address
        ([Route("n", TO_TUNNEL, dev="tun0")], "10.9.0.7", "203.0.113.1"),  # it has no address
        ([Route("n", TO_TUNNEL, dev="tun0", table=9)], "10.9.0.7", "198.51.100.1"),
        ([Route("n", TO_TUNNEL, dev="tun0", table=9), Rule("n", 9, 9, iif="eth0")], "10.9.0.7", "203.0.113.1"),
        ([Route("n", TO_TUNNEL, dev="tun0", table=9), Rule("n", 9, 9, iif="lo")], "10.9.0.7", "198.51.100.1"),
        ([Route("n", TO_TUNNEL, nexthops=(NextHop(ip_address("192.0.2.8"), "eth0"),))], "10.9.0.7", "192.0.2.1"),
    ],
)
def test_masquerade_takes_an_address_of_the_device_on_the_way(items: list[Any], target: str, address: str) -> None:
    found = masquerade_address(PlanPaths(plan(*items)), NODE, ip_address("8.8.8.8"), ip_address(target))

    assert str(found) == address


def test_a_node_itself_prefers_the_source_of_the_route() -> None:
    route = Route("n", TO_TUNNEL, ip_address("192.0.2.8"), "eth0", src=ip_address("192.0.2.77"))
    paths = PlanPaths(plan(route))

    assert str(own_address(paths, NODE, ip_address("10.9.0.7"))) == "192.0.2.77"
    assert str(own_address(paths, NODE, ip_address("8.8.8.8"))) == "198.51.100.1"
    assert str(masquerade_address(paths, NODE, ip_address("8.8.8.8"), ip_address("10.9.0.7"))) == "192.0.2.1"


def test_a_node_is_judged_by_the_address_from_which_it_sends_to_a_pod() -> None:
    """In flannel that is the address of its tunnel. An address that is written as such is meant as it is."""
    text = TEXT.replace("192.168.0.253/32", "10.244.1.0/32")

    assert ask(text, "node1", "c").allowed
    assert ask(text, "node1", "c").notes == ("node1 sends to c from 10.244.1.0: policies see that source",)
    assert ask(text, "node2", "a").allowed is False
    assert ask(text, "192.168.0.1", "c").allowed is False
    assert ask(text, "node2", "c").explanations[0].verdict.exempt
    assert ask(TEXT.replace("flannel", "kubenet"), "node1", "c").notes == ()
