"""Calico on a live lab: what happens to packets when a part of its configuration is missing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

import labctl
from labctl.checks import runner
from labctl.core.resources import Interface, Route
from labctl.core.results import Outcome
from labctl.core.scenario_types import Check, See
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.render.resources import resource_values
from tests.support import kernels

pytestmark = pytest.mark.firewall

A, B = "caliacd53aa4120", "califf6fc35a693"  # cali and 11 digits of the SHA-1 of default.a, of default.b


@pytest.mark.parametrize(
    ("scenario", "sets", "approximate"),
    [
        ("calico", (), ()),
        ("calico-bgp", (), ()),
        ("calico-bgp", ("peer_with_router=false", "checks=[]"), ()),
        ("calico-vxlan", (), ()),
        ("calico-ipip", (), ("ipip",)),
        ("calico-ipip", ("encapsulation=ipip-cross-subnet", "checks=[]"), ("ipip",)),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else value,
)
def test_whatever_packets_travel_in_they_arrive_as_claimed(
    scenario: str, sets: tuple[str, ...], approximate: tuple[str, ...]
) -> None:
    if kernels.substitute_problem(approximate):
        approximate = ()
    made = lifecycle.up(kernels.define(scenario, sets, approximate)).lab
    try:
        outcomes = runner.run(made).outcomes
    finally:
        lifecycle.down(made.name)
    assert [(one.check.say, one.verdict, one.evidence) for one in outcomes if one.verdict != "pass"] == []
    assert len(outcomes) >= (2 if sets else 9)


NAME = "calico-bgp"
SETS = ("nat_outgoing=false", "default_endpoint_to_host_action=drop", "checks=[]")


@pytest.fixture(scope="class")
def running() -> Iterator[lifecycle.Definition]:
    """A lab without masquerading, in which pods may not send packets to their nodes."""
    definition = lifecycle.define(NAME, overrides=SETS)
    lifecycle.up(definition)
    yield definition
    lifecycle.down(NAME)


def typed(node: str, command: str) -> str:
    command = command.replace("iptables-legacy", f"iptables-{backend.backend_of(NAME)}")
    words = ["ip", "netns", "exec", paths.netns_name(NAME, node), *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def outcome(check: Check, without: type | None = None, *words: str) -> Outcome:
    """A check's outcome, in a lab that is meant to be without the objects of a kind that bear these words."""
    known = lifecycle.load_compiled_lab(NAME)
    plan = tuple(
        one for one in known.plan
        if without is None or not isinstance(one, without) or not all(word in resource_values(one) for word in words)
    )  # fmt: skip
    (found,) = runner.run(replace(known, plan=plan, checks=(check,))).outcomes
    return found


