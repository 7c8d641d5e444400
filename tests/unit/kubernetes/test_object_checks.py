"""What is wrong with API objects together, or strange about them: each with the field, and a hint."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from labctl.errors import ScenarioError
from labctl.kubernetes.api.api_objects import Cluster, EndpointSlice, Service, ServicePort
from labctl.kubernetes.api.cluster_policy_objects import ClusterPolicy
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.policy_objects import (
    ContainerPort,
    Namespace,
    NetworkPolicy,
    Peer,
    Pod,
    PolicyPort,
    PolicyRule,
)
from labctl.kubernetes.api.selectors import Selector
from labctl.kubernetes.validation.object_checks import problems
from labctl.scenario.definition import parse_and_compile

PODS = (
    Pod("default", "a", labels={"app": "web"}, ports=(ContainerPort("http", 80), ContainerPort("dns", 53, "UDP"))),
    Pod("default", "b", labels={"app": "web"}, ports=(ContainerPort("http", 80),)),
    Pod("shop", "c", labels={"app": "db"}),
)
NAMESPACES = {"default": Namespace("default"), "shop": Namespace("shop", {"team": "red"})}
WEB = {"app": "web"}


def found(declared: Declared) -> list[tuple[str, str, str]]:
    """Each problem as its severity with the object and the field, what is wrong, and the hint."""
    state = ClusterState(Cluster((), declared.services), PODS, NAMESPACES, service_cidrs=(ip_network("10.96.0.0/16"),))
    return [
        (f"{'warning' if one.warning else 'error'} {one.name}: {'.'.join(map(str, one.path))}", one.what, one.hint)
        for one in problems(declared, state)
    ]


def service(name: str = "web", **more: Any) -> Service:
    return Service("default", name, **{"ports": (ServicePort(80),), "selector": WEB, **more})


def of_services(*services: Service) -> list[tuple[str, str, str]]:
    return found(Declared(services=services))


def test_good_objects_have_no_problems() -> None:
    ports = (ServicePort(80, "TCP", "http", "http", 30080), ServicePort(53, "UDP", "dns", 53, 30080))
    fine = service("all", type="NodePort", ports=ports, cluster_ips=(ip_address("10.96.0.10"),))

    assert of_services(fine, service("other")) == []
    assert found(Declared(policies=(policy(ingress=(rule(Peer(Selector()), port="http"),)),))) == []
    assert found(Declared(policies=(NetworkPolicy("shop", "all"),))) == []


NODE_PORT = {"type": "NodePort", "ports": (ServicePort(80, node_port=30080),)}
WITHOUT = "without nodePort, labctl chooses one"


@pytest.mark.parametrize(
    ("services", "problem"),
    [
        (
            (service("one", **NODE_PORT), service("two", **NODE_PORT)),
            ("error two: spec.ports.0.nodePort", "the nodePort 30080 is already that of default/one", WITHOUT),
        ),
        (
            (
                service(
                    type="NodePort",
                    ports=(ServicePort(80, "TCP", "a", 80, 30080), ServicePort(81, "TCP", "b", 81, 30080)),
                ),
            ),
            ("error web: spec.ports.1.nodePort", "the nodePort 30080 (TCP) appears twice", WITHOUT),
        ),
        (
            (service(type="NodePort", ports=(ServicePort(80, node_port=80),)),),
            ("error web: spec.ports.0.nodePort", "80 is not a nodePort", "from 30000 up to 32767"),
        ),
        (
            (service(ports=(ServicePort(80, node_port=30080),)),),
            (
                "error web: spec.ports.0.nodePort",
                "a Service of the type ClusterIP has no nodePort",
                "write type: NodePort",
            ),
        ),
        (
            (
                service("one", cluster_ips=(ip_address("10.96.0.9"),)),
                service("two", cluster_ips=(ip_address("10.96.0.9"),)),
            ),
            (
                "error two: spec.clusterIP",
                "the cluster IP 10.96.0.9 is already that of default/one",
                "without clusterIP, labctl chooses one",
            ),
        ),
        (
            (service(cluster_ips=(ip_address("10.0.0.9"),)),),
            (
                "error web: spec.clusterIP",
                "the cluster IP 10.0.0.9 is outside of the range of Services, 10.96.0.0/16",
                "without clusterIP, labctl chooses one; the key service_cidr is another range",
            ),
        ),
        (
            (service(ports=(ServicePort(80, name="a"), ServicePort(80, name="b"))),),
            (
                "error web: spec.ports.1.port",
                "duplicate port 80 (TCP)",
                "each port of a Service is another number or protocol",
            ),
        ),
        (
            (service(ports=(ServicePort(80, name="a"), ServicePort(81))),),
            ("error web: spec.ports.1", "a Service with several ports needs a name for each", "such as name: http"),
        ),
        (
            (service(ports=(ServicePort(80, name="a"), ServicePort(81, name="a"))),),
            ("error web: spec.ports.1.name", "two ports have the name 'a'", ""),
        ),
        (
            (service(type="NodePort", headless=True),),
            ("error web: spec.clusterIP", "a headless Service cannot have the type NodePort", ""),
        ),
        (
            (service(external_ips=(ip_address("127.0.0.1"),)),),
            ("error web: spec.externalIPs.0", "127.0.0.1 cannot be an external IP", ""),
        ),
        (
            (service(external_policy="Local"),),
            (
                "error web: spec.externalTrafficPolicy",
                "only Services of the types NodePort and LoadBalancer, or with externalIPs, have it",
                "",
            ),
        ),
        (
            (service(source_ranges=(ip_network("10.0.0.0/8"),)),),
            ("error web: spec.loadBalancerSourceRanges", "only a Service of the type LoadBalancer has them", ""),
        ),
        (
            (service(type="LoadBalancer", health_check_node_port=30000),),
            (
                "error web: spec.healthCheckNodePort",
                "only a LoadBalancer with externalTrafficPolicy: Local has health checks",
                "",
            ),
        ),
        (
            (service(selector={"app": "wbe"}),),
            ("warning web: spec.selector", "no pod has the labels app=wbe", "did you mean app=web?"),
        ),
        (
            (service(selector={"app": "db"}),),
            (
                "warning web: spec.selector",
                "no pod has the labels app=db",
                "pods of the namespace shop have these labels, but only those of default are meant",
            ),
        ),
        (
            (dataclasses.replace(service(), namespace="empty"),),
            (
                "warning web: spec.selector",
                "no pod has the labels app=web",
                "pods of the namespace default have these labels, but only those of empty are meant",
            ),
        ),
        (
            (service(selector={}),),
            ("warning web: spec", "no endpoints: the Service has no selector, and no EndpointSlice belongs to it", ""),
        ),
        (
            (service(ports=(ServicePort(80, target_port="htp"),)),),
            (
                "warning web: spec.ports.0.targetPort",
                "no selected pod has a port with the name 'htp'",
                "did you mean http?",
            ),
        ),
        (
            (service(ports=(ServicePort(53, "UDP", target_port="dns"),)),),
            (
                "warning web: spec.ports.0.targetPort",
                "the pod b does not have a port with the name 'dns'",
                "it gets no connections to this port",
            ),
        ),
        (
            (service(ports=(ServicePort(53, target_port="dns"),)),),
            (
                "warning web: spec.ports.0.targetPort",
                "no selected pod has a port with the name 'dns'",
                "dns is a port of UDP, this one is of TCP",
            ),
        ),
        (
            (service("a"),),
            (
                "warning a: metadata.name",
                "'a' is also a machine: in checks, traces and /etc/hosts this name means the machine",
                "the name of the Service is a.default",
            ),
        ),
        (
            (service(type="ExternalName", selector={}),),
            (
                "warning web: spec.type",
                "a Service of the type ExternalName is an alias in DNS: no packet uses it in a lab",
                "",
            ),
        ),
    ],
)
def test_a_service_is_refused_or_warned_of(services: tuple[Service, ...], problem: tuple[str, str, str]) -> None:
    assert of_services(*services) == [problem]


def test_a_slice_of_a_service_that_does_not_exist_is_warned_of() -> None:
    slices = (EndpointSlice("default", "web-1", "wbe", 4), EndpointSlice("default", "web-2", "web", 4))

    assert found(Declared(services=(service(selector={}),), slices=slices)) == [
        (
            "warning web-1: metadata.labels",
            "there is no Service wbe in the namespace default",
            "did you mean web?",
        )
    ]


def policy(**more: Any) -> NetworkPolicy:
    return NetworkPolicy("default", "p", **{"pods": Selector((("app", "web"),)), **more})


def rule(*peers: Peer, port: int | str | None = None) -> PolicyRule:
    return PolicyRule(peers, () if port is None else (PolicyPort("TCP", port),))


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (
            policy(pods=Selector((("app", "wb"),))),
            ("warning p: spec.podSelector", "the policy selects no pod", "did you mean app=web?"),
        ),
        (
            policy(ingress=(rule(port="htpp"),)),
            (
                "warning p: spec.ingress.0.ports.0.port",
                "no pod that is meant has a port with the name 'htpp'",
                "did you mean http?",
            ),
        ),
        (
            policy(types=("Egress",), egress=(rule(Peer(Selector((("app", "web"),))), port="dns"),)),
            (
                "warning p: spec.egress.0.ports.0.port",
                "no pod that is meant has a port with the name 'dns'",
                "dns is a port of UDP, this one is of TCP",
            ),
        ),
        (
            policy(ingress=(rule(Peer(Selector((("app", "db"),)))),)),
            (
                "warning p: spec.ingress.0.from.0",
                "the peer selects no pod",
                "pods of the namespace shop have these labels, but only those of default are meant",
            ),
        ),
        (
            policy(ingress=(rule(Peer(None, Selector((("team", "rad"),)))),)),
            (
                "warning p: spec.ingress.0.from.0",
                "the peer selects no namespace that the lab has",
                "did you mean team=red?",
            ),
        ),
        (
            policy(egress=(rule(),)),
            ("warning p: spec.egress", "policyTypes does not have Egress, so these rules do nothing", ""),
        ),
    ],
)
def test_a_policy_that_means_no_pod_or_port_is_warned_of(one: NetworkPolicy, problem: tuple[str, str, str]) -> None:
    assert found(Declared(policies=(one,))) == [problem]


def test_cluster_policies_are_warned_of() -> None:
    nowhere = ClusterPolicy("nowhere", "Admin", 2, Selector((("team", "blue"),)))
    policies = (
        ClusterPolicy("one", "Admin", 1),
        ClusterPolicy("two", "Admin", 1),
        ClusterPolicy("three", "Baseline", 1),
    )

    assert found(Declared(cluster_policies=(*policies, nowhere))) == [
        (
            "warning two: spec.priority",
            "one has the same priority in the tier Admin: which of the two decides is not defined",
            "choose another priority",
        ),
        ("warning nowhere: spec.subject", "the policy selects no pod", ""),
    ]


def test_two_services_with_one_address_outside() -> None:
    ip = ip_address("203.0.113.9")
    balancer = service("one", type="LoadBalancer", wanted_ip=ip)

    assert of_services(balancer, service("two", external_ips=(ip,)), service("fine", wanted_ip=ip)) == [
        (
            "warning two: spec",
            "203.0.113.9 port 80 (TCP) is also an address of default/one: only one gets packets",
            "choose another address or port",
        )
    ]


def test_pods_without_an_address_of_the_family_of_a_service_are_no_endpoints() -> None:
    pods = tuple(dataclasses.replace(one, ips=(ip_address("10.244.0.2"),)) for one in PODS)
    declared = Declared(services=(service(),))
    states = [
        ClusterState(Cluster((), declared.services), pods, NAMESPACES, service_cidrs=(ip_network(cidr),))
        for cidr in ("fd00::/112", "10.96.0.0/16")
    ]

    assert [[one.what for one in problems(declared, state)] for state in states] == [
        ["no endpoints: the Service has IPv6 addresses only, and its pods have none"],
        [],
    ]


def test_two_ports_that_are_the_same_are_one_mistake() -> None:
    """In the short form `ports: [80, 80]` both get the name 80-80, which the author has not written."""
    ports = (ServicePort(80, name="80-80"), ServicePort(80, name="80-80"))

    assert [what for _, what, _ in of_services(service(ports=ports))] == ["duplicate port 80 (TCP)"]


LB_TEXT = """
model: kubenet
nodes: {node1: {pods: {a: {labels: {app: web}, containers: ['web:80']}}}}
services:
  web: {selector: {app: web}, ports: 80, %s}
