"""Balanced connections against real packets: even and uneven shares, affinity, sources, and what breaks them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from labctl import RunningLab
from labctl.checks import runner
from labctl.core.iptables import rule
from labctl.core.resources import Chain
from labctl.core.results import Outcome
from labctl.core.scenario_types import Check, Lab
from labctl.kernel import processes
from labctl.kubernetes.composition import merge
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text

pytestmark = pytest.mark.firewall

TEXT = """
name: balanced
model: kubenet
nodes: {node1: {pods: {one: {containers: ['web:80,53/udp']}, two: {containers: ['web:80,53/udp']}, client: }}}
"""
ONE, TWO = "10.244.0.2", "10.244.0.3"
HALF, TENTH = (f"-m statistic --mode random --probability {part}" for part in (0.5, 0.1))
RULES = (  # what leads to the two pods: in even shares, one to nine, only to one, to a closed port, and masqueraded
    f"-d 192.0.2.80 -p tcp -m tcp --dport 80 {HALF} -j DNAT --to-destination {ONE}:80",
    f"-d 192.0.2.80 -p tcp -m tcp --dport 80 -j DNAT --to-destination {TWO}:80",
    f"-d 192.0.2.80 -p udp -m udp --dport 53 {TENTH} -j DNAT --to-destination {ONE}:53",
    f"-d 192.0.2.80 -p udp -m udp --dport 53 -j DNAT --to-destination {TWO}:53",
    f"-d 192.0.2.80 -p tcp -m tcp --dport 82 -j DNAT --to-destination {ONE}:80",
    f"-d 192.0.2.80 -p tcp -m tcp --dport 81 -j DNAT --to-destination {ONE}:81",
    f"-d 192.0.2.81 -p tcp -m tcp --dport 80 -j DNAT --to-destination {ONE}:80",
)
HIDE = f"-d {ONE}/32 -m conntrack --ctorigdst 192.0.2.81 -j MASQUERADE"
WEB = Check("", "balance", "client", "192.0.2.80", 80, answered_by=(("one", 1), ("two", 1)), within=2)
DNS = replace(WEB, port=53, protocol="udp", answered_by=(("one", 1), ("two", 9)))


@pytest.fixture
def lab() -> Iterator[Lab]:
    found = define_text("balanced.yaml", TEXT)
    chains = (("PREROUTING", RULES), ("POSTROUTING", (HIDE,)))
    added = [Chain("node1", "nat", name, tuple(map(rule, rules))) for name, rules in chains]
    yield lifecycle.up(replace(found, lab=replace(found.compiled, plan=merge(found.compiled.plan, added)))).lab
    lifecycle.down("balanced")


@pytest.fixture
def run(lab: Lab) -> Callable[[Check], Outcome]:
    return lambda check: runner.run(replace(lab, checks=(check,))).outcomes[0]


def test_even_shares_pass_with_the_client_that_was_seen(run: Callable[[Check], Outcome]) -> None:
    found = run(replace(WEB, saw=("client",)))

    assert found.verdict == "pass", found.evidence
    assert {one.machine for one in found.answers} == {"one", "two"}
    assert len({one.client_port for one in found.answers}) == len(found.answers) == 400


def test_datagrams_in_shares_of_one_to_nine(run: Callable[[Check], Outcome]) -> None:
    assert run(DNS).verdict == "pass"
    assert run(replace(DNS, answered_by=WEB.answered_by)).verdict == "fail"


def test_affinity_and_its_absence(run: Callable[[Check], Outcome]) -> None:
    assert run(replace(WEB, sticky=True)).verdict == "fail"
    assert run(replace(WEB, port=82, sticky=True)).verdict == "pass"


def test_a_masqueraded_client_is_another_one(run: Callable[[Check], Outcome]) -> None:
    hidden = replace(WEB, target="192.0.2.81", answered_by=(("one", 1),))

    found = run(replace(hidden, saw=("client",)))
    assert found.verdict == "fail"
    assert found.evidence[-1] == ("one saw 10.244.0.1 (node1) as the client of 40 connections, not 10.244.0.4 (client)")
    assert run(replace(hidden, saw=("node1/cbr0",))).verdict == "pass"


def test_a_closed_port_and_a_missing_namespace_fail(run: Callable[[Check], Outcome]) -> None:
    closed = run(replace(WEB, port=81))
    assert (closed.verdict, closed.evidence[-1].rpartition(": ")[2]) == ("fail", "Connection refused")
    assert run(replace(WEB, source="nobody")).verdict == "fail"


def test_a_server_that_ends_is_found(run: Callable[[Check], Outcome], lab: Lab) -> None:
    processes.stop(next(one for one in processes.find(lab.name, ["two"]) if one.name == "web"))

    assert run(WEB).verdict == "fail"


def test_another_server_does_not_say_who_it_is(run: Callable[[Check], Outcome], lab: Lab) -> None:
    processes.stop(next(one for one in processes.find(lab.name, ["one"]) if one.name == "web"))
    check = replace(WEB, port=82, answered_by=(("one", 1),), connections=1)

    with RunningLab(lab.name)["one"].start([sys.executable, "-m", "http.server", "80"], wait_port=80):
        found = run(replace(check, path="/"))
    assert found.verdict == "inconclusive"
    assert found.evidence[-1] == "1 answer came from a server that does not say which machine it is"
