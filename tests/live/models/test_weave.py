"""Weave Net on a live lab: what breaks when a part of a node is taken away, and that `up` restores it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl.core.resources import Interface
from labctl.core.scenario_types import Check, See
from labctl.lab import lifecycle
from tests.support.removal import assert_needed, run_in, verdict

pytestmark = pytest.mark.firewall

INTO, OUT = "weave-;rGqyMIl1HN^cfDki~Z$3]6!N", "weave-s_+ChJId4Uy_$}G;WdH|~TK)I"  # as weave's own tests have them


@pytest.fixture(scope="module")
def weave() -> Iterator[lifecycle.Definition]:
    found = lifecycle.define("weave")
    lifecycle.up(found)
    yield found
    lifecycle.down("weave")


@pytest.mark.parametrize(
    ("node", "command", "says", "word"),
    [
        (
            "node1",
            "bridge fdb del 00:00:00:00:00:00 dev vxlan-6784 dst 192.168.0.2",
            "missing fdb entry 00:00:00:00:00:00 dev vxlan-6784 dst 192.168.0.2",
            "an ARP request",
        ),
        ("node1", "iptables-legacy -t nat -F WEAVE", "missing iptables -t nat -A WEAVE", "another node sees"),
        ("node2", "ip link set vethwe-bridge nomaster", "vethwe-bridge: master was none", "to another node"),
        ("node3", "ip link set vxlan-6784 down", "vxlan-6784: up was down", "a router between"),
        ("node2", f"ipset del {INTO} 10.44.0.1", f"changed ipset {INTO}", "to another node"),
        ("node1", "ip addr flush dev weave", "missing address 10.32.0.1/12 dev weave", "a node is on"),
    ],
)
def test_a_part_that_is_taken_away_is_missed(
    weave: lifecycle.Definition, node: str, command: str, says: str, word: str
) -> None:
    assert_needed(weave, node, command, says, word)


def test_what_comes_to_pods_of_the_node_itself_keeps_its_source(weave: lifecycle.Definition) -> None:
    def seen(pod: str, source: str) -> str:
        sees = (See(Interface(pod, "eth0"), src=source),)
        return verdict("weave", "", Check(f"{pod} sees {source}", "ping", "vm", pod, sees=sees, within=1.0))[0]

    run_in("weave", "vm", "ip route add 10.32.0.0/12 via 192.168.0.1")
    try:
        assert [seen("a", "vm"), seen("c", "node1/weave"), seen("c", "vm")] == ["pass", "pass", "fail"]
        run_in("weave", "node1", "ipset flush weaver-no-masq-local")
        assert [seen("a", "node1/weave"), seen("a", "vm")] == ["pass", "fail"]
    finally:
        lifecycle.up(weave)
    assert lifecycle.status("weave", lifecycle.load_compiled_lab("weave")) == ()


def test_without_a_policy_controller_pods_meet_as_well() -> None:
    """A packet from outside gets the address of the node that it enters, also towards pods of that node."""
    bare = lifecycle.define("weave", overrides=("name=bare", "policy_controller=false", "no_masq_local=false"))
    lifecycle.up(bare)
    try:
        assert lifecycle.status("bare", lifecycle.load_compiled_lab("bare")) == ()
        told, why = verdict("bare")
        assert told == "pass", why
        run_in("bare", "vm", "ip route add 10.32.0.0/12 via 192.168.0.1")
        sees = (See(Interface("a", "eth0"), src="node1/weave"),)
        assert verdict("bare", "", Check("a sees its way in", "ping", "vm", "a", sees=sees))[0] == "pass"
    finally:
        lifecycle.down("bare")
