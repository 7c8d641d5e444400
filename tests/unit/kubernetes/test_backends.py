"""Which servers run in pods for Services, and what kube-proxy answers to health checks."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from labctl.core.resources import Process
from labctl.core.scenario_types import Lab, Machine
from labctl.kubernetes.api.api_objects import (
    Cluster,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Node,
    Service,
    ServicePort,
)
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.services.backends import backend_processes, health_checks

A, B = (ip_address(f"10.244.0.{number}") for number in (2, 3))
PODS = (Pod("default", "a", (A,), node="node1", machine="a"), Pod("default", "b", (B,), node="node2", machine="b"))
MACHINES = tuple(Machine(name, "pod" if len(name) == 1 else "node") for name in ("node1", "node2", "a", "b"))
PORTS = (EndpointPort("http", 8080), EndpointPort("dns", 53, "UDP"), EndpointPort("sctp", 9, "SCTP"))
ENDPOINTS = (Endpoint(A, "node1"), Endpoint(B, "node2", ready=False, serving=False))
WEB = Service("default", "web", cluster_ips=(ip_address("10.96.0.10"),), ports=(ServicePort(80),))
SLICE = EndpointSlice("default", "web-1", "web", 4, ENDPOINTS, PORTS)
NODES = (Node("node1"), Node("node2"))
SERVERS = ("tcp:8080", "udp:53")


def lab(*plan: Process) -> Lab:
    return Lab("lab", "kubenet", plan, MACHINES, ())


def state(service: Service = WEB, *slices: EndpointSlice) -> ClusterState:
    return ClusterState(Cluster(NODES, (service,), slices or (SLICE,)), PODS)


def test_each_endpoint_gets_a_server_also_one_that_is_not_ready() -> None:
    assert list(backend_processes(state(), lab())) == [
        Process("a", "backend", ("serve", "a", *SERVERS)),
        Process("b", "backend", ("serve", "b", *SERVERS)),
    ]


def test_no_server_where_a_container_listens_on_all_addresses() -> None:
    pause = Process("a", "pause", ("pause",), sandbox=True)
    web = Process("a", "web", ("serve", "web", "tcp:8080", "udp:127.0.0.1:53"), inside="pause")
    dns = Process("b", "backend", ("serve", "dns", *SERVERS))

    assert list(backend_processes(state(), lab(pause, web, dns))) == [
        Process("a", "backend", ("serve", "a", "udp:53"), inside="pause")
    ]
    other = Process("b", "backend", ("serve", "other"))
    assert [one.name for one in backend_processes(state(), lab(other)) if isinstance(one, Process)] == [
        "backend",
        "backend-2",
    ]


def test_a_pod_on_its_nodes_network_listens_there() -> None:
    machines = (*MACHINES[:2], replace(MACHINES[2], netns_of="node1"), MACHINES[3])

    first = next(iter(backend_processes(state(), replace(lab(), machines=machines))))
    assert first == Process("node1", "a-backend", ("serve", "a", *SERVERS))


def test_slices_of_no_service_and_addresses_of_no_pod_get_no_server() -> None:
    foreign = replace(SLICE, endpoints=(Endpoint(ip_address("192.0.2.1")),))

    assert list(backend_processes(state(WEB, replace(SLICE, service="other"), foreign), lab())) == []


def commands(service: Service, *slices: EndpointSlice) -> list[tuple[str, ...]]:
    found = list(health_checks(state(service, *slices), lab()))
    assert [(one.ns, one.name) for one in found if isinstance(one, Process)] == [
        ("node1", "kube-proxy"),
        ("node2", "kube-proxy"),
    ]
    return [one.command[1:] for one in found if isinstance(one, Process)]


def test_health_checks_count_ready_local_endpoints_once_per_address() -> None:
    balanced = replace(WEB, type="LoadBalancer", external_policy="Local", health_check_node_port=31000)

    assert commands(balanced) == [("10256", "default/web:31000:1"), ("10256", "default/web:31000:0")]
    six = EndpointSlice("default", "web-6", "web", 6, (Endpoint(ip_address("fd00::2"), "node1"),), PORTS)
    again = replace(SLICE, name="web-2", endpoints=(*ENDPOINTS, Endpoint(ip_address("10.244.0.9"), "node1")))
    assert commands(balanced, SLICE, six, again)[0] == ("10256", "default/web:31000:2")


def test_only_load_balancers_with_the_policy_local_have_a_health_check() -> None:
    for service in (
        replace(WEB, type="LoadBalancer", health_check_node_port=31000),
        replace(WEB, type="NodePort", external_policy="Local", health_check_node_port=31000),
        replace(WEB, type="LoadBalancer", external_policy="Local"),
    ):
        assert commands(service) == [("10256",), ("10256",)]
