"""One object explained: its sentence, what breaks without it, its commands; and which objects a person means."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from labctl.core.iptables import rule
from labctl.core.observations import RouteLookup
from labctl.core.resources import Address, Chain, Interface, Link, Neighbour, Netns, Route
from labctl.core.scenario_types import Lab
from labctl.core.why import LABCTL, explained, reason_of, reason_of_rule
from labctl.errors import UsageError
from labctl.explanation.explanation import Explainer, Explanation, Subject
from labctl.explanation.planned_reasons import BUILT_IN, FOREIGN, LEARNED, PlannedReasons
from labctl.explanation.selection import find_subjects, object_names
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile


@cache
def lab_of(name: str, *sets: str) -> Lab:
    file, source = catalog.find(name)
    return parse_and_compile(source, file, overrides=sets)[1]


def explain(words: str, scenario: str = "kubenet") -> Explanation:
    """The explanation of the only object that the words mean."""
    lab = lab_of(scenario)
    (found,) = find_subjects(lab, words.split())
    return Explainer(lab).explain(found)


def texts(words: str, scenario: str = "kubenet") -> list[str]:
    return [f"{one.machine}: {one.text}" for one in find_subjects(lab_of(scenario), words.split())]


def test_a_route_is_explained_in_full() -> None:
    found = explain("fabric route 10.244.1.0/24")

    assert found.reasoned.sentence.startswith("It leads packets for 10.244.1.0/24 to node2, where its pods are (c).")
    assert found.reasoned.component == "cloud-provider-azure"
    assert str(found.reasoned.source) == "kubernetes-sigs/cloud-provider-azure, pkg/provider/azure_routes.go"
    assert found.commands == ("ip route add 10.244.1.0/24 via 10.224.0.5 dev node2 table 100 onlink",)
    assert found.runs_in == "fabric"
    first, *others = found.breakages
    assert (first.kind, first.on, first.removes) == ("udr-missing", "fabric/10.244.1.0/24@100", True)
    assert not any(one.removes for one in others)
    assert "route-blackhole" in {one.kind for one in others}


def test_an_address_with_another_prefix_length_is_wrong_and_not_missing() -> None:
    kinds = {one.kind: one.removes for one in explain("c address 10.244.1.2/24").breakages}

    assert kinds == {"address-missing": True, "prefix-too-long": False, "prefix-too-short": False}


def test_a_rule_has_the_command_and_the_faults_of_this_rule_alone() -> None:
    found = explain("node1 MASQUERADE (must be last in chain)")

    assert found.commands == (
        "iptables-legacy -t nat -A IP-MASQ-AGENT -m comment --comment 'ip-masq-agent: outbound traffic is subject to"
        " MASQUERADE (must be last in chain)' -j MASQUERADE",
    )
    kinds = {one.kind: one.removes for one in found.breakages}
    assert kinds == {"masquerade-missing": True, "snat-unused-address": False}
    assert {one.kind for one in explain("node1 local traffic is not subject").breakages} == {"masquerade-too-wide"}


def test_the_rules_of_the_lab_are_of_its_back_end() -> None:
    lab = replace(lab_of("kubenet"), firewall="nft")
    (found,) = find_subjects(lab, ("node1", "nat/IP-MASQ-AGENT"))

    assert Explainer(lab).explain(found).commands == ("iptables-nft -t nat -N IP-MASQ-AGENT",)


def test_a_namespace_is_made_on_the_machine_of_labctl() -> None:
    found = explain("node1 namespace")

    assert found.runs_in is None
    assert found.commands == ("ip netns add node1",)
    assert found.reasoned.sentence == "It is a node of the cluster, a machine that runs pods (a, b)."


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("node1 cbr0", ["link cbr0 type bridge mtu 1500 address 02:43:78:9e:34:81 promisc on up",
                        "address 10.244.0.1/24 dev cbr0"]),
        ("node1/cbr0", ["link cbr0 type bridge mtu 1500 address 02:43:78:9e:34:81 promisc on up",
                        "address 10.244.0.1/24 dev cbr0"]),
        ("node1 10.224.0.4", ["address 10.224.0.4/16 dev eth0"]),
        ("node1 routes", ["route default via 10.224.0.1 dev eth0"]),
        ("node1 route", ["route default via 10.224.0.1 dev eth0"]),
        ("node1/default", ["route default via 10.224.0.1 dev eth0"]),
        ("node1 NET.IPV4.IP_FORWARD", ["sysctl net.ipv4.ip_forward = 1"]),
        ("node1 chain nat ip-masq", ["chain nat IP-MASQ-AGENT"]),
        ("node1 nat/POSTROUTING", ["chain nat POSTROUTING"]),
    ],
)  # fmt: skip
def test_which_objects_the_words_mean(words: str, wanted: list[str]) -> None:
    assert texts(words) == [f"node1: {one}" for one in wanted]


def test_without_a_machine_all_machines_are_searched() -> None:
    assert {one.partition(":")[0] for one in texts("cbr0")} == {"node1", "node2"}
    assert len(texts("")) == len(list(find_subjects(lab_of("kubenet"), ())))


def test_a_machine_in_the_network_of_another_one_is_that_one() -> None:
    lab = lab_of("docker-host-none")
    shared = next(one for one in lab.machines if one.netns_of is not None)

    assert {one.machine for one in find_subjects(lab, (shared.name,))} == {shared.netns_of}


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("node3", "lab kubenet has no object 'node3'", "did you mean node2?"),
        ("node1 cbr1", "node1 has no object 'cbr1'", "did you mean cbr0?"),
        ("nod1 cbr0", "lab kubenet has no object 'nod1 cbr0'", "did you mean node1?"),
        ("node1 zzz", "node1 has no object 'zzz'", "`labctl explain kubenet node1` lists all"),
        ("zzz", "lab kubenet has no object 'zzz'", "its machines are fabric, internet, node1, a, b, node2, c, vm"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_a_hint(words: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_subjects(lab_of("kubenet"), words.split())
    assert (refused.value.message, refused.value.hint) == (message, hint)


def test_the_names_for_completion_are_those_that_are_found() -> None:
    lab = lab_of("kubenet")
    names = object_names(lab, "node1")

    assert {"cbr0", "route default", "nat/ip-masq-agent", "net.ipv4.ip_forward"} <= {*names}
    assert all(find_subjects(lab, ("node1", name)) for name in names)


def test_a_raw_scenario_names_the_line_that_states_an_object() -> None:
    lab = lab_of("raw-dual-stack")
    file, source = catalog.find("raw-dual-stack")
    lines = source.splitlines()
    for words in (("r1", "192.0.2.1"), ("r1", "link eth1"), ("h2", "route default"), ("r1", "net.ipv4.ip_forward")):
        one = Explainer(lab).why(find_subjects(lab, words)[0])
        assert one.source is not None
        assert one.source.line is not None
        assert one.sentence == f"Line {one.source.line} of the scenario file says so."
        assert one.source.file == file
        assert words[1].split()[-1] in lines[one.source.line - 1]
    assert explain("r1 lo", "raw-dual-stack").reasoned.component == "labctl"


def test_a_rule_of_a_raw_scenario_names_its_own_line() -> None:
    text = "model: raw\nnamespaces: [h]\nfirewall:\n  h:\n    filter:\n      INPUT:\n        - -s 10.0.0.1 -j DROP\n"
    lab = parse_and_compile(text + "        - -j ACCEPT\n", "mine.yaml")[1]
    (found,) = find_subjects(lab, ("h", "-j", "ACCEPT"))

    assert str(Explainer(lab).why(found).source) == "the scenario file, mine.yaml:8"


def test_what_no_component_makes_says_so() -> None:
    lab = lab_of("kubenet")
    plan = tuple(replace(item, why=None) for item in lab.plan)
    reasoned = Explainer(replace(lab, plan=plan, model="mine")).why(Subject(plan[0]))

    assert (reasoned.sentence, reasoned.component, reasoned.source) == (
        "The model mine makes it, and does not say why.",
        "",
        None,
    )


def test_reasons_of_what_was_read_are_those_of_the_plan() -> None:
    reasons = PlannedReasons(lab_of("kubenet"))
    changed = Link(Interface("node1", "cbr0"), "bridge", mtu=9000)
    chain = Chain("node1", "nat", "IP-MASQ-AGENT")

    assert reasons.of(changed).startswith("It connects the pods of node1, as a switch.")
    assert reasons.of(changed).endswith("[the kubelet (kubenet)]")
    assert reasons.of(Link(Interface("node1", "mine"), "dummy")) == FOREIGN
    assert reasons.of(Neighbour(Interface("node1", "cbr0"), ip_address("10.244.0.9"), None, "stale")) == LEARNED
    assert reasons.of(Neighbour(Interface("node1", "cbr0"), ip_address("10.244.0.9"), None)) == FOREIGN
    assert reasons.of(Address(Interface("node1", "lo"), ip_interface("127.0.0.1/8"))) == BUILT_IN
    assert reasons.of_rule(chain, rule("-j DROP")) == FOREIGN
    assert reasons.of_chain(Chain("node1", "nat", "POSTROUTING")) == ""
    assert reasons.of_chain(Chain("node1", "nat", "MINE")) == FOREIGN
    assert reasons.of_chain(chain).endswith("[ip-masq-agent]")


def test_a_rule_of_somebody_else_has_no_reason_although_it_looks_like_one_of_kube_proxy() -> None:
    reasons = PlannedReasons(lab_of("services"))
    chain = Chain("node1", "nat", "KUBE-SERVICES")

    assert reasons.of_rule(chain, rule("-j KUBE-NODEPORTS")) == FOREIGN
    planned = next(one for one in lab_of("services").plan if one.key == chain.key)
    assert isinstance(planned, Chain)
    assert all(reasons.of_rule(chain, one).endswith("[kube-proxy]") for one in planned.rules)


def lookup(node: str, dst: str, dev: str, via: str | None = None, table: int = 254) -> RouteLookup:
    return RouteLookup(node, ip_address(dst), via=None if via is None else ip_address(via), dev=dev, table=table)


def test_the_reason_of_a_chosen_route_is_that_of_the_longest_prefix() -> None:
    reasons = PlannedReasons(lab_of("kubenet"))

    in_table = reasons.of_lookup(lookup("fabric", "10.244.1.2", "node2", "10.224.0.5", 100))
    assert in_table.startswith("It leads packets for 10.244.1.0/24 to node2")
    connected = reasons.of_lookup(lookup("node1", "10.244.0.2", "cbr0"))
    assert connected == "The kernel makes it with the address 10.244.0.1/24: 10.244.0.0/24 is at cbr0 itself."
    assert reasons.of_lookup(lookup("node1", "8.8.8.8", "eth0", "10.224.0.1")).endswith("[Azure's DHCP]")
    assert reasons.of_lookup(lookup("node1", "8.8.8.8", "eth0", "10.224.0.9")) == ""  # a foreign route was chosen
    assert reasons.of_lookup(replace(lookup("node1", "8.8.8.8", ""), error="ENETUNREACH")) == ""


def test_explained_sets_a_reason_once_and_for_the_types_that_it_names() -> None:
    first, other = LABCTL.why("a."), LABCTL.why("b.")
    netns, route = Netns("n"), Route("n", ip_network("192.0.2.0/24"), why=other)
    chain = Chain("n", "nat", "X", (rule("-j DROP"),))

    assert [*explained({Netns: first, Route: first, Chain: first}, (netns, route, chain))] == [netns, route, chain]
    assert (reason_of(netns), reason_of(route), reason_of(chain)) == (first, other, first)
    assert reason_of_rule(chain, rule("-j DROP")) == first
    assert reason_of_rule(chain, rule("-j ACCEPT")) is None
    assert [*explained(first, ("a machine",))] == ["a machine"]
