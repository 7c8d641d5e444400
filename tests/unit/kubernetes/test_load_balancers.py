"""The load balancers of a lab: what is added to the fabric, and where pods are not routable."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import Any

import pytest

from labctl import models
from labctl.core.resources import Address, Chain, Interface, Link, Neighbour, Netns, Process, Route, Rule, Sysctl
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.ingress_objects import Ingress, read_ingress
from labctl.kubernetes.ingress import http_load_balancer
from labctl.kubernetes.services.fabric import Fabric
from labctl.kubernetes.services.load_balancer import FIRST_MARK, health_port
from labctl.kubernetes.services.service_facts import service_fact
from tests.support.kubernetes_labs import TWO_NODES, lab_with, service

NODES = ("node1", "node2")
# the models in which the network below the cluster has routes to pods, with the options of their examples
ROUTABLE = {
    "kubenet", "gke-routes-based", "gke-vpc-native", "eks-vpc-cni", "azure-cni-bridge", "azure-cni-transparent",
}  # fmt: skip
CLUSTER_MODELS = {name: models.find_model(name) for name in models.model_names() if name != "cni"}
CLUSTERS = [name for name, model in CLUSTER_MODELS.items() if model.MACHINES == ("nodes", "pods")]


def shop(mode: str | None = None, name: str = "shop", **more: Any) -> Ingress:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": "shop.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    annotations = {"labctl/target-type": mode} if mode else {}
    item = {"metadata": {"name": name, "annotations": annotations}, "spec": {"rules": [rule]}}
    return replace(read_ingress(item), **more)


def balanced(model: str = "kubenet", *ingresses: Ingress, **spec: Any) -> Lab:
    spec.setdefault("type", "LoadBalancer")
    return lab_with([service(**spec)], TWO_NODES.replace("kubenet", model), ingresses=ingresses)


def of_fabric(lab: Lab, *kinds: type) -> list[Any]:
    return [item for item in lab.plan if isinstance(item, kinds) and item.ns == "fabric"]


def chain(lab: Lab, table: str, name: str, family: str = "ip") -> list[str]:
    found = [one for one in of_fabric(lab, Chain) if (one.table, one.name, one.family) == (table, name, family)]
    return [str(rule) for one in found for rule in one.rules]


def test_packets_to_the_service_are_routed_to_the_program_and_from_it_to_nodes() -> None:
    lab = balanced()
    (ip,) = lab.kubernetes.cluster.services[0].load_balancer_ips
    routes = of_fabric(lab, Route)

    assert [one.dev for one in routes if ip in one.dst and one.dst.prefixlen == 32] == ["l4lb"]
    assert [(one.mark, one.table) for one in of_fabric(lab, Rule) if one.mark and one.kind == "lookup"] == [
        (FIRST_MARK, FIRST_MARK),
        (FIRST_MARK + 1, FIRST_MARK + 1),
    ]
    assert [(str(one.via), one.dev) for one in routes if one.table in (FIRST_MARK, FIRST_MARK + 1)] == [
        ("10.224.0.4", "node1"),
        ("10.224.0.5", "node2"),
    ]
    (program,) = of_fabric(lab, Process)
    words = (f"{FIRST_MARK}=10.224.0.4", f"{FIRST_MARK + 1}=10.224.0.5", f"tcp:{ip}:80@10256")
    assert program.command == ("load-balancer", "l4lb", *words)
    assert [one.ip for one in of_fabric(lab, Neighbour) if one.proxy] == [ip]
    assert Sysctl("fabric", "net.ipv4.neigh.pip.proxy_delay", "0") in lab.plan


@pytest.mark.parametrize(
    ("spec", "suffix"),
    [
        ({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}, "@31000"),
        ({"sessionAffinity": "ClientIP"}, "@10256/client"),
        ({"ports": [{"port": 53, "protocol": "UDP", "targetPort": 53}]}, "53@10256"),
    ],
)
def test_policy_and_affinity_are_those_of_the_service(spec: dict[str, Any], suffix: str) -> None:
    (program,) = of_fabric(balanced(**spec), Process)
    assert program.command[-1].endswith(suffix)


def test_the_cluster_knows_what_an_address_of_a_load_balancer_is_for() -> None:
    lab = balanced("kubenet", shop("ip"), externalTrafficPolicy="Local", healthCheckNodePort=31000)
    state = lab.kubernetes
    (ip,), (shop_ip,) = state.cluster.services[0].load_balancer_ips, [one.address for one in state.http_balancers]
    asked = ((ip, "tcp", 80), (ip, "tcp", 81), (ip, "icmp", None), (ip_address("192.0.2.1"), "tcp", 80))

    assert [health_port(state, *one) for one in asked] == [31000, 0, 0, None]
    assert service_fact(state, ip_address(shop_ip), "tcp", 80) == (
        f"{shop_ip} is the load balancer's address of Ingress default/shop (mode ip): it ends connections, and opens"
        " others to default/web:80"
    )
    assert service_fact(state, ip_address(shop_ip), "tcp", 81).endswith("(mode ip), which serves TCP 80")


def test_a_marked_packet_without_a_way_does_not_come_back_to_the_program() -> None:
    guard = next(one for one in of_fabric(balanced(), Rule) if one.kind == "blackhole")
    assert guard.mask is not None
    assert all(FIRST_MARK + number & guard.mask == guard.mark for number in (0, 1, 5000))
    assert guard.pref == 51


def test_other_types_of_services_get_no_load_balancer() -> None:
    lab = balanced(type="NodePort")
    assert not of_fabric(lab, Process)
    assert not [one for one in of_fabric(lab, Link) if one.kind == "tun"]


def test_an_address_outside_of_the_internet_s_range_is_routed_to_the_fabric() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}
    lab = lab_with([{**service(type="LoadBalancer"), "status": status}])
    routes = [item for item in lab.plan if isinstance(item, Route) and item.ns == "internet"]

    assert [(str(one.dst), str(one.via)) for one in routes] == [("198.51.100.7/32", "203.0.113.50")]
    assert not of_fabric(lab, Neighbour)


def test_in_aws_the_destination_becomes_a_node_port() -> None:
    lab = balanced("eks-vpc-cni")
    (one,) = lab.kubernetes.cluster.services
    (ip,), port = one.proxied_ips, one.ports[0].node_port

    assert one.load_balancer_ips == ()
    assert chain(lab, "raw", "PREROUTING") == [f"-d {ip}/32 -j CT --notrack"]
    match = f"-d {ip}/32 -p tcp -m tcp --dport 80 -m mark --mark"
    assert chain(lab, "nat", "OUTPUT") == [
        f"{match} {FIRST_MARK + number:#x} -j DNAT --to-destination {node}:{port}"
        for number, node in enumerate(("10.0.0.4", "10.0.0.22"))
    ]
    on_nodes = [str(rule) for item in lab.plan if isinstance(item, Chain) and item.ns == "node1" for rule in item.rules]
    assert on_nodes
    assert not [text for text in on_nodes if str(ip) in text]
    assert chain(lab, "filter", "FORWARD")[0] == f"-s {ip}/32 -o igw -j ACCEPT"


def test_where_the_fabric_checks_sources_nodes_may_answer_with_the_address() -> None:
    lab = balanced("gke-vpc-native")
    (ip,) = lab.kubernetes.cluster.services[0].load_balancer_ips

    assert chain(lab, "raw", "PREROUTING")[:2] == [f"-s {ip}/32 -i {node} -j ACCEPT" for node in NODES]
    assert not [text for text in chain(balanced(), "raw", "PREROUTING") if "ACCEPT" in text]


def test_the_proxies_have_a_machine_with_the_route_table_of_the_nodes() -> None:
    lab = balanced("kubenet", shop(), shop("ip", "direct"))
    machine = lab.machine("lb")
    assert machine is not None
    addresses = [one.address for one in lab.kubernetes.http_balancers]

    assert list(map(str, machine.addresses)) == ["10.254.0.4", *addresses]
    assert Netns("lb") in lab.plan
    assert [one.iif for one in of_fabric(lab, Rule) if one.table == 100] == ["node1", "node2", "lb"]
    commands = {one.name: one.command for one in lab.plan if isinstance(one, Process) and one.ns == "lb"}
    assert {name: command[:3] for name, command in commands.items()} == {
        "http-proxy-default-shop": ("http-proxy", addresses[0], "80"),
        "http-proxy-default-direct": ("http-proxy", addresses[1], "80"),
    }
    assert "10.244.1.2:8080" in commands["http-proxy-default-direct"][3]
    assert len({*addresses, *map(str, lab.kubernetes.cluster.services[0].load_balancer_ips)}) == 3
    assert lab.kubernetes.problems == ()


def test_the_machine_gets_another_name_if_a_pod_has_its_name() -> None:
    lab = lab_with([service(type="NodePort")], TWO_NODES.replace("b: }", "lb: }"), ingresses=(shop(),))
    assert [one.name for one in lab.machines if one.role == "machine"] == ["lb-2"]


def test_an_address_that_the_author_wrote_is_kept() -> None:
    lab = balanced("kubenet", shop(address="203.0.113.99"))
    assert [one.address for one in lab.kubernetes.http_balancers] == ["203.0.113.99"]


@pytest.mark.parametrize("model", CLUSTERS)
def test_mode_ip_is_refused_where_the_fabric_has_no_route_to_pods(model: str) -> None:
    found = balanced(model, shop("ip"), shop("instance", "other")).kubernetes.problems
    problems = [one for one in found if one.kind == "Ingress"]

    assert [(one.name, one.warning) for one in problems] == ([] if model in ROUTABLE else [("shop", False)])
    assert all("mode ip: the fabric has no route to the pod" in one.what for one in problems)


@pytest.mark.parametrize("routing", ["udr", "host"])
def test_routes_on_nodes_are_not_routes_of_the_fabric(routing: str) -> None:
    text = f"{TWO_NODES}routing: {routing}\n"
    lab = lab_with([service(type="NodePort")], text, ingresses=(shop("ip"),))
    assert bool(lab.kubernetes.problems) == (routing == "host")


def test_the_fabric_sends_packets_of_a_nodes_subnet_by_its_route_table() -> None:
    fabric = Fabric.of(balanced().plan, NODES)
    assert fabric is not None
    pod, node, nothing = map(ip_address, ("10.244.1.2", "10.224.0.5", "192.0.2.1"))
    hop = fabric.next_hop(pod, from_subnet=True)

    assert fabric.next_hop(pod) is None
    assert (hop and (hop.dev, str(hop.via))) == ("node2", "10.224.0.5")
    assert fabric.next_hop(nothing, from_subnet=True) is None
    near = fabric.next_hop(node)
    assert (near and (near.dev, near.via)) == ("node2", None)
    assert Fabric.of((Netns("node1"),), NODES) is None


def test_a_route_to_all_private_addresses_takes_no_range_and_any_address_of_the_uplink_counts() -> None:
    extra = (
        Route("a", ip_network("10.0.0.0/8"), dev="eth0"),
        Address(Interface("fabric", "pip"), ip_interface("198.51.100.96/32")),
    )
    fabric = Fabric.of((*extra, *balanced().plan), NODES)
    assert fabric is not None

    assert str(fabric.free_network(24)) == "10.254.0.0/24"
    inside, outside = ([*fabric.announce(IPv4Address(text))] for text in ("203.0.113.9", "192.0.2.9"))
    assert [one.ip for one in inside if isinstance(one, Neighbour)] == [ip_address("203.0.113.9")]
    assert [(str(one.dst), str(one.via)) for one in outside if isinstance(one, Route)] == [
        ("192.0.2.9/32", "203.0.113.50")
    ]


def test_without_a_free_range_it_is_refused() -> None:
    plan = (Route("fabric", ip_network("10.254.0.0/16"), dev="lo"), *lab_with([]).plan)
    found = list(http_load_balancer.problems(balanced("kubenet", shop()).kubernetes, replace(lab_with([]), plan=plan)))

    assert [one.what for one in found] == ["no range of 10.254.0.0/16 is free for the load balancers"]
