"""The settings of the cluster: the range of cluster IPs and kube-proxy, in the words of its configuration."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from labctl import models
from labctl.core.resources import Chain
from labctl.core.scenario_types import Lab
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.language import model_keys

TEXT = """model: {model}
nodes: {{node1: {{pods: {{a: {{labels: {{app: web}}}}}}}}}}
services: {{web: {{selector: {{app: web}}, ports: [80]}}}}
"""


def compiled(keys: str, model: str = "kubenet") -> Lab:
    return parse_and_compile(TEXT.format(model=model) + keys, "lab.yaml")[1]


def rules(lab: Lab, table: str, name: str) -> list[str]:
    chains = (item for item in lab.plan if isinstance(item, Chain) and (item.table, item.name) == (table, name))
    return [str(one) for item in chains for one in item.rules]


def test_the_range_of_cluster_ips() -> None:
    lab = compiled("service_cidr: 10.50.0.0/24")
    assert lab.kubernetes.service_cidrs == (ip_network("10.50.0.0/24"),)
    assert lab.kubernetes.cluster.services[0].cluster_ips[0] in ip_network("10.50.0.0/24")


def test_kube_router_has_the_range_as_its_own_option() -> None:
    lab = compiled("service_cidr: 10.50.0.0/24", "kube-router")
    assert lab.kubernetes.service_cidrs == (ip_network("10.50.0.0/24"),)


@pytest.mark.parametrize("model", ["kube-router", "kubenet"])
def test_a_model_has_each_key_once(model: str) -> None:
    names = [key.name for key in model_keys(models.find_model(model), ())]
    assert sorted(names) == sorted(set(names))
    assert {"service_cidr", "kube_proxy", "policy_engine"} <= set(names)


def test_the_settings_of_kube_proxy_change_its_rules() -> None:
    plain = rules(compiled(""), "nat", "KUBE-SVC-LOLE4ISW44XBNF3G")[0]
    assert plain.startswith("! -s 10.244.0.0/16 ")
    every = rules(compiled("kube_proxy: {iptables: {masqueradeAll: true}}"), "nat", "KUBE-SVC-LOLE4ISW44XBNF3G")[0]
    assert every.startswith("-d 10.0.")
    device = "kube_proxy: {detectLocalMode: InterfaceNamePrefix, detectLocal: {interfaceNamePrefix: veth}}"
    assert "! -i veth+" in rules(compiled(device), "nat", "KUBE-SVC-LOLE4ISW44XBNF3G")[0]
    assert not rules(compiled("kube_proxy: {conntrack: {tcpBeLiberal: true}}"), "filter", "KUBE-FORWARD")[0].endswith(
        "-j DROP"
    )


def test_a_range_without_a_free_address_is_an_error_of_the_service() -> None:
    with pytest.raises(ScenarioError) as refused:
        compiled("service_cidr: 10.50.0.0/31")
    (problem,) = refused.value.problems
    assert problem.what == "Service web: 10.50.0.0/31 has no free address for it"
    assert (problem.line, problem.column) == (3, 12)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("kube_proxy: {version: 1.20}", "the rules of kube-proxy 1.20 are not known"),
        ("kube_proxy: {version: new}", "is not a version of Kubernetes"),
        ("kube_proxy: {clusterCidr: 10.0.0.0/8}", "unknown key 'clusterCidr'"),
        ("kube_proxy: {detectLocalMode: BridgeInterface}", "needs the device"),
        ("kube_proxy: {nodePortAddresses: [10.0.0.1/8]}", "has host bits set"),
        ("service_cidr: x", "is not a valid"),
    ],
)
def test_a_mistake_has_its_place(keys: str, what: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        compiled(keys)
    assert what in refused.value.problems[0].what
    assert refused.value.problems[0].line == 4
