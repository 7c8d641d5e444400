"""What becomes of a packet of EKS that goes by the wrong network interface: it dies at the VPC's check, and is seen to.

Each test takes one rule of routing away, looks at the packet on the wrong way, and puts the rule back.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from labctl.checks import runner
from labctl.core.resources import Interface, Rule
from labctl.core.results import Outcome
from labctl.core.scenario_types import Check, See
from labctl.kernel.host import paths
from labctl.lab import lifecycle

pytestmark = pytest.mark.firewall

NAME = "eks-vpc-cni"
ETH0, ETH1 = Interface("node1", "eth0"), Interface("node1", "eth1")
WIRE0, WIRE1 = Interface("fabric", "node1-eth0"), Interface("fabric", "node1-eth1")
ANSWERED = Check(
    "a port of eth0 is answered", "tcp", "internet", "203.0.113.50", 8080, server=("b", 80), expect="timeout",
    sees=(
        See(Interface("b", "eth0"), src="internet", dst="b"),
        See(ETH1, src="node1", dst="internet", packet="reply", direction="out"),
        See(WIRE1, src="node1", packet="reply", direction="in"),
        See(Interface("internet", "eth0"), packet="reply", negate=True),
    ),
)  # fmt: skip
SPOKEN = Check(
    "a pod of eth1 is heard", "ping", "b", "c", expect="fail",
    sees=(
        See(ETH0, src="b", dst="c", direction="out"),
        See(WIRE0, src="b", dst="c", direction="in"),
        See(Interface("c", "eth0"), src="b", negate=True),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def built() -> Iterator[None]:
    lifecycle.up(lifecycle.define(NAME))
    yield
    lifecycle.down(NAME)


def without(pref: int, check: Check) -> Outcome:
    """The outcome of one check in a lab that is meant to be without a rule of node1."""
    command = ["ip", "netns", "exec", paths.netns_name(NAME, "node1"), "ip", "rule", "del", "pref", str(pref)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        known = lifecycle.load_compiled_lab(NAME)
        plan = tuple(item for item in known.plan if not (isinstance(item, Rule) and item.pref == pref))
        (outcome,) = runner.run(replace(known, plan=plan, checks=(check,))).outcomes
        return outcome
    finally:
        lifecycle.up(lifecycle.define(NAME))


def with_all(check: Check) -> Outcome:
    """The outcome of one check in the lab as it is."""
    (outcome,) = runner.run(replace(lifecycle.load_compiled_lab(NAME), checks=(check,))).outcomes
    return outcome


def dropped(chain: str) -> int:
    """How many packets the last rule of a chain of the fabric's bridge has dropped."""
    command = ["ip", "netns", "exec", paths.netns_name(NAME, "fabric"), "ebtables-nft", "-L", chain, "--Lc"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    last = next(line for line in told.splitlines() if line.startswith("-p IPv4 -j DROP"))
    return int(last.split("pcnt = ")[1].split()[0])


def test_without_rule_1024_the_answer_goes_out_by_the_pods_own_eni_and_dies_there(built: None) -> None:
    before = dropped("SRC-node1-eth1")
    outcome = without(1024, ANSWERED)
    assert outcome.verdict == "pass", outcome.evidence
    assert dropped("SRC-node1-eth1") > before
    assert with_all(replace(ANSWERED, expect="reply", sees=ANSWERED.sees[:1])).verdict == "pass"


def test_without_rule_1536_what_a_pod_says_goes_out_by_eth0_and_dies_there(built: None) -> None:
    before = dropped("SRC-node1-eth0")
    outcome = without(1536, SPOKEN)
    assert outcome.verdict == "pass", outcome.evidence
    assert dropped("SRC-node1-eth0") > before
    assert with_all(replace(SPOKEN, expect="reply", sees=())).verdict == "pass"


def test_where_nobody_checks_the_wrong_way_would_do() -> None:
    """Then the answer arrives, and what is wrong stays hidden: the check is why the rule matters."""
    definition = lifecycle.define(NAME, "unchecked", overrides=("source_dest_check=false",))
    lifecycle.up(definition)
    try:
        command = ["ip", "netns", "exec", paths.netns_name("unchecked", "node1"), "ip", "rule", "del", "pref", "1024"]
        subprocess.run(command, check=True, capture_output=True)
        check = replace(ANSWERED, expect="reply", sees=ANSWERED.sees[:-1])
        (outcome,) = runner.run(replace(lifecycle.load_compiled_lab("unchecked"), checks=(check,))).outcomes
        assert outcome.verdict == "pass", outcome.evidence
    finally:
        lifecycle.down("unchecked")
