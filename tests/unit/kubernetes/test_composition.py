"""Services on top of the lab of a model: addresses, endpoints, and the order of rules in shared chains."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from labctl.core.iptables import rule
from labctl.core.resources import Chain, Netns, Process, Sysctl
from labctl.core.scenario_types import Lab
from labctl.core.topology import Topology
from labctl.errors import ScenarioError
from labctl.kubernetes.api.api_objects import Service, ServicePort
from labctl.kubernetes.composition import merge, service_names
from labctl.kubernetes.services import address_choice
from labctl.report import json_documents
from labctl.scenario.definition import parse_and_compile
from tests.support.kubernetes_labs import TWO_NODES, lab_with, service


def chain(lab: Lab, ns: str, table: str, name: str) -> list[str]:
    return [str(one) for item in lab.plan if isinstance(item, Chain) for one in item.rules
            if (item.ns, item.table, item.name, item.family) == (ns, table, name, "ip")]  # fmt: skip


def test_the_pods_that_a_service_selects_are_its_endpoints() -> None:
    lab = lab_with([service()])
    (one,) = lab.kubernetes.cluster.slices
    assert [(each.address, each.node) for each in one.endpoints] == [
        (ip_address("10.244.0.2"), "node1"),
        (ip_address("10.244.1.2"), "node2"),
    ]
    assert [(port.port, port.protocol) for port in one.ports] == [(8080, "TCP")]


def test_a_named_port_is_that_of_each_pod() -> None:
    text = TWO_NODES.replace("c: {labels: {app: web}, containers: ['web:http=8080']}",
                             "c: {labels: {app: web}, containers: ['web:http=9090']}")  # fmt: skip
    lab = lab_with([service()], text)
    assert sorted(port.port for one in lab.kubernetes.cluster.slices for port in one.ports) == [8080, 9090]
    assert "-j DNAT --to-destination 10.244.1.2:9090" in "\n".join(
        str(one) for item in lab.plan if isinstance(item, Chain) for one in item.rules
    )


def test_kube_proxy_is_on_every_node_and_its_jumps_come_first() -> None:
    lab = lab_with([service()])
    for node in ("node1", "node2"):
        first, second = chain(lab, node, "nat", "POSTROUTING")
        assert first.endswith("-j KUBE-POSTROUTING")
        assert second.endswith("-j IP-MASQ-AGENT")
        assert Sysctl(node, "net.ipv4.conf.all.route_localnet", "1") in lab.plan


def test_pods_behind_a_service_listen_and_nodes_answer_health_checks() -> None:
    lab = lab_with([service(ports=[{"port": 80, "targetPort": 9000}])])
    found = {(one.ns, one.name): one for one in lab.plan if isinstance(one, Process)}
    assert found["a", "backend"] == Process("a", "backend", ("serve", "a", "tcp:9000"), inside="pause")
    assert found["a", "web"].command == ("serve", "web", "tcp:8080")
    assert found["node2", "kube-proxy"].command == ("healthcheck", "10256")
    assert ("b", "backend") not in found


def test_a_lab_without_services_is_that_of_its_model() -> None:
    assert lab_with([]).plan == lab_with([], TWO_NODES).plan
    assert not [item for item in lab_with([]).plan if isinstance(item, Chain) and "KUBE-" in item.name]


def test_jumps_of_a_policy_engine_stay_first() -> None:
    plan = (Netns("n"), Chain("n", "filter", "FORWARD", (rule("-j cali-FORWARD"), rule("-j ACCEPT"))))
    (_, forward) = merge(plan, [Chain("n", "filter", "FORWARD", (rule("-j KUBE-FORWARD"),))])
    assert isinstance(forward, Chain)
    assert [str(one) for one in forward.rules] == ["-j cali-FORWARD", "-j KUBE-FORWARD", "-j ACCEPT"]


def test_a_rule_that_the_model_has_is_not_written_twice() -> None:
    plan = (Chain("n", "nat", "POSTROUTING", (rule("-j KUBE-POSTROUTING"),)),)
    (chain_,) = merge(plan, [Chain("n", "nat", "POSTROUTING", (rule("-j KUBE-POSTROUTING"),))])
    assert isinstance(chain_, Chain)
    assert len(chain_.rules) == 1


def test_the_name_of_a_service_stands_for_its_address_and_leads_to_its_pods() -> None:
    lab = lab_with([service()])
    topology, ip = Topology(lab), lab.kubernetes.cluster.services[0].cluster_ips[0]
    for name in ("web", "web.default", "web.default.svc.cluster.local", str(ip)):
        assert topology.addresses(name) == (ip,)
        assert topology.machines_behind(name) == ("a", "c")
        assert topology.namespace_of(name) is None
    assert topology.machines_behind("a") == ()
    assert service_names(Service("shop", "web"))[0] == "web.shop"


def test_a_model_has_its_own_range_of_cluster_ips() -> None:
    found = {}
    for model in ("kubenet", "eks-vpc-cni", "gke-vpc-native", "flannel", "cilium"):
        lab = lab_with([service()], TWO_NODES.replace("kubenet", model))
        (one,) = lab.kubernetes.cluster.services
        found[model] = str(lab.kubernetes.service_cidrs[0])
        assert one.cluster_ips[0] in lab.kubernetes.service_cidrs[0]
    assert found["kubenet"] == "10.0.0.0/16"
    assert found["eks-vpc-cni"] == "172.20.0.0/16"
    assert found["gke-vpc-native"] == "34.118.224.0/20"
    assert found["flannel"] == "10.96.0.0/16"


@pytest.mark.parametrize("model", ["eks-vpc-cni"])
def test_eks_does_not_tell_kube_proxy_the_range_of_pods(model: str) -> None:
    lab = lab_with([service()], TWO_NODES.replace("kubenet", model))
    assert lab.kubernetes.cluster_cidrs == ()
    assert not [one for one in chain(lab, "node1", "nat", "KUBE-SVC-LOLE4ISW44XBNF3G") if "KUBE-MARK-MASQ" in one]


def test_chosen_addresses_stay_when_another_service_comes() -> None:
    cidrs, port = (ip_network("10.96.0.0/16"),), (ServicePort(80),)
    names = [Service("default", f"s{number}", "NodePort", ports=port) for number in range(20)]
    before = address_choice.with_addresses(names, cidrs, ())
    after = {
        str(one): one
        for one in address_choice.with_addresses([Service("x", "new", "NodePort", ports=port), *names], cidrs, ())
    }
    assert all(after[str(one)] == one for one in before)
    assert len({one.cluster_ips for one in before}) == len({one.ports[0].node_port for one in before}) == 20


def test_what_the_author_wrote_stays_and_is_never_given_to_another() -> None:
    network = ip_network("10.96.0.0/29")
    wanted = Service("default", "dns", cluster_ips=(ip_address("10.96.0.3"),))
    others = [Service("default", f"s{number}") for number in range(5)]
    found = address_choice.with_addresses([*others, wanted], (network,), ())
    assert found[-1] == wanted
    given = [one.cluster_ips for one in found]
    assert len(set(given)) == 6 - given.count(()) + bool(given.count(()))
    assert sorted(str(ip) for ips in given for ip in ips) == [f"10.96.0.{number}" for number in range(2, 7)]


def test_a_load_balancer_has_an_address_of_the_internet_and_a_health_check_port() -> None:
    lab = lab_with([service(type="LoadBalancer", externalTrafficPolicy="Local")])
    (one,) = lab.kubernetes.cluster.services
    assert one.load_balancer_ips[0] in ip_network("203.0.113.0/24")
    assert one.health_check_node_port in address_choice.NODE_PORTS
    assert one.health_check_node_port != one.ports[0].node_port


@pytest.mark.parametrize(
    ("wanted", "here", "there"),
    [
        ("PreferSameZone", ["10.244.0.2"], ["10.244.1.2"]),
        ("PreferSameNode", ["10.244.0.2"], ["10.244.1.2"]),
        ("", ["10.244.0.2", "10.244.1.2"], ["10.244.0.2", "10.244.1.2"]),
    ],
)
def test_a_node_uses_the_near_endpoints_that_traffic_distribution_prefers(
    wanted: str, here: list[str], there: list[str]
) -> None:
    lab = lab_with([service(trafficDistribution=wanted)], zones={"node1": "z1", "node2": "z2"})
    for node, expected in (("node1", here), ("node2", there)):
        jumps = chain(lab, node, "nat", "KUBE-SVC-LOLE4ISW44XBNF3G")
        assert [one for one in ("10.244.0.2", "10.244.1.2") if any(one in text for text in jumps)] == expected


def test_an_endpoint_that_is_no_pod_is_listed_by_its_address() -> None:
    """A database outside of the cluster: without its address, the table would say that the Service has no endpoints."""
    slice_ = {
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 5432}],
        "endpoints": [{"addresses": ["203.0.113.1"]}],
    }
    (found,) = lab_with([service(selector=None), slice_]).virtual_addresses

    assert (found.machines, [*map(str, found.elsewhere)]) == ((), ["203.0.113.1"])
    assert json_documents.service(found)["endpoints"] == ["203.0.113.1"]


def test_a_lab_whose_pods_get_addresses_from_plugins_refuses_services() -> None:
    text = """
