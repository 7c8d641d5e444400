"""The text of iptables-save, as each system writes it, is accepted as it is; no rule, chain or set of it gets lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.core.resources import Chain, IpSet
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from tests.support.firewall_dumps import DUMPS


@pytest.mark.parametrize("name", DUMPS)
def test_a_pasted_firewall_is_valid_and_whole(name: str) -> None:
    text = DUMPS[name].read_text()
    plan = parse_and_compile(text, f"{name}.yaml")[1].plan
    chains = [item for item in plan if isinstance(item, Chain)]
    assert sum(len(chain.rules) for chain in chains) == len(re.findall(r"(?m)^    (\[\d+:\d+\] )?-A ", text)) > 0
    declared = re.findall(r"(?m)^    :(\S+) (\S+)", text)
    assert sorted((chain.name, chain.policy or "-") for chain in chains) == sorted(declared)
    members = [member for item in plan if isinstance(item, IpSet) for member in item.members]
    assert len(members) == len(re.findall(r"(?m)^    add ", text))


def test_there_is_a_dump_of_each_system() -> None:
    systems = {"docker", "kube-proxy", "ufw", "firewalld", "istio", "tailscale", "calico", "bridges"}
    assert systems <= set(DUMPS)


@settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_dump_is_refused_in_its_place_or_still_valid(data: st.DataObject) -> None:
    lines = DUMPS[data.draw(st.sampled_from(sorted(DUMPS)))].read_text().split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(3, len(lines) - 2))
        column = data.draw(st.integers(4, max(4, len(lines[at]))))
        word = data.draw(st.sampled_from(("", " ", '"', "-", "!", "-V ", "--", ":", "*", "\\", ",", "/", "[", "é")))
        cut = data.draw(st.integers(0, 9))
        lines[at] = lines[at][:column] + word + lines[at][column + cut :]
    try:
        parse_and_compile("\n".join(lines), "x.yaml")
    except ScenarioError as error:
        for problem in error.problems:
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
            assert (problem.what + problem.hint).isprintable()


MIXED = """
model: raw
namespaces: [node]
firewall:
  node:
    - |
      *filter
      :INPUT DROP [0:0]
      :OWN - [0:0]
      -A INPUT -j OWN
      -A OWN -p tcp --dport 22 -j ACCEPT
      COMMIT
    - filter: {INPUT: [-i lo -j ACCEPT], OTHER: [-j OWN2], OWN2: []}
      nat: {POSTROUTING: [-o eth0 -j MASQUERADE]}
    - |
      *filter
      :OWN - [0:0]
      -A OWN -j DROP
      COMMIT
"""


def test_texts_and_mappings_are_one_firewall() -> None:
    plan = parse_and_compile(MIXED, "x.yaml")[1].plan
    found = {(item.table, item.name): item for item in plan if isinstance(item, Chain)}
    assert set(found) == {("filter", name) for name in ("INPUT", "OWN", "OTHER", "OWN2")} | {("nat", "POSTROUTING")}
    assert found["filter", "INPUT"].policy == "DROP"
    assert [str(rule) for rule in found["filter", "INPUT"].rules] == ["-j OWN", "-i lo -j ACCEPT"]
    assert [str(rule)[-9:] for rule in found["filter", "OWN"].rules] == ["-j ACCEPT", "-j DROP"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("    *filter\n    COMMIT\n    *filter\n    COMMIT\n", "the table filter is there twice"),
        ("    *filter\n    -A MINE -j DROP\n    COMMIT\n", "the chain MINE is not declared"),
        ("    *filter\n    :INPUT ACCEPT [0:0]\n    -A INPUT -j MINE\n    COMMIT\n", "no chain MINE in filter"),
        ("    *filter\n    -F INPUT\n    COMMIT\n", "is not a line of iptables-save"),
    ],
)
def test_a_text_of_which_a_restore_would_lose_something_is_refused(text: str, what: str) -> None:
    with pytest.raises(ScenarioError, match=what):
        parse_and_compile(f"model: raw\nnamespaces: [node]\nfirewall:\n  node: |\n{text}", "x.yaml")


def test_a_text_of_one_table_leaves_the_others_without_rules() -> None:
    text = "model: raw\nnamespaces: [node]\nfirewall:\n  node: |\n    *filter\n    :INPUT DROP [0:0]\n    COMMIT\n"
    chains = [item for item in parse_and_compile(text, "x.yaml")[1].plan if isinstance(item, Chain)]
    assert [(item.table, item.name) for item in chains] == [("filter", "INPUT")]
