"""Models with rules in tables of nft: built as the programs write them, drift by rule, and the order of two tables.

The order of two chains at one hook is what the VPC CNI's release 1.23 is about: the rules that mark connections out of
the VPC must see the pod of a Service, and not the address of the Service.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from labctl.checks import runner
from labctl.core.resources import Interface
from labctl.core.scenario_types import Check, See
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support.drift import drift

pytestmark = pytest.mark.firewall

EKS = ("eks-vpc-cni", ("release=1.23",))
FLANNEL = ("flannel-host-gw", ("nftables=true",))
SERVICE = "172.20.0.10"  # outside the VPC, as the range of Services is
# kube-proxy's translation of one Service, in a table of its own at the priority that it uses
KUBE_PROXY = """
table ip kube-proxy {{
  chain nat-prerouting {{
    type nat hook prerouting priority -100;
    ip daddr {service} tcp dport 80 dnat to {pod}:80
  }}
}}
"""
LATER = """
flush chain ip aws-cni nat-prerouting
delete chain ip aws-cni nat-prerouting
table ip aws-cni {
  chain nat-prerouting {
    type nat hook prerouting priority -100;
    fib daddr type local return
    iifname "eni*" counter jump snat-mark
    counter meta mark set ct mark & 0x00000080
  }
}
"""


@contextmanager
def running(name: str, sets: tuple[str, ...]) -> Iterator[lifecycle.Definition]:
    definition = lifecycle.define(name, overrides=sets)
    lifecycle.up(definition)
    try:
        yield definition
    finally:
        lifecycle.down(name)


def nft(name: str, words: str, text: str | None = None) -> str:
    command = ["ip", "netns", "exec", paths.netns_name(name, "node1"), "nft", *words.split()]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("lab", "chain", "gone"),
    [
        (EKS, "ip aws-cni snat-mark", "counter ct mark set ct mark | 0x00000080"),
        (FLANNEL, "ip flannel-ipv4 postrtg", "meta mark 0x00004000 return"),
    ],
    ids=["eks", "flannel"],
)
def test_a_rule_that_is_missing_is_drift_and_comes_back(
    lab: tuple[str, tuple[str, ...]], chain: str, gone: str
) -> None:
    name, sets = lab
    with running(name, sets) as definition:
        assert drift(name) == []
        before = nft(name, "-s list ruleset")
        assert gone in before
        handle = next(line for line in nft(name, "-a -s list ruleset").splitlines() if gone in line).split()[-1]
        nft(name, f"delete rule {chain} handle {handle}")
        assert drift(name) == [f"missing nft rule {chain} {gone}"]
        lifecycle.up(definition)
        assert drift(name) == []
        assert nft(name, "-s list ruleset") == before


@pytest.mark.parametrize(("nftables", "seen"), [("false", "node1"), ("true", "vm")])
def test_a_stranger_on_the_way_to_a_pod_of_another_node(nftables: str, seen: str) -> None:
    """flanneld's rules differ: those of nft let a packet from outside keep its source, whichever node has the pod."""
    with running("flannel-host-gw", (f"nftables={nftables}",)):
        known = lifecycle.load_compiled_lab("flannel-host-gw")
        gateway = next(str(machine.addresses[0]) for machine in known.machines if machine.name == "node1")
        route = ["ip", "-n", paths.netns_name(known.name, "vm"), "route", "add", "10.244.2.0/24", "via", gateway]
        subprocess.run(route, check=True)
        check = Check("c is reached", "tcp", "vm", "c", 80, sees=(See(Interface("c", "eth0"), src=seen, dst="c"),))
        (outcome,) = runner.run(replace(known, checks=(check,)), "").outcomes
        assert outcome.verdict == "pass", outcome


def test_connections_are_marked_after_services_are_translated() -> None:
    """With both chains at -100 the later one runs first: it marks the connection, which then leaves by eth0."""
    name, sets = EKS
    eth0, eth1, at_pod = Interface("node1", "eth0"), Interface("node1", "eth1"), Interface("c", "eth0")
    reached = Check(
        "the Service is reached", "tcp", "b", SERVICE, 80, server=("c", 80),
        sees=(See(eth1, src="b", direction="out"), See(at_pod, src="b", dst="c"), See(eth0, src="b", negate=True)),
    )  # fmt: skip
    lost = replace(
        reached, expect="timeout",
        sees=(See(eth0, src="b", direction="out"), See(at_pod, src="b", negate=True), See(eth1, src="b", negate=True)),
    )  # fmt: skip
    with running(name, sets):
        known = lifecycle.load_compiled_lab(name)
        (pod,) = next(machine.addresses for machine in known.machines if machine.name == "c")
        nft(name, "-f -", KUBE_PROXY.format(service=SERVICE, pod=pod))
        outcomes = []
        for check in (reached, lost):
            report = runner.run(replace(known, checks=(check,)), "")
            outcomes += report.outcomes
            nft(name, "-f -", LATER)
        assert [outcome.verdict for outcome in outcomes] == ["pass", "pass"], outcomes
