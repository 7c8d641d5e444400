"""The rules that kube-proxies of several nodes share are those that each would make alone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from labctl.kubernetes.api.api_objects import Cluster, Endpoint, EndpointPort, EndpointSlice, Node, Service, ServicePort
from labctl.kubernetes.services.kube_proxy_config import Release, read_config
from labctl.kubernetes.services.kube_proxy_iptables import SharedRules, kube_proxy_chains

NODES = tuple(Node(f"node{number}", internal_ips=(ip_address(f"192.0.2.{number}"),)) for number in (1, 2, 3))
PORT = (ServicePort(80, name="http", node_port=30080),)
SERVICES = (
    Service("default", "plain", cluster_ips=(ip_address("10.0.0.10"),), ports=(ServicePort(80, name="http"),)),
    Service("default", "inside", cluster_ips=(ip_address("10.0.0.11"),), ports=PORT, internal_policy="Local"),
    Service(
        "default", "open", "LoadBalancer", (ip_address("10.0.0.12"),), PORT, external_policy="Local",
        load_balancer_ips=(ip_address("203.0.113.9"),), source_ranges=(ip_network("192.0.2.2/32"),),
    ),
    Service("default", "none", cluster_ips=(ip_address("10.0.0.13"),), ports=PORT),
)  # fmt: skip
ENDPOINTS = tuple(Endpoint(ip_address(f"10.244.0.{number}"), f"node{1 + number % 2}") for number in range(2, 6))
SLICES = tuple(
    EndpointSlice("default", f"{name}-1", name, 4, ENDPOINTS, (EndpointPort("http", 8080),))
    for name in ("plain", "inside", "open")
)
CLUSTER = Cluster(NODES, SERVICES, SLICES)


def test_a_node_gets_the_same_rules_with_and_without_the_others() -> None:
    shared = SharedRules(CLUSTER)
    for node in NODES:
        config = read_config({"clusterCIDR": "10.244.0.0/16"}, Release(1, 35), node, node.internal_ips)
        assert kube_proxy_chains(CLUSTER, config, 4, shared) == kube_proxy_chains(CLUSTER, config, 4)


def test_only_what_depends_on_no_node_is_shared() -> None:
    shared = SharedRules(CLUSTER)
    chains = []
    for node in NODES:
        config = read_config({"clusterCIDR": "10.244.0.0/16"}, Release(1, 35), node, node.internal_ips)
        chains.append(kube_proxy_chains(CLUSTER, config, 4, shared))
    first, second, third = chains
    same = {key for key in first if key in second and first[key] is second[key]}
    assert any(name.startswith("KUBE-SEP-") for _, name in same)
    assert sum(name.startswith("KUBE-SVL-") for _, name in first) == 2
    assert not any(name.startswith("KUBE-SVL-") for _, name in third)  # node3 has no endpoints
    assert not any(name.startswith("KUBE-SVL-") for _, name in same)
    firewalls = [next(rules for (_, name), rules in one.items() if name.startswith("KUBE-FW-")) for one in chains]
    assert [len(rules) for rules in firewalls] == [2, 3, 2]  # the range holds the address of node2


def test_services_share_the_chains_of_their_endpoints() -> None:
    """Without comments and affinity, the rules of an endpoint are those of every Service that has it."""
    services = [replace(SERVICES[0], name=f"s{number}") for number in range(3)]
    sticky = replace(SERVICES[0], name="sticky", affinity_timeout_s=60)
    every = (*services, sticky)
    many = tuple(Endpoint(ip_address(f"10.244.{number // 200}.{number % 200}"), "node1") for number in range(400))
    slices = [
        EndpointSlice("default", f"{one.name}-1", one.name, 4, many, (EndpointPort("http", 8080),)) for one in every
    ]
    cluster = Cluster(NODES, every, tuple(slices))
    config = read_config({"clusterCIDR": "10.244.0.0/16"}, Release(1, 35), NODES[0], NODES[0].internal_ips)
    chains = kube_proxy_chains(cluster, config, 4)
    separate = {name: rules for (_, name), rules in chains.items() if name.startswith("KUBE-SEP-")}
    shared = [rules for rules in separate.values() if "-m recent" not in rules[1]]
    assert (len(separate), len(shared), len({id(rules) for rules in shared})) == (1600, 1200, 400)
    assert len({id(rules) for rules in separate.values()}) == 800
    assert all("--to-destination" in rules[1] and "--comment" not in rules[1] for rules in separate.values())
