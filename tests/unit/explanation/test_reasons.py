"""Every object and every rule has a reason: of all built-in scenarios, of drawn options, of Services and policies."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from labctl.core.iptables import rule
from labctl.core.resources import Chain, Resource
from labctl.core.scenario_types import Lab
from labctl.core.why import LABCTL, RuleByRule
from labctl.errors import ScenarioError
from labctl.explanation.explanation import Explainer
from labctl.explanation.placeholders import Placeholders
from labctl.explanation.selection import find_subjects
from labctl.kubernetes.api.policy_objects import Direction
from labctl.kubernetes.services.kube_proxy_reasons import RULES
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from tests.support import generated_policies, kernels, model_options
from tests.support.cluster_policy_cases import CLUSTER_CASES
from tests.support.cluster_policy_labs import house_lab
from tests.support.kube_proxy_saved import saved_cases
from tests.support.policy_cases import CASES
from tests.support.policy_labs import bare_lab, placed, policy_lab
from tests.support.reasons import problems

SAMPLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PROXY_CASES = saved_cases(Path(__file__).resolve().parents[2] / "golden/kube-proxy")
POLICY_MODELS = ("calico", "azure-cni-transparent", "eks-vpc-cni", "kubenet", "weave", "kube-router")


@pytest.mark.parametrize("name", catalog.names())
def test_everything_in_a_built_in_scenario_has_a_reason(name: str) -> None:
    file, source = catalog.find(name)
    assert [*problems(parse_and_compile(source, file)[1])] == []


@pytest.mark.parametrize("name", kernels.substitutes_by_scenario())
def test_what_is_built_instead_has_a_reason(name: str) -> None:
    file, source = catalog.find(name)
    features = kernels.substitutes_by_scenario()[name]
    assert [*problems(parse_and_compile(source, file, substitute_features=features)[1])] == []


@pytest.mark.parametrize("model", model_options.drawn_models())
def test_everything_has_a_reason_whatever_the_options_are(model: str) -> None:
    compiled = []

    @SAMPLE
    @given(model_options.scenarios(model))
    def sample(scenario: dict[str, Any]) -> None:
        try:
            lab = parse_and_compile(model_options.text(scenario), "options.yaml")[1]
        except ScenarioError:
            return
        compiled.append(lab)
        assert [*problems(lab)] == []

    sample()
    assert compiled, "everything that was drawn is refused"


def unseen(lab: Lab, seen: set[Resource]) -> Lab:
    """The lab with the objects alone that no lab before had: most chains are the same with many policies."""
    new = tuple(item for item in lab.plan if item not in seen)
    seen.update(new)
    return replace(lab, plan=new)


@pytest.mark.parametrize("model", POLICY_MODELS)
def test_the_rules_of_policies_have_reasons(model: str) -> None:
    seen: set[Resource] = set()
    for case in CASES:
        placed_case = placed(case, bare_lab(model)[0])
        lab = policy_lab(model, placed_case.oracle.policies, placed_case.labels).lab
        assert [*problems(unseen(lab, seen))] == [], case
    assert len(seen) > len(bare_lab(model)[0].plan)


@pytest.mark.parametrize("model", ["calico", "kubenet"])
def test_the_rules_of_every_kind_of_peers_and_ports_have_reasons(model: str) -> None:
    bare = policy_lab(model, ())
    pods, seen = generated_policies.named_pods(bare), set(bare.lab.plan)
    directions: tuple[Direction, ...] = ("Ingress", "Egress")
    for direction in directions:
        for policy in generated_policies.policies(bare, direction):
            lab = policy_lab(model, (policy,), pods=pods).lab
            assert [*problems(unseen(lab, seen))] == [], policy
    assert len(seen) > len(bare.lab.plan) + 100


def test_the_rules_of_cluster_network_policies_have_reasons() -> None:
    for case in CLUSTER_CASES:
        assert [*problems(house_lab("calico", case).lab)] == [], case


def test_every_rule_that_kube_proxy_writes_has_a_reason() -> None:
    """In each situation that was recorded, of each release and family: affinity, source ranges, node ports, ..."""
    file, source = catalog.find("services")
    placeholders = Placeholders(parse_and_compile(source, file)[1])
    seen: set[Chain] = set()
    missing = set()
    parsed = cache(rule)  # most rules are in many of the situations
    for case, _ in PROXY_CASES.values():
        for (family, table, name), texts in case.modelled.items():
            chain = Chain("node", table, name, tuple(parsed(text, family) for text in texts), family=family)
            if chain in seen:
                continue
            seen.add(chain)
            if name.startswith("KUBE-") and RULES.of_chain(chain) is None:
                missing.add(f"{table} {name}")
            for one in chain.rules:
                why = RULES(chain, one)
                if why is None or not placeholders.fill(why, chain, one).endswith("."):
                    missing.add(f"{table} {name}: {one}")
    assert not missing
    assert len(seen) > 150


def test_an_object_and_a_rule_without_a_reason_are_found() -> None:
    file, source = catalog.find("kubenet")
    lab = parse_and_compile(source, file)[1]
    first = lab.plan[0]
    chain = next(item for item in lab.plan if isinstance(item, Chain) and item.name == "IP-MASQ-AGENT")
    foreign = replace(chain, rules=(*chain.rules, rule("-j DROP")))
    plan = tuple(replace(item, why=None) if item is first else foreign if item is chain else item for item in lab.plan)

    found = [*problems(replace(lab, plan=plan))]

    assert found == [
        f"{first.ns}: namespace {first.ns}: no reason",
        f"{chain.ns}: iptables -t nat -A IP-MASQ-AGENT -j DROP: no reason",
    ]


@pytest.mark.parametrize(
    ("sentence", "problem"),
    [
        ("{via_machine} is there.", "no attribute 'via'"),
        ("no end", "not a sentence"),
        ("a " * 300 + ".", "601 characters"),
    ],
)
def test_a_sentence_that_is_not_one_is_found(sentence: str, problem: str) -> None:
    file, source = catalog.find("kubenet")
    lab = parse_and_compile(source, file)[1]
    wrong = replace(lab.plan[0], why=LABCTL.why(sentence))

    (found,) = problems(replace(lab, plan=(wrong, *lab.plan[1:])))

    assert problem in found


def test_a_reason_is_not_a_part_of_the_value() -> None:
    chain = Chain("n", "nat", "X", (rule("-j DROP"),))
    same = replace(
        chain, why=LABCTL.why("a."), rule_whys=(RuleByRule(chain.rules, (LABCTL.why("b."),) * len(chain.rules)),)
    )

    assert chain == same
    assert hash(chain) == hash(same)
    assert repr(chain) == repr(same)


@pytest.mark.parametrize(
    ("scenario", "words", "component", "said"),
    [
        ("flannel-host-gw", "node1 10.244.2.0/24", "flanneld (backend host-gw)", "nothing is put into a tunnel"),
        # DirectRouting is an option of the tunnel backends: host-gw is another process
        ("flannel-direct-routing", "node1 10.244.2.0/24", "flanneld (backend vxlan)", "nothing is put into a tunnel"),
        ("cilium", "node1 iif lo", "Cilium's eBPF programs", "are the node's own"),
        # those that the node sends on to its nodePorts' pods: the client is another machine
        ("cilium", "node1 iif eth0", "Cilium's eBPF programs", "another machine"),
    ],
)
def test_who_makes_it_and_why(scenario: str, words: str, component: str, said: str) -> None:
    file, source = catalog.find(scenario)
    lab = parse_and_compile(source, file)[1]
    (found,) = find_subjects(lab, words.split(maxsplit=1))

    reasoned = Explainer(lab).why(found)
    assert (reasoned.component, said in reasoned.sentence) == (component, True), reasoned.sentence
