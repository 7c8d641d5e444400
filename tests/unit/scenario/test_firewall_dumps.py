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
