"""Labs with the eight pods of the conformance tests of ClusterNetworkPolicy, and ClusterNetworkPolicies that Hypothesis
draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypothesis import strategies as some

from labctl import models
from labctl.core.scenario_types import Lab, Scenario
from labctl.kubernetes.api.cluster_policy_objects import ACTIONS, TIERS, ClusterPolicy, ClusterRule
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.policy_objects import IPBlock, Peer, PolicyPort
from labctl.kubernetes.api.selectors import EVERYTHING
from labctl.kubernetes.composition import cluster_state
from labctl.scenario.document import Reader
from labctl.scenario.parser import parse_scenario
from tests.support import drawn_policies
from tests.support.cluster_policy_cases import HOUSE_NAMESPACES, HOUSE_PODS, ClusterCase, house_pod
from tests.support.policy_labs import PolicyLab, machine, models_defaults, with_policy_chains

# every pair of namespaces on one node and on two
NODES = {"node1": ("g/0", "s/0", "h/0", "r/0"), "node2": ("g/1", "s/1", "h/1", "r/1")}


@cache
def bare_house_lab(model: str) -> tuple[Lab, Scenario]:
    """The lab of a model with the eight pods, and its scenario."""
    pods = {
        node: ", ".join(
            f"{machine(name)}: {{namespace: {name[0]}, labels: {{house: {name[0]}, pod: {name[0]}{name[2]}}}}}"
            for name in names
        )
        for node, names in NODES.items()
    }
    nodes = "\n".join(f"  {node}: {{pods: {{{text}}}}}" for node, text in pods.items())
    scenario = parse_scenario(f"name: houses\nmodel: {model}\nnodes:\n{nodes}\n", "houses.yaml", Reader()).scenario
    assert scenario is not None, model
    return models.compile_lab(scenario), scenario


def house_lab(model: str, case: ClusterCase, engine: Any = None) -> PolicyLab:
    """The lab of a model with the policies of a case, which name the addresses that the pods have there."""
    lab, scenario = bare_house_lab(model)
    found = {one.name: str(one.addresses[0]) for one in lab.machines if one.addresses}
    new = {str(house_pod(name).ips[0]): found[machine(name)] for name in HOUSE_PODS}
    oracle = replace(case, specs=tuple(_placed(one, new) for one in case.specs)).oracle
    declared = Declared(
        tuple(HOUSE_NAMESPACES.values()),
        policies=oracle.policies,
        cluster_policies=oracle.cluster_policies,
        pod_names=tuple((machine(name), name[2:]) for name in HOUSE_PODS),
        policy_engine=engine,
    )
    state = cluster_state(lab, replace(scenario, kubernetes=declared), declared, models_defaults(model))
    return PolicyLab(with_policy_chains(lab, state), state)


def _placed(value: Any, new: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _placed(item, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, new) for item in value]
    address, slash, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    return new[address] + slash + length if address in new else value


Rules = some.SearchStrategy[tuple[ClusterRule, ...]]


@cache
def cluster_rules(ips: tuple[IPv4Address, ...]) -> tuple[Rules, Rules]:
    """Rules of both directions, with all actions, peers and ports."""
    namespaces = drawn_policies.selectors(drawn_policies.NAME_LABEL, "xyz")
    pods = drawn_policies.selectors("pod", "abc")
    peers = some.one_of(some.builds(Peer, some.none(), namespaces), some.builds(Peer, pods, namespaces))
    networks = some.builds(
        lambda ip, length: Peer(block=IPBlock(IPv4Network((ip, length), strict=False))),
        some.sampled_from(ips),
        some.sampled_from((0, 8, 24, 30, 32)),
    )
    numbers = some.sampled_from(drawn_policies.NUMBERS)
    ranges = some.tuples(numbers, numbers).map(sorted)
    protocol = some.sampled_from(drawn_policies.PROTOCOLS)
    ports = some.one_of(
        some.builds(PolicyPort, protocol, numbers),
        some.builds(lambda one, ends: PolicyPort(one, ends[0], ends[1]), protocol, ranges),
    )

    def rules(choice: some.SearchStrategy[Peer]) -> Rules:
        listed = some.lists(choice, min_size=1, max_size=2).map(tuple)
        port_lists = some.lists(ports, max_size=2).map(tuple)
        names = some.sampled_from(("", "a rule", "it's 50 %"))
        one = some.builds(ClusterRule, some.sampled_from(ACTIONS), listed, port_lists, names)
        return some.lists(one, max_size=3).map(tuple)

    return rules(peers), rules(some.one_of(peers, networks))


@some.composite
def cluster_policies(draw: some.DrawFn, ips: Sequence[IPv4Address]) -> tuple[ClusterPolicy, ...]:
    """Up to four policies of both tiers. Their priorities differ."""
    namespaces = drawn_policies.selectors(drawn_policies.NAME_LABEL, "xyz")
    pods = some.one_of(some.just(EVERYTHING), drawn_policies.selectors("pod", "abc"))
    ingress, egress = cluster_rules(tuple(ips))
    found = []
    for number in range(draw(some.integers(1, 4))):
        tier = draw(some.sampled_from(TIERS))
        subject = (draw(namespaces), draw(pods))
        found.append(ClusterPolicy(f"c{number}", tier, number, *subject, draw(ingress), draw(egress)))
    return tuple(draw(some.permutations(found)))
