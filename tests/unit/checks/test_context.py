"""What checks and traces share: increases of firewall counters, the namespaces with taps, the listener in a target."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.checks import context
from labctl.checks.context import NODE_TAP_LIMIT, CheckContext, namespaces_to_tap, open_listener
from labctl.checks.runner import namespaces_to_tap_for
from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters, counter_increases
from labctl.core.resources import Chain, Netns
from labctl.core.scenario_types import Check, Lab, Machine
from labctl.core.topology import Topology
from labctl.errors import KernelError

ADDRESS = IPv4Address("10.0.0.2")
FORWARD = Chain("r", "filter", "FORWARD", (rule("-p tcp -j DROP"), rule("-j ACCEPT")), policy="DROP")


def counted(chain: Chain, *packets: int) -> ChainCounters:
    """A chain with the packets that its rules counted; the last number is the policy's."""
    *rules, policy = ((number, 60 * number) for number in packets)
    return ChainCounters(chain, tuple(rules), policy)


def test_the_rules_and_the_policy_that_counted_more_are_listed() -> None:
    before = [counted(FORWARD, 1, 5, 0)]

    assert list(counter_increases(before, before)) == []
    assert list(counter_increases(before, [counted(FORWARD, 1, 7, 0)])) == [(FORWARD, 2, 2)]
    assert list(counter_increases(before, [counted(FORWARD, 2, 5, 4)])) == [(FORWARD, 1, 1), (FORWARD, 0, 4)]


def test_a_chain_that_changed_meanwhile_proves_nothing() -> None:
    shorter = Chain("r", "filter", "FORWARD", (rule("-j ACCEPT"),), policy="DROP")

    assert list(counter_increases([counted(FORWARD, 0, 0, 0)], [counted(shorter, 9, 9)])) == []
    assert list(counter_increases([], [counted(FORWARD, 9, 9, 9)])) == []


def large_lab(nodes: int) -> Topology:
    machines = [Machine(f"node{number}", "node") for number in range(nodes)]
    machines += [Machine(f"pod{number}", "pod", on=f"node{number}") for number in range(nodes)]
    return Topology(Lab("large", "raw", tuple(Netns(machine.name) for machine in machines), tuple(machines), ()))


def test_a_small_lab_has_taps_everywhere() -> None:
    topology = large_lab(32)

    assert namespaces_to_tap(topology, ["pod1"]) == topology.namespaces


def test_a_large_lab_has_taps_at_the_ends_and_between() -> None:
    topology = large_lab(33)

    assert namespaces_to_tap(topology, ["pod1"]) == ("pod1", *(f"node{number}" for number in range(33)))
    assert namespaces_to_tap(topology, ["pod1", "node1"], 32) == ("pod1", "node1")


def test_a_check_in_a_very_large_lab_has_taps_at_its_ends_only() -> None:
    check = Check("", "ping", "pod1", "pod2")

    assert namespaces_to_tap_for(large_lab(NODE_TAP_LIMIT + 1), [check]) == ("pod1", "pod2", "node1", "node2")


def test_a_mesh_alone_has_no_taps_in_a_large_lab() -> None:
    mesh, ping = Check("", "mesh", groups=((("pod1",), ("pod2",)),)), Check("", "ping", "pod1", "pod2")

    assert namespaces_to_tap_for(large_lab(33), [mesh]) == ()
    assert "node32" in namespaces_to_tap_for(large_lab(33), [mesh, ping])
    assert "node32" in namespaces_to_tap_for(large_lab(33), [])
    assert len(namespaces_to_tap_for(large_lab(32), [mesh])) == 64


def context_of(run: Callable[..., Any]) -> CheckContext:
    thread: Any = SimpleNamespace(run=run)
    return CheckContext(large_lab(1), thread, None, None)  # type: ignore[arg-type]


def test_a_listener_is_opened_in_the_target() -> None:
    listener = SimpleNamespace(ready=True)
    calls: list[tuple[Any, ...]] = []

    def run(*call: Any) -> Any:
        calls.append(call)
        return listener

    found = open_listener(context_of(run), "pod0", "tcp", ADDRESS, 80)

    assert found == (listener, "")
    assert calls[0][1:] == (context.Listener, "tcp", 4, 80)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EADDRINUSE, "a process listens there already"), (errno.EACCES, "[Errno 13] denied")],
)
def test_a_listener_that_cannot_be_opened_has_a_reason(number: int, reason: str) -> None:
    def run(*_: Any) -> Any:
        raise OSError(number, "denied")

    assert open_listener(context_of(run), "pod0", "udp", ADDRESS, 53) == (
        None,
        f"labctl could not listen on udp port 53 of pod0: {reason}",
    )


def test_no_machine_has_the_address() -> None:
    listener, problem = open_listener(context_of(lambda *_: None), None, "tcp", ADDRESS, 80)

    assert listener is None
    assert problem == "no machine of the lab has 10.0.0.2, so labctl started no listener"


def test_a_listener_that_does_not_listen_is_closed() -> None:
    closed: list[bool] = []
    listener = SimpleNamespace(ready=False, close=lambda: closed.append(True))

    with pytest.raises(KernelError, match="tcp port 80 of pod0 is not listening"):
        open_listener(context_of(lambda *_: listener), "pod0", "tcp", ADDRESS, 80)
    assert closed == [True]
