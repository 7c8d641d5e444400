"""Services of a dual-stack cluster by packets, in both address families.

No Kubernetes model has IPv6 yet. So the node and its pods are a raw lab, and the test gives its cluster to the
components.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Literal

import pytest

from labctl.checks import runner
from labctl.core.scenario_types import Check, Lab
from labctl.kubernetes.api.api_objects import Cluster, Endpoint, EndpointPort, EndpointSlice, Node, Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.composition import merge
from labctl.kubernetes.services.backends import backend_processes
from labctl.kubernetes.services.kube_proxy_nodes import kube_proxy
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text

pytestmark = pytest.mark.firewall

TEXT = """
name: dual
model: raw
namespaces: {node1: {role: node}, a: {role: pod, on: node1}, b: {role: pod, on: node1}, vm: {role: vm}}
links: [{veth: [node1/a, a/eth0]}, {veth: [node1/b, b/eth0]}, {veth: [node1/eth0, vm/eth0]}]
addresses:
  node1/a: [10.244.1.1/24, "fd00:10:1::1/64"]
  node1/b: [10.244.2.1/24, "fd00:10:2::1/64"]
  node1/eth0: [192.0.2.1/24, "2001:db8::1/64"]
  a/eth0: [10.244.1.2/24, "fd00:10:1::2/64"]
  b/eth0: [10.244.2.2/24, "fd00:10:2::2/64"]
  vm/eth0: [192.0.2.2/24, "2001:db8::2/64"]
routes:
  a: [default via 10.244.1.1, "default via fd00:10:1::1"]
  b: [default via 10.244.2.1, "default via fd00:10:2::1"]
  node1: [default via 192.0.2.2, "default via 2001:db8::2"]
  vm: [default via 192.0.2.1, "default via 2001:db8::1"]
sysctls: {node1: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}}
"""
Family = Literal[4, 6]
IPS: dict[Family, dict[str, str]] = {
    4: {"a": "10.244.1.2", "b": "10.244.2.2", "node1": "192.0.2.1", "vm": "192.0.2.2", "web": "10.96.0.10",
        "empty": "10.96.0.11", "to a": "10.244.1.1", "to b": "10.244.2.1"},
    6: {"a": "fd00:10:1::2", "b": "fd00:10:2::2", "node1": "2001:db8::1", "vm": "2001:db8::2", "web": "fd00:96::10",
        "empty": "fd00:96::11", "to a": "fd00:10:1::1", "to b": "fd00:10:2::1"},
}  # fmt: skip
FAMILIES: tuple[Family, ...] = (4, 6)
PORTS = (ServicePort(80, name="http", target_port=8080, node_port=30080), ServicePort(53, "UDP", "dns", 5353, 30053))
TARGETS = (EndpointPort("http", 8080), EndpointPort("dns", 5353, "UDP"))
BOTH = (("a", 1), ("b", 1))


def _service(name: str, **more: object) -> Service:
    ips = tuple(ip_address(IPS[family][name]) for family in FAMILIES)
    return Service("default", name, "NodePort", ips, **more)  # type: ignore[arg-type]


STATE = ClusterState(
    Cluster(
        (Node("node1", internal_ips=tuple(ip_address(IPS[family]["node1"]) for family in FAMILIES)),),
        (_service("web", ports=PORTS), _service("empty", ports=(ServicePort(80, node_port=30081),))),
        tuple(
            EndpointSlice(
                "default", f"web-{family}", "web", family,
                tuple(Endpoint(ip_address(IPS[family][pod]), "node1") for pod, _ in BOTH), TARGETS,
            )
            for family in FAMILIES
        ),
    ),
    tuple(
        Pod("default", pod, tuple(ip_address(IPS[family][pod]) for family in FAMILIES), node="node1", machine=pod)
        for pod, _ in BOTH
    ),
    cluster_cidrs=(ip_network("10.244.0.0/16"), ip_network("fd00:10::/32")),
)  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    found = define_text("dual.yaml", TEXT)
    compiled = found.compiled
    plan = merge(compiled.plan, [*kube_proxy(STATE, compiled.plan), *backend_processes(STATE, compiled)])
    yield lifecycle.up(replace(found, lab=replace(compiled, plan=plan))).lab
    lifecycle.down("dual")


def _seen(lab: Lab, check: Check) -> set[tuple[str, str]]:
    """Which machines answered, and which clients they saw."""
    (outcome,) = runner.run(replace(lab, checks=(check,))).outcomes
    assert outcome.verdict == "pass", "\n".join(outcome.evidence)
    return {(one.machine, str(one.client)) for one in outcome.answers}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("port", "protocol"), [(80, "tcp"), (53, "udp")])
def test_a_pod_reaches_a_cluster_ip(lab: Lab, family: Family, port: int, protocol: Literal["tcp", "udp"]) -> None:
    """Without translation of its source; but with it where the pod reaches itself."""
    ips = IPS[family]
    check = Check("", "balance", "a", ips["web"], port, protocol=protocol, answered_by=BOTH)

    assert _seen(lab, check) == {("a", ips["to a"]), ("b", ips["a"])}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("target", "port"), [("web", 80), ("node1", 30080)])
def test_a_client_outside_of_the_cluster_is_masqueraded(lab: Lab, family: Family, target: str, port: int) -> None:
    ips = IPS[family]
    check = Check("", "balance", "vm", ips[target], port, answered_by=BOTH)

    assert _seen(lab, check) == {("a", ips["to a"]), ("b", ips["to b"])}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("source", "target", "port"), [("a", "empty", 80), ("vm", "node1", 30081)])
def test_a_service_without_endpoints_refuses(lab: Lab, family: Family, source: str, target: str, port: int) -> None:
    check = Check("", "tcp", source, IPS[family][target], port, expect="refused", listen=False)

    (outcome,) = runner.run(replace(lab, checks=(check,))).outcomes
    assert outcome.verdict == "pass", "\n".join(outcome.evidence)
