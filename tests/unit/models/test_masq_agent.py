"""ip-masq-agent against what the program wrote: its configurations and flags, and iptables-save after them.

`tests/golden/ip-masq-agent/CASE.txt` is what ip-masq-agent of June 2026 (after v2.12.6) left with the flags in its
first line and the file CASE.config, where there is one: `iptables-save` and `ip6tables-save` of iptables 1.8.9.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.errors import ScenarioError
from tests.support.rule_tables import Tables, lab, parse_tables, plan_tables

CASES = Path(__file__).parents[2] / "golden" / "ip-masq-agent"
KEYS = {
    "nonMasqueradeCIDRs": "non_masquerade_cidrs",
    "masqLinkLocal": "masq_link_local",
    "masqLinkLocalIPv6": "masq_link_local_ipv6",
}


def settings(case: Path) -> dict[str, Any]:
    """The agent's section of a scenario, from the flags and the configuration of a case."""
    found: dict[str, Any] = {}
    for flag in case.read_text().splitlines()[0].partition(": ")[2].split():
        name, given, value = flag.removeprefix("--").partition("=")
        found[name.replace("-", "_")] = {"true": True, "false": False}.get(value, value) if given else True
    if "to_ports" in found:
        found["to_ports"] = found["to_ports"].split(",")
    config = case.with_suffix(".config")
    written = yaml.safe_load(config.read_text()) if config.exists() else {}
    return found | {key: written[name] for name, key in KEYS.items() if name in written}


def agent(section: dict[str, Any] | bool, more: str = "") -> Any:
    scenario = {
        "model": "cni",
        "conflist": {"cniVersion": "0.4.0", "name": "n", "plugins": [{"type": "mine"}]},
        "nodes": {"node1": {}},
        "ip_masq_agent": section,
    }
    return lab(yaml.safe_dump(scenario) + more)


@pytest.mark.parametrize("case", sorted(CASES.glob("*.txt")), ids=lambda case: case.stem)
def test_the_chains_are_those_that_the_agent_writes(case: Path) -> None:
    _, four, six = case.read_text().split("### ip")
    found = agent(settings(case))
    for family, text in (("ip", four.partition("\n")[2]), ("ip6", six.partition("\n")[2])):
        written = "\n".join(line for line in text.splitlines() if not line.startswith("COMMIT"))
        assert plan_tables(found, family=family) == _without_empty(parse_tables(written))


def _without_empty(tables: Tables) -> Tables:
    built_in = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
    kept = {name: {chain: rules for chain, rules in table.items() if rules or chain not in built_in}
            for name, table in tables.items()}  # fmt: skip
    return {name: chains for name, chains in kept.items() if chains}


def test_ranges_of_ports_share_what_is_left_by_their_size() -> None:
    chain = plan_tables(agent({"to_ports": ["1024-2047", "4096-4607", "8080"]}))["nat"]["IP-MASQ-AGENT"]
    assert [rule.partition('chain)" ')[2] for rule in chain if "-p udp" in rule] == [
        "-m statistic --mode random --probability 0.66623292118 -j MASQUERADE --to-ports 1024-2047 --random-fully",
        "-m statistic --mode random --probability 0.99805068225 -j MASQUERADE --to-ports 4096-4607 --random-fully",
        "-j MASQUERADE --to-ports 8080 --random-fully",
    ]


def test_the_agent_does_not_run_if_it_is_off() -> None:
    assert plan_tables(agent({"enabled": False})) == {}
    assert list(plan_tables(agent(True))["nat"]) == ["POSTROUTING", "IP-MASQ-AGENT"]
    assert plan_tables(agent({"non_masquerade_cidrs": [], "masq_link_local": True}))["nat"]["IP-MASQ-AGENT"] == [
        '-m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)"'
        " -j MASQUERADE --random-fully"
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"non_masquerade_cidrs": [f"10.{n}.0.0/16" for n in range(65)]}, "65 ranges, but ip-masq-agent accepts 64"),
        ({"non_masquerade_cidrs": ["fd00::/8"]}, "has the IPv6 range fd00::/8, but ip-masq-agent runs without IPv6"),
        ({"masq_chain": "A" * 29}, "is not a name for a new chain"),
        ({"masq_chain": "POSTROUTING"}, "is not a name for a new chain"),
        ({"to_ports": ["2000-1000"]}, "to_ports '2000-1000' is not a range of ports"),
        ({"to_ports": ["a-b"]}, "to_ports 'a-b' is not a range of ports"),
        ({"to_ports": ["1024-70000"]}, "to_ports '1024-70000' is not a range of ports"),
    ],
)
def test_what_the_agent_refuses_is_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        agent(section)
    assert said in str(refused.value.problems[0])


def test_one_key_says_whether_the_agent_runs() -> None:
    with pytest.raises(ScenarioError) as refused:
        agent(True, "masquerade: false\n")
    assert "both say whether ip-masq-agent runs" in str(refused.value.problems[0])
