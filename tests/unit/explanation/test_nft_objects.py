"""Objects of nft explained: their names, their reasons with all placeholders filled, what breaks, their commands."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from labctl.core import nft_objects
from labctl.core.diff import Change
from labctl.core.resources import Interface, Link, Netns, NftObject
from labctl.core.scenario_types import Lab, Machine
from labctl.core.why import LABCTL, RuleShapes
from labctl.explanation.breakage import Breakages
from labctl.explanation.explanation import Explainer, Explanation
from labctl.explanation.planned_reasons import FOREIGN, PlannedReasons
from labctl.explanation.selection import find_subjects, object_names
from tests.support.policy_cases import block, ingress, ns, pod, tcp
from tests.support.policy_labs import PolicyCase, bare_lab, placed, policy_lab
from tests.support.reasons import problems

SHAPES = RuleShapes(
    ("inet netavark/POSTROUTING", "", LABCTL.why("It is called at {hook} with priority {priority}, else {policy}.")),
    ("inet netavark/.*", "saddr", LABCTL.why("Packets of {src_machine} by {oif} to port {dport} go to {target}.")),
    ("inet netavark/.*", "dnat", LABCTL.why("Port {dport} of {dst_machines} is {to_machine}: {comment}.")),
)
RULES = (
    'ip saddr 10.88.0.2 oifname "eth0" tcp dport 80 counter jump NETAVARK-1',
    'ip daddr 10.88.0.1 tcp dport 8080 dnat to 10.88.0.2:80 comment "published"',
    "counter accept",
)


def sample() -> Lab:
    chain = nft_objects.base_chain(
        "host1", "inet netavark", "POSTROUTING", RULES, type="nat", hook="postrouting", priority="srcnat"
    )
    plan = (
        Netns("host1"),
        Link(Interface("host1", "eth0"), "veth"),
        NftObject("host1", "inet netavark", "table"),
        replace(chain, why=SHAPES.of_chain, rule_whys=SHAPES.reasons),
        nft_objects.chain("host1", "inet netavark", "NETAVARK-1", why=LABCTL.why("It is for {ns}.")),
        nft_objects.map_(
            "host1", "inet netavark", "ports", ('"a" : goto NETAVARK-1',), type="ifname : verdict",
            why=LABCTL.why("It has {members} entry."),
        ),
    )  # fmt: skip
    addresses = {"host1": "10.88.0.1", "web": "10.88.0.2"}
    machines = tuple(Machine(name, "node", addresses=(ip_address(ip),)) for name, ip in addresses.items())
    return Lab("sample", "raw", plan, machines, ())


def explain(words: str) -> Explanation:
    lab = sample()
    (found,) = find_subjects(lab, words.split())
    return Explainer(lab).explain(found)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("host1/inet netavark/POSTROUTING", "nft object chain inet netavark POSTROUTING"),
        ("host1 inet netavark/postrouting", "nft object chain inet netavark POSTROUTING"),
        ("host1 chain inet netavark POSTROUTING", "nft object chain inet netavark POSTROUTING"),
        ("inet netavark", "nft object table inet netavark"),
        ("host1 table inet netavark", "nft object table inet netavark"),
        ("host1 map inet netavark ports", "nft object map inet netavark ports"),
        ("host1 dnat to", f"nft rule inet netavark POSTROUTING {RULES[1]}"),
    ],
)
def test_which_object_of_nft_the_words_mean(words: str, wanted: str) -> None:
    assert [one.text for one in find_subjects(sample(), words.split())] == [wanted]


def test_kinds_of_objects_of_nft() -> None:
    def count(words: str) -> int:
        return len(find_subjects(sample(), words.split()))

    assert [count("host1 nft chains"), count("host1 nft rules"), count("host1 nft")] == [2, 3, 7]
    assert "inet netavark ports" in object_names(sample(), "host1")


def test_a_chain_of_nft_is_explained_in_full() -> None:
    found = explain("host1/inet netavark/POSTROUTING")

    assert found.reasoned.sentence == "It is called at postrouting with priority 100, else accept."
    assert found.reasoned.subject.noun == "nft object"
    assert found.commands == (
        "nft add chain inet netavark POSTROUTING '{ type nat hook postrouting priority 100; policy accept; }'",
    )
    assert found.runs_in == "host1"


def test_a_rule_of_nft_is_explained_by_what_it_says() -> None:
    first, second = explain("host1 jump NETAVARK-1"), explain("host1 dnat")

    assert first.reasoned.sentence == "Packets of web by eth0 to port 80 go to NETAVARK-1."
    assert second.reasoned.sentence == "Port 8080 of host1 is web: published."
    assert first.commands == (f"nft add rule inet netavark POSTROUTING '{RULES[0]}'",)


def test_a_table_without_a_reason_and_a_map_have_sentences() -> None:
    table, ports = explain("host1 table inet netavark"), explain("host1 inet netavark/ports")

    assert table.reasoned.sentence.startswith("It keeps the chains, sets and maps of one program together.")
    assert ports.reasoned.sentence == "It has 1 entry."
    assert len(ports.commands) == 2


def test_what_breaks_without_a_rule_or_an_element(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = sample()
    chain = next(one for one in lab.plan if isinstance(one, NftObject) and one.name == "POSTROUTING")
    ports = next(one for one in lab.plan if isinstance(one, NftObject) and one.name == "ports")
    changes = {
        "rule": Change(replace(chain, entries=RULES[1:]), chain),
        "priority": Change(replace(chain, header=(chain.header[0].replace("srcnat", "filter"),)), chain),
        "element": Change(replace(ports, entries=()), ports),
    }
    found_kinds = [
        (SimpleNamespace(name=on, summary="", effect=""), [SimpleNamespace(on=on, changes=(change,))])
        for on, change in changes.items()
    ]
    monkeypatch.setattr("labctl.explanation.breakage.applicable", lambda _: found_kinds)
    found = Breakages(lab)

    assert [(one.on, one.removes) for one in found.of_rule(chain, RULES[0])] == [("rule", True)]
    assert found.of_rule(chain, RULES[1]) == ()
    assert [(one.on, one.removes) for one in found.of(chain)] == [("priority", False)]
    assert [(one.on, one.removes) for one in found.of(ports)] == [("element", True)]


def test_the_reasons_of_what_was_read_are_those_of_the_plan() -> None:
    lab = sample()
    reasons = PlannedReasons(lab)
    chain = next(one for one in lab.plan if isinstance(one, NftObject) and one.name == "POSTROUTING")
    read = NftObject(*(getattr(chain, name) for name in ("ns", "table", "kind", "name", "header", "entries")))

    assert reasons.of_rule(read, RULES[1]) == "Port 8080 of host1 is web: published. [labctl]"
    assert reasons.of_rule(read, "counter accept").startswith("It is called at postrouting")
    assert reasons.of_rule(read, "drop") == FOREIGN
    assert reasons.of(replace(read, name="other")) == FOREIGN


@cache
def nft_lab(model: str, engine: str) -> Lab:
    spec = ingress("a", {**ns("y"), **pod("b")}, block("10.0.0.0/8", "10.1.0.0/16"), ports=[*tcp(80), *tcp("s81")])
    case = placed(
        PolicyCase("", (spec, {**ingress("b"), "policyTypes": ["Ingress", "Egress"]}), ()), bare_lab(model)[0]
    )
    return policy_lab(model, case.oracle.policies, engine=engine).lab


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        ("calico", "calico-nftables"),
        ("azure-cni-transparent", "calico-nftables"),
        ("kubenet", "kube-router-nftables"),
    ],
)
def test_everything_that_policies_write_in_nft_has_a_reason(model: str, engine: str) -> None:
    assert [*problems(nft_lab(model, engine))] == []