"""


@pytest.mark.parametrize(
    ("ip", "owner"), [("10.224.0.4", "node1"), ("10.244.0.2", "a"), ("10.225.0.4", "vm"), ("203.0.113.1", "internet")]
)
def test_a_load_balancer_has_no_address_of_a_machine(ip: str, owner: str) -> None:
    text = LB_TEXT % f"type: LoadBalancer, loadBalancerIP: {ip}"
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(text, "t.yaml")

    (problem,) = caught.value.problems
    what = f"Service web: spec.loadBalancerIP: the load balancer would have {ip}, the address of {owner}"
    assert problem.what == what
    assert ("externalIPs can have the address of a node" in problem.hint) == (owner == "node1")
    assert text.split("\n")[problem.line - 1][problem.column - 1 :].startswith(ip)


def test_a_load_balancer_in_a_status_has_no_address_of_a_node() -> None:
    """Load balancers that run on the nodes themselves give their Services such addresses."""
    manifest = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 10.224.0.4}]}}
"""
    text = LB_TEXT.partition("services:")[0] + "manifests: s.yaml\n"
    with pytest.raises(ScenarioError, match=r"s\.yaml:6:\d+: .*10\.224\.0\.4, the address of node1"):
        parse_and_compile(text, "t.yaml", files={"s.yaml": manifest})


@pytest.mark.parametrize(
    "fields", ["type: LoadBalancer, loadBalancerIP: 203.0.113.77", "externalIPs: [10.224.0.4, 192.0.2.9]"]
)
def test_addresses_of_nodes_are_usual_external_ips_and_others_are_free(fields: str) -> None:
    assert parse_and_compile(LB_TEXT % fields, "t.yaml")[1].warnings == ()


def test_an_external_ip_of_another_machine_takes_its_packets() -> None:
    """The API server accepts it, and kube-proxy does what it says."""
    (warning,) = parse_and_compile(LB_TEXT % "externalIPs: [10.224.0.4, 10.225.0.4]", "t.yaml")[1].warnings

    assert warning.startswith("t.yaml:5:")
    assert "10.225.0.4 is the address of vm: from nodes and pods, its ports lead to this Service instead" in warning
