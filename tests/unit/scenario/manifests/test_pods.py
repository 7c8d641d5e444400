"""Pods of manifests: their nodes, their names in the lab, their settings, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.core.scenario_types import ListeningPort, PodContainer, PublishedPort
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from tests.unit.scenario.manifests.support import declared, parsed, refusals


def pod(name: str, spec: str = "containers: [{name: web}]", meta: str = "") -> str:
    return f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{meta}}}\nspec: {{{spec}}}\n"


def template(kind: str, name: str, more: str = "", pod_spec: str = "containers: [{name: web}]") -> str:
    return (
        f"---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
        "spec:\n  selector: {matchLabels: {app: x}}\n"
        f"  template: {{metadata: {{labels: {{app: x}}}}, spec: {{{pod_spec}}}}}\n{more}"
    )


def placed(manifest: str) -> dict[str, tuple[str, ...]]:
    return {node.name: node.pods for node in parsed("", manifest).nodes}


def settings(manifest: str, name: str) -> Any:
    return next(dict(node.settings)[name] for node in parsed("", manifest).nodes if name in node.pods)


def test_a_pod_is_on_the_node_that_it_names_else_on_the_one_with_the_fewest_pods() -> None:
    manifest = pod("p", "nodeName: node2, containers: [{name: x}]") + pod("q") + pod("r") + pod("s")

    assert placed(manifest) == {"node1": ("a", "q", "r"), "node2": ("b", "p", "s")}


def test_a_pod_has_the_settings_of_its_manifest() -> None:
    ports = "[{name: http, containerPort: 80}, {containerPort: 53, protocol: UDP, hostPort: 5353}]"
    manifest = pod("p", f"containers: [{{name: web, ports: {ports}}}, {{name: log}}]", ", labels: {app: web}")

    found = settings(manifest, "p")

    listening = (ListeningPort(80, "tcp", "http"), ListeningPort(53, "udp"))
    assert found.containers == (PodContainer("web", listening), PodContainer("log"))
    assert found.containers[0].ports[0].name == "http"
    assert found.labels == (("app", "web"),)
    assert found.namespace == "default"
    assert found.host_ports == (PublishedPort(5353, 53, "udp"),)


def test_a_pod_of_another_namespace_has_both_names_in_the_lab() -> None:
    manifest = pod("p", meta=", namespace: shop")

    assert placed(manifest)["node1"] == ("a", "shop-p")
    assert settings(manifest, "shop-p").namespace == "shop"
    assert declared("", manifest).pod_names == (("shop-p", "p"),)


def test_templates_make_numbered_pods() -> None:
    manifest = template("Deployment", "d", "  replicas: 2\n") + template("StatefulSet", "s", "  replicas: 2\n")
    manifest += (
        template("ReplicaSet", "r") + template("DaemonSet", "e") + template("Deployment", "z", "  replicas: 0\n")
    )

    names = sorted(name for pods in placed(manifest).values() for name in pods)

    assert names == ["a", "b", "d-1", "d-2", "e-1", "e-2", "r-1", "s-0", "s-1"]
    assert "e-1" in placed(manifest)["node1"]
    assert "e-2" in placed(manifest)["node2"]


def test_what_kubectl_printed_of_a_deployment_makes_its_pods_once() -> None:
    def owned_by(kind: str, name: str) -> str:
        return f", ownerReferences: [{{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: u, controller: true}}]"

    replica_set = template("ReplicaSet", "d-5f").replace("name: d-5f", "name: d-5f" + owned_by("Deployment", "d"))
    manifest = template("Deployment", "d") + replica_set
    manifest += pod("d-5f-x2", "nodeName: aks-1, containers: [{name: web}]", owned_by("ReplicaSet", "d-5f"))

    assert placed(manifest) == {"node1": ("a", "d-1"), "node2": ("b",)}


def test_a_pod_that_has_ended_is_left_out_and_named() -> None:
    """`kubectl get pods` lists those of finished Jobs. They have no address, so no Service leads to them."""
    phases = {"p": "Running", "q": "Succeeded", "r": "Failed", "s": "Pending"}
    manifest = "".join(
        pod(name) + f"status: {{phase: {phase}, podIP: 10.0.0.1, conditions: []}}\n" for name, phase in phases.items()
    )

    assert placed(manifest) == {"node1": ("a", "p"), "node2": ("b", "s")}
    assert [one.partition(": ")[2] for one in declared("", manifest).warnings] == [
        f"Pod {name}: left out: the pod has ended" for name in "qr"
    ]


def test_a_pod_that_the_scenario_has_gets_labels_and_ports() -> None:
    text = "name: t\nmodel: kubenet\nmanifests: shop.yaml\n"
    text += "nodes: {node1: {pods: {a: {labels: {app: web}, containers: [web:80]}}}, node2: {pods: [b]}}\n"
    ports = "[{name: http, containerPort: 80}, {containerPort: 81, hostPort: 8081}]"
    manifest = pod("a", f"nodeName: node1, containers: [{{name: web, ports: {ports}}}]", ", labels: {tier: front}")

    scenario = parse_and_compile(text, "t.yaml", files={"shop.yaml": manifest + pod("b", meta=", labels: {x: y}")})[0]

    found = dict(scenario.nodes[0].settings)["a"]
    assert found.labels == (("app", "web"), ("tier", "front"))
    assert found.containers == (PodContainer("web", (ListeningPort(80, "tcp", "http"), ListeningPort(81))),)
    assert found.containers[0].ports[0].name == "http"
    assert found.host_ports == (PublishedPort(8081, 81),)
    assert dict(scenario.nodes[1].settings)["b"].labels == (("x", "y"),)


HINT_NODE = "did you mean node1?"


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (pod("p", "nodeName: nod1, containers: [{name: x}]"), f"5:18: Pod p: the lab has no node 'nod1' | {HINT_NODE}"),
        (
            pod("p", "nodeName: aks-0, containers: [{name: x}]"),
            "5:18: Pod p: the lab has no node 'aks-0'"
            " | the nodes are node1, node2; without nodeName, labctl chooses one",
        ),
        (
            pod("a", "nodeName: node2, containers: [{name: x}]"),
            "5:18: Pod a: the scenario has the pod 'a' on node1, not on node2 | remove nodeName, or write node1",
        ),
        (pod("node1"), "4:18: Pod node1: the pod 'node1' has the name of a node | choose another name"),
        (
            pod("p", meta=", namespace: shop") + pod("shop-p"),
            "9:18: Pod shop-p: the pod 'shop-p' has the name of Pod shop/p | choose another name",
        ),
        (
            pod("vm"),
            "4:18: Pod vm: the pod 'vm' has the name of a machine that models create | choose another name",
        ),
        (
            pod("web.1"),
            "4:18: Pod web.1: the pod 'web.1' is not possible: 'web.1' is not a valid name: '.' is not allowed"
            " | a name is a DNS label: a-z, 0-9 and '-'",
        ),
        (
            pod("p", "containers: [{name: x, ports: [{containerPort: 80}]}, {name: y, ports: [{containerPort: 80}]}]"),
            "5:96: Pod p: spec.containers[1].ports[0].containerPort: port 80 (TCP) is already used by the container 'x'"
            " | the containers of a pod share its ports",
        ),
        (
            template("Deployment", "d").replace("labels: {app: x}", "labels: {app: y}"),
            "6:13: Deployment d: spec.selector: the selector does not select the labels of the template"
            " | the two must fit",
        ),
        (
            template("Deployment", "d", "  replicas: two\n"),
            "8:13: Deployment d: spec.replicas: expected a whole number from 0 up to 5000, but 'two' is a text",
        ),
    ],
)
def test_what_cannot_be_placed_is_refused_with_its_place(manifest: str, problem: str) -> None:
    assert refusals("", manifest) == [f"shop.yaml:{problem}"]


def test_pods_in_the_network_of_their_node_are_left_out_with_a_warning() -> None:
    manifest = template("DaemonSet", "agent", pod_spec="hostNetwork: true, containers: [{name: x}]")

    assert placed(manifest) == {"node1": ("a",), "node2": ("b",)}
    (warning,) = declared("", manifest).warnings
    assert warning.startswith("shop.yaml:7:64: DaemonSet agent: left out: it has hostNetwork")


def test_ports_of_sctp_are_left_out_with_a_warning() -> None:
    manifest = pod("p", "containers: [{name: x, ports: [{containerPort: 7, protocol: SCTP}, {containerPort: 8}]}]")

    assert settings(manifest, "p").containers == (PodContainer("x", (ListeningPort(8),)),)
    (warning,) = declared("", manifest).warnings
    assert "its ports of SCTP are left out" in warning


@pytest.mark.parametrize(("model", "limit"), [("eks-vpc-cni", "addresses for 15"), ("calico", "max_pods is 15")])
def test_too_many_pods_are_a_mistake_of_the_object_that_makes_them(model: str, limit: str) -> None:
    """The scenario's own pods are a mistake of the scenario."""
    options = "" if model == "eks-vpc-cni" else "max_pods: 15\n"
    head = f"name: t\nmodel: {model}\n{options}nodes:\n  node1:\n    # here\n    pods: [a]\n"
    manifest = pod("p") + template("Deployment", "web", "  replicas: 40\n")

    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(f"{head}manifests: shop.yaml\n", "t.yaml", files={"shop.yaml": manifest})
    (problem,) = caught.value.problems
    assert (problem.file, manifest.split("\n")[problem.line - 1]) == ("shop.yaml", "metadata: {name: web}")
    assert problem.what == f"Deployment web: node1 has 42 pods, but {limit}"

    many = ", ".join(f"p{number}" for number in range(16))
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(head.replace("[a]", f"[{many}]"), "t.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, head.split("\n")[problem.line - 2]) == ("t.yaml", "    # here")
    assert problem.what == f"node1 has 16 pods, but {limit}"
