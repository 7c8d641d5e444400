"""The text of iptables-save, as each system writes it, is accepted as it is; no rule, chain or set of it gets lost."""

from __future__ import annotations

import re

import pytest

from labctl.core.resources import Chain, IpSet
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
