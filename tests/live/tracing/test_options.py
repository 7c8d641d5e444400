"""Traces and checks on a live lab: from a chosen source port, with a listener behind a translation, two at a time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import labctl
from labctl.errors import KernelError
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.running_lab import RunningLab
from tests.support.trace_port_cases import SERVICE

pytestmark = pytest.mark.firewall

LAB = "traced-ports"  # no other test has a lab of this name: tracing instances of all workers lie side by side
# the router lets through only what comes from the source ports that the checks name
CHECKS = """
    filter:
      FORWARD:
        - -i a -p udp ! --sport 4100 -j DROP
        - -i a -p tcp ! --sport 4101 -j DROP
checks:
  - {udp: "a:4100 -> 10.96.0.10:53", listen: "b1:5353"}
  - {tcp: "a:4101 -> b1:80"}
  - {tcp: "a:4101 -> b1:81", expect: refused}
  - {udp: "a:4100 -> [2001:db8:21::2]:53"}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with labctl.up(SERVICE.replace("name: service", f"name: {LAB}").rstrip() + CHECKS) as running:
        yield running


@contextmanager
def holding(node: str, kind: int, port: int) -> Iterator[None]:
    with NetnsThread() as inside, inside.run(paths.netns_path(LAB, node), socket.socket, socket.AF_INET, kind) as sock:
        sock.bind(("", port))
        yield


def test_a_check_is_sent_from_its_source_port_again_and_again(lab: RunningLab) -> None:
    for _ in range(3):
        report = lab.check()
        assert report.verdict == "pass", [(one.check.say, one.evidence) for one in report.outcomes]


@pytest.mark.parametrize(
    ("word", "kind", "port"), [("udp", socket.SOCK_DGRAM, 4100), ("tcp", socket.SOCK_STREAM, 4101)]
)
def test_a_source_port_in_use_is_named_with_its_process(lab: RunningLab, word: str, kind: int, port: int) -> None:
    with holding("a", kind, port):
        outcome = lab.check(f"{word} a").outcomes[0]
        with pytest.raises(KernelError) as caught:
            lab.trace("a", "b1", **{word: 80}, sport=port)  # type: ignore[arg-type]

    assert outcome.verdict == "inconclusive"
    assert f"a cannot send from {word} port {port}: the port is in use by " in outcome.evidence[0]
    assert caught.value.message == outcome.evidence[0]
    assert caught.value.code == 3


def test_a_trace_is_sent_from_its_source_port(lab: RunningLab) -> None:
    for _ in range(2):
        traced = lab.trace("a", "b1", tcp=80, sport=4101, listen=True)
        assert traced.answered, str(traced)
        assert {item.sport for item in traced.evidence.observations if item.role == "request"} == {4101}
    assert not lab.trace("a", "b1", tcp=80, sport=4102, listen=True).answered


def test_a_listener_behind_a_translation(lab: RunningLab) -> None:
    assert lab.trace("a", "10.96.0.10", udp=53, sport=4100, listen="b1:5353").answered
    refused = lab.trace("a", "10.96.0.10", udp=53, sport=4100, listen="b2:5353")

    assert refused.verdict == "refused"
    assert refused.story.why is not None
    assert refused.story.why.kind == "dead-backend"


def test_two_traces_have_their_first_difference_where_the_rule_is(lab: RunningLab) -> None:
    good = lab.trace("a", "b1", udp=53, sport=4100, listen=True)
    bad = lab.trace("a", "b1", udp=53, sport=4103, listen=True)
    found = good.compare(bad)

    assert found.difference is not None
    assert (found.difference.leg, found.difference.hop, found.difference.kind) == ("request", 2, "rule")
    assert found.difference.machines == ("r", "r")
    assert "dropped" in found.difference.second
    assert good.compare(lab.trace("a", "b1", udp=53, sport=4100, listen=True)).difference is None
