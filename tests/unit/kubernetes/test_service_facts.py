"""What a trace and a person learn about the address of a Service."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.kubernetes.services.service_facts import service_fact
from tests.support.kubernetes_labs import lab_with, service

STATE = lab_with(
    [
        service(clusterIP="10.0.0.10", externalIPs=["198.51.100.7"]),
        service("none", clusterIP="10.0.0.11", selector={"app": "nothing"}),
        service("hand", clusterIP="10.0.0.12", selector=None),
        service("local", clusterIP="10.0.0.13", type="NodePort", externalTrafficPolicy="Local",
                ports=[{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}]),
        service("unnamed", clusterIP="10.0.0.14", ports=[{"port": 80, "targetPort": "nope"}]),
        service("near", clusterIP="10.0.0.15", internalTrafficPolicy="Local"),
        service("six", clusterIP="fd00::5"),
    ]
).kubernetes  # fmt: skip


@pytest.mark.parametrize(
    ("ip", "protocol", "port", "fact"),
    [
        ("10.0.0.10", "tcp", 80,
         "10.0.0.10:80 is the cluster IP of Service default/web, which leads to a:8080, c:8080"),
        ("198.51.100.7", "tcp", 80,
         "198.51.100.7:80 is an external address of Service default/web, which leads to a:8080, c:8080"),
        ("10.0.0.10", "tcp", 81,
         "10.0.0.10 is the cluster IP of Service default/web, which has no port TCP 81: it has TCP 80"),
        ("10.0.0.10", "udp", 80,
         "10.0.0.10 is the cluster IP of Service default/web, which has no port UDP 80: it has TCP 80"),
        ("10.0.0.10", "icmp", None,
         "10.0.0.10 is the cluster IP of Service default/web: kube-proxy translates only its ports, so nothing answers"
         " a ping"),
        ("10.0.0.11", "tcp", 80,
         "10.0.0.11:80 is the cluster IP of Service default/none, which has no endpoints: no ready pod has the labels"
         " app=nothing"),
        ("10.0.0.12", "tcp", 80,
         "10.0.0.12:80 is the cluster IP of Service default/hand, which has no endpoints and no selector"),
        ("10.224.0.4", "tcp", 30080,
         "TCP 30080 is the nodePort of Service default/local:http, which leads to a:8080, c:8080; with"
         " externalTrafficPolicy Local, a node leads only to its own"),
        ("10.0.0.14", "tcp", 80,
         "10.0.0.14:80 is the cluster IP of Service default/unnamed, which has no endpoints: no pod with the labels"
         " app=web has a TCP port named nope"),
        ("10.0.0.15", "tcp", 80,
         "10.0.0.15:80 is the cluster IP of Service default/near, which leads to a:8080, c:8080; with"
         " internalTrafficPolicy Local, a node leads only to its own"),
        ("fd00::5", "tcp", 80,
         "fd00::5:80 is the cluster IP of Service default/six, which has no endpoints: no pod with the labels app=web"
         " has an IPv6 address"),
        ("10.0.9.9", "tcp", 80, "10.0.9.9 is in the range of cluster IPs, but no Service has it"),
        ("10.224.0.4", "tcp", 22, ""),
        ("10.224.0.4", "icmp", None, ""),
        ("10.244.0.2", "tcp", 80, ""),
    ],
)  # fmt: skip
def test_the_fact_about_an_address(ip: str, protocol: str, port: int | None, fact: str) -> None:
    assert service_fact(STATE, ip_address(ip), protocol, port) == fact
