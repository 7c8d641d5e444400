"""NetworkPolicies in a lab: where the rules of the engine stand, which engine it is, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labctl.core.resources import Chain, Interface, IpSet, Link, NftObject
from labctl.core.scenario_types import Lab
from labctl.kubernetes.policies.policy_engine import policy_engine
from tests.support.kubernetes_labs import lab_with, service
from tests.support.paths import ROOT

DENY_ALL = {
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"podSelector": {"matchLabels": {"app": "web"}}},
}


def lab(model: str, *more: dict[str, Any], **declared: Any) -> Lab:
    text = f"""
model: {model}
nodes:
  node1: {{pods: {{a: {{labels: {{app: web}}, containers: ['web:http=8080']}}, b: }}}}
  node2: {{pods: {{c: {{labels: {{app: web}}, containers: ['web:http=8080']}}, d: }}}}
"""
    return lab_with([DENY_ALL, *more], text, **declared)


def plain(model: str) -> Lab:
    return lab_with([], f"\nmodel: {model}\nnodes: {{node1: {{pods: {{a: , b: }}}}, node2: {{pods: {{c: , d: }}}}}}\n")


def targets(found: Lab, name: str, table: str = "filter") -> list[str | None]:
    (chain,) = (
        one for one in found.plan if isinstance(one, Chain) and one.key == ("chain", "node1", "ip", table, name)
    )
    return [one.target for one in chain.rules]


@pytest.mark.parametrize("model", ["calico", "azure-cni-transparent"])
def test_felix_is_first_in_forward_and_its_acceptance_last(model: str) -> None:
    found = targets(lab(model, service()), "FORWARD")
    assert (found[0], found[-2:]) == ("cali-FORWARD", ["ACCEPT", "MARK"])
    assert "KUBE-FORWARD" in found[1:-2]


@pytest.mark.parametrize("model", ["kubenet", "kube-router"])
@pytest.mark.parametrize("hook", ["INPUT", "FORWARD", "OUTPUT"])
def test_kube_router_is_first(model: str, hook: str) -> None:
    found = targets(lab(model, service()), hook)
    assert found[0] == f"KUBE-ROUTER-{hook}"
    assert found.count(f"KUBE-ROUTER-{hook}") == 1


@pytest.mark.parametrize(
    ("model", "wanted", "engine"),
    [
        ("kubenet", None, "kube-router"),
        ("calico", None, "calico"),
        ("eks-vpc-cni", None, "calico"),
        ("calico", "kube-router", "kube-router"),
        ("azure-cni-transparent", "kube-router", "kube-router"),
        ("weave", None, "kube-router"),
        ("cilium", None, "calico"),
        ("calico", "calico-nftables", "calico-nftables"),
        ("kube-router", "kube-router-nftables", "kube-router-nftables"),
        ("calico", "kube-router-nftables", "kube-router-nftables"),
    ],
)
def test_the_engine_is_the_one_of_the_scenario_or_fits_the_model(model: str, wanted: Any, engine: str) -> None:
    found = lab(model, policy_engine=wanted)
    policies = {"calico": "cali-pi-", "calico-nftables": "filter-cali-pi-"}
    first = policies.get(engine, "KUBE-NWPLCY-")
    kind = NftObject if engine.endswith("nftables") else Chain

    assert policy_engine(found.kubernetes, found) == engine
    assert any(isinstance(one, kind) and one.name.startswith(first) for one in found.plan)


@pytest.mark.parametrize(
    ("model", "engine", "own"),
    [
        ("calico", "calico-nftables", ("cali-", "cali40")),
        ("kube-router", "kube-router-nftables", ("KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-")),
    ],
)
def test_what_a_model_has_in_iptables_is_in_nftables_then(model: str, engine: str, own: tuple[str, ...]) -> None:
    """On every node; all other rules stay as they are."""
    before, found = lab(model, service()), lab(model, service(), policy_engine=engine)

    assert [one for one in before.plan if isinstance(one, Chain) and one.name.startswith(own)]
    assert not [one for one in found.plan if isinstance(one, (Chain, IpSet)) and one.name.startswith(own)]
    tables = {(one.ns, one.table) for one in found.plan if isinstance(one, NftObject)}
    assert {ns for ns, _ in tables} == {"node1", "node2"}
    assert len(tables) == 2

    def others(of: Lab) -> dict[tuple[Any, ...], list[str]]:
        return {
            one.key: rules
            for one in of.plan
            if isinstance(one, Chain) and (rules := [text for rule in one.rules if not own_rule(text := str(rule))])
        }

    def own_rule(text: str) -> bool:
        return "cali:" in text or "KUBE-ROUTER" in text or "KUBE-POD-FW" in text

    kept = {key: rules for key, rules in others(before).items() if not key[-1].startswith(own)}
    assert others(found) == kept


@pytest.mark.parametrize("engine", ["calico-nftables", "kube-router-nftables"])
def test_without_policies_a_model_stays_as_it_is(engine: str) -> None:
    text = "\nmodel: calico\nnodes: {node1: {pods: {a: , b: }}}\n"
    found, without = lab_with([], text, policy_engine=engine), lab_with([], text)
    assert found.plan == without.plan


@pytest.mark.parametrize(
    ("model", "wanted", "what"),
    [
        ("kubenet", "calico", "the pods of node1 are on a bridge, where Calico sees no device of a pod"),
        ("kubenet", "calico-nftables", "policy_engine calico-nftables: the pods of node1 are on a bridge"),
        ("antrea", "kube-router-nftables", "packets between pods of node1 pass no iptables rule"),
        ("antrea", None, "packets between pods of node1 pass no iptables rule"),
        ("azure-cni-transparent-vlan", None, "no packet of the pod a passes the rules of node1"),
    ],
)
def test_what_cannot_enforce_policies_is_refused_and_writes_nothing(model: str, wanted: Any, what: str) -> None:
    found = lab(model, policy_engine=wanted)
    without = plain(model)
    errors = [one for one in found.kubernetes.problems if not one.warning]

    assert len(errors) == 1
    assert what in errors[0].what
    assert errors[0].hint
    sets = [one for one in found.plan if isinstance(one, IpSet)]
    assert sets == [one for one in without.plan if isinstance(one, IpSet)]


def test_packets_that_pass_a_node_twice_are_refused() -> None:
    text = "\nmodel: azure-cni-bridge\n{}nodes: {{node1: {{pods: {{a: , b: }}}}}}\n"
    tunnel, bridge = (lab_with([DENY_ALL], text.format(mode)) for mode in ("mode: tunnel\n", ""))
    (error,) = tunnel.kubernetes.problems

    assert "in mode tunnel, answers pass node1 twice" in error.what
    assert bridge.kubernetes.problems == ()


def test_pods_that_plugins_attach_are_refused() -> None:
    found = lab_with([DENY_ALL], (ROOT / "scenarios/cni.yaml").read_text())
    (error,) = found.kubernetes.problems
    assert "the address of the pod a is known only when a plugin has attached it" in error.what
    assert not [one for one in found.plan if isinstance(one, Chain) and one.name.startswith("KUBE-")]


@pytest.mark.parametrize(("model", "own"), [("weave", "weave-npc"), ("cilium", "Cilium")])
def test_another_engine_than_the_model_s_own_is_a_warning(model: str, own: str) -> None:
    (warning,) = lab(model).kubernetes.problems
    assert warning.warning
    assert own in warning.what


def test_calico_in_nftables_beside_kube_proxy_in_iptables_is_a_warning() -> None:
    (warning,) = lab("calico", service(), policy_engine="calico-nftables").kubernetes.problems
    together = lab("calico", service(), policy_engine="calico-nftables", kube_proxy={"mode": "nftables"})

    assert warning.warning
    assert "kube-proxy in the mode nftables" in warning.what
    assert together.kubernetes.problems == ()
    assert len({one.table for one in together.plan if isinstance(one, NftObject)}) == 2


def test_the_model_s_claims_leave_out_pods_that_a_policy_isolates() -> None:
    meshes = {one.say: one.groups for one in lab("kubenet").checks if one.probe == "mesh"}
    before = {one.say: one.groups for one in plain("kubenet").checks if one.probe == "mesh"}
    say = "every pod reaches every pod and is seen with its own address"

    assert before[say] == ((("a", "b", "c", "d"), ("a", "b", "c", "d")),)
    assert meshes[f"{say}, except for pods that a policy isolates"] == ((("a", "b", "c", "d"), ("b", "d")),)
    assert meshes["each node reaches its own pods"] == before["each node reaches its own pods"]


def test_without_policies_nothing_is_added() -> None:
    text = "\nmodel: calico\nnodes: {node1: {pods: {a: , b: }}}\n"
    with_services, without = lab_with([service()], text), lab_with([], text)
    names = {one.name for one in with_services.plan if isinstance(one, Chain)}
    assert not [one for one in names if one.startswith(("cali-pi-knp", "cali-pi-default", "KUBE-NWPLCY"))]
    assert {one.key for one in without.plan} <= {one.key for one in with_services.plan}


def test_devices_without_a_prefix_of_their_kind_are_for_kube_router() -> None:
    """Felix would take the node's other devices for pods."""
    found = lab("azure-cni-transparent")
    renamed = {one.at: f"eth{number}" for number, one in enumerate(links_to_pods(found), 1)}

    def other(at: Interface | None) -> Interface | None:
        return at if at is None else Interface(at.ns, renamed.get(at, at.dev))

    plan = tuple(
        replace(one, at=other(one.at), peer=other(one.peer)) if isinstance(one, Link) else one for one in found.plan
    )
    assert policy_engine(found.kubernetes, found) == "calico"
    assert policy_engine(found.kubernetes, replace(found, plan=plan)) == "kube-router"


def links_to_pods(found: Lab) -> list[Link]:
    pods = {one.machine for one in found.kubernetes.pods}
    return [one for one in found.plan if isinstance(one, Link) and one.peer is not None and one.peer.ns in pods]