class TestOnAKernel:
    def test_a_pod_learns_who_answers_for_its_gateway(self, running: lifecycle.Definition) -> None:
        assert outcome(Check("a hears c", "ping", "a", "c")).verdict == "pass"
        assert typed("a", "ip neigh show 169.254.1.1").split()[3:] == ["lladdr", "ee:ee:ee:ee:ee:ee", "REACHABLE"]

    def test_without_nat_outgoing_everybody_sees_the_pod(self, running: lifecycle.Definition) -> None:
        seen = (See(Interface("vm", "eth0"), src="a", dst="vm"),)
        found = outcome(Check("vm sees a", "ping", "a", "vm", sees=seen))
        assert found.verdict == "pass", found.evidence

    def test_a_pod_may_not_speak_to_its_node_which_may_speak_to_it(self, running: lifecycle.Definition) -> None:
        seen = (See(Interface("node1", "caliacd53aa4120"), src="a", dst="node1", direction="in"),)
        found = outcome(Check("dropped", "ping", "a", "node1", expect="fail", sees=seen))
        assert found.verdict == "pass", found.evidence
        counted = typed("node1", "iptables-legacy -vxnL cali-wl-to-host").splitlines()[-1].split()
        assert counted[2] == "DROP"
        assert int(counted[0]) > 0
        assert outcome(Check("answered", "ping", "node1", "a")).verdict == "pass"

    def test_a_pod_cannot_take_anothers_address(self, running: lifecycle.Definition) -> None:
        """The rule in raw asks for the way back; the kernel's own filter, which would do the same, is off meanwhile."""
        forged = "ping -n -c 1 -W 1 -I 10.9.9.9 10.244.0.64"
        dropped = "iptables-legacy -t raw -vxnL cali-PREROUTING"
        counters = "iptables-legacy -vxnL cali-to-wl-dispatch"

        def count(node: str, command: str, word: str) -> int:
            return int(next(line for line in typed(node, command).splitlines() if word in line).split()[0])

        try:
            for device in ("all", A):
                typed("node1", f"sysctl -qw net.ipv4.conf.{device}.rp_filter=0")
            typed("a", "ip addr add 10.9.9.9/32 dev lo")
            before, arrived = count("node1", dropped, "rpfilter"), count("node2", counters, "goto")
            typed("a", forged)
            assert count("node1", dropped, "rpfilter") == before + 1
            assert count("node2", counters, "goto") == arrived
            typed("node1", "iptables-legacy -t raw -F cali-PREROUTING")
            typed("a", forged)
            assert count("node2", counters, "goto") > arrived
        finally:
            lifecycle.up(running)

    def test_without_proxy_arp_a_pod_loses_everything_and_a_trace_says_why(self, running: lifecycle.Definition) -> None:
        try:
            typed("node1", f"sysctl -qw net.ipv4.conf.{A}.proxy_arp=0")
            typed("a", "ip neigh flush dev eth0")
            for target in ("b", "c", "internet"):
                story = labctl.trace("a", target, lab=NAME).story
                assert story.sentence == "the request never left a"
                assert story.why is not None
                assert story.why.kind == "proxy-arp-off"
                assert story.why.sentence.endswith(f"only with proxy ARP, which is off at node1/{A}")
                command = f"exec node1 -- sysctl -w net.ipv4.conf.{A}.proxy_arp=1"
                assert story.tries == (f"{paths.command_prefix(NAME)} {command}",)
        finally:
            lifecycle.up(running)
        assert labctl.trace("a", "c", lab=NAME).answered

    def test_without_its_blackhole_a_block_leaks_by_the_default_route(self, running: lifecycle.Definition) -> None:
        """Here to a router that has learned the block, so that the two hand the packet to each other."""
        nobody = "10.244.0.60"
        there = labctl.trace("a", nobody, lab=NAME)
        assert (there.hops, there.story.why and there.story.why.kind) == (("a", "node1"), "reject-route")
        leaks = Check(
            "leaks", "ping", "a", nobody, expect="fail",
            sees=(See(Interface("fabric", "node1"), src="a", dst=nobody, direction="in"),),
        )  # fmt: skip
        assert outcome(leaks).verdict == "fail"
        try:
            typed("node1", "ip route del blackhole 10.244.0.0/26")
            found = outcome(leaks, Route, "blackhole 10.244.0.0/26")
            assert found.verdict == "pass", found.evidence
            gone = labctl.trace("a", nobody, lab=NAME)
            assert gone.hops[:4] == ("a", "node1", "fabric", "node1")
            assert gone.story.why is not None
            assert gone.story.why.sentence.startswith("a routing loop: node1 and fabric send the packet to each other")
            told = [note.text for step in gone.story.legs[0].steps[:2] for note in step.notes]
            assert "default via 192.168.0.254 dev eth0" in told
            assert len(told) == len(set(told))
        finally:
            lifecycle.up(running)

    def test_a_router_that_forgot_a_block_parts_the_nodes(self, running: lifecycle.Definition) -> None:
        gone = Check(
            "lost", "ping", "a", "d", expect="fail",
            sees=(
                See(Interface("fabric", "node1"), src="a", dst="d", direction="in"),
                See(Interface("node3", "eth0"), src="a", negate=True),
            ),
        )  # fmt: skip
        try:
            typed("fabric", "ip route del 10.244.0.128/26")
            found = outcome(gone, Route, "10.244.0.128/26 via 192.168.1.3 dev lan2")
            assert found.verdict == "pass", found.evidence
        finally:
            lifecycle.up(running)
        assert outcome(Check("found", "ping", "a", "d")).verdict == "pass"
