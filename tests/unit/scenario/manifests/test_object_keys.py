"""The keys `services`, `policies`, `namespaces`, `manifests`: what they declare, in which models, and in which form."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from labctl import models
from labctl.kubernetes.api.api_objects import Service, ServicePort
from labctl.kubernetes.api.policy_objects import Namespace
from labctl.scenario.manifests.keys import NAMES
from tests.unit.scenario.manifests.support import declared, parsed, refusals


def ports(text: str) -> tuple[ServicePort, ...]:
    return declared(f"services: {{web: {{ports: {text}}}}}\n").services[0].ports


def test_without_such_a_key_a_scenario_declares_nothing() -> None:
    assert parsed("").kubernetes is None


def test_a_service_has_the_words_of_its_spec_with_labels_beside_them() -> None:
    text = "services: {shop/web: {selector: {app: web, version: 1}, ports: [80], labels: {tier: front}}}\n"
    (service,) = declared(text).services

    selector, labels = {"app": "web", "version": "1"}, {"tier": "front"}
    port = ServicePort(80, "TCP", "", 80)
    assert service == Service("shop", "web", ports=(port,), selector=selector, labels=labels)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", ServicePort(80, "TCP", "", 80)),
        ("[80]", ServicePort(80, "TCP", "", 80)),
        ("['80:8080']", ServicePort(80, "TCP", "", 8080)),
        ("[80:http]", ServicePort(80, "TCP", "", "http")),
        ("[53:5353/udp]", ServicePort(53, "UDP", "", 5353)),
        ("[web=80:8080]", ServicePort(80, "TCP", "web", 8080)),
        ("[{port: 80, targetPort: http}]", ServicePort(80, "TCP", "", "http")),
    ],
)
def test_a_port_has_a_short_form(text: str, port: ServicePort) -> None:
    assert ports(text) == (port,)


def test_several_ports_in_short_form_get_names_as_kubectl_gives_them() -> None:
    assert [one.name for one in ports("[80, 443:https, 53:5353/udp, web=81]")] == [
        "80-80",
        "443-https",
        "53-5353-udp",
        "web",
    ]


def test_a_text_that_is_not_a_port_is_refused_with_the_short_forms() -> None:
    (line,) = refusals("services: {web: {ports: [http]}}\n")

    assert line.startswith(
        "t.yaml:4:26: Service web: spec.ports[0]: expected a mapping with name, protocol, port, ...,"
    )
    assert line.endswith("in short: 80, 80:8080, 80:http, 53:5353/udp, web=80:8080")


def test_policies_and_namespaces_are_read_too() -> None:
    found = declared("policies: {shop/deny: {podSelector: {}}}\nnamespaces: {shop: {team: 1}}\n")

    assert [str(one) for one in found.policies] == ["shop/deny"]
    assert found.namespaces == (Namespace("shop", {"team": "1"}),)


def test_a_manifest_is_read_from_the_folder_of_the_scenario() -> None:
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"

    assert [str(one) for one in declared("", manifest).services] == ["default/web"]
    (line,) = refusals("manifests: none-such.yaml\n")
    assert line.startswith("t.yaml:4:12: manifests: cannot read 'none-such.yaml'")


def test_one_object_cannot_be_declared_by_a_key_and_a_manifest() -> None:
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
    (line,) = refusals("services: {web: {ports: [80]}}\n", manifest)

    assert line.startswith("shop.yaml:3:18: Service web is declared twice (first in t.yaml:4)")


@pytest.mark.parametrize("name", models.model_names())
def test_the_keys_are_for_the_models_of_kubernetes(name: str) -> None:
    from labctl.errors import ScenarioError
    from labctl.scenario.definition import parse_and_compile

    outer, inner = models.find_model(name).MACHINES
    names = [key for key in NAMES if key not in (outer, "namespaces")]  # a model without has machines of that name
    text = "\n".join([f"model: {name}", f"{outer}: [n]", *(f"{key}: 1" for key in names)])
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(text, "t.yaml")

    whats = [one.what for one in caught.value.problems]
    refused = [f"{key}: this model has no objects of Kubernetes" for key in names]
    assert (refused == [what for what in whats if "Kubernetes" in what]) is ((outer, inner) != ("nodes", "pods"))


def test_kube_proxy_the_ranges_of_services_and_zones_are_settings_of_the_cluster() -> None:
    proxy = (
        "{version: 1.31, nodePortAddresses: [primary], iptables: {masqueradeAll: true},"
        " featureGates: {PreferSameTrafficDistribution: true}}"
    )
    text = f"services: {{web: {{ports: [80]}}}}\nservice_cidr: 10.96.0.0/16\nzones: {{node1: a}}\nkube_proxy: {proxy}\n"
    found = declared(text)

    assert found.service_cidrs == (ip_network("10.96.0.0/16"),)
    assert found.zones == {"node1": "a"}
    assert found.kube_proxy == {
        "version": "1.31",
        "nodePortAddresses": ["primary"],
        "iptables": {"masqueradeAll": True},
        "featureGates": {"PreferSameTrafficDistribution": True},
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("zones: {nod1: a}", "4:9: zones: there is no node 'nod1' | did you mean 'node1'?"),
        (
            "service_cidr: [10.96.0.0/16, 10.97.0.0/16]",
            "4:30: scenario: service_cidr[1]: 10.97.0.0/16 is a second range of IPv4"
            " | one range for each address family",
        ),
        (
            "service_cidr: 10.244.0.0/16",
            "4:15: scenario: service_cidr[0]: 10.244.0.0/16 overlaps 10.244.0.0/24, the network of node1/cbr0"
            " | choose another range",
        ),
    ],
)
def test_mistakes_in_settings_of_the_cluster_have_their_places(text: str, problem: str) -> None:
    assert refusals(text + "\n") == [f"t.yaml:{problem}"]


def test_nodes_of_manifests_give_their_zones_and_others_are_left_out() -> None:
    def node(name: str) -> str:
        meta = f"{{name: {name}, labels: {{topology.kubernetes.io/zone: z1}}}}"
        return f"---\napiVersion: v1\nkind: Node\nmetadata: {meta}\nspec: {{podCIDR: 10.1.0.0/24}}\n"

    found = declared("", node("node1") + node("aks-0"))

    assert found.zones == {"node1": "z1"}
    assert found.warnings == (
        "shop.yaml:9:18: Node aks-0: left out: the lab has no such node",
        "not used: spec.podCIDR (2 objects)",
    )


def test_slices_that_a_controller_made_for_another_cluster_are_left_out() -> None:
    labels = "kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io"
    manifest = (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
        f"metadata: {{name: web-x, labels: {{{labels}}}}}\n"
        "endpoints: [{addresses: [10.1.2.3]}]\nports: [{port: 80}]\n"
    )

    found = declared("services: {web: {ports: [80], selector: {app: web}}}\n", manifest)
    assert found.slices == ()
    assert found.warnings[0].startswith("shop.yaml:4:18: EndpointSlice web-x: left out: a controller made it")

    by_hand = declared("services: {web: {ports: [80]}}\n", manifest)
    assert [str(one.endpoints[0].address) for one in by_hand.slices] == ["10.1.2.3"]