model: cni
conflist: {cniVersion: 0.4.0, name: pods, plugins: [{type: bridge, ipam: {type: host-local, subnet: "{pod_cidr}"}}]}
nodes: {node1: {pods: {a: {labels: {app: web}}}}}
"""
    refused = [one for one in lab_with([service()], text).kubernetes.problems if not one.warning]
    assert [(one.kind, one.what[:29]) for one in refused] == [("Service", "it would have no endpoints: C")]


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ("mode: tunnel\n", True),
        ("mode: bridge\n", False),
        ("mode: tunnel\nkube_proxy: {conntrack: {tcpBeLiberal: true}}\n", False),
    ],
)
def test_a_service_on_azure_s_bridge_in_mode_tunnel_comes_with_a_warning(keys: str, warned: bool) -> None:
    text = "model: azure-cni-bridge\nnodes: {node1: {pods: {a: {labels: {app: x}}}}}\n"
    _, lab = parse_and_compile(text + "services: {web: {selector: {app: x}, ports: [80]}}\n" + keys, "lab.yaml")
    assert any("they pass a node twice" in one for one in lab.warnings) == warned


def test_a_service_is_refused_where_the_packets_of_pods_do_not_pass_the_node() -> None:
    text = "model: azure-cni-transparent-vlan\nnodes: {node1: {pods: {a: {labels: {app: x}}}}}\n"
    with pytest.raises(ScenarioError) as refused:
        parse_and_compile(text + "services: {web: {selector: {app: x}, ports: [80]}}\n", "lab.yaml")
    (problem,) = refused.value.problems
    assert "the packets of the pod a do not pass kube-proxy's rules on node1" in problem.what
    assert problem.line == 3
