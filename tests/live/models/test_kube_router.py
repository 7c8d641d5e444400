"""kube-router on a live lab: what breaks when a part of a node is taken away, and that `up` restores it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from labctl.core.resources import Interface
from labctl.core.scenario_types import Check, See
from labctl.lab import lifecycle
from tests.support import kernels
from tests.support.removal import assert_needed, run_in, verdict

pytestmark = pytest.mark.firewall

OVERLAY = "kube-router-overlay"


@pytest.fixture(scope="module")
def overlay() -> Iterator[lifecycle.Definition]:
    found = kernels.define(OVERLAY, (), ("ipip",))
    lifecycle.up(found)
    yield found
    lifecycle.down(OVERLAY)


def asked(*own: Check) -> list[str]:
    return [verdict(OVERLAY, "", check)[0] for check in own]


@pytest.mark.parametrize(
    ("node", "command", "says", "word"),
    [
        ("node1", "ip route del 10.244.1.0/24", "missing route 10.244.1.0/24 via 192.168.0.2", "same Ethernet"),
        ("node3", "ip route del 10.244.0.0/24", "missing route 10.244.0.0/24 dev tun-3d9bed5bba7", "in IP in IP"),
        ("node1", "ip rule del pref 32765", "missing rule pref 32765 from 10.244.0.0/24 lookup 77", "uses the tunnel"),
        ("node1", "ip route flush table 77", "missing route 192.168.1.3 dev tun-ebb17bddb2e table 77", "uses the"),
        ("node3", "iptables-legacy -t nat -F POSTROUTING", "missing iptables -t nat -A POSTROUTING", "outside"),
    ],
)
def test_a_part_that_is_taken_away_is_missed(
    overlay: lifecycle.Definition, node: str, command: str, says: str, word: str
) -> None:
    assert_needed(overlay, node, command, says, word)


def test_a_tunnel_takes_what_comes_from_its_own_end(overlay: lifecycle.Definition) -> None:
    """node3 has two, and what node1 sends comes out of one of them."""

    def received() -> dict[str, int]:
        links = json.loads(run_in(OVERLAY, "node3", "ip -j -s link"))
        return {one["ifname"]: one["stats64"]["rx"]["packets"] for one in links if one["ifname"][:4] == "tun-"}

    before = received()
    assert "3 received" in run_in(OVERLAY, "d", "ping -n -c 3 -i 0.2 -W 2 10.244.0.2")
    after = received()
    assert {name: after[name] - before[name] for name in after} == {"tun-3d9bed5bba7": 3, "tun-1ae221a51fb": 0}


def test_who_is_no_node_is_told_the_nodes_address(overlay: lifecycle.Definition) -> None:
    def seen(source: str) -> Check:
        return Check(f"node2 sees {source}", "ping", "a", "node2", sees=(See(Interface("node2", "eth0"), src=source),))

    assert asked(seen("a")) == ["pass"]
    run_in(OVERLAY, "node1", "ipset del kube-router-node-ips 192.168.0.2")
    try:
        assert asked(seen("node1")) == ["pass"]
    finally:
        lifecycle.up(overlay)
    assert lifecycle.status(OVERLAY, lifecycle.load_compiled_lab(OVERLAY)) == ()


def test_what_no_policy_marks_is_rejected_also_on_the_bridge(overlay: lifecycle.Definition) -> None:
    """The mark of KUBE-NWPLCY-DEFAULT lets pods without a policy talk; without it the client is refused at once."""

    def tcp(target: str, expect: str) -> Check:
        return Check(f"{target} {expect}", "tcp", "a", target, 8080, expect=expect)

    assert asked(tcp("b", "reply"), tcp("c", "reply")) == ["pass", "pass"]
    run_in(OVERLAY, "node1", "iptables-legacy -F KUBE-NWPLCY-DEFAULT")
    try:
        assert asked(tcp("b", "refused"), tcp("c", "refused")) == ["pass", "pass"]
        run_in(OVERLAY, "node1", "sysctl -qw net.bridge.bridge-nf-call-iptables=0")
        assert asked(tcp("b", "reply"), tcp("c", "refused")) == ["pass", "pass"]
    finally:
        lifecycle.up(overlay)
    assert asked(tcp("c", "reply")) == ["pass"]


@pytest.mark.parametrize(("overlay", "encap", "expect"), [("full", "ipip", "reply"), ("none", "none", "fail")])
def test_there_are_tunnels_to_all_or_to_none(overlay: str, encap: str, expect: str) -> None:
    """To all: also to who is on the same Ethernet. To none: the router is asked for the way, and knows none."""
    made = kernels.define(OVERLAY, (f"overlay={overlay}", f"name={overlay}", "checks=[]"), ("ipip",))
    lifecycle.up(made)
    try:
        assert lifecycle.status(overlay, lifecycle.load_compiled_lab(overlay)) == ()
        assert verdict(overlay)[0] == "pass"
        way = See(Interface("node2", "eth0"), src="a", dst="c", encap=encap, direction="in")
        assert verdict(overlay, "", Check("near", "ping", "a", "c", sees=(way,)))[0] == "pass"
        told, why = verdict(overlay, "", Check("far", "ping", "a", "d", expect=expect))
        assert told == "pass", why
    finally:
        lifecycle.down(overlay)
