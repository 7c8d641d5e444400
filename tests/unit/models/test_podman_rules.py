"""The rules of podman against what the programs wrote, in text and order: tests/golden/netavark has the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.core.iptables_save import parse_save
from labctl.core.nft_ruleset import ruleset_text
from labctl.core.resources import Chain, NftObject, Plan
from labctl.scenario.definition import parse_and_compile
from tests.support.paths import GOLDEN

RECORDS = GOLDEN / "netavark"
NAMES = sorted(path.stem for path in RECORDS.glob("*.yaml") if path.stem != "whole")
WHOLE = {"1.17": (), "1.17-iptables": ("firewall_driver=iptables",), "2.0": ("release=2.0",)}


def plan(path: Path, overrides: tuple[str, ...] = ()) -> Plan:
    return parse_and_compile(path.read_text(), path.name, overrides=overrides)[1].plan


def assert_written(made: Plan, record: str) -> None:
    """The rules of the plan are those of a record, in its order."""
    if record.startswith("table"):
        assert ruleset_text(item for item in made if isinstance(item, NftObject)) == record
        return
    ipv4, ipv6 = record.removeprefix("# iptables\n").split("# ip6tables\n")
    for family, text in (("ip", ipv4), ("ip6", ipv6)):
        written = {
            (chain.table, chain.name): tuple(map(str, chain.rules))
            for chain in (one.chain for one in parse_save("host1", family, text))
            if chain.rules or chain.policy is None
        }
        planned = {
            (item.table, item.name): tuple(map(str, item.rules))
            for item in made
            if isinstance(item, Chain) and item.family == family
        }
        assert planned == written


@pytest.mark.parametrize("name", NAMES)
def test_what_podman_wrote(name: str) -> None:
    assert_written(plan(RECORDS / f"{name}.yaml"), (RECORDS / f"{name}.txt").read_text())


@pytest.mark.parametrize("case", WHOLE)
def test_what_the_program_wrote_for_everything_that_the_model_has(case: str) -> None:
    made = plan(RECORDS / "whole.yaml", WHOLE[case])

    assert_written(made, (RECORDS / f"whole-{case}.txt").read_text())
